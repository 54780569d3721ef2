"""An independent recount of every counter, straight from the source tables, in pandas and plain loops.

It shares no code and no SQL with the warehouse, only the written rules (delivery and bounce exclude each other, a
click opens, machines do not count, repeats within ten seconds count once, silence of 72 hours means delivered) and the
list of known agents. Slow and simple on purpose. Not here: the comparison (test_end_to_end.py).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg

AGENTS = Path(__file__).parent.parent / "dbt_project" / "seeds" / "known_agents.csv"
COUNTERS = [
    "sent",
    "delivered",
    "opened_tracked",
    "clicked_tracked",
    "replied",
    "bounced",
    "hard_bounced",
    "soft_bounced",
    "unsubscribed",
    "spam_complaints",
    "opens_total",
    "clicks_total",
    "opened_machine",
    "clicked_machine",
]
NOBODY = "00000000-0000-0000-0000-000000000000"


def messages(content_url: str, as_of: datetime) -> pd.DataFrame:
    """One row per outbound, sent campaign or one-to-one message with its keys and counters of 0 and 1."""
    with psycopg.connect(content_url) as connection:
        connection.execute("set time zone 'UTC'")
        sent = _rows(connection, "select * from email_messages where direction = 'outbound' and message_type = 'email'")
        opens = _by_message(_rows(connection, "select * from email_opens"))
        clicks = _by_message(_rows(connection, "select * from email_clicks"))
        bounces = _by_message(_rows(connection, "select * from email_bounces"))
        replies = _by_message(_rows(connection, "select * from email_replies where not is_auto_reply"))
        unsubscribes = _by_message(_rows(connection, "select * from email_unsubscribes"))
        complaints = _by_message(_rows(connection, "select * from email_complaints"))
    counted = []
    for message in sent:
        if message["sent"] is None or message["is_warmup"]:
            continue
        key = message["storage_key"]
        arrived = message["delivered"] or message["sent"]
        seen_opens = _classified(opens[key], "opened", arrived, bursts=False)
        seen_clicks = _classified(clicks[key], "clicked", arrived, bursts=True)
        outcome = _outcome(
            message, seen_opens, seen_clicks, bounces[key], replies[key], unsubscribes[key], complaints[key], as_of
        )
        keys = {
            "tenant_id": str(message["tenant_id"]),
            "campaign_id": str(message["campaign_id"]) if message["campaign_id"] else None,
            "step_id": str(message["sequence_step_id"] or NOBODY),
            "mailbox_id": str(message["email_account_id"] or NOBODY),
            "ip_id": str(message["smtp_ip_address_id"] or NOBODY),
            "activity_date": message["sent"].date(),
        }
        counted.append({**keys, **outcome})
    return pd.DataFrame(counted)


def totals(frame: pd.DataFrame, keys: list[str]) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Sums of all counters by the given keys; rows without a key (one-to-one mail has no campaign) are left out."""
    grouped = frame.dropna(subset=keys).groupby(keys)[COUNTERS].sum()
    return {key: tuple(int(v) for v in row) for key, row in zip(grouped.index, grouped.to_numpy(), strict=True)}


