"""What a job is: as it is asked for, as a worker holds it, and how an attempt ended. Pure.

Also the two kinds of failure that handlers may raise. Statements are in sql/queue.sql, their callers in store and
producer.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from penguin_pipelines.errors import PenguinError

HIGH, NORMAL, LOW = 1, 2, 3
_HIGH_UNTIL, _NORMAL_UNTIL = 50, 150
ORCHESTRATOR = "dagster"
"""The worker name under which the orchestrator holds analytics jobs; there is one of it."""
LARGEST_PAYLOAD = 65_536
"""Bytes. A payload holds references, not content."""


class TerminalError(PenguinError):
    """Raised by a handler when no later attempt can succeed: a suppressed recipient, a hard bounce."""


class TransientError(PenguinError):
    """Raised by a handler when a later attempt may succeed."""

    transient = True


class JobRefused(PenguinError):
    """A job cannot be enqueued as it is."""


@dataclass(frozen=True)
class NewJob:
    """A job to enqueue. None means: what the queue says."""

    queue: str
    type: str
    payload: Mapping[str, Any]
    priority: int | None = None
    max_attempts: int | None = None
    run: datetime | None = None
    expires: datetime | None = None
    tenant_id: UUID | None = None
    user_id: UUID | None = None
    correlation_id: str | None = None
    key: str | None = None
    """Idempotency: while a job of this queue, tenant and key is open, another one is not made."""

    @property
    def stored_key(self) -> str | None:
        """Keys are unique by queue in the table; with the tenant in front, none learns of or blocks another's."""
        return f"{self.tenant_id}:{self.key}" if self.key is not None and self.tenant_id is not None else self.key


class Leased(NamedTuple):
    """A job that this worker holds for one attempt. A tuple, like Outcome: these are made for every job."""

    id: UUID
    queue: str
    type: str
    payload: str
    tenant_id: UUID | None
    user_id: UUID | None
    correlation_id: str | None
    attempt: int
    max_attempts: int
    timeout: int
    token: UUID


@dataclass(frozen=True)
class Failure:
    """Why an attempt went wrong."""

    error_class: str
    message: str
    terminal: bool
    details: Mapping[str, Any]
    at_once: bool = False
    """Try again without waiting: the attempt was cut short from outside."""


class Outcome(NamedTuple):
    """How an attempt ended: well, with a result as JSON text, or with a failure. Times in seconds since 1970."""

    job: Leased
    started: float
    finished: float
    result: str | None = None
    failure: Failure | None = None

    @property
    def milliseconds(self) -> int:
        return min(int((self.finished - self.started) * 1000), 2**31 - 1)


def lane(priority: int) -> int:
    """Lane of a priority, as `penguin.job_lane` has it."""
    return HIGH if priority <= _HIGH_UNTIL else NORMAL if priority <= _NORMAL_UNTIL else LOW


def new_id() -> UUID:
    """A version 7 UUID: ids that grow with time keep the primary key's index small and warm."""
    stamp = (time.time_ns() // 1_000_000) << 80
    noise = int.from_bytes(os.urandom(10))
    return UUID(int=stamp | 0x7 << 76 | (noise >> 68) << 64 | 0b10 << 62 | noise & (1 << 62) - 1)


_as_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode


def checked(job: NewJob) -> str:
    """The payload as JSON text. Raises JobRefused for what the tables would not hold or no handler should get."""
    name = f"Job {job.type!r} for queue {job.queue!r}"
    if job.priority is not None and not 1 <= job.priority <= 1000:
        raise JobRefused(f"{name} has priority {job.priority}; it must be from 1 (first) to 1000.")
    if job.max_attempts is not None and job.max_attempts < 1:
        raise JobRefused(f"{name} allows {job.max_attempts} attempts; it must be at least 1.")
    for moment in (job.run, job.expires):
        if moment is not None and moment.tzinfo is None:
            raise JobRefused(f"{name} has a time without a zone ({moment}); give it one, for example UTC.")
    limits = (("type", job.type, 100), ("key", job.stored_key, 255), ("correlation_id", job.correlation_id, 255))
    for field, value, longest in limits:
        if value is not None and (len(value) > longest or "\0" in value):
            raise JobRefused(f"{name}: {field} must have at most {longest} characters and no NUL.")
    try:
        text = _as_json(job.payload)
    except (TypeError, ValueError) as e:
        raise JobRefused(f"{name} has a payload that is not JSON: {e}.") from None
    if len(text) > LARGEST_PAYLOAD:
        raise JobRefused(
            f"{name} has a payload of {len(text):,} bytes; at most {LARGEST_PAYLOAD:,} are taken, "
            "so store the content and pass its id."
        )
    if "\\u0000" in text:
        raise JobRefused(f"{name} has a NUL character in its payload, which Postgres does not store.")
    return text


def failure_of(error: BaseException) -> Failure:
    """How an exception of a handler counts. A payload of the wrong shape stays wrong; what we do not know may pass."""
    if isinstance(error, ValidationError):
        # Without the values: a payload may hold what does not belong into a log.
        spots = [f"{'.'.join(map(str, e['loc'])) or 'payload'}: {e['msg']}" for e in error.errors(include_input=False)]
        return Failure("UndecodablePayload", clean("; ".join(spots)), True, {"spots": len(spots)})
    terminal = isinstance(error, PenguinError) and not error.transient
    return Failure(type(error).__name__, clean(str(error) or type(error).__name__), terminal, {})


def clean(text: str, longest: int = 2_000) -> str:
    """Text that Postgres stores, of bounded length."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:longest]


def utc_now() -> datetime:
    return datetime.now(UTC)
