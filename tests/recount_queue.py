"""An independent count of the history of the queue, in pandas, from the lines of the source.

Not here: counts of mail (recount.py).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

LINES = """
select l.*, j.queue_name, j.job_type from job_logs as l join jobs as j on j.id = l.job_id
where l.status in ('success', 'retry', 'failed')
"""


def attempts(queue_url: str) -> pd.DataFrame:
    """One row for each attempt that ended, with its hour, wait and error."""
    with psycopg.connect(queue_url, row_factory=dict_row) as connection:
        frame = pd.DataFrame(connection.execute(LINES).fetchall())
    frame["tenant_id"] = frame["tenant_id"].map(lambda v: None if v is None else str(v))
    frame["event_hour"] = pd.to_datetime(frame["started"], utc=True).dt.floor("h")
    due = pd.to_datetime(frame["context"].map(lambda c: (c or {}).get("run")), utc=True, format="ISO8601")
    frame["wait_ms"] = ((pd.to_datetime(frame["started"], utc=True) - due).dt.total_seconds() * 1000).clip(lower=0)
    frame["error_class"] = frame["context"].map(lambda c: (c or {}).get("error_class", "unknown"))
    return frame


def hours(frame: pd.DataFrame) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """(attempts, completed, retried, dead letters, ended after a retry, duration, that of failures) by hour, queue,
    type and tenant."""
    found = {}
    for key, group in frame.groupby(["event_hour", "queue_name", "job_type", "tenant_id"], dropna=False):
        hour, queue, kind, tenant = key
        status = group["status"]
        found[hour.to_pydatetime(), queue, kind, tenant if isinstance(tenant, str) else None] = (
            len(group), int((status == "success").sum()), int((status == "retry").sum()),
            int((status == "failed").sum()), int(((status != "retry") & (group["attempt_number"] > 1)).sum()),
            int(group["duration_ms"].sum()), int(group.loc[status != "success", "duration_ms"].sum()),
        )  # fmt: skip
    return found


def failures(frame: pd.DataFrame) -> dict[tuple[str, str, str], int]:
    """Failed attempts by queue, type and class of error."""
    failed = frame[frame["status"] != "success"]
    return failed.groupby(["queue_name", "job_type", "error_class"]).size().to_dict()
