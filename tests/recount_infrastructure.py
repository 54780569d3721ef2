"""An independent recount of sending addresses, their costs, domains and workspaces, in pandas and plain loops.

It shares no code and no SQL with the warehouse: messages come from recount.py, prices, assignments and listings from
the source tables. Not here: the comparison (test_end_to_end.py).
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import recount
from psycopg.rows import dict_row

Figures = dict[tuple[Any, ...], Any]
MAJOR = {"zen.spamhaus.org", "bl.spamcop.net", "b.barracudacentral.org"}


def table(url: str, name: str) -> list[dict[str, Any]]:
    """All rows of a table; ids as text."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute(f"select * from {name}").fetchall()  # type: ignore[call-overload]
    return [{k: str(v) if k.endswith("id") and v is not None else v for k, v in row.items()} for row in rows]


def traffic(messages: pd.DataFrame) -> Figures:
    """Counters by (tenant, address, day)."""
    return {
        key: tuple(map(int, row))
        for key, row in messages.groupby(["tenant_id", "ip_id", "activity_date"])[recount.COUNTERS]
        .sum()
        .apply(tuple, axis=1)
        .items()
    }


def costs(oltp_url: str, messages: pd.DataFrame, today: date) -> Figures:
    """Address and server cost in dollars by (tenant or None, address, day), for every day of every address."""
    addresses, servers = table(oltp_url, "smtp_ip_addresses"), {s["id"]: s for s in table(oltp_url, "vps_instances")}
    sent: dict[tuple[str, date], dict[str, int]] = defaultdict(dict)
    for (tenant, ip, day), count in messages.groupby(["tenant_id", "ip_id", "activity_date"])["sent"].sum().items():
        sent[ip, day][tenant] = int(count)
    first = {a["id"]: a["created"].astimezone(UTC).date() for a in addresses}
    found: Figures = {}
    for address in addresses:
        server = servers[address["vps_instance_id"]]
        day = first[address["id"]]
        while day <= today:
            length = calendar.monthrange(day.year, day.month)[1]
            sharing = [a for a in addresses if a["vps_instance_id"] == server["id"] and first[a["id"]] <= day]
            price = float(server["approximate_cost"] or server["monthly_cost"]) / length / len(sharing)
            used = sent.get((address["id"], day)) or {None: 1}
            for tenant, count in used.items():
                share = count / sum(used.values())
                found[tenant, address["id"], day] = (
                    float(address["approximate_cost"]) / length * share,
                    price * share,
                )
            day += timedelta(days=1)
    return found


def snapshots(oltp_url: str, as_of: datetime) -> Figures:
    """(domains assigned, blacklists, score, state) of each address now."""
    assigned: dict[str, set[str]] = defaultdict(set)
    for row in table(oltp_url, "domain_ip_assignments"):
        over = row["status"] == "expired" and (row["expires"] or row["updated"]) <= as_of
        if row["status"] != "scheduled" and row["assigned"] <= as_of and not over:
            assigned[row["smtp_ip_address_id"]].add(row["domain_id"])
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(table(oltp_url, "blacklist_checks"), key=lambda r: r["checked"]):
        if row["smtp_ip_address_id"]:
            latest[row["smtp_ip_address_id"], row["blacklist_name"]] = row
    listed: dict[str, set[str]] = defaultdict(set)
    for (ip, name), row in latest.items():
        if row["is_listed"]:
            listed[ip].add(name)
    found: Figures = {}
    for a in table(oltp_url, "smtp_ip_addresses"):
        ip, score = a["id"], a["reputation_score"]
        state = "good" if score >= 85 else "fair" if score >= 70 else "poor" if score >= 50 else "critical"
        if listed[ip] & MAJOR:
            state = "critical"
        found[ip,] = (len(assigned[ip]), len(listed[ip]), score, state)
    return found


