"""Analytics jobs of the queue as runs of the orchestrator: which slot a job asks for, what to do with it next. Pure.

A slot is a schedule and a moment of it. It runs once, whoever asks first: its schedule or a job. A job is held, as any
worker holds one, until the run of its slot has ended. Not here: runs and schedules themselves (defs/analytics_jobs.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from penguin_pipelines.lib.queue.handlers import UnknownJobType
from penguin_pipelines.lib.queue.model import ORCHESTRATOR, Failure, Leased, TerminalError, failure_of

QUEUE = "analytics-processing"
SLOT_TAG = "penguin/slot"
"""Tag of a run that says which slot it is of."""
WORKER = ORCHESTRATOR
SCHEDULES: Mapping[str, str] = {
    "hourly_metrics": "hourly_metrics",
    "campaign-aggregate": "hourly_metrics",
    "daily-aggregate": "daily_aggregate",
    "billing-calculate": "daily_aggregate",
    "weekly": "weekly",
}
"""Which schedule does the work of a job type. Campaigns are built with what changes touch, usage windows nightly."""
GRACE = timedelta(minutes=15)
"""So long a job waits for a schedule that is on and has its slot still before it."""
_PAUSE = timedelta(minutes=3)
"""Looks further apart than this mean that the daemon was away, schedules with it."""


def looking_since(cursor: str | None, now: datetime) -> tuple[datetime, str]:
    """Since when looks have followed one another without a gap, and the cursor that says so to the next one."""
    since = now
    if cursor:
        began, last = map(datetime.fromisoformat, cursor.split(" "))
        since = began if now - last < _PAUSE else now
    return since, f"{since.isoformat()} {now.isoformat()}"


class BadSlot(TerminalError):
    """The payload names a slot that cannot be understood."""


@dataclass(frozen=True)
class Slot:
    """One moment of a schedule."""

    schedule: str
    time: datetime

    @property
    def key(self) -> str:
        """Run key and tag of the run, the same from a schedule and from a job."""
        return slot_key(self.schedule, self.time)


def parse_key(key: str) -> Slot:
    """The slot of a run's tag."""
    schedule, _, time = key.partition(":")
    return Slot(schedule, datetime.fromisoformat(time))


def slot_key(schedule: str, time: datetime) -> str:
    """`<schedule>:<slot>` in UTC to the minute."""
    return f"{schedule}:{time.astimezone(UTC).isoformat(timespec='minutes')}"


def slot_of(job: Leased, due: datetime, latest: Callable[[str, datetime], datetime]) -> Slot:
    """The slot that a job asks for: the one of its payload, else the latest moment of its schedule until it was due.

    `latest(schedule, time)` gives that moment. Raises UnknownJobType or BadSlot, which no later attempt mends.
    """
    schedule = SCHEDULES.get(job.type)
    if schedule is None:
        raise UnknownJobType(
            f"Queue {QUEUE} has no schedule for job type {job.type!r}; use one of {', '.join(SCHEDULES)}."
        )
    given = json.loads(job.payload).get("slot")
    if given is None:
        return Slot(schedule, latest(schedule, due))
    try:
        time = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise BadSlot(f"Slot {given!r} is no time; write it like 2026-03-01T02:00+00:00.") from None
    if time.tzinfo is None:
        raise BadSlot(f"Slot {given!r} has no zone; write it like 2026-03-01T02:00+00:00.")
    return Slot(schedule, time.astimezone(UTC).replace(second=0, microsecond=0))


class Ended(Enum):
    """How a run ended."""

    WELL = "success"
    BADLY = "failure"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Run:
    """A run of a slot. `ended` is None while it is queued, starts or runs."""

    id: str
    ended: Ended | None
    finished: datetime | None = None
    repeated: bool = False
    """Dagster itself starts it again."""
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Turn:
    """How far the schedule of a slot is."""

    is_on: bool
    passed: bool
    """The schedule has had this moment: it asked for a run, skipped it or never will."""


class Act(Enum):
    """What becomes of a held job."""

    WAIT = "wait"
    LATER = "later"
    REQUEST = "request"
    COMPLETE = "complete"
    FAIL = "fail"


@dataclass(frozen=True)
class Decision:
    """What becomes of a held job, and why; `run` is the one that it waits for or that ended."""

    act: Act
    why: str
    run: Run | None = None
    failure: Failure | None = None
    key: str = ""
    """Run key of a request: the slot, numbered from the second run on."""
    until: datetime | None = None
    """When to look again at a job whose slot has not come."""


def decide(
    slot: Slot, held_since: datetime, runs: Sequence[Run], turn: Turn, looking_since: datetime, now: datetime
) -> Decision:
    """What becomes of a job that has been held since a moment, given every run of its slot.

    A schedule that is on comes first. After a gap it catches up on its slots, so its time of grace begins anew.
    """
    well = next((r for r in runs if r.ended is Ended.WELL), None)
    if well is not None:
        return Decision(Act.COMPLETE, f"run {well.id[:8]} of {slot.key} succeeded", well)
    going = next((r for r in runs if r.ended is None or r.repeated), None)
    if going is not None:
        return Decision(Act.WAIT, f"run {going.id[:8]} of {slot.key} is under way", going)
    # What ended before the job was taken is history: it was charged to an earlier attempt, or to nobody.
    mine = [r for r in runs if r.finished is not None and r.finished >= held_since]
    if mine:
        last = max(mine, key=lambda r: (r.finished or held_since, r.id))
        canceled = last.ended is Ended.CANCELED
        what = "was canceled" if canceled else "failed"
        # Somebody who cancels a run does not want it started again a minute later.
        failure = Failure(
            "RunCanceled" if canceled else "RunFailed",
            f"Run {last.id} of {slot.key} {what}.",
            terminal=canceled,
            details={"run_id": last.id, "slot": slot.key},
        )
        return Decision(Act.FAIL, failure.message, last, failure)
    if slot.time > now:
        return Decision(Act.LATER, f"{slot.key} has not come yet", until=slot.time)
    if turn.is_on and not turn.passed and now - max(slot.time, looking_since) < GRACE:
        return Decision(Act.WAIT, f"schedule {slot.schedule} has {slot.key} before it")
    key = f"{slot.key}#{len(runs) + 1}" if runs else slot.key
    return Decision(Act.REQUEST, f"{slot.key} is due", key=key)


def refused(error: Exception) -> Decision:
    """What becomes of a job that asks for no slot at all."""
    failure = failure_of(error)
    return Decision(Act.FAIL, failure.message, failure=failure)
