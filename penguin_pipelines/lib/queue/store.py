"""What a worker asks of Postgres: claim, end, renew, release, sweep. One statement for many jobs each.

Every statement but the claim names the lease token, so that a worker that lost its lease changes nothing. Not here:
when to call them (worker), and what people do with jobs (operate).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.hints import Hint
from penguin_pipelines.lib.queue.model import ORCHESTRATOR, Failure, Leased, Outcome, clean, utc_now
from penguin_pipelines.lib.sql import blocks

log = logging.getLogger(__name__)

# The same few statements over and over: planning the claim takes longer than running it. What is known of the size of
# a queue is always out of date, and each statement is meant to go through an index for each job.
_PLANS = (
    "set plan_cache_mode = force_generic_plan",
    "set enable_seqscan = off",
    "set enable_bitmapscan = off",
    "set enable_hashjoin = off",
    "set enable_mergejoin = off",
    "set enable_sort = off",
)
_FROZEN = "10s"
_AWAY = "1 hour"
"""So long the orchestrator may be away before its jobs are anybody's: their runs do not die with it."""
NOBODY = UUID(int=0)
"""Stands for the tenant of platform jobs where tenants take turns."""


@dataclass
class Turn:
    """Where the turn of tenants stands in one queue, and how many jobs each may take at a time."""

    after: UUID = field(default_factory=uuid4)
    tenants: int = 1
    barred: Mapping[UUID, datetime] = field(default_factory=dict)
    """Tenants over their rate limit, until when."""


@dataclass(frozen=True)
class Swept:
    """What a sweep did."""

    restarted: int
    buried: int
    expired: int
    reclaimed: int
    due: Sequence[Hint]


