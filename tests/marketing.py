"""Campaigns and events as Mailchimp and Klaviyo report them, as rows of our sources, and what their own files count.

What their files do not say is filled in so: an automation has no time of sending for a recipient, so its start is
taken; Klaviyo's `Received Email` is a message that was sent and confirmed at that moment; no event names a program.
Not here: the data and their licences (data/marketing), the comparison (integration/test_marketing.py).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
from factories import make

DATA = Path(__file__).parent / "data" / "marketing"
AS_OF = datetime(2020, 5, 1, 12, tzinfo=UTC)
_NAMES = UUID(int=0)


@dataclass
class Told:
    """What the files themselves count for one campaign; totals as events, the rest as recipients."""

    sent: set[str] = field(default_factory=set)
    openers: set[str] = field(default_factory=set)
    clickers: set[str] = field(default_factory=set)
    unsubscribed: set[str] = field(default_factory=set)
    opens: int = 0
    clicks: int = 0
    repeated: int = 0
    """Events within ten seconds after one of the same kind, recipient and address: our rules count them once."""


def identity(name: str) -> UUID:
    """Our id for one of theirs."""
    return uuid5(_NAMES, name)


def fill(urls: Mapping[str, str]) -> dict[str, Told]:
    """Writes all of it into the sources as one tenant; gives what the files count, by their id of the campaign."""
    told: defaultdict[str, Told] = defaultdict(Told)
    with psycopg.connect(urls["oltp"]) as oltp, psycopg.connect(urls["content"]) as content:
        content.execute(
            "select penguin.create_range_partitions(table_name::regclass, unit, '2019-11-01', '2020-05-31') "
            "from penguin.partition_rules"
        )
        tenant = make(oltp, "tenants", id=identity("tenant"))["id"]
        company = make(oltp, "companies", tenant_id=tenant)["id"]
        for file, recipients, activity, name in (
            ("campaign", "campaign_recipient", "campaign_recipient_activity", "campaign_id"),
            ("automation_email", "automation_recipient", "automation_recipient_activity", "automation_email_id"),
        ):
            begun = {r["id"]: _time(r.get("start_time") or r["send_time"]) for r in _read("mailchimp", file)}
            for key in begun:
                make(oltp, "campaigns", id=identity(key), tenant_id=tenant, company_id=company)
            for row in _read("mailchimp", recipients):
                _message(content, tenant, row[name], row["member_id"], begun[row[name]])
                told[row[name]].sent.add(row["member_id"])
            rows = sorted(_read("mailchimp", activity), key=lambda r: r["timestamp"])
            for number, row in enumerate(rows):
                _event(content, tenant, row[name], row, number)
            _count(told, rows, name)
        for row in _read("mailchimp", "unsubscribe"):
            _insert(
                content,
                "email_unsubscribes",
                _about(tenant, row["campaign_id"], row["member_id"])
                | {"event_key": f"u/{row['member_id']}", "unsubscribed": _time(row["timestamp"]), "method": "link"},
            )
            told[row["campaign_id"]].unsubscribed.add(row["member_id"])
        for row in _read("klaviyo", "event"):
            if row["type"] == "Received Email":
                if row["campaign_id"]:
                    make(oltp, "campaigns", id=identity(row["campaign_id"]), tenant_id=tenant, company_id=company)
                when = _time(row["datetime"])
                _message(content, tenant, row["campaign_id"], row["person_id"], when, delivered=when)
                told[row["campaign_id"]].sent.add(row["person_id"])
    return dict(told)


def _count(told: Mapping[str, Told], rows: list[dict[str, str]], name: str) -> None:
    last: dict[tuple[str, ...], datetime] = {}
    for row in rows:
        mine, when = told[row[name]], _time(row["timestamp"])
        client = (row["action"], row[name], row["member_id"], row["ip"])
        if client in last and when - last[client] <= timedelta(seconds=10):
            mine.repeated += 1
        last[client] = when
        # A click is told as an open too: a picture that was not loaded does not mean that nobody looked.
        mine.openers.add(row["member_id"])
        if row["action"] == "click":
            mine.clickers.add(row["member_id"])
            mine.clicks += 1
        else:
            mine.opens += 1


def _about(tenant: Any, campaign: str, person: str) -> dict[str, Any]:
    found = {"tenant_id": tenant, "storage_key": f"{campaign}/{person}", "lead_id": identity(person)}
    return found | {"campaign_id": identity(campaign) if campaign else None}


def _message(content: psycopg.Connection, tenant: Any, campaign: str, person: str, sent: datetime, **more: Any) -> None:
    row = {"sent": sent, "to_email": f"{person}@example.com", **more}
    make(content, "email_messages", **_about(tenant, campaign, person), **row)


def _event(content: psycopg.Connection, tenant: Any, campaign: str, row: Mapping[str, str], number: int) -> None:
    kind = {"open": ("email_opens", "opened"), "click": ("email_clicks", "clicked")}[row["action"]]
    more = {"clicked_url": row["url"]} if row["action"] == "click" else {}
    make(
        content,
        kind[0],
        **_about(tenant, campaign, row["member_id"]),
        event_key=f"{campaign}/{number}",
        ip_address=row["ip"],
        **{kind[1]: _time(row["timestamp"])},
        **more,
    )


def _insert(content: psycopg.Connection, table: str, row: Mapping[str, Any]) -> None:
    names, values = ", ".join(row), ", ".join(["%s"] * len(row))
    content.execute(f"insert into {table} ({names}) values ({values})", list(row.values()))  # type: ignore[call-overload]


def _read(service: str, name: str) -> list[dict[str, str]]:
    with (DATA / service / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
