"""How jobs get into the queue: one, several, or very many, in a transaction of their own or inside the caller's.

The application's entry: `Producer`. A hint goes to Redis after commit, never before; without it a worker finds the
job at its next poll. Running jobs belongs to worker, looking after them to operate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from penguin_pipelines.errors import UnknownName
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.hints import Hint, Hints
from penguin_pipelines.lib.queue.model import JobRefused, NewJob, checked, new_id
from penguin_pipelines.lib.sql import blocks

_COLUMNS = (
    "ids", "queues", "types", "payloads", "priorities", "attempts", "runs", "expires",
    "tenants", "users", "correlations", "keys",
)  # fmt: skip


class Enqueued(NamedTuple):
    """A job in the queue; not `is_new` when an open job with the same key was there before."""

    id: UUID
    queue: str
    priority: int
    is_new: bool
    is_due: bool

    @property
    def hint(self) -> Hint:
        return Hint(self.queue, self.priority, self.id)


def set_tenant(connection: psycopg.Connection, tenant: UUID | str | None) -> None:
    """The tenant of this transaction, by a SET LOCAL statement: it ends with the transaction, also behind a pooler."""
    statement = sql.SQL("set local app.current_tenant_id = {}")
    connection.execute(statement.format(sql.Literal("" if tenant is None else str(UUID(str(tenant))))))


def enqueue(connection: psycopg.Connection, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Enqueues inside the caller's transaction, with the caller's role and tenant; sends no hint."""
    rows = [_row(job) for job in jobs]
    made = _insert(connection, jobs, "enqueue", _columns(rows))
    return [made.get(row[0]) or _of_key(connection, job) for job, row in zip(jobs, rows, strict=True)]


def enqueue_many(connection: psycopg.Connection, jobs: Iterable[NewJob]) -> list[Enqueued]:
    """Enqueues very many inside the caller's transaction, by COPY; gives those whose key was not open."""
    connection.execute(blocks("queue")["staging"])
    queues: set[str] = set()
    with connection.cursor().copy(blocks("queue")["copy_staging"]) as copy:
        for job in jobs:
            queues.add(job.queue)
            copy.write_row(_row(job))
    return list(_insert(connection, [NewJob(q, "", {}) for q in queues], "enqueue_staged", {}).values())


def _row(job: NewJob) -> tuple[Any, ...]:
    return (
        new_id(), job.queue, job.type, checked(job), job.priority, job.max_attempts, job.run, job.expires,
        job.tenant_id, job.user_id, job.correlation_id, job.stored_key,
    )  # fmt: skip


def _columns(rows: Sequence[tuple[Any, ...]], tenant: str | None = None) -> dict[str, Any]:
    return {"tenant": tenant, **dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))}


def _insert(
    connection: psycopg.Connection, jobs: Sequence[NewJob], block: str, values: dict[str, Any]
) -> dict[UUID, Enqueued]:
    try:
        found = connection.execute(blocks("queue")[block], values).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise JobRefused(
            "The job's tenant is not the tenant of this transaction; set app.current_tenant_id, or enqueue as a worker."
        ) from None
    made = {row[0]: Enqueued(row[0], row[1], row[2], True, row[3]) for row in found}
    if len(made) < len(jobs) or not jobs:
        known = connection.execute(blocks("queue")["unknown_queues"], {"queues": [j.queue for j in jobs]}).fetchone()
        if known and known[0]:
            raise UnknownName.of("queue", known[0][0], known[1])
    return made


def _of_key(connection: psycopg.Connection, job: NewJob) -> Enqueued:
    """The open job that has this key, or the new one when that has ended meanwhile."""
    named = {"queue": job.queue, "key": job.stored_key}
    for _ in range(10):
        if row := connection.execute(blocks("queue")["open_job_of_key"], named).fetchone():
            return Enqueued(row[0], row[1], row[2], False, row[3])
        fresh = _row(job)
        if made := _insert(connection, [job], "enqueue", _columns([fresh])):
            return made[fresh[0]]
    raise JobRefused(
        f"Job {job.key!r} of queue {job.queue!r} was neither found nor made; is its tenant the current one?"
    )


class Producer:
    """Enqueues from one thread. Keeps a connection and opens it again when it broke."""

    def __init__(self, url: str, redis_url: str | None = None, *, role: str = "pm_worker") -> None:
        self._url = url
        self._role = role
        self._connection: psycopg.Connection | None = None
        self.hints = Hints(redis_url)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        if self._connection is None or self._connection.closed:
            self._connection = db.open_connection(self._url, "queue", role=self._role, autocommit=True)
        try:
            yield self._connection
        except psycopg.OperationalError:
            self._connection.close()
            raise

    @contextlib.contextmanager
    def transaction(self, tenant: UUID | None = None) -> Iterator[psycopg.Connection]:
        """A transaction of the queue tier in the producer's role, for the tenant."""
        with self._connected() as connection, connection.transaction():
            set_tenant(connection, tenant)
            yield connection

    def enqueue(self, job: NewJob) -> Enqueued:
        """One job in a transaction of its own; workers hear of it at once."""
        row = _row(job)
        # The statement is the transaction: four round trips would cost more than the job.
        with self._connected() as connection:
            found = _insert(connection, [job], "enqueue", _columns([row], str(job.tenant_id or "")))
        if not (made := found.get(row[0])):  # its key is taken
            with self.transaction(job.tenant_id) as connection:
                (made,) = enqueue(connection, [job])
        self.announce([made])
        return made

    def enqueue_many(self, jobs: Iterable[NewJob], tenant: UUID | None = None) -> list[Enqueued]:
        """Very many jobs by COPY, all or none. As pm_app they must be of one `tenant`."""
        with self.transaction(tenant) as connection:
            made = enqueue_many(connection, jobs)
        self.announce(made)
        return made

    def announce(self, jobs: Iterable[Enqueued]) -> None:
        """Wakes workers; for jobs enqueued inside the caller's transaction, after its commit."""
        self.hints.push(job.hint for job in jobs if job.is_new and job.is_due)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.hints.close()
