"""What happens to a message after it left: opens, clicks, bounces, unsubscribes, complaints, warmup
interactions.

Three kinds of openers: people, machines that prefetch within two seconds, and image proxies long after
delivery, of which nobody can tell. Not here: answers and bounce messages that come in as mail (inbound.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from penguin_pipelines.synthetic import clock, plan, text
from penguin_pipelines.synthetic.ids import event_keys, objects, uuids
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.traffic import ACCEPTED, Batch, Mask
from penguin_pipelines.synthetic.world import Ints, Texts
from penguin_pipelines.synthetic.write import Block, columns

_AGENTS = objects([c.user_agent for c in text.CLIENTS])
_DEVICES = objects([c.device for c in text.CLIENTS])
_MAIL_CLIENTS = objects([c.mail_client for c in text.CLIENTS])
_FLAGS = objects(["f", "t"])


@dataclass
class Contacts:
    """Opens or clicks of a batch: which message, when, by what."""

    at: Ints
    time: Ints
    client: Ints
    address: list[str]
    flagged: Mask

    def before(self, present: int) -> Contacts:
        """Those that have happened."""
        keep = np.flatnonzero(self.time < present)
        return Contacts(
            self.at[keep],
            self.time[keep],
            self.client[keep],
            [self.address[i] for i in keep],
            self.flagged[keep],
        )


def joined(many: list[Contacts]) -> Contacts:
    """All of them, in order of time."""
    at = np.concatenate([c.at for c in many])
    time = np.concatenate([c.time for c in many])
    order = np.argsort(time, kind="stable")
    addresses = [a for c in many for a in c.address]
    return Contacts(
        at[order], time[order], np.concatenate([c.client for c in many])[order],
        [addresses[i] for i in order],
        np.concatenate([c.flagged for c in many])[order],
    )  # fmt: skip


class Origin(Protocol):
    """What an event takes over from its message, as columns."""

    present: int
    tenant: Texts
    keys: Texts
    company: Texts
    campaign: Texts
    step: Texts
    box: Texts
    lead: Texts


def shared(rng: np.random.Generator, batch: Origin, at: Ints, name: str, times: Ints) -> dict[str, list[str] | str]:
    """Columns that every event table has."""
    return {
        "tenant_id": batch.tenant[at].tolist(), "storage_key": batch.keys[at].tolist(),
        "company_id": batch.company[at].tolist(), "campaign_id": batch.campaign[at].tolist(),
        "sequence_step_id": batch.step[at].tolist(), "email_account_id": batch.box[at].tolist(),
        "lead_id": batch.lead[at].tolist(), "event_key": event_keys(rng, times), name: clock.stamps(times),
        "created": clock.stamps(clock.ingest(rng, times, batch.present)),
    }  # fmt: skip


def _human_opens(rng: np.random.Generator, batch: Batch, reachable: Mask) -> Contacts:
    answered = (batch.plan.outcome == plan.REPLIED) | (batch.plan.outcome == plan.UNSUBSCRIBED)
    chance = np.where(answered, 0.8, np.where(batch.plan.kind == plan.PERSONAL, 0.6, 0.34))
    who = np.flatnonzero(reachable & (rng.random(batch.n) < chance))
    client = rng.choice(len(text.HUMANS), len(who), p=text.HUMAN_WEIGHTS)
    home = objects(text.addresses(rng, text.HOME_NET, len(who)))
    offsets = clock.OFFSETS[batch.zone[who]]
    delay = clock.lognormal(rng, len(who), 2.5 * clock.HOUR, 1.7) + 20 * clock.SECOND
    # Whoever answers has read first.
    delay = np.where(answered[who], np.minimum(delay, (batch.plan.delay[who] * 0.8).astype(np.int64)), delay)
    first = clock.waking(rng, batch.accepted[who] + delay, offsets)
    first = np.where(answered[who], batch.accepted[who] + delay, first)
    again = np.minimum(rng.geometric(0.62, len(who)), 8)
    row = np.repeat(np.arange(len(who)), again)
    number = np.arange(len(row)) - np.repeat(np.cumsum(again) - again, again)
    time = first[row] + np.where(number > 0, clock.lognormal(rng, len(row), 16 * clock.HOUR, 1.3), 0)
    time = np.where(number > 0, clock.waking(rng, time, offsets[row]), time)
    twin = np.flatnonzero(rng.random(len(row)) < 0.06)  # the same client loads the picture twice
    row, time = (
        np.append(row, row[twin]),
        np.append(time, time[twin] + rng.integers(clock.SECOND, 9 * clock.SECOND, len(twin))),
    )
    return Contacts(who[row], time, client[row], home[row].tolist(), np.zeros(len(row), dtype=bool))


def _machine_opens(rng: np.random.Generator, batch: Batch, reachable: Mask) -> Contacts:
    who = np.flatnonzero(reachable & (rng.random(batch.n) < 0.32))
    apple = rng.random(len(who)) < 0.6
    time = batch.accepted[who] + rng.integers(100_000, 1_950_000, len(who))
    addresses = np.where(apple, objects(text.addresses(rng, text.APPLE_NET, len(who))),
                         objects(text.addresses(rng, text.GOOGLE_NET, len(who))))  # fmt: skip
    client = np.where(apple, text.APPLE_AT, text.GOOGLE_AT)
    return Contacts(who, time, client, addresses.tolist(), rng.random(len(who)) < 0.55)


def _proxied_opens(rng: np.random.Generator, batch: Batch, reachable: Mask) -> Contacts:
    who = np.flatnonzero(reachable & (rng.random(batch.n) < 0.12))
    delay = clock.lognormal(rng, len(who), 3 * clock.HOUR, 1.5) + clock.MINUTE
    time = clock.waking(rng, batch.accepted[who] + delay, clock.OFFSETS[batch.zone[who]])
    return Contacts(who, time, np.full(len(who), text.GOOGLE_AT),
        text.addresses(rng, text.GOOGLE_NET, len(who)),
                    rng.random(len(who)) < 0.05)  # fmt: skip


def opens(rng: np.random.Generator, batch: Batch, reachable: Mask) -> tuple[Contacts, Contacts]:
    """All opens, and the human ones among them."""
    human = _human_opens(rng, batch, reachable).before(batch.present)
    rest = [_machine_opens(rng, batch, reachable), _proxied_opens(rng, batch, reachable)]
    return joined([human, *(c.before(batch.present) for c in rest)]), human


def human_clicks(rng: np.random.Generator, batch: Batch, seen: Contacts, reachable: Mask) -> Contacts:
    """Clicks soon after an open, and some of people whose client hid the open."""
    after = np.flatnonzero(rng.random(len(seen.at)) < 0.055)
    stray = np.flatnonzero(reachable & (rng.random(batch.n) < 0.006))
    delay = clock.lognormal(rng, len(stray), 3 * clock.HOUR, 1.3) + clock.MINUTE
    time = clock.waking(rng, batch.accepted[stray] + delay, clock.OFFSETS[batch.zone[stray]])
    client = rng.choice(len(text.HUMANS), len(stray), p=text.HUMAN_WEIGHTS)
    return Contacts(
        np.append(seen.at[after], stray),
        np.append(seen.time[after] + clock.lognormal(rng, len(after), 25 * clock.SECOND, 1.1), time),
        np.append(seen.client[after], client),
        [seen.address[i] for i in after] + text.addresses(rng, text.HOME_NET, len(stray)),
        np.zeros(len(after) + len(stray), dtype=bool),
    )


def scanner_clicks(rng: np.random.Generator, batch: Batch, leads: Leads, reachable: Mask) -> tuple[Contacts, Ints]:
    """Security gateways of firms follow three to five different links within a second. Gives the link of each
    too."""
    known = batch.plan.lead >= 0
    firm = leads.is_firm(np.maximum(batch.plan.lead, 0).astype(np.int64)) if len(leads.ids) else known
    who = np.flatnonzero(reachable & known & firm & (rng.random(batch.n) < 0.05))
    start = batch.accepted[who] + rng.integers(2 * clock.SECOND, 40 * clock.SECOND, len(who))
    count = rng.integers(3, 6, len(who))
    row = np.repeat(np.arange(len(who)), count)
    link = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    time = start[row] + link * 180_000 + rng.integers(0, 50_000, len(row))
    # Some scanners call themselves a plain browser.
    vendor = np.where(rng.random(len(who)) < 0.75, text.SCANNERS_AT + rng.integers(0, len(text.SCANNERS),
        len(who)),
                      len(text.HUMANS) - 1)  # fmt: skip
    address = objects(text.addresses(rng, text.SCANNER_NET, len(who)))
    flagged = rng.random(len(who)) < 0.5
    return Contacts(who[row], time, vendor[row], address[row].tolist(), flagged[row]), link


def seen_by(client: Ints) -> dict[str, list[str] | str]:
    """Columns of opens and clicks that name the client."""
    return {"user_agent": _AGENTS[client].tolist(), "device_type": _DEVICES[client].tolist()}


def mail_clients(client: Ints) -> list[str]:
    """Names of the programs."""
    return _MAIL_CLIENTS[client].tolist()


def open_block(rng: np.random.Generator, batch: Batch, found: Contacts) -> Block:
    """Rows of email_opens."""
    return columns("content", "email_opens", len(found.at), {
        **shared(rng, batch, found.at, "opened", found.time), "ip_address": found.address,
        **seen_by(found.client),
        "mail_client": mail_clients(found.client), "country": text.COUNTRIES[batch.zone[found.at]].tolist(),
        "is_bot": _FLAGS[found.flagged.astype(np.int64)].tolist(),
    })  # fmt: skip


def click_block(rng: np.random.Generator, batch: Batch, human: Contacts, scanned: Contacts, links: Ints) -> Block:
    """Rows of email_clicks."""
    link = np.append(rng.integers(0, 4, len(human.at)), links)
    at, time = np.append(human.at, scanned.at), np.append(human.time, scanned.time)
    client, flagged = np.append(human.client, scanned.client), np.append(human.flagged, scanned.flagged)
    address = objects(human.address + scanned.address)
    order = np.flatnonzero(time < batch.present)
    order = order[np.argsort(time[order], kind="stable")]
    at, client = at[order], client[order]
    return columns("content", "email_clicks", len(at), {
        **shared(rng, batch, at, "clicked", time[order]), "clicked_url": text.LINKS[link[order]].tolist(),
        "ip_address": address[order].tolist(), **seen_by(client),
        "country": text.COUNTRIES[batch.zone[at]].tolist(),
        "is_bot": _FLAGS[flagged[order].astype(np.int64)].tolist(),
    })  # fmt: skip


@dataclass
class Failures:
    """Bounce reports of a batch; `kind` indexes text.BOUNCES."""

    at: Ints
    time: Ints
    kind: Ints


def failures(rng: np.random.Generator, batch: Batch, seen: Contacts) -> Failures:
    """Refusals at once, reports of dead addresses, full mailboxes, and reports that contradict a delivery."""
    outcome, sent = batch.plan.outcome, batch.plan.time
    parts: list[tuple[Ints, Ints, Ints]] = []

    def report(at: Ints, time: Ints, kind: str) -> None:
        parts.append((at, time, text.bounce_texts(rng, kind, len(at))))

    refused = np.flatnonzero(batch.refusal >= 0)
    parts.append((refused, sent[refused], batch.refusal[refused]))
    dead = np.flatnonzero((outcome == plan.DEAD_ADDRESS) & (batch.state == ACCEPTED))
    report(dead, sent[dead] + batch.plan.delay[dead], "address")
    full = np.flatnonzero(outcome == plan.SOFT_LIMIT)
    for share in (0.2, 0.6):
        report(full, sent[full] + (batch.plan.delay[full] * share).astype(np.int64), "full")
    report(full, sent[full] + batch.plan.delay[full], "expired")
    greylisted = np.flatnonzero(batch.alive & (batch.accepted - sent > 14 * clock.MINUTE))
    report(
        greylisted,
        sent[greylisted] + rng.integers(clock.SECOND, 5 * clock.MINUTE, len(greylisted)),
        "temporary",
    )
    silent = np.ones(batch.n, dtype=bool)
    silent[seen.at] = False
    quiet = batch.alive & (outcome == plan.NOTHING)
    bounced_later = np.flatnonzero(quiet & silent & (rng.random(batch.n) < 0.004))
    report(
        bounced_later,
        batch.accepted[bounced_later] + clock.lognormal(rng, len(bounced_later), 2 * clock.HOUR, 1.2),
        "policy",
    )
    contradicted = np.flatnonzero(quiet & ~silent & (rng.random(batch.n) < 0.004))
    report(
        contradicted,
        batch.accepted[contradicted] + clock.lognormal(rng, len(contradicted), 12 * clock.HOUR, 1.0),
        "policy",
    )
    at, time, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = np.flatnonzero(time < batch.present)
    keep = keep[np.argsort(time[keep], kind="stable")]
    return Failures(at[keep], time[keep], kind[keep])


def bounce_block(rng: np.random.Generator, batch: Batch, found: Failures) -> Block:
    """Rows of email_bounces."""
    chosen = [text.BOUNCES[i] for i in found.kind]
    return columns("content", "email_bounces", len(chosen), {
        "id": uuids(rng, len(chosen), found.time), **shared(rng, batch, found.at, "bounced", found.time),
        "bounce_type": [b.permanence for b in chosen], "bounce_code": [b.code for b in chosen],
        "bounce_reason": [b.reason for b in chosen],
    })  # fmt: skip


def stop_blocks(rng: np.random.Generator, batch: Batch) -> list[Block]:
    """Rows of email_unsubscribes and email_complaints."""
    out = []
    when = batch.plan.time + batch.plan.delay
    who = np.flatnonzero(batch.plan.outcome == plan.UNSUBSCRIBED)
    method = np.where(by_reply(batch)[who], "reply", np.where(rng.random(len(who)) < 0.55, "link", "list_unsubscribe"))
    out.append(columns("content", "email_unsubscribes", len(who), {
        "id": uuids(rng, len(who), when[who]), **shared(rng, batch, who, "unsubscribed", when[who]),
        "method": method.tolist(),
    }))  # fmt: skip
    who = np.flatnonzero(batch.plan.outcome == plan.COMPLAINED)
    out.append(columns("content", "email_complaints", len(who), {
        "id": uuids(rng, len(who), when[who]), **shared(rng, batch, who, "complained", when[who]),
        "provider": text.COMPLAINT_PROVIDERS[rng.integers(0, len(text.COMPLAINT_PROVIDERS),
        len(who))].tolist(),
        "feedback_type": "abuse",
    }))  # fmt: skip
    return out


def by_reply(batch: Batch) -> Mask:
    """Unsubscribes that came as an answer: one in five, by the time of sending, so that each module
    agrees."""
    return (batch.plan.outcome == plan.UNSUBSCRIBED) & (batch.plan.time // clock.SECOND % 5 == 0)


def warmup_block(rng: np.random.Generator, batch: Batch) -> Block:
    """Rows of warmup_interactions: what partner mailboxes do with warmup mail."""
    warm = batch.alive & (batch.plan.kind == plan.WARMUP)
    kinds, at, times = [], [], []
    for name, chance, median in (
        ("rescued_from_spam", 0.06, 20),
        ("open", 0.72, 40),
        ("click", 0.13, 60),
        ("reply", 0.16, 90),
    ):
        who = np.flatnonzero(warm & (rng.random(batch.n) < chance))
        at.append(who)
        times.append(batch.accepted[who] + clock.lognormal(rng, len(who), median * clock.MINUTE, 1.0))
        kinds += [name] * len(who)
    who, time, kind = np.concatenate(at), np.concatenate(times), objects(kinds)
    keep = np.flatnonzero(time < batch.present)
    keep = keep[np.argsort(time[keep], kind="stable")]
    who, time = who[keep], time[keep]
    common = shared(rng, batch, who, "interacted", time)
    fields = {
        name: common[name]
        for name in ("tenant_id", "email_account_id", "storage_key", "event_key", "interacted", "created")
    }
    return columns("content", "warmup_interactions", len(who), {
        "id": uuids(rng, len(who), time), **fields, "interaction_type": kind[keep].tolist(),
        "partner_mailbox": batch.recipient[who].tolist(),
    })  # fmt: skip
