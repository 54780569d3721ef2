"""Why a figure is what it is, and why it changed: the messages, events and corrections behind one fact row.

The counters are reconstructed twice from what has arrived, once up to a moment and once up to now; the second must be
what the mart holds, and the answer says when it is not. Which messages (of the queue: attempts) belong to a row is
written once per fact, in sql/explain.sql. Nothing of a person is read: messages are their storage keys. Not here:
printing (cli).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib import db, dbt
from penguin_pipelines.lib.sql import blocks, compose

_PREFIX = "of_"
_PARAMETER = re.compile(r"%\((\w+)\)s")
_OTHER_NAMES = {"billing_analytics": {"sent": "emails_sent"}}
"""Where a fact calls a counter by another name; it has only those."""
_NOT_KEPT = ("rewritten", "deleted", "withdrawn", "elsewhere")
"""Causes of which the earlier version is gone."""
_MOVED = "the row was written since and nothing of it arrived: a message is now booked elsewhere"
_NOBODY = "none"
"""How a key names the row without a tenant: idle addresses, jobs of the platform itself."""
_WITHOUT_TENANT = ("infrastructure_analytics", "infrastructure_analytics_monthly", "queue_analytics")


@dataclass(frozen=True)
class Explanation:
    """What is behind a fact row. `counters` holds before, after and delta of each; `unexplained` names those where the
    mart holds something else than what has arrived, with the mart's figure."""

    fact: str
    key: Mapping[str, str | None]
    since: datetime
    rows: list[dict[str, Any]]
    counters: dict[str, dict[str, int]]
    unexplained: dict[str, int]
    is_exact: bool
    """False when messages or events were rewritten or withdrawn since: their earlier version is not kept, and `before`
    goes by their times."""
    causes: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    all_events: list[dict[str, Any]] = field(default_factory=list)
    corrections: list[dict[str, Any]] = field(default_factory=list)
    slices_waiting: int = 0


def facts() -> dict[str, tuple[str, ...]]:
    """The facts that can be explained, with their keys."""
    found = {name.removeprefix(_PREFIX): text for name, text in blocks("explain").items() if name.startswith(_PREFIX)}
    keys = {name: dict.fromkeys(_PARAMETER.findall(text)) for name, text in found.items()}
    return {name: tuple(column for column in key if column != "since") for name, key in keys.items()}


def parse_key(fact: str, text: str) -> dict[str, str | None]:
    """`a=1,b=2` as a mapping with exactly the key of the fact; `tenant_id=none` where a row may have no tenant."""
    if fact not in facts():
        raise UnknownName.of("fact", fact, facts())
    wanted = facts()[fact]
    given = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    given = {name.strip(): value.strip() for name, value in given.items()}
    if set(given) != set(wanted):
        hint = " (tenant_id=none for the row without a tenant)" if fact in _WITHOUT_TENANT else ""
        raise PenguinError(
            f"A row of {fact} is named by {', '.join(wanted)}; write --key {'=...,'.join(wanted)}=...{hint}"
        )
    nobody = fact in _WITHOUT_TENANT and given["tenant_id"].lower() == _NOBODY
    return {**given, "tenant_id": None if nobody else given["tenant_id"]}


def latest(url: str, fact: str, limit: int = 10) -> list[tuple[datetime, str]]:
    """Rows of a fact that can be asked about, those written last: when, and the key as `parse_key` reads it."""
    if fact not in facts():
        raise UnknownName.of("fact", fact, facts())
    query = compose("explain", "latest", fact=sql.Identifier("marts", fact))
    with db.connect(url, "olap", role="pm_etl", autocommit=True) as connection:
        try:
            rows = connection.execute(query, {"limit": limit}).fetchall()
        except psycopg.errors.UndefinedTable as e:
            raise PenguinError(f"Nothing has been built yet ({e.diag.message_primary}); run: penguin run") from None
    found: dict[str, datetime] = {}
    for updated, row in rows:
        named = ",".join(f"{column}={_NOBODY if row[column] is None else row[column]}" for column in facts()[fact])
        found.setdefault(named, updated)
    return [(updated, named) for named, updated in found.items()]


