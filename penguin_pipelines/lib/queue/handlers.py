"""Handlers by job type: how the application says what runs for `email.send`.

    class Send(BaseModel):
        message_id: UUID

    @handler("email.send", Send)
    def send(payload: Send, job: Context) -> dict | None: ...

A worker imports the modules it is told to, and with them their handlers. A handler may run again for the same job
(its worker died after the effect): make effects keyed by `job.id`. It raises TerminalError when trying again is
useless; everything else is tried again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from pydantic import BaseModel

from penguin_pipelines.errors import ConnectionFailed, PenguinError, UnknownName
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.model import TerminalError
from penguin_pipelines.lib.queue.producer import set_tenant

Payload = TypeVar("Payload", bound=BaseModel)
Result = Mapping[str, Any] | None


class UnknownJobType(TerminalError):
    """No handler is registered for a job's type."""


class Connections:
    """Connections of one process to the tiers, by tier and role; opened when first wanted."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls
        self._open: dict[tuple[str, str], psycopg.Connection] = {}

    def get(self, tier: str, role: str) -> psycopg.Connection:
        if tier not in self._urls:
            raise UnknownName.of("tier", tier, self._urls)
        found = self._open.get((tier, role))
        if found is None or found.closed or found.broken:
            found = self._open[tier, role] = db.open_connection(self._urls[tier], tier, role=role, autocommit=True)
        return found


@dataclass(slots=True)
class Context:
    """The job that a handler works for. Not frozen: that cost a quick job a third more."""

    id: UUID
    queue: str
    type: str
    tenant_id: UUID | None
    user_id: UUID | None
    correlation_id: str | None
    attempt: int
    max_attempts: int
    connections: Connections
    report: Callable[[int, str | None], None]

    @contextlib.contextmanager
    def transaction(self, tier: str, *, role: str = "pm_worker") -> Iterator[psycopg.Connection]:
        """A transaction in a tier that sees the job's tenant and nothing else."""
        try:
            connection = self.connections.get(tier, role)
            with connection.transaction():
                set_tenant(connection, self.tenant_id)
                yield connection
        except psycopg.OperationalError as e:
            raise ConnectionFailed(f"Tier '{tier}' was lost while job {self.id} ran: {e}") from e

    def progress(self, percentage: int, message: str | None = None) -> None:
        """How far the job is; people see it with the next heartbeat."""
        self.report(max(0, min(100, percentage)), message)


@dataclass(frozen=True)
class _Handler:
    payload: type[BaseModel]
    run: Callable[[Any, Context], Result]


_HANDLERS: dict[str, _Handler] = {}


def handler(job_type: str, payload: type[Payload]) -> Callable[[Callable[[Payload, Context], Result]], Any]:
    """Registers a function for a job type; each type has one."""

    def register(run: Callable[[Payload, Context], Result]) -> Callable[[Payload, Context], Result]:
        known = _HANDLERS.get(job_type)
        if known is not None and (known.run.__module__, known.run.__qualname__) != (run.__module__, run.__qualname__):
            raise PenguinError(
                f"Job type {job_type!r} has two handlers, in {known.run.__module__} and {run.__module__}; load one."
            )
        _HANDLERS[job_type] = _Handler(payload, run)
        return run

    return register


def load(modules: Sequence[str]) -> list[str]:
    """Imports modules with handlers; gives the job types that are known then."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as e:
            raise PenguinError(f"Module {module!r} with handlers cannot be imported: {e}.") from e
    return sorted(_HANDLERS)


def call(job_type: str, payload: str, context: Context) -> str | None:
    """Runs the handler of a job; its result as JSON text."""
    found = _HANDLERS.get(job_type)
    if found is None:
        raise UnknownJobType(f"No handler is registered for job type {job_type!r}; load its module with --handlers.")
    result = found.run(found.payload.model_validate_json(payload), context)
    if result is None:
        return None
    try:
        return json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise TerminalError(f"The result of job type {job_type!r} is not JSON: {e}.") from e
