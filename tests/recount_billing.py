"""An independent recount of revenue and usage windows, straight from the source tables, in plain loops.

It shares no code and no SQL with the warehouse, only the written rules: the price of the day while a contract is active
or past due, summed over the contracts of a tenant; what happens at midnight belongs to the day that begins; windows of
one month on the day of the month of current_period_start. Not here: the comparison (test_billing.py).
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

Paid = dict[str, list[tuple[datetime, int]]]


def revenue(oltp_url: str) -> Paid:
    """By tenant, the moments at which any contract of it changed and what the tenant pays from then on, in cents."""
    history: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for change in _rows(oltp_url, "select * from subscription_changes order by effective, created, id desc"):
        history[str(change["tenant_id"])].append(change)
    paid: Paid = {}
    for tenant, changes in history.items():
        now: dict[str, int] = {}
        steps = []
        for change in changes:
            counts = change["status"] in ("active", "past_due")
            now[change["subscription_id"]] = change["mrr_cents"] if counts else 0
            steps.append((change["effective"], sum(now.values())))
        paid[tenant] = steps
    return paid


def before(steps: list[tuple[datetime, int]], moment: datetime) -> int:
    """What was paid just before a moment."""
    return next((cents for when, cents in reversed(steps) if when < moment), 0)


def movements(paid: Paid, as_of: datetime) -> dict[tuple[date, str], tuple[str, bool, int, int]]:
    """(movement, came back, start, end) by month and tenant."""
    found = {}
    for tenant, steps in paid.items():
        for month in _months(steps[0][0].date(), as_of.date()):
            end_day = min(_next_month(month) - timedelta(days=1), as_of.date())
            start, end = before(steps, _midnight(month)), before(steps, _midnight(end_day + timedelta(days=1)))
            if start == end == 0:
                continue
            paid_earlier = any(cents > 0 and when < _midnight(month) for when, cents in steps)
            kind = "unchanged"
            if start == 0:
                kind = "new"
            elif end == 0:
                kind = "churned"
            elif end != start:
                kind = "expansion" if end > start else "contraction"
            found[month, tenant] = (kind, start == 0 and paid_earlier, start, end)
    return found


def cohorts(paid: Paid, as_of: datetime) -> dict[tuple[date, int], tuple[int, int, int]]:
    """(tenants, retained, cents) by month of the first payment and age in months."""
    first = {t: min(when for when, cents in steps if cents) for t, steps in paid.items() if any(c for _, c in steps)}
    groups: dict[date, list[str]] = defaultdict(list)
    for tenant, when in first.items():
        groups[when.date().replace(day=1)].append(tenant)
    found = {}
    for born, tenants in groups.items():
        for age, month in enumerate(_months(born, as_of.date())):
            end_day = min(_next_month(month) - timedelta(days=1), as_of.date())
            left = [before(paid[t], _midnight(end_day + timedelta(days=1))) for t in tenants]
            found[born, age] = (len(tenants), sum(1 for cents in left if cents), sum(left))
    return found


def window_starts(oltp_url: str, as_of: datetime) -> dict[str, set[datetime]]:
    """Starts of the usage windows of every tenant with exactly one contract, to the present or the contract's end."""
    contracts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for contract in _rows(oltp_url, "select * from subscriptions"):
        contracts[str(contract["tenant_id"])].append(contract)
    found = {}
    for tenant, mine in contracts.items():
        if len(mine) != 1:
            continue
        (contract,) = mine
        day = contract["current_period_start"].astimezone(UTC).date().day
        begun = contract["created"].astimezone(UTC).date()
        ended = contract["cancel_date"] if contract["status"] == "canceled" else as_of
        starts = set()
        for month in _months((begun.replace(day=1) - timedelta(days=1)), ended.date()):
            start = month.replace(day=min(day, calendar.monthrange(month.year, month.month)[1]))
            following = _next_month(month)
            end = following.replace(day=min(day, calendar.monthrange(following.year, following.month)[1]))
            if end > begun and start <= ended.date():
                starts.add(_midnight(start))
        found[tenant] = starts
    return found


def _months(first: date, last: date) -> Iterator[date]:
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = _next_month(month)


def _next_month(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _rows(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set time zone 'UTC'")
        return cursor.execute(query).fetchall()  # type: ignore[call-overload]
