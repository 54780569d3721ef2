"""Continues a history: new mail up to the present, late events of old mail, and changes and deletions of what
exists.

Reproducible for the same data, seed and present, except `updated` of changed rows, which the database sets.
Not here: the makers of new rows, which a first history shares (plan, roster, stream), and late events
(late.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import clock, late, plan, platform, roster, stream
from penguin_pipelines.synthetic.entities import Scene
from penguin_pipelines.synthetic.history import new_leads
from penguin_pipelines.synthetic.ids import uuid
from penguin_pipelines.synthetic.late import Known
from penguin_pipelines.synthetic.stream import Progress
from penguin_pipelines.synthetic.world import World, read
from penguin_pipelines.synthetic.write import Writers

_SHORTEST = clock.HOUR
_MESSAGE_TABLES = ("email_opens", "email_clicks", "email_bounces", "email_replies", "email_unsubscribes",
    "email_complaints",
                   "warmup_interactions", "email_messages", "content_objects")  # fmt: skip


def _ask(connection: psycopg.Connection, block: str, **values: Any) -> list[Any]:
    row = connection.execute(blocks("synthetic")[block], values).fetchone()
    return list(row or [])


def _window(writers: Writers, tenants: list[str], days: int, present: int) -> tuple[int, int, list[int]]:
    """Where the new mail begins, how far the history reached, and numbers that differ from one append to the
    next."""
    (last,) = _ask(writers.connections["content"], "last_moment", tenants=tenants)
    begin = reached = present - days * clock.DAY
    if last is not None:
        reached = clock.micros(last)
        if reached > present:
            raise PenguinError(
                f"The history already reaches {last:%Y-%m-%d %H:%M} UTC, later than the present given for this "
                "append; give a later moment or none."
            )
        begin = reached if present - reached >= _SHORTEST else begin
    marks = _ask(writers.connections["oltp"], "size") + _ask(writers.connections["content"], "newest_open")
    return begin, reached, [int(m or 0) for m in marks]


def run(writers: Writers, seed: int, messages: int, days: int, present: int, progress: Progress) -> None:
    """Appends and changes; everything stays uncommitted with the writers."""
    tiers = writers.connections
    tenants = [r[0] for r in tiers["oltp"].execute(blocks("synthetic")["tenants"])]
    low, reached, marks = _window(writers, tenants, days, present)
    rng = np.random.default_rng([seed, low, present, *marks])
    world = read(tiers["oltp"], low, present)
    if not len(world.boxes):
        raise PenguinError("No mailbox of tier 'oltp' can send, so its history cannot go on; generate a new one.")
    progress("changes", 0, 1)
    stream.prepare_partitions(writers, min(low, present - 35 * clock.DAY), present)
    known = late.pick(tiers["content"], rng, world.tenants, late.lags(rng, max(10, messages // 50)), present)
    arriving, kinds = late.arrive(rng, known)
    writers.put(arriving)
    writers.drain()
    _suppress(writers, rng, known, kinds)
    _change_messages(writers, rng, world, messages, present)
    _change_customers(writers, rng, messages, present)
    _change_platform(writers, rng, world, messages, reached, present)
    progress("changes", 1, 1)
    planned, enrolled, owners = plan.make(rng, world, messages, low, present)
    leads = new_leads(rng, owners, int(rng.integers(36**6, 36**7)))
    if enrolled is not None:
        standing = roster.Roster.of(leads, enrolled, world, present)
        stream.enrol(rng, writers, world, standing, ["sending"] * len(world.campaigns.ids), progress)
    stream.deliver(rng, writers, world, leads, planned, present, progress)


def _change(writers: Writers, tier: str, kind: str, table: str, block: str, **values: Any) -> int:
    """Runs an UPDATE, DELETE or INSERT and counts its rows."""
    count = writers.connections[tier].execute(blocks("synthetic")[block], values).rowcount
    label = f"{tier}.{table}" if kind == "added" else f"{kind} {tier}.{table}"
    writers.rows[label] += count
    return count


def _suppress(writers: Writers, rng: np.random.Generator, known: Known, kinds: np.ndarray) -> None:
    """Late unsubscribes, complaints and hard bounces block the address and change the lead."""
    for code, (reason, state) in late.REASONS.items():
        at = np.flatnonzero(kinds == code)
        _change(writers, "oltp", "added", "suppression_list", "suppress", ids=[uuid(rng) for _ in at],
                tenants=known.tenant[at].tolist(), emails=known.recipient[at].tolist(), reason=reason,
                created=clock.moment(known.present))  # fmt: skip
        _change(writers, "oltp", "changed", "leads", "mark_leads", state=state,
                leads=[i for i in known.lead[at].tolist() if i != "\\N"])  # fmt: skip


def _change_messages(writers: Writers, rng: np.random.Generator, world: World, messages: int, present: int) -> None:
    """Corrects the sent time of some messages by more than a day and removes some altogether."""
    content = writers.connections["content"]
    ages = rng.integers(2 * clock.DAY, 20 * clock.DAY, max(3, messages // 2_000))
    moved = late.pick(content, rng, world.tenants, ages, present)
    _change(writers, "content", "changed", "email_messages", "move_messages", keys=moved.keys.tolist())
    _change(writers, "oltp", "changed", "inbox_message_refs", "move_register", ids=moved.ids.tolist())
    ages = rng.integers(clock.DAY, 30 * clock.DAY, max(5, messages // 4_000))
    gone = late.pick(content, rng, world.tenants, ages, present)
    for table in _MESSAGE_TABLES:
        _change(writers, "content", "deleted", table, f"delete_{table}", keys=gone.keys.tolist())
    _change(writers, "oltp", "deleted", "inbox_message_refs", "delete_register", ids=gone.ids.tolist())


def _change_customers(writers: Writers, rng: np.random.Generator, messages: int, present: int) -> None:
    """Leads, campaigns and their plans, mailboxes, contracts and people change; a few rows go."""
    now = clock.moment(present)

    def change(kind: str, table: str, block: str, limit: int = 1, **values: Any) -> None:
        _change(writers, "oltp", kind, table, block, start=uuid(rng), limit=limit, **values)

    change("deleted", "leads", "delete_leads", max(1, messages // 5_000))
    change("changed", "leads", "finish_leads", max(3, messages // 1_000))
    change("changed", "campaigns", "finish_campaign", present=now)
    change("changed", "email_accounts", "raise_limits", max(2, messages // 20_000))
    change("deleted", "suppression_list", "delete_suppression")
    change("deleted", "campaign_sequence_steps", "delete_step")
    change("changed", "campaign_sequence_steps", "swap_steps")
    change("changed", "users", "rename_user")
    change("changed", "subscriptions", "change_plan")
    # Whoever's last entry names another plan than the contract does just changed it.
    change("added", "subscription_changes", "note_plan_change", key=uuid(rng), present=now)


def _change_platform(
    writers: Writers, rng: np.random.Generator, world: World, messages: int, reached: int, present: int
) -> None:
    """New jobs and samples, waiting jobs that are done now, and an entry of the audit log."""
    user = _ask(writers.connections["oltp"], "first_user")
    tenants = [{"id": t} for t in world.tenants]
    scene = Scene(
        rng,
        reached,
        present,
        len(tenants),
        messages,
        {"tenants": tenants, "users": [{"id": user[0]}], "tenant_users": []},
    )
    _change(
        writers,
        "queue",
        "changed",
        "jobs",
        "finish_jobs",
        present=clock.moment(present),
        limit=max(5, messages // 500),
    )
    (sampled,) = _ask(writers.connections["queue"], "newest_sample")
    begin = max(reached, present - clock.DAY, clock.micros(sampled) + clock.MINUTE if sampled else 0)
    writers.put(platform.found_queue(scene, begin))
    writers.rows["olap.admin_audit_log"] += platform.record_actions(scene, writers.connections["olap"])
