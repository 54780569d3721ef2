"""Turns a stretch of the plan into messages: state, storage keys, bodies, traces and the register.

Not here: who is written to and when (plan.py), and what recipients do with it (events.py, inbound.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penguin_pipelines.synthetic import clock, people, plan, text
from penguin_pipelines.synthetic.ids import objects, uuids
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.plan import Plan
from penguin_pipelines.synthetic.world import Ints, Texts, World
from penguin_pipelines.synthetic.write import NULL, Block, columns

Mask = NDArray[np.bool_]

REGISTER_DAYS = 90
"""Age at which the register forgets a message; the trace in Content stays."""
QUEUED, LOST, FAILED, REJECTED, ACCEPTED = range(5)
"""Not handed over yet; failed before it was rendered; failed after; refused at once; taken by the receiving
server."""
_EXPIRES = 2555 * clock.DAY


@dataclass
class Batch:
    """Messages of a stretch of the plan with what their rows and events share."""

    plan: Plan
    present: int
    state: NDArray[np.int8]
    rendered: Mask
    queued: Ints
    accepted: Ints
    delivered: Mask
    refusal: Ints
    ids: Texts
    keys: Texts
    tenant: Texts
    company: Texts
    campaign: Texts
    step: Texts
    box: Texts
    lead: Texts
    sender: Texts
    recipient: Texts
    subject: Texts
    domain: Texts
    ip: Texts
    zone: Ints

    @property
    def n(self) -> int:
        """Number of messages."""
        return len(self.state)

    @property
    def alive(self) -> Mask:
        """Taken by the receiving server and not bounced for good."""
        dead = (self.plan.outcome == plan.DEAD_ADDRESS) | (self.plan.outcome == plan.SOFT_LIMIT)
        return (self.state == ACCEPTED) & ~dead


def storage_keys(tenants: list[str], times: Ints, ids: list[str]) -> list[str]:
    """`<tenant>/<yyyy>/<mm>/email/<id of the register row>`, so that a lost pointer can be derived again."""
    months = np.datetime_as_string(times.astype("datetime64[us]").astype("datetime64[M]")).tolist()
    return [f"{t}/{m[:4]}/{m[5:]}/email/{i}" for t, m, i in zip(tenants, months, ids, strict=True)]


def _states(rng: np.random.Generator, part: Plan, present: int, last: bool) -> tuple[NDArray[np.int8], Mask]:
    n = len(part.time)
    draw = rng.random(n)
    plain = part.outcome == plan.NOTHING
    state = np.full(n, ACCEPTED, dtype=np.int8)
    state[plain & (draw < 0.007)] = FAILED
    recent = part.time > present - (REGISTER_DAYS - 1) * clock.DAY
    state[plain & (draw < 0.003) & recent] = LOST
    state[plain & (draw >= 0.007) & (draw < 0.011)] = REJECTED
    state[(part.outcome == plan.DEAD_ADDRESS) & (draw < 0.7)] = REJECTED
    if last:  # the newest messages are still waiting
        tail = np.arange(n) >= n - max(1, n // 50)
        state[tail & plain & (part.time > present - 3 * clock.DAY)] = QUEUED
    rendered = (state != LOST) & ((state != QUEUED) | (draw < 0.5))
    return state, rendered


def _delivery(rng: np.random.Generator, part: Plan, state: NDArray[np.int8], present: int) -> tuple[Ints, Mask]:
    """When the receiving server confirmed, and whether the trace knows: one in twenty confirmations is
    lost."""
    n = len(part.time)
    later = clock.lognormal(rng, n, 4 * clock.SECOND, 0.8)
    greylisted = (part.outcome == plan.NOTHING) & (rng.random(n) < 0.008)
    later = np.where(greylisted, rng.integers(15 * clock.MINUTE, 95 * clock.MINUTE, n), later)
    accepted = part.time + later
    known = (state == ACCEPTED) & (part.outcome != plan.SOFT_LIMIT) & (rng.random(n) >= 0.05) & (accepted < present)
    known &= (part.outcome != plan.DEAD_ADDRESS) | (rng.random(n) < 0.5)
    return accepted, known


def _refusals(rng: np.random.Generator, part: Plan, state: NDArray[np.int8]) -> Ints:
    """Index of the SMTP answer of each message that was refused at once, else -1."""
    refusal = np.full(len(state), -1, dtype=np.int64)
    dead = part.outcome == plan.DEAD_ADDRESS
    for at, kind in (
        (np.flatnonzero((state == REJECTED) & dead), "address"),
        (np.flatnonzero((state == REJECTED) & ~dead), "policy"),
    ):
        refusal[at] = text.bounce_texts(rng, kind, len(at))
    temporary = np.flatnonzero((state == REJECTED) & ~dead & (rng.random(len(state)) < 0.4))
    refusal[temporary] = text.bounce_texts(rng, "temporary", len(temporary))
    return refusal


def _named(values: Texts, at: NDArray[np.signedinteger]) -> Texts:
    """Values by number, the COPY null for -1."""
    return np.append(values, NULL)[at]


def _addresses(rng: np.random.Generator, world: World, part: Plan, leads: Leads) -> tuple[Texts, Texts]:
    """Recipient addresses and lead ids."""
    to = world.box_email[np.maximum(part.partner, 0)].copy()
    has = np.flatnonzero(part.lead >= 0)
    to[has] = leads.emails(part.lead[has].astype(np.int64))
    stray = np.flatnonzero((part.lead < 0) & (part.partner < 0))
    to[stray] = [f"colleague.{i}@partner.example" for i in rng.integers(0, 10_000, len(stray)).tolist()]
    # One in three personal mails goes to somebody whom the product does not know as a lead.
    unknown = (part.kind == plan.PERSONAL) & (rng.random(len(to)) < 0.35)
    return to, _named(leads.ids, np.where(unknown, -1, part.lead))


def _subjects(part: Plan, leads: Leads) -> Texts:
    n = len(part.time)
    seed = np.where(part.campaign >= 0, part.campaign * 4 + part.slot, np.arange(n))
    subject = np.where(
        part.slot > 0, text.FOLLOW_UPS[seed % len(text.FOLLOW_UPS)], text.SUBJECTS[seed % len(text.SUBJECTS)]
    )
    subject = np.where(part.kind == plan.WARMUP, "Notes and next steps", subject)
    known = part.lead >= 0
    at = np.maximum(part.lead, 0)
    first = np.where(known, people.FIRST[leads.first[at]], "there") if len(leads.ids) else np.full(n, "there")
    firm = np.where(known, people.FIRM_NAMES[leads.domain[at]], "you") if len(leads.ids) else np.full(n, "you")
    filled = zip(subject.tolist(), first.tolist(), firm.tolist(), strict=True)
    return objects([s.replace("{first}", f).replace("{firm}", g) for s, f, g in filled])


def _ips(rng: np.random.Generator, world: World, part: Plan) -> Texts:
    """The address that carried each message: one of those of the mailbox's domain."""
    most = max(map(len, world.domain_ips), default=1)
    table = np.array(
        [[ips[i % len(ips)] if ips else NULL for i in range(max(most, 1))] for ips in world.domain_ips],
        object,
    )
    return table[world.box_domain[part.box], rng.integers(0, table.shape[1], len(part.time))]