def places(oltp_url: str) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Domain of a mailbox, workspace of a domain, and the mailboxes."""
    boxes = {b["id"]: b for b in table(oltp_url, "email_accounts")}
    domains = {d["id"]: d["company_id"] for d in table(oltp_url, "domains")}
    return {b: box["domain_id"] for b, box in boxes.items()}, domains, boxes


def domain_scores(oltp_url: str, messages: pd.DataFrame) -> Figures:
    """(sent of the day, sent of thirty days, H3) by (domain, day), for days with campaign or one-to-one mail."""
    domain_of, _, _ = places(oltp_url)
    frame = messages[messages.mailbox_id != recount.NOBODY].copy()
    frame["domain_id"] = frame.mailbox_id.map(domain_of)
    daily = frame.groupby(["domain_id", "activity_date"])[recount.COUNTERS].sum()
    found: Figures = {}
    for domain, days in daily.groupby(level=0):
        days = days.droplevel(0)
        for day in days.index:
            month = days[(days.index > day - timedelta(days=30)) & (days.index <= day)].sum()
            inbox = 100 * (month.sent - month.bounced - month.spam_complaints) / month.sent
            got = max(month.delivered, 1e-9)
            score = 100 - 0.5 * (100 - inbox) - 5 * 100 * month.bounced / month.sent
            score -= 10 * 100 * month.spam_complaints / got
            score += min(0.5 * 100 * month.opened_tracked / got, 20) + min(2 * 100 * month.clicked_tracked / got, 10)
            found[domain, day] = (int(days.sent[day]), int(month.sent), min(100.0, max(0.0, score)))
    return found


def workspaces(oltp_url: str, content_url: str, messages: pd.DataFrame, last: date) -> Figures:
    """(sent, replied, H5) by workspace over the thirty days that end with `last`."""
    domain_of, company_of, boxes = places(oltp_url)
    daily = messages.groupby(["mailbox_id", "activity_date"])[recount.COUNTERS].sum()
    with psycopg.connect(content_url) as connection:
        active = connection.execute(
            "select distinct email_account_id::text, (sent at time zone 'UTC')::date from email_messages "
            "where direction = 'outbound' and message_type = 'email' and sent is not null"
        ).fetchall()
    health: dict[str, tuple[date, int]] = {}
    for box, day in sorted(active, key=lambda a: a[1]):
        if box and last - timedelta(days=30) < day <= last and box in daily.index:
            score = h1(daily.loc[box], day, paused=boxes[box]["status"] == "suspended")
            if score is not None:
                health[box] = (day, score)
    total: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for (box, day), row in daily.iterrows():  # type: ignore[misc]
        if box in boxes and last - timedelta(days=30) < day <= last:
            company = total[company_of[domain_of[box]]]
            company[0] += row.sent
            company[1] += row.replied
            if box in health:
                company[2] += row.sent
                company[3] += row.sent * health[box][1]
    return {(c,): (int(s), int(r), scored / weight if weight else None) for c, (s, r, weight, scored) in total.items()}


def h1(days: pd.DataFrame, day: date, *, paused: bool) -> int | None:
    """H1 of a mailbox on a day, from its counters by day; None for fewer than twenty messages in seven days."""
    week = days[(days.index > day - timedelta(days=7)) & (days.index <= day)].sum()
    before = days[(days.index > day - timedelta(days=14)) & (days.index <= day - timedelta(days=7))].sent.sum()
    if week.sent < 20:
        return None

    def penalty(value: float, start: float, full: float) -> float:
        return 100 * min(1.0, max(0.0, (value - start) / (full - start)))

    got = week.delivered or float("inf")
    score = 100 - 0.35 * penalty(100 * week.hard_bounced / week.sent, 2, 10)
    score -= 0.35 * penalty(100 * week.spam_complaints / got, 0.1, 0.5)
    score -= 0.15 * penalty(100 * week.unsubscribed / got, 1, 5)
    if before >= 50 and not paused:
        score -= 0.15 * penalty(100 * (before - week.sent) / before, 50, 100)
    return int(score + 0.5)


def by_tenant_and_month(shares: Mapping[tuple[Any, ...], tuple[float, float]]) -> Figures:
    """Dollars by (tenant or None, first day of the month)."""
    found: dict[tuple[Any, ...], float] = defaultdict(float)
    for (tenant, _, day), (address, server) in shares.items():
        found[tenant, day.replace(day=1)] += address + server
    return dict(found)
