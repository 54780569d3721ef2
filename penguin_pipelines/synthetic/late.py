"""Events that reach us now although their message left hours, days or weeks ago.

Not here: events of new messages (events.py) and other changes to what exists (append.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psycopg

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import clock, events, text
from penguin_pipelines.synthetic.ids import objects, uuids
from penguin_pipelines.synthetic.world import Ints, Texts, ints
from penguin_pipelines.synthetic.write import NULL, Block, columns

OPEN, CLICK, REPLY, BOUNCE, UNSUBSCRIBE, COMPLAINT = range(6)
_SHARE = np.array([0.62, 0.15, 0.11, 0.05, 0.05, 0.02])
REASONS = {BOUNCE: ("hard_bounce", "bounced"), UNSUBSCRIBE: ("unsubscribe", "unsubscribed"),
           COMPLAINT: ("spam_complaint", "unsubscribed")}  # fmt: skip
"""Reason of suppression and state of the lead by kind of event."""


@dataclass
class Known:
    """Messages of the Content tier, in order of their keys; an origin of events."""

    present: int
    tenant: Texts
    keys: Texts
    company: Texts
    campaign: Texts
    step: Texts
    box: Texts
    lead: Texts
    ids: Texts
    recipient: Texts
    sent: Ints


def lags(rng: np.random.Generator, n: int) -> Ints:
    """Age of a message when a late event of it arrives: 80 % under a day, 99 % under a week, the rest up to a
    month."""
    draw = rng.random(n)
    day = rng.random(n)
    age = np.where(draw < 0.8, day, np.where(draw < 0.99, 1 + 6 * day, 7 + 21 * day))
    return (age * clock.DAY).astype(np.int64)


def pick(content: psycopg.Connection, rng: np.random.Generator, tenants: Texts, ages: Ints, present: int) -> Known:
    """For each age the first message of a random tenant that was sent after that moment; some ages find
    none."""
    chosen = tenants[rng.integers(0, len(tenants), len(ages))].tolist()
    rows = content.execute(blocks("synthetic")["messages_at"], {
        "tenants": chosen, "moments": [clock.moment(present - age) for age in ages.tolist()],
    }).fetchall()  # fmt: skip
    by_name = [
        objects([NULL if v is None else v for v in column]) for column in zip(*(r[:-1] for r in rows), strict=True)
    ]
    by_name = by_name or [objects([])] * 9
    return Known(present, *by_name, ints([clock.micros(r[-1]) for r in rows]))  # type: ignore[arg-type]


def arrive(rng: np.random.Generator, known: Known) -> tuple[list[Block], Ints]:
    """One event for each message, which happened some time after the sending and is stored now. Gives the
    kinds too."""
    n = len(known.sent)
    kind = np.searchsorted(np.cumsum(_SHARE), rng.random(n) * _SHARE.sum(), side="right").clip(0, COMPLAINT)
    since = np.maximum(known.present - known.sent, clock.MINUTE)
    time = known.sent + (since * rng.uniform(0.02, 0.98, n)).astype(np.int64)
    makers = (_opens, _clicks, _replies, _bounces, _unsubscribes, _complaints)
    return [make(rng, known, np.flatnonzero(kind == code), time) for code, make in enumerate(makers)], kind


def _shared(rng: np.random.Generator, known: Known, at: Ints, name: str, time: Ints) -> dict[str, list[str] | str]:
    stored = known.present - rng.integers(clock.SECOND, clock.MINUTE, len(at))
    fields = events.shared(rng, known, at, name, time[at])
    return {**fields, "created": clock.stamps(np.maximum(stored, time[at]))}


def _opens(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    client = rng.choice(len(text.HUMANS), len(at), p=text.HUMAN_WEIGHTS)
    return columns("content", "email_opens", len(at), {
        **_shared(rng, known, at, "opened", time), "ip_address": text.addresses(rng, text.HOME_NET, len(at)),
        **events.seen_by(client), "mail_client": events.mail_clients(client), "country": "US",
    })  # fmt: skip


def _clicks(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    client = rng.choice(len(text.HUMANS), len(at), p=text.HUMAN_WEIGHTS)
    return columns("content", "email_clicks", len(at), {
        **_shared(rng, known, at, "clicked", time),
        "clicked_url": text.LINKS[rng.integers(0, 4, len(at))].tolist(),
        "ip_address": text.addresses(rng, text.HOME_NET, len(at)), **events.seen_by(client), "country": "US",
    })  # fmt: skip


def _replies(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    return columns("content", "email_replies", len(at), {
        "id": uuids(rng, len(at)), **_shared(rng, known, at, "replied", time),
        "is_auto_reply": np.where(rng.random(len(at)) < 0.2, "t", "f").tolist(),
    })  # fmt: skip


def _bounces(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    chosen = [text.BOUNCES[i] for i in text.bounce_texts(rng, "address", len(at))]
    return columns("content", "email_bounces", len(at), {
        "id": uuids(rng, len(at)), **_shared(rng, known, at, "bounced", time),
        "bounce_type": [b.permanence for b in chosen], "bounce_code": [b.code for b in chosen],
        "bounce_reason": [b.reason for b in chosen],
    })  # fmt: skip


def _unsubscribes(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    return columns("content", "email_unsubscribes", len(at), {
        "id": uuids(rng, len(at)), **_shared(rng, known, at, "unsubscribed", time), "method": "link",
    })  # fmt: skip


def _complaints(rng: np.random.Generator, known: Known, at: Ints, time: Ints) -> Block:
    return columns("content", "email_complaints", len(at), {
        "id": uuids(rng, len(at)), **_shared(rng, known, at, "complained", time), "provider": "yahoo",
    })  # fmt: skip