def make_batch(rng: np.random.Generator, world: World, leads: Leads, part: Plan, present: int, *, last: bool) -> Batch:
    """Everything that rows of these messages need."""
    state, rendered = _states(rng, part, present, last)
    accepted, known = _delivery(rng, part, state, present)
    queued = part.time - rng.integers(3 * clock.SECOND, 4 * clock.MINUTE, len(part.time))
    ids = uuids(rng, len(part.time), queued)
    company = world.box_company[part.box]
    tenant = world.tenants[world.company_tenant[company]]
    recipient, lead = _addresses(rng, world, part, leads)
    return Batch(
        part, present, state, rendered, queued, accepted, known, _refusals(rng, part, state), objects(ids),
        objects(storage_keys(tenant.tolist(), queued, ids)), tenant, world.companies[company],
        _named(world.campaigns.ids, part.campaign),
        np.where(part.slot >= 0, world.campaigns.step_ids[part.campaign, part.slot], NULL)
        if len(world.campaigns.ids) else np.full(len(state), NULL, dtype=object),
        world.boxes[part.box], lead, world.box_email[part.box], recipient, _subjects(part, leads),
        world.domains[world.box_domain[part.box]], _ips(rng, world, part), world.company_zone[company],
    )  # fmt: skip


def _status(batch: Batch) -> Texts:
    """The word that the product shows; figures never use it."""
    names = objects(["queued", "failed", "failed", "bounced", "sent"])
    return np.where(batch.delivered & (batch.state == ACCEPTED), "delivered", names[batch.state])


