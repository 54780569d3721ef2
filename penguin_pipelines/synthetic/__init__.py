"""Synthetic but believable data for all tiers: a cold e-mail platform with its customers, mail, events and
jobs.

Here: the options, their checks and the order of work. The makers, each in a module of its own: customers
(entities, fleet, billing), who is written to when (plan, roster), mail and what happens to it (traffic,
events, inbound), the platform's own work (platform), and what continues a history (append). Nothing here
reads the clock unless `as_of` is missing, and every draw comes from one seeded source: the same seed and
`as_of` give the same rows.

One transaction for each tier, committed Content, Queue, OLAP and then OLTP: a run that dies leaves no tenant
behind. If it dies between two commits, the next run finds messages or jobs without tenants and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import psycopg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import append, clock, history
from penguin_pipelines.synthetic.write import Writers

__all__ = ["Options", "Summary", "generate"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How much of what. `messages` counts outbound mail; answers and bounce messages come on top."""

    tenants: int = 3
    messages: int = 20_000
    days: int = 60
    seed: int = 7
    append: bool = False
    as_of: datetime | None = None
    """The present of the generated world, with a zone; now when missing."""

    def check(self) -> None:
        """Raises PenguinError for a value that cannot be."""
        if self.tenants < 1:
            raise PenguinError(f"A history needs at least one tenant, not {self.tenants}; give --tenants 1 or more.")
        if self.messages < 0:
            raise PenguinError(f"The number of messages cannot be {self.messages}; give --messages 0 or more.")
        if not 1 <= self.days <= 1000:
            raise PenguinError(f"A history of {self.days} days cannot be made; give --days from 1 to 1000.")
        if self.seed < 0:
            raise PenguinError(f"The seed cannot be {self.seed}; give --seed 0 or more.")
        if self.as_of is not None and self.as_of.tzinfo is None:
            raise PenguinError(f"The present {self.as_of} has no time zone; give one, such as +00:00.")


@dataclass
class Summary:
    """What was written."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows by `tier.table`; in an append also `deleted tier.table` and `changed tier.table`."""
    seconds: float = 0.0


def _ignore(label: str, done: int, total: int) -> None:
    pass


def _yes(connection: psycopg.Connection, question: str) -> bool:
    return connection.execute(blocks("synthetic")[question]).fetchone() == (True,)


def _check_state(writers: Writers, options: Options) -> None:
    tiers = writers.connections
    if _yes(tiers["oltp"], "has_tenants"):
        if not options.append:
            raise PenguinError(
                "Tier 'oltp' already has tenants; add to their history with --append, or empty the tiers "
                "first: penguin migrate down, then penguin migrate up."
            )
        return
    left = [t for t, question in (("content", "has_messages"), ("queue", "has_jobs")) if _yes(tiers[t], question)]
    if left:
        raise PenguinError(
            f"Tier '{left[0]}' holds rows although tier 'oltp' has no tenant, so an earlier generate broke off "
            f"between two commits; empty it with: penguin migrate down --tier {left[0]}, then "
            f"penguin migrate up --tier {left[0]}"
        )
    if options.append:
        raise PenguinError("Tier 'oltp' has no tenant whose history could go on; generate once without --append.")


def generate(urls: Mapping[str, str], options: Options, progress: Progress = _ignore) -> Summary:
    """Fills the tiers named oltp, content, queue and olap, or continues what is in them. All or nothing for
    each tier."""
    options.check()
    begin = time.monotonic()
    present = clock.micros(options.as_of or datetime.now(UTC)) // clock.SECOND * clock.SECOND
    with Writers(urls) as writers:
        _check_state(writers, options)
        if options.append:
            append.run(writers, options.seed, options.messages, options.days, present, progress)
        else:
            rng = np.random.default_rng(options.seed)
            history.run(writers, rng, options.tenants, options.messages, options.days, present, progress)
        progress("commit", 0, 1)
    progress("commit", 1, 1)
    return Summary(dict(sorted(writers.rows.items())), time.monotonic() - begin)
