"""What sensors and checks conclude from the queue's state. Pure: state, cursor and time in, decision out.

Reading the state belongs to defs/, the statements to sql/queue.sql.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DEAD_LETTER_AGE = timedelta(hours=24)
"""A dead letter may wait this long for somebody (metrics, section 9)."""


@dataclass(frozen=True)
class DeadLetters:
    """Open dead letters of one queue."""

    queue: str
    open: int
    oldest: datetime
    newest: str
    error_class: str


@dataclass(frozen=True)
class Decision:
    """Whether to report, why or why not, and the cursor that makes the same state say nothing twice."""

    report: bool
    passed: bool
    reason: str
    cursor: str


def decide_dead_letters(state: Sequence[DeadLetters], cursor: str | None, now: datetime) -> Decision:
    """Reports queues whose oldest dead letter is overdue, once for each state, and once that none is left."""
    overdue = [d for d in state if now - d.oldest >= DEAD_LETTER_AGE]
    seen = json.dumps({d.queue: [d.open, d.newest] for d in sorted(overdue, key=lambda d: d.queue)})
    limit = f"{_hours(DEAD_LETTER_AGE)} h"
    if not state:
        counted = "no open dead letters"
    else:
        total, oldest = sum(d.open for d in state), min(d.oldest for d in state)
        counted = f"{total} open dead letter{'s' if total > 1 else ''}, oldest {_hours(now - oldest)} h"
    if seen == (cursor or "{}"):
        why = "unchanged" if overdue else f"below {limit}"
        return Decision(False, not overdue, f"{counted}, {why}" if state else counted, seen)
    reason = f"{counted}, at or above {limit}" if overdue else f"{counted}, none older than {limit} any more"
    return Decision(True, not overdue, reason, seen)


def _hours(age: timedelta) -> int:
    return int(age.total_seconds() // 3600)