def _bodies(rng: np.random.Generator, batch: Batch, first: list[str]) -> tuple[list[str], list[str]]:
    variant = rng.integers(0, 97, batch.n).tolist()
    step = (batch.plan.campaign * 4 + batch.plan.slot).tolist()
    warm = (batch.plan.kind == plan.WARMUP).tolist()
    plain, html = [], []
    for name, number, choice, is_warm in zip(first, step, variant, warm, strict=True):
        if is_warm:
            plain.append(text.WARMUP_LINES[choice % len(text.WARMUP_LINES)])
            html.append(NULL)
            continue
        line = text.PARAGRAPHS[number % len(text.PARAGRAPHS)]
        link = text.LINKS[number % 4]
        plain.append(f"Hi {name},\n\n{line}\n\n{link}\n\nBest regards\n({choice})")
        html.append(f'<p>Hi {name},</p><p>{line}</p><p><a href="{link}">Read more</a></p><p>Regards</p><i>{choice}</i>')
    return plain, html


def content_blocks(rng: np.random.Generator, batch: Batch, leads: Leads) -> list[Block]:
    """Envelope, body and trace of what was rendered."""
    at = np.maximum(batch.plan.lead, 0)
    named = people.FIRST[leads.first[at]] if len(leads.ids) else np.full(batch.n, "there")
    plain, html = _bodies(rng, batch, np.where(batch.plan.lead >= 0, named, "there").tolist())
    here = np.flatnonzero(batch.rendered)
    keys, tenant = batch.keys[here].tolist(), batch.tenant[here].tolist()
    plain, html = [plain[i] for i in here], [html[i] for i in here]
    created = clock.stamps(batch.queued[here] + clock.SECOND)
    bodies = stored_bodies(keys, tenant, plain, html, batch.queued[here], created, _headers(batch, here))
    return [*bodies, _traces(batch, here, created)]


def _headers(batch: Batch, here: Ints) -> list[str]:
    ids = batch.ids[here].tolist()
    return [
        f'{{"Message-ID": "<{i}@penguinmails.example>", "List-Unsubscribe": "<https://links.penguinmails.example/u/{i}>"}}'
        for i in ids
    ]


def stored_bodies(
    keys: list[str], tenant: list[str], plain: list[str], html: list[str], times: Ints, created: list[str],
    headers: list[str],
) -> list[Block]:  # fmt: skip
    """Envelopes and bodies. A body that the tenant already stores in this batch is kept once."""
    sizes, hashes, masters, copies = [], [], [], []
    seen: dict[tuple[str, str], str] = {}
    for key, owner, words, markup in zip(keys, tenant, plain, html, strict=True):
        raw = words.encode()
        digest = hashlib.sha256(raw).hexdigest()
        master = seen.setdefault((owner, digest), key) if markup == NULL else key
        masters.append(NULL if master is key else master)
        copies.append("none" if master is key else "deduplicated")
        sizes.append(str(len(raw) + (0 if markup == NULL else len(markup.encode()))))
        hashes.append(digest)
    same = [m != NULL for m in masters]
    n = len(keys)
    envelope = columns("content", "content_objects", n, {
        "storage_key": keys, "tenant_id": tenant, "object_kind": "email", "raw_size_bytes": sizes,
        "compressed_size_bytes": NULL, "compression_algorithm": copies, "content_hash": hashes,
        "duplicate_of": masters,
        "expires": clock.stamps(times + _EXPIRES), "last_accessed": NULL, "created": created,
        "updated": created,
    })  # fmt: skip
    body = columns("content", "email_content", n, {
        "storage_key": keys, "tenant_id": tenant,
        "content_text": [NULL if d else w.replace("\n", "\\n") for w, d in zip(plain, same, strict=True)],
        "content_html": [NULL if d else h for h, d in zip(html, same, strict=True)],
        "headers": headers, "created": created, "updated": created,
    })  # fmt: skip
    return [envelope, body]


