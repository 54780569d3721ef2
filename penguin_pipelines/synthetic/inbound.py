"""Mail that comes back: answers, automatic answers, bounce messages; and files attached to mail.

Not here: events without mail of their own (events.py).
"""

from __future__ import annotations

import hashlib

import numpy as np

from penguin_pipelines.synthetic import clock, plan, text
from penguin_pipelines.synthetic.events import Failures, by_reply, shared
from penguin_pipelines.synthetic.ids import objects, uuids
from penguin_pipelines.synthetic.traffic import REGISTER_DAYS, Batch, Mask, storage_keys, stored_bodies
from penguin_pipelines.synthetic.world import Ints, Texts
from penguin_pipelines.synthetic.write import NULL, Block, columns

ANSWER, STOP, AUTO, REPORT = range(4)
_TYPES = objects(["email", "email", "auto_reply", "bounce"])


def _incoming(rng: np.random.Generator, batch: Batch, reachable: Mask, found: Failures) -> tuple[Ints, Ints, Ints]:
    """Which message each piece of inbound mail belongs to, when it came, and what it is."""
    outcome, when = batch.plan.outcome, batch.plan.time + batch.plan.delay
    answers = np.flatnonzero(outcome == plan.REPLIED)
    stops = np.flatnonzero(by_reply(batch))
    auto = np.flatnonzero(reachable & (outcome != plan.DEAD_ADDRESS) & (rng.random(batch.n) < 0.022))
    quick = batch.accepted[auto] + clock.lognormal(rng, len(auto), 25 * clock.SECOND, 0.8)
    reported = np.flatnonzero(batch.refusal[found.at] < 0)
    at = np.concatenate([answers, stops, auto, found.at[reported]])
    time = np.concatenate([when[answers], when[stops], quick, found.time[reported]])
    kind = np.repeat([ANSWER, STOP, AUTO, REPORT], [len(answers), len(stops), len(auto), len(reported)])
    keep = np.flatnonzero(time < batch.present)
    keep = keep[np.argsort(time[keep], kind="stable")]
    return at[keep], time[keep], kind[keep]


def _lines(rng: np.random.Generator, kind: Ints) -> list[str]:
    draw = rng.integers(0, 15, len(kind))
    choices = [
        text.REPLY_LINES,
        text.STOP_LINES,
        text.AUTO_LINES,
        objects(["Delivery to the following recipient failed."]),
    ]
    return [choices[k][d % len(choices[k])] for k, d in zip(kind.tolist(), draw.tolist(), strict=True)]


def blocks(rng: np.random.Generator, batch: Batch, reachable: Mask, found: Failures) -> tuple[list[Block], Block]:
    """Rows of Content (envelopes, bodies, traces, replies), and those of the register."""
    at, time, kind = _incoming(rng, batch, reachable, found)
    ids = uuids(rng, len(at), time)
    tenant = batch.tenant[at].tolist()
    keys = storage_keys(tenant, time, ids)
    created = clock.stamps(np.minimum(time + clock.SECOND, batch.present))
    headers = ['{"Auto-Submitted": "auto-replied"}' if k == AUTO else "{}" for k in kind.tolist()]
    lines = [
        f"{line}\n> {subject}" for line, subject in zip(_lines(rng, kind), batch.subject[at].tolist(), strict=True)
    ]
    out = stored_bodies(
        keys, tenant, lines, [f"<p>{line.splitlines()[0]}</p>" for line in lines], time, created, headers
    )
    common = _common(batch, at, kind, ids, time, created)
    out.append(columns("content", "email_messages", len(at), {
        **common, "storage_key": keys, "message_ref_id": ids, "domain_id": batch.domain[at].tolist(),
        "parent_message_id": np.where(batch.rendered[at], batch.keys[at], NULL).tolist(),
    }))  # fmt: skip
    out.append(_replies(rng, batch, at, time, kind, objects(keys)))
    young = np.flatnonzero(batch.queued[at] > batch.present - REGISTER_DAYS * clock.DAY)
    register = {
        name: values if isinstance(values, str) else [values[i] for i in young] for name, values in common.items()
    }
    return out, columns("oltp", "inbox_message_refs", len(young), {
        **register, "id": [ids[i] for i in young], "parent_message_id": batch.ids[at[young]].tolist(),
        "content_storage_key": [keys[i] for i in young], "processed": [created[i] for i in young],
    })  # fmt: skip


def _common(
    batch: Batch, at: Ints, kind: Ints, ids: list[str], time: Ints, created: list[str]
) -> dict[str, list[str] | str]:
    """Columns that the trace and the register share."""
    report = kind == REPORT
    senders = np.where(report, "mailer-daemon@mx.example", batch.recipient[at])
    prefix: Texts = objects(["Re: ", "Re: ", "Automatic reply: ", "Undeliverable: "])[kind]
    return {
        "tenant_id": batch.tenant[at].tolist(), "company_id": batch.company[at].tolist(),
        "email_account_id": batch.box[at].tolist(), "campaign_id": batch.campaign[at].tolist(),
        "sequence_step_id": batch.step[at].tolist(), "lead_id": batch.lead[at].tolist(),
        "direction": "inbound",
        "message_type": _TYPES[kind].tolist(), "is_warmup": np.where(batch.plan.kind[at] == plan.WARMUP, "t",
        "f").tolist(),
        "internet_message_id": [f"<{i}@mx.example>" for i in ids], "from_email": senders.tolist(),
        "to_email": batch.sender[at].tolist(), "subject": (prefix + batch.subject[at]).tolist(),
        "status": "received",
        "sent": clock.stamps(time), "created": created, "updated": created,
    }  # fmt: skip


def _replies(rng: np.random.Generator, batch: Batch, at: Ints, time: Ints, kind: Ints, keys: Texts) -> Block:
    here = np.flatnonzero(kind != REPORT)
    n = len(here)
    return columns("content", "email_replies", n, {
        "id": uuids(rng, n, time[here]), **shared(rng, batch, at[here], "replied", time[here]),
        "reply_storage_key": keys[here].tolist(), "is_auto_reply": np.where(kind[here] == AUTO, "t",
        "f").tolist(),
    })  # fmt: skip


def attachment_block(rng: np.random.Generator, batch: Batch) -> Block:
    """One small file on one in a hundred campaign and personal messages."""
    who = np.flatnonzero(batch.rendered & (batch.plan.kind != plan.WARMUP) & (rng.random(batch.n) < 0.01))
    data = [rng.bytes(48) for _ in who]
    names = ["case-study.pdf" if i % 3 else "logo.png" for i in range(len(who))]
    return columns("content", "attachments", len(who), {
        "id": uuids(rng, len(who), batch.queued[who]), "tenant_id": batch.tenant[who].tolist(),
        "parent_storage_key": batch.keys[who].tolist(), "filename": names, "original_filename": names,
        "mime_type": ["application/pdf" if i % 3 else "image/png" for i in range(len(who))],
        "size_bytes": "48",
        "content": ["\\\\x" + d.hex() for d in data],
        "storage_disposition": ["attachment" if i % 3 else "inline" for i in range(len(who))],
        "content_hash": [hashlib.sha256(d).hexdigest() for d in data], "compression_algorithm": "none",
        "is_scanned": "t",
        "virus_scan_result": "clean", "created": clock.stamps(batch.queued[who] + clock.SECOND),
    })  # fmt: skip