def _outcome(
    message: Mapping[str, object],
    opens: list[tuple[datetime, str, bool]],
    clicks: list[tuple[datetime, str, bool]],
    bounces: list[Mapping[str, object]],
    replies: list[Mapping[str, object]],
    unsubscribes: list[Mapping[str, object]],
    complaints: list[Mapping[str, object]],
    as_of: datetime,
) -> dict[str, int]:
    human_opens = [when for when, who, _ in opens if who != "machine"]
    human_clicks = [when for when, who, _ in clicks if who != "machine"]
    answered = bool(replies or unsubscribes or complaints or human_opens or human_clicks)
    reports = [(b["bounced"], b["bounce_type"]) for b in bounces]
    if message["bounced"]:
        reports.append((message["bounced"], message["bounce_type"]))
    last = max(reports, key=lambda r: (r[0], r[1] == "hard"), default=None)  # type: ignore[type-var]
    confirmed = message["delivered"]
    bounced = not answered and last is not None and (confirmed is None or last[0] >= confirmed)  # type: ignore[operator]
    silent = message["failed"] is None and message["sent"] + timedelta(hours=72) <= as_of  # type: ignore[operator]
    delivered = answered or (not bounced and (confirmed is not None or (last is None and silent)))
    hard = bounced and last is not None and last[1] == "hard"
    return {
        "sent": 1,
        "delivered": int(delivered),
        "opened_tracked": int(bool(human_opens or human_clicks)),
        "clicked_tracked": int(bool(human_clicks)),
        "replied": int(bool(replies)),
        "bounced": int(bounced),
        "hard_bounced": int(hard),
        "soft_bounced": int(bounced and not hard),
        "unsubscribed": int(bool(unsubscribes)),
        "spam_complaints": int(bool(complaints)),
        "opens_total": sum(counts for _, _, counts in opens),
        "clicks_total": sum(counts for _, _, counts in clicks),
        "opened_machine": int(any(who == "machine" for _, who, _ in opens)),
        "clicked_machine": int(any(who == "machine" for _, who, _ in clicks)),
    }


def _classified(
    events: Iterable[Mapping[str, object]], time: str, arrived: datetime, *, bursts: bool
) -> list[tuple[datetime, str, bool]]:
    """Time, human, machine or unknown, and whether it counts, for each distinct event of one message."""
    first: dict[object, Mapping[str, object]] = {}
    for event in sorted(events, key=lambda e: (e[time], e["id"])):
        first.setdefault(event["event_key"], event)
    ordered = sorted(first.values(), key=lambda e: (e[time], e["event_key"]))
    burst: set[int] = set()
    if bursts:
        for start in ordered:
            near = [
                e
                for e in ordered
                if start[time] <= e[time] <= start[time] + timedelta(seconds=1)  # type: ignore[operator]
            ]
            if len({str(e["clicked_url"]).lower() for e in near}) >= 3:
                burst |= {id(e) for e in near}
    result = []
    previous: dict[object, datetime] = {}
    for event in ordered:
        when: datetime = event[time]  # type: ignore[assignment]
        who = _who(event, when, arrived, in_burst=id(event) in burst)
        client = (event["ip_address"], event["user_agent"], who == "machine")
        repeated = client in previous and when - previous[client] <= timedelta(seconds=10)
        previous[client] = when
        result.append((when, who, who != "machine" and not repeated))
    return result


def _who(event: Mapping[str, object], when: datetime, arrived: datetime, *, in_burst: bool) -> str:
    agent = str(event["user_agent"] or "").lower()
    kinds = {
        kind
        for pattern, comparison, kind in _agents()
        if (agent == pattern if comparison == "equals" else pattern in agent)
    }
    if event["is_bot"] or "scanner" in kinds or in_burst:
        return "machine"
    if "image_proxy" in kinds:
        return "machine" if when <= arrived + timedelta(seconds=2) else "unknown"
    return "human"


def _agents() -> list[tuple[str, str, str]]:
    if not _known:
        with AGENTS.open() as file:
            _known.extend((r["pattern"].lower(), r["comparison"], r["kind"]) for r in csv.DictReader(file))
    return _known


_known: list[tuple[str, str, str]] = []


def _rows(connection: psycopg.Connection, query: str) -> list[Mapping[str, object]]:
    cursor = connection.execute(query)  # type: ignore[call-overload]
    names = [c.name for c in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _by_message(rows: list[Mapping[str, object]]) -> defaultdict[object, list[Mapping[str, object]]]:
    found: defaultdict[object, list[Mapping[str, object]]] = defaultdict(list)
    for row in rows:
        found[row["storage_key"]].append(row)
    return found
