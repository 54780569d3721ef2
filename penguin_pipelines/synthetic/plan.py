"""Decides who is enrolled where and which message leaves when, with what outcome, for the whole history at
once.

Numbers only, a few dozen bytes for each message, so that ten million fit in memory. Not here: rows
(traffic.py for messages, roster.py for leads and enrolments) and events that end no sequence (events.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from penguin_pipelines.synthetic import clock
from penguin_pipelines.synthetic.world import SLOTS, Ints, World

CAMPAIGN, PERSONAL, WARMUP = range(3)
NOTHING, REPLIED, DEAD_ADDRESS, SOFT_LIMIT, UNSUBSCRIBED, COMPLAINED = range(6)
"""Outcomes that end a sequence. Each but the reply also suppresses the address."""

_SHARE = np.array([0.935, 0.036, 0.016, 0.003, 0.008, 0.002])
_WARMUP_SHARE, _PERSONAL_SHARE = 0.15, 0.05
_PATIENCE = 70 * clock.HOUR
_HORIZON = 5 * clock.MINUTE


@dataclass
class Enrolments:
    """Leads in campaigns and how far they came."""

    campaign: Ints
    lead: Ints
    box: Ints
    start: Ints
    sent: Ints
    outcome: Ints
    ended: Ints
    next_due: Ints


@dataclass
class Plan:
    """One row for each outbound message, in order of time. -1 means none; `delay` is from sending to the
    outcome."""

    time: Ints
    kind: NDArray[np.int8]
    box: NDArray[np.int32]
    partner: NDArray[np.int32]
    campaign: NDArray[np.int32]
    slot: NDArray[np.int8]
    lead: NDArray[np.int32]
    outcome: NDArray[np.int8]
    delay: Ints

    def part(self, low: int, high: int) -> Plan:
        """Some consecutive rows."""
        return Plan(**{f.name: getattr(self, f.name)[low:high] for f in fields(self)})


def _outcomes(rng: np.random.Generator, n: int) -> Ints:
    return np.searchsorted(np.cumsum(_SHARE), rng.random(n) * _SHARE.sum(), side="right").clip(0, 5)


def _delays(rng: np.random.Generator, outcome: Ints, times: Ints, offsets: Ints, most: int | Ints) -> Ints:
    n = len(outcome)
    delay = np.zeros(n, dtype=np.int64)
    for code, median, sigma in (
        (REPLIED, 5 * clock.HOUR, 1.4), (DEAD_ADDRESS, 20 * clock.SECOND, 1.5),
        (SOFT_LIMIT, 30 * clock.HOUR, 0.3),
        (UNSUBSCRIBED, 3 * clock.HOUR, 1.5), (COMPLAINED, 8 * clock.HOUR, 1.3),
    ):  # fmt: skip
        at = np.flatnonzero(outcome == code)
        drawn = clock.lognormal(rng, len(at), median, sigma) + 2 * clock.MINUTE
        if code not in (DEAD_ADDRESS, SOFT_LIMIT):
            drawn = clock.waking(rng, times[at] + drawn, offsets[at]) - times[at]
        delay[at] = drawn
    return np.minimum(delay, most)


def _walk(rng: np.random.Generator, world: World, campaign: Ints, present: int) -> tuple[Enrolments, dict[str, Ints]]:
    """Takes enrolments through their steps until an outcome, the end of the sequence, or the present."""
    camps, n = world.campaigns, len(campaign)
    company = camps.company[campaign]
    offsets = world.zone_offset(company)
    box = world.box_first[company] + (rng.random(n) * world.box_count[company]).astype(np.int64)
    opens, until = camps.opens[campaign], camps.enrols_until[campaign]
    closes = np.minimum(camps.closes[campaign], present - _HORIZON)
    until = np.minimum(until, closes)
    due = clock.working(rng, opens + (rng.random(n) ** 0.75 * (until - opens)).astype(np.int64), offsets)
    due = clock.within(rng, due, np.minimum(opens, closes - clock.MINUTE), closes)
    found = Enrolments(campaign, np.full(n, -1), box, due.copy(), np.zeros(n, np.int64),
        np.zeros(n, np.int64),
                       np.zeros(n, np.int64), np.zeros(n, np.int64))  # fmt: skip
    alive = np.arange(n)
    parts: list[tuple[Ints, int, Ints, Ints, Ints]] = []
    for slot in range(SLOTS):
        unfinished = slot < camps.step_count[campaign[alive]]
        in_time = due[alive] < closes[alive]
        waiting = alive[unfinished & ~in_time]
        found.next_due[waiting] = due[waiting]
        alive = alive[unfinished & in_time]
        times = due[alive]
        outcome = _outcomes(rng, len(alive))
        last = slot + 1 >= camps.step_count[campaign[alive]]
        delay = _delays(rng, outcome, times, offsets[alive], np.where(last, 60 * clock.DAY, _PATIENCE))
        outcome = np.where(times + delay < present, outcome, NOTHING)
        parts.append((alive, slot, times, outcome, delay))
        found.sent[alive] += 1
        found.outcome[alive] = outcome
        found.ended[alive] = times + np.where(outcome > 0, delay, 0)
        alive = alive[outcome == NOTHING]
        if slot + 1 < SLOTS:
            pause = camps.waits[campaign[alive], slot + 1]
            due[alive] = clock.working(rng, due[alive] + pause, offsets[alive])
            due[alive] = np.maximum(due[alive], found.ended[alive] + pause - 20 * clock.HOUR)
    columns = {
        "at": np.concatenate([p[0] for p in parts]),
        "slot": np.concatenate([np.full(len(p[0]), p[1]) for p in parts]),
        "time": np.concatenate([p[2] for p in parts]),
        "outcome": np.concatenate([p[3] for p in parts]),
        "delay": np.concatenate([p[4] for p in parts]),
    }
    return found, columns


def _joined(many: list[Enrolments]) -> Enrolments:
    return Enrolments(*(np.concatenate([getattr(e, f.name) for e in many]) for f in fields(Enrolments)))


def _sequences(rng: np.random.Generator, world: World, wanted: int, present: int) -> tuple[Enrolments, dict[str, Ints]]:
    """Enrolments until they give exactly the wanted number of messages."""
    camps, many, messages = world.campaigns, [], []
    have = taken = 0
    share = camps.weight / camps.weight.sum()
    while have < wanted:
        n = max(int((wanted - have) / 1.9) + 8, 16)
        found, columns = _walk(rng, world, rng.choice(len(share), n, p=share), present)
        columns["at"] = columns["at"] + taken
        many.append(found)
        messages.append(columns)
        taken, have = taken + n, have + len(columns["at"])
    enrolled = _joined(many)
    columns = {name: np.concatenate([m[name] for m in messages]) for name in messages[0]}
    # Whole sequences are kept up to the wanted number; the last one is cut short.
    total = np.cumsum(enrolled.sent)
    keep = int(np.searchsorted(total, wanted)) + 1
    order = np.lexsort((columns["slot"], columns["at"]))[:wanted]
    columns = {name: values[order] for name, values in columns.items()}
    enrolled = Enrolments(*(getattr(enrolled, f.name)[:keep] for f in fields(Enrolments)))
    over = int(total[keep - 1]) - wanted
    if over:
        enrolled.sent[-1] -= over
        enrolled.outcome[-1] = NOTHING
        enrolled.ended[-1] = columns["time"][-1]
        enrolled.next_due[-1] = columns["time"][-1] + 3 * clock.DAY
        columns["outcome"][-1] = NOTHING
    return enrolled, columns


def _give_leads(world: World, enrolled: Enrolments) -> NDArray[np.int32]:
    """Numbers of leads: their own for whoever was suppressed or answered, shared by campaigns otherwise.
    Gives the tenant of each lead."""
    tenant = world.company_tenant[world.campaigns.company[enrolled.campaign]]
    owners: list[NDArray[np.int32]] = []
    base = 0
    for number in range(len(world.tenants)):
        mine = np.flatnonzero(tenant == number)
        clean = mine[enrolled.outcome[mine] == NOTHING]
        clean = clean[np.argsort(enrolled.campaign[clean], kind="stable")]
        most = int(np.bincount(enrolled.campaign[clean]).max()) if len(clean) else 0
        pool = max(int(len(clean) * 0.85), most)
        enrolled.lead[clean] = base + np.arange(len(clean)) % max(pool, 1)
        dirty = mine[enrolled.outcome[mine] != NOTHING]
        enrolled.lead[dirty] = base + pool + np.arange(len(dirty))
        owners.append(np.full(pool + len(dirty), number, dtype=np.int32))
        base += pool + len(dirty)
    return np.concatenate(owners)


def _personal(rng: np.random.Generator, world: World, n: int, low: int, present: int) -> dict[str, Ints]:
    box = rng.integers(0, len(world.boxes), n)
    offsets = world.zone_offset(world.box_company[box])
    times = low + (rng.random(n) ** 0.8 * (present - low)).astype(np.int64)
    times = clock.within(rng, clock.working(rng, times, offsets), low, present - _HORIZON)
    outcome = np.where(rng.random(n) < 0.22, REPLIED, NOTHING)
    delay = _delays(rng, outcome, times, offsets, 60 * clock.DAY)
    return {
        "box": box,
        "time": times,
        "outcome": np.where(times + delay < present, outcome, NOTHING),
        "delay": delay,
    }


def _warmup(rng: np.random.Generator, world: World, n: int, low: int, present: int) -> dict[str, Ints]:
    warm = np.flatnonzero(world.warmed_from >= 0)
    if not len(warm):
        warm = np.arange(len(world.boxes))
    box = warm[rng.integers(0, len(warm), n)]
    starts = np.maximum(world.warmed_from[box], low)
    starts = np.where(starts >= present - clock.HOUR, low, starts)
    times = starts + (rng.random(n) ** 0.7 * (present - _HORIZON - starts)).astype(np.int64)
    partner = rng.integers(0, len(world.boxes), n)
    partner = np.where(partner == box, (partner + 1) % len(world.boxes), partner)
    return {"box": box, "time": times, "partner": partner}


def make(
    rng: np.random.Generator, world: World, messages: int, low: int, present: int
) -> tuple[Plan, Enrolments | None, NDArray[np.int32]]:
    """The plan of all outbound messages, the enrolments behind them, and the tenant of each lead."""
    warm = round(messages * _WARMUP_SHARE)
    personal = round(messages * _PERSONAL_SHARE)
    enrolled, columns, owners = None, None, np.empty(0, dtype=np.int32)
    if messages - warm - personal > 0 and len(world.campaigns.ids):
        enrolled, columns = _sequences(rng, world, messages - warm - personal, present)
        owners = _give_leads(world, enrolled)
    else:
        personal = messages - warm
    parts = [_personal(rng, world, personal, low, present), _warmup(rng, world, warm, low, present)]
    for kind, part in ((PERSONAL, parts[0]), (WARMUP, parts[1])):
        part["kind"] = np.full(len(part["time"]), kind)
    if enrolled is not None and columns is not None:
        columns["kind"] = np.full(len(columns["time"]), CAMPAIGN)
        columns["box"] = enrolled.box[columns["at"]]
        columns["campaign"] = enrolled.campaign[columns["at"]]
        columns["lead"] = enrolled.lead[columns["at"]]
        parts.append(columns)
        _personal_leads(rng, world, parts[0], owners)
    return _sorted(parts), enrolled, owners


def _personal_leads(rng: np.random.Generator, world: World, part: dict[str, Ints], owners: NDArray[np.int32]) -> None:
    tenant = world.company_tenant[world.box_company[part["box"]]]
    count = np.bincount(owners, minlength=len(world.tenants))
    first = np.cumsum(count) - count
    lead = first[tenant] + (rng.random(len(tenant)) * count[tenant]).astype(np.int64)
    part["lead"] = np.where(count[tenant] > 0, lead, -1)


def _sorted(parts: list[dict[str, Ints]]) -> Plan:
    order = np.argsort(np.concatenate([p["time"] for p in parts]), kind="stable")

    def column(name: str, kind: type, missing: int = -1) -> NDArray:
        given = [p[name].astype(kind) if name in p else np.full(len(p["time"]), missing, dtype=kind) for p in parts]
        return np.concatenate(given)[order]

    return Plan(
        column("time", np.int64), column("kind", np.int8), column("box", np.int32),
        column("partner", np.int32),
        column("campaign", np.int32), column("slot", np.int8), column("lead", np.int32),
        column("outcome", np.int8, NOTHING), column("delay", np.int64, 0),
    )  # fmt: skip
