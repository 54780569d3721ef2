"""Sends leads, enrolments, messages and events from their makers to the writers, piece by piece.

Not here: the plan itself (plan.py) and the rows of leads (roster.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from itertools import chain

import numpy as np

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import clock, events, inbound, plan, traffic
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.plan import Plan
from penguin_pipelines.synthetic.roster import Roster
from penguin_pipelines.synthetic.traffic import Batch
from penguin_pipelines.synthetic.world import World
from penguin_pipelines.synthetic.write import Block, Writers

Progress = Callable[[str, int, int], None]

BATCH = 10_000
_PARTITIONED = {
    "content": {"email_opens": "monthly", "email_clicks": "monthly", "warmup_interactions": "monthly"},
    "queue": {"job_logs": "daily", "queue_health": "monthly"},
    "olap": {"marts.admin_audit_log": "yearly"},
}
_QUEUE_DAYS, _AUDIT_DAYS = 31, 366


def prepare_partitions(writers: Writers, low: int, present: int) -> None:
    """Partitions for everything between the two moments."""
    for tier, tables in _PARTITIONED.items():
        first = {"content": low - 2 * clock.DAY, "queue": present - _QUEUE_DAYS * clock.DAY}.get(
            tier, present - _AUDIT_DAYS * clock.DAY
        )
        days: dict[str, date] = {
            "low": clock.moment(first).date(),
            "high": clock.moment(present + clock.DAY).date(),
        }
        for table, unit in tables.items():
            writers.connections[tier].execute(blocks("synthetic")["partitions"], {"table": table, "unit": unit, **days})


def batch_blocks(rng: np.random.Generator, batch: Batch, leads: Leads) -> Iterator[Block]:
    """All rows of a batch in an order that foreign keys accept."""
    reachable = batch.alive & (batch.plan.kind != plan.WARMUP)
    yield from traffic.content_blocks(rng, batch, leads)
    yield traffic.register_block(batch)
    opened, seen = events.opens(rng, batch, reachable)
    yield events.open_block(rng, batch, opened)
    scanned, links = events.scanner_clicks(rng, batch, leads, reachable)
    yield events.click_block(rng, batch, events.human_clicks(rng, batch, seen, reachable), scanned, links)
    failed = events.failures(rng, batch, seen)
    yield events.bounce_block(rng, batch, failed)
    yield from events.stop_blocks(rng, batch)
    yield events.warmup_block(rng, batch)
    content, register = inbound.blocks(rng, batch, reachable, failed)
    yield from content
    yield register
    yield inbound.attachment_block(rng, batch)


def enrol(
    rng: np.random.Generator, writers: Writers, world: World, standing: Roster, states: list[str], progress: Progress
) -> None:
    """Writes leads, enrolments and the addresses that they led to suppress; `states` are those of the campaigns."""
    total = len(standing.leads.ids) + len(standing.enrolled.lead)
    done = 0
    for block in chain(standing.lead_blocks(rng, world), standing.enrolment_blocks(rng, world, states)):
        writers.put([block])
        done += block.rows
        progress("leads", done, total)
    writers.put([standing.suppression_block(rng, world)])


def deliver(
    rng: np.random.Generator, writers: Writers, world: World, leads: Leads, planned: Plan, present: int,
    progress: Progress,
) -> None:  # fmt: skip
    """Makes and writes all messages of a plan with everything that follows from them."""
    total = len(planned.time)
    for low in range(0, total, BATCH):
        high = min(low + BATCH, total)
        batch = traffic.make_batch(rng, world, leads, planned.part(low, high), present, last=high == total)
        writers.put(batch_blocks(rng, batch, leads))
        progress("messages", high, total)
