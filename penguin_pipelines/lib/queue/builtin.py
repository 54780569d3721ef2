"""Handlers of the platform's own upkeep of the queue tier: `maintenance.cleanup` and `maintenance.partitions`.

The application brings its own (docs/queue.md); analytics jobs become Dagster runs and have no handler here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.lib.sql import blocks

_AT_ONCE = 5_000


class Cleanup(BaseModel):
    """Retention of ended jobs and of their log lines; failed jobs stay for a year."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(7, ge=1)
    log_days: int = Field(30, ge=1)
    error_log_days: int = Field(90, ge=1)


class Partitions(BaseModel):
    """Tiers whose partitions are extended."""

    model_config = ConfigDict(extra="forbid")

    tiers: list[Literal["oltp", "content", "queue", "olap"]] = ["queue"]


@handler("maintenance.cleanup", Cleanup)
def cleanup(payload: Cleanup, job: Context) -> Result:
    """Deletes what is past its retention, in transactions short enough to hold nobody up."""
    limits = {"days": payload.days, "limit": _AT_ONCE}
    log_limits = {"days": payload.log_days, "error_days": payload.error_log_days, "limit": _AT_ONCE}
    jobs = _purge("purge_jobs", limits, job)
    job.progress(50, f"{jobs} jobs deleted")
    return {"jobs": jobs, "logs": _purge("purge_logs", log_limits, job)}


def _purge(block: str, limits: dict[str, int], job: Context) -> int:
    total = 0
    while True:
        with job.transaction("queue") as connection:
            gone = len(connection.execute(blocks("queue")[block], limits).fetchall())
        total += gone
        if gone < limits["limit"]:
            return total


@handler("maintenance.partitions", Partitions)
def partitions(payload: Partitions, job: Context) -> Result:
    """Makes the partitions of the days to come."""
    made = {}
    for tier in payload.tiers:
        with job.transaction(tier, role="pm_etl") as connection:
            row = connection.execute(blocks("queue")["extend_partitions"]).fetchone()
            made[tier] = row[0] if row else 0
    return {"made": made}