class Store:
    """The statements of one worker over one connection, which is opened again after it broke."""

    def __init__(self, url: str, worker: str) -> None:
        self._url = url
        self.worker = worker
        self._opened: psycopg.Connection | None = None

    @property
    def _connection(self) -> psycopg.Connection:
        if self._opened is None or self._opened.closed or self._opened.broken:
            self._opened = db.open_connection(self._url, "queue", role="pm_worker", autocommit=True)
            for setting in _PLANS:
                self._opened.execute(setting)
            self._opened.prepare_threshold = 1
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _run(self, block: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        return self._connection.execute(blocks("queue")[block], values).fetchall()

    def claim(self, queue: str, batch: int, turn: Turn) -> list[Leased]:
        """Leases up to `batch` due jobs, and moves the turn on."""
        token, now = uuid4(), utc_now()
        values = {
            "queue": queue,
            "batch": batch,
            "after": turn.after,
            "quantum": max(1, -(-batch // turn.tenants)),
            "barred": [tenant for tenant, until in turn.barred.items() if until > now],
            "worker": self.worker,
            "token": token,
        }
        connection = self._connection
        with connection.pipeline(), connection.transaction():
            connection.execute(blocks("queue")["lock_claim"], values)
            cursor = connection.execute(blocks("queue")["claim"], values, binary=True)
        rows: list[Any] = cursor.fetchall()
        jobs = [Leased._make((*row, token)) for row in rows]
        if jobs:
            tenants = {job.tenant_id or NOBODY for job in jobs}
            # Served in a circle that begins after the last one; the furthest along the circle was the last.
            last = max(tenants, key=lambda t: (t.int - turn.after.int) % (1 << 128))
            turn.after = UUID(int=(last.int + 1) % (1 << 128))
            turn.tenants = len(tenants)
        return jobs

    def complete(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Ends attempts that went well; gives those that were refused."""
        if not outcomes:
            return []
        results = [o.result for o in outcomes]
        values = _columns(outcomes) | {"results": results if any(results) else _array(["NULL"] * len(results))}
        try:
            [(some,)] = self._run("complete", values)
        except psycopg.DataError as e:
            if len(outcomes) > 1:  # one result that Postgres does not store must not hold the others up
                return [refused for o in outcomes for refused in self.complete([o])]
            reason = Failure("ResultRefused", clean(str(e)), terminal=True, details={})
            return self.fail([Outcome(outcomes[0].job, outcomes[0].started, outcomes[0].finished, failure=reason)])
        if some is None:
            return []
        taken = set(some)
        return self._refuse([o for o in outcomes if o.job.id not in taken])

    def fail(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Ends attempts that went wrong; gives those that were refused."""
        if not outcomes:
            return []
        failures = [o.failure or Failure("Unknown", "unknown", False, {}) for o in outcomes]
        taken = {row[0] for row in self._run("fail", _columns(outcomes) | _reasons(failures))}
        return self._refuse([o for o in outcomes if o.job.id not in taken])

    def _refuse(self, refused: list[Outcome]) -> list[Outcome]:
        if refused:
            ids, tokens = [o.job.id for o in refused], [o.job.token for o in refused]
            log.warning("Refused the results of %d jobs whose lease was lost, %s first.", len(ids), ids[0])
            self._connection.execute(
                blocks("queue")["log_refused"], {"ids": ids, "tokens": tokens, "worker": self.worker}
            )
        return refused

    def release(self, jobs: Sequence[Leased], until: Sequence[datetime | None] | None = None) -> int:
        """Gives jobs back that were not run."""
        if not jobs:
            return 0
        values = _leases(jobs) | {"runs": list(until) if until else [None] * len(jobs)}
        return len(self._run("release", values))

    def beat(self, jobs: Sequence[Leased], progress: Mapping[UUID, tuple[int, str | None]]) -> set[UUID]:
        """Renews leases; gives the ids that were lost."""
        if not jobs:
            return set()
        said = [progress.get(job.id, (None, None)) for job in jobs]
        values = _leases(jobs) | {"percentages": [s[0] for s in said], "messages": [s[1] for s in said]}
        return {job.id for job in jobs} - {row[0] for row in self._run("beat", values)}

    def sweep(self, lease: float, since: float) -> Swept | None:
        """Restarts or buries what dead workers left, expires, and finds what became due; None when another one does."""
        connection = self._connection
        with connection.transaction():
            if not self._turn_to_sweep():
                return None
            lost, now = self._run("lost", {"lease": lease, "orchestrator": ORCHESTRATOR}), utc_now()
            ended = self._bury(lost, now) if lost else []
            self._run("let_go", {"orchestrator": ORCHESTRATOR, "away": _AWAY})
            reclaimed = len(self._run("reclaim"))
            expired = len(self._run("expire"))
            due = [Hint(queue, priority, id_) for id_, queue, priority in self._run("became_due", {"seconds": since})]
        dead = sum(1 for row in ended if row[1])
        return Swept(len(ended) - dead, dead, expired, reclaimed, due)

    def _turn_to_sweep(self) -> bool:
        """Whether this transaction is the one that sweeps; a worker that freezes in it loses the turn."""
        self._run("bound_sweep", {"frozen": _FROZEN})
        return self._run("lock_sweep") == [(True,)]

    def _bury(self, lost: Sequence[Any], now: datetime) -> list[Any]:
        failures = [Failure(row[3], row[4], row[3] == "AttemptsUsed", {}, at_once=True) for row in lost]
        begun = [row[2] or now for row in lost]
        values = {
            "ids": [row[0] for row in lost],
            "tokens": [row[1] for row in lost],
            "started": [b.timestamp() for b in begun],
            "finished": [now.timestamp()] * len(lost),
            "milliseconds": [min(int((now - b).total_seconds() * 1000), 2**31 - 1) for b in begun],
        }
        return self._run("fail", values | _reasons(failures))


def _array(items: Iterable[object]) -> str:
    """An array in Postgres' own notation, for items without quotes or commas. Adapting lists one item at a time takes
    longer than the statement that they are for."""
    return "{" + ",".join(map(str, items)) + "}"


def _leases(jobs: Sequence[Leased]) -> dict[str, Any]:
    return {"ids": _array([j.id.hex for j in jobs]), "tokens": _array([j.token.hex for j in jobs])}


def _columns(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return _leases([o.job for o in outcomes]) | {
        "started": _array(o.started for o in outcomes),
        "finished": _array(o.finished for o in outcomes),
        "milliseconds": _array(o.milliseconds for o in outcomes),
    }


def _reasons(failures: Sequence[Failure]) -> dict[str, list[Any]]:
    return {
        "terminal": [f.terminal for f in failures],
        "at_once": [f.at_once for f in failures],
        "classes": [f.error_class for f in failures],
        "messages": [f.message for f in failures],
        "details": [json.dumps(f.details) for f in failures],
    }