def explain(
    url: str,
    fact: str,
    key: Mapping[str, str | None],
    *,
    since: datetime | None = None,
    limit: int = 50,
    as_of: datetime | None = None,
) -> Explanation:
    """The explanation of one row; `since` is a day ago unless given, `limit` the number of single events, `as_of` the
    clock of the last build where that is not the present."""
    moment = since or datetime.now(UTC) - timedelta(days=1)
    with db.connect(url, "olap", role="pm_etl", autocommit=True) as connection, connection.transaction():
        connection.execute(blocks("explain")["begin"])
        try:
            return _Question(connection, fact, key, moment, limit, as_of).answer()
        except psycopg.errors.DataError as e:
            raise PenguinError(
                f"The key of {fact} has a value that cannot be read: {e.diag.message_primary}."
            ) from None
        except psycopg.errors.UndefinedTable as e:
            raise PenguinError(f"Nothing has been built yet ({e.diag.message_primary}); run: penguin run") from None


class _Question:
    """One row, one moment, one snapshot of the warehouse."""

    def __init__(
        self,
        connection: psycopg.Connection,
        fact: str,
        key: Mapping[str, str | None],
        since: datetime,
        limit: int,
        as_of: datetime | None,
    ) -> None:
        self.cursor = connection.cursor(row_factory=dict_row)
        self.fact, self.key, self.since, self.as_of = fact, key, since, as_of
        silence = dbt.variables()["silence_hours"]
        self.values = {**key, "since": since, "limit": limit, "silence_hours": silence}
        self.within = sql.SQL(blocks("explain")[self._block("within")])
        self.milestones = sql.SQL(blocks("explain")["milestones"])
        condition = sql.SQL(blocks("explain")[_PREFIX + fact])
        self.slice = compose("explain", self._block("slice"), condition=condition)

    def answer(self) -> Explanation:
        rows = self._rows()
        if not rows:
            tenant = self.key["tenant_id"]
            wanted = f"= '{tenant}'" if tenant else "is null"
            raise PenguinError(
                f"marts.{self.fact} has no row with that key; look at its neighbours with: "
                f'penguin sql "select * from marts.{self.fact} where tenant_id {wanted} limit 20"'
            )
        causes = self._ask("causes")
        if not causes and datetime.fromisoformat(rows[0]["updated"]) > self.since:
            causes = [{"cause": _MOVED}]
        before, after = self._counters(self.since), self._counters(None)
        held = {n: sum(row[n] for row in rows) for n in after}
        counters = {n: {"before": before[n], "after": after[n], "delta": after[n] - before[n]} for n in after}
        return Explanation(
            fact=self.fact,
            key=self.key,
            since=self.since,
            rows=rows,
            counters=counters,
            unexplained={n: held[n] for n, c in counters.items() if held[n] != c["after"]},
            is_exact=not any(c["cause"].endswith(_NOT_KEPT) for c in causes),
            causes=causes,
            events=self._ask("events"),
            all_events=self._ask("messages"),
            corrections=self._corrections(rows[0]),
            slices_waiting=self.cursor.execute(blocks("explain")["waiting"], self.values).fetchall()[0]["count"],
        )

    def _block(self, name: str) -> str:
        """The block of that name for this fact, where it has one of its own."""
        own = f"{name}_{self.fact}"
        return own if own in blocks("explain") else name

    def _rows(self) -> list[dict[str, Any]]:
        key = sql.SQL(" and ").join(
            sql.SQL("f.{} is null").format(sql.Identifier(name))
            if value is None
            else sql.SQL("f.{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name, value in self.key.items()
        )
        query = compose("explain", "rows", fact=sql.Identifier("marts", self.fact), key=key)
        return [row["to_jsonb"] for row in self.cursor.execute(query, self.values).fetchall()]

    def _ask(self, block: str, **more: Any) -> list[dict[str, Any]]:
        query = compose("explain", self._block(block), slice=self.slice, within=self.within, milestones=self.milestones)
        return self.cursor.execute(query, {**self.values, **more}).fetchall()

    def _counters(self, moment: datetime | None) -> dict[str, int]:
        """The counters of the fact as of a moment."""
        clock = self.as_of or moment or datetime.now(UTC)
        counted = self._ask("counters", moment=moment or "infinity", clock=clock)[0]
        names = _OTHER_NAMES.get(self.fact)
        return {names[n]: v for n, v in counted.items() if n in names} if names else dict(counted)

    def _corrections(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Entries of the ledger for the windows that hold the slice."""
        if "period_start" in row:
            span = {"first": row["period_start"], "last": row["period_start"]}
        elif "month" in row:
            month = date.fromisoformat(row["month"])
            last = (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            span = {"first": f"{month} 00:00+00", "last": f"{last} 00:00+00"}
        elif "activity_date" in row:
            day = date.fromisoformat(row["activity_date"])
            span = {"first": f"{day} 00:00+00", "last": f"{day} 00:00+00"}
        else:
            return []
        return self.cursor.execute(blocks("explain")["corrections"], {**self.values, **span}).fetchall()
