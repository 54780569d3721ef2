"""The life of an alert: it opens once, is repeated now and then, and closes by itself.

Plans are pure; recording is one transaction, which also puts what is to be told into an outbox. Delivering that belongs
to notify.py, the rules to watch.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue import health
from penguin_pipelines.lib.queue.model import utc_now
from penguin_pipelines.lib.queue.watch import Finding, Rules, judge_all
from penguin_pipelines.lib.sql import blocks


@dataclass(frozen=True)
class Alert:
    """An opening that is recorded and not closed."""

    id: UUID
    queue: str | None
    rule: str
    level: str
    observed: float | None
    threshold: float | None
    message: str
    opened: datetime
    last_notified: datetime | None

    @property
    def key(self) -> tuple[str | None, str, str]:
        return (self.queue, self.rule, self.level)


@dataclass(frozen=True)
class Plan:
    """What a look makes of the alerts that are open."""

    opens: Sequence[Finding]
    reminds: Sequence[Alert]
    closes: Sequence[Alert]


def plan(is_open: Sequence[Alert], findings: Sequence[Finding], now: datetime, repeat: timedelta) -> Plan:
    """New findings open, those that are gone close, those that stay are told again after a while."""
    known, found = {alert.key for alert in is_open}, {finding.key for finding in findings}
    return Plan(
        opens=[f for f in findings if f.key not in known],
        reminds=[a for a in is_open if a.key in found and now - (a.last_notified or a.opened) >= repeat],
        closes=[a for a in is_open if a.key not in found],
    )


@dataclass(frozen=True)
class Watched:
    """What one look found and did."""

    findings: Sequence[Finding]
    opened: Sequence[Finding]
    closed: Sequence[Alert]
    reminded: int
    sampled: int
    waiting: int
    """Due jobs of all queues."""
    busy: bool = False
    """Another watcher was at it; nothing was recorded."""


def watch(url: str, redis_url: str | None, rules: Rules, channels: Sequence[str]) -> Watched:
    """Looks, judges and records. May be repeated at any moment: the same state opens nothing twice."""
    state = health.look(url, redis_url, rules)
    with db.connect(url, "queue", role="pm_worker") as connection:
        connection.execute(blocks("watch")["bound"])
        waiting = sum(q.waiting for q in state.queues)
        if connection.execute(blocks("watch")["lock_watch"]).fetchone() != (True,):
            return Watched(judge_all(state, rules), (), (), 0, 0, waiting, busy=True)
        is_open = open_alerts(connection)
        findings = judge_all(state, rules, frozenset(a.key for a in is_open))
        todo = plan(is_open, findings, utc_now(), timedelta(minutes=rules.notify.repeat_minutes))
        opened = [f for f in todo.opens if _open(connection, f, channels)]
        closed = [a for a in todo.closes if _close(connection, a, channels)]
        reminded = sum(_notify(connection, a.id, "reminder", channels) for a in todo.reminds)
        sampled = health.record(connection, state, findings)
    return Watched(findings, opened, closed, reminded, sampled, waiting)


def open_alerts(connection: psycopg.Connection) -> list[Alert]:
    """Alerts that are open, oldest first."""
    return connection.cursor(row_factory=class_row(Alert)).execute(blocks("watch")["open_alerts"]).fetchall()


def recent(connection: psycopg.Connection, *, closed: bool = False, limit: int = 50) -> list[dict[str, Any]]:
    """Open alerts, with `closed` also the last ones that are over."""
    values = {"closed": closed, "limit": limit}
    return connection.cursor(row_factory=dict_row).execute(blocks("watch")["recent_alerts"], values).fetchall()


def _open(connection: psycopg.Connection, finding: Finding, channels: Sequence[str]) -> bool:
    values = {
        "queue": finding.queue,
        "rule": finding.rule,
        "level": finding.level,
        "observed": finding.observed,
        "threshold": finding.threshold,
        "message": finding.message,
    }
    row = connection.execute(blocks("watch")["open_alert"], values).fetchone()
    if row is None:
        return False
    _notify(connection, row[0], "opened", channels)
    return True


def _close(connection: psycopg.Connection, alert: Alert, channels: Sequence[str]) -> bool:
    if connection.execute(blocks("watch")["close_alert"], {"id": alert.id}).fetchone() is None:
        return False
    _notify(connection, alert.id, "closed", channels)
    return True


def _notify(connection: psycopg.Connection, alert: UUID, kind: str, channels: Sequence[str]) -> bool:
    values = {"alert": alert, "kind": kind, "channels": list(channels)}
    return bool(connection.execute(blocks("watch")["notify"], values).fetchall())