def _traces(batch: Batch, here: Ints, created: list[str]) -> Block:
    state, times = batch.state[here], batch.plan.time[here]
    sent = (state == REJECTED) | (state == ACCEPTED)
    refused = state == REJECTED
    permanence = objects([b.permanence for b in text.BOUNCES] + [NULL])[batch.refusal[here]]
    kind = batch.plan.kind[here]
    last = np.where(
        batch.delivered[here], batch.accepted[here], np.where(sent, times, batch.queued[here] + clock.SECOND)
    )
    return columns("content", "email_messages", len(here), {
        "storage_key": batch.keys[here].tolist(), "message_ref_id": batch.ids[here].tolist(),
        "tenant_id": batch.tenant[here].tolist(), "company_id": batch.company[here].tolist(),
        "domain_id": batch.domain[here].tolist(), "email_account_id": batch.box[here].tolist(),
        "smtp_ip_address_id": np.where(sent, batch.ip[here], NULL).tolist(),
        "campaign_id": batch.campaign[here].tolist(),
        "sequence_step_id": batch.step[here].tolist(), "lead_id": batch.lead[here].tolist(),
        "direction": "outbound",
        "message_type": "email", "is_warmup": np.where(kind == plan.WARMUP, "t", "f").tolist(),
        "internet_message_id": [f"<{i}@penguinmails.example>" for i in batch.ids[here].tolist()],
        "from_email": batch.sender[here].tolist(), "to_email": batch.recipient[here].tolist(),
        "subject": batch.subject[here].tolist(), "status": _status(batch)[here].tolist(),
        "queued": clock.stamps(batch.queued[here]), "sent": clock.stamps(times, sent),
        "delivered": clock.stamps(batch.accepted[here], batch.delivered[here]),
        "bounced": clock.stamps(times, refused),
        "bounce_type": permanence.tolist(), "failed": clock.stamps(times, state == FAILED),
        "created": created,
        "updated": clock.stamps(last),
    })  # fmt: skip


def register_block(batch: Batch) -> Block:
    """The register of messages that are not older than its retention."""
    here = np.flatnonzero(batch.queued > batch.present - REGISTER_DAYS * clock.DAY)
    sent = (batch.state[here] == REJECTED) | (batch.state[here] == ACCEPTED)
    once = zip(batch.campaign[here].tolist(), batch.step[here].tolist(), batch.lead[here].tolist(), strict=True)
    stamps = clock.stamps(batch.queued[here])
    return columns("oltp", "inbox_message_refs", len(here), {
        "id": batch.ids[here].tolist(), "tenant_id": batch.tenant[here].tolist(),
        "company_id": batch.company[here].tolist(), "email_account_id": batch.box[here].tolist(),
        "campaign_id": batch.campaign[here].tolist(), "sequence_step_id": batch.step[here].tolist(),
        "lead_id": batch.lead[here].tolist(), "direction": "outbound",
        "from_email": batch.sender[here].tolist(),
        "to_email": batch.recipient[here].tolist(), "subject": batch.subject[here].tolist(),
        "status": _status(batch)[here].tolist(),
        "content_storage_key": np.where(batch.rendered, batch.keys, NULL)[here].tolist(),
        "internet_message_id": [f"<{i}@penguinmails.example>" for i in batch.ids[here].tolist()],
        "idempotency_key": [NULL if c == NULL else f"{c[:8]}-{s[:8]}-{lead}-1" for c, s, lead in once],
        "is_warmup": np.where(batch.plan.kind[here] == plan.WARMUP, "t", "f").tolist(), "queued": stamps,
        "sent": clock.stamps(batch.plan.time[here], sent),
        "processed": clock.stamps(batch.plan.time[here] + clock.SECOND, sent), "created": stamps,
        "updated": clock.stamps(np.where(sent, batch.plan.time[here], batch.queued[here])),
    })  # fmt: skip
