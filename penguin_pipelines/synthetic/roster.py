"""Rows of leads, enrolments and suppressed addresses, as the plan left them.

Not here: the decision who is enrolled (plan.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penguin_pipelines.synthetic import clock, people, plan
from penguin_pipelines.synthetic.ids import objects, uuid, uuids
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.plan import Enrolments
from penguin_pipelines.synthetic.world import Ints, World
from penguin_pipelines.synthetic.write import NULL, Block, columns

CHUNK = 50_000

_LEAD_STATUS = objects(["active", "replied", "bounced", "bounced", "unsubscribed", "unsubscribed", "completed"])
_EXIT = objects([NULL, "replied", "bounced", "bounced", "unsubscribed", "complained"])
_REASON = objects(["", "", "hard_bounce", "soft_bounce_limit", "unsubscribe", "spam_complaint"])
_SOURCE = objects(["", "", "webhook", "webhook", "list_unsubscribe", "webhook"])
_COMPLETED = 6


@dataclass
class Roster:
    """State of each lead after all enrolments."""

    leads: Leads
    enrolled: Enrolments
    present: int
    status: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, leads: Leads, enrolled: Enrolments, world: World, present: int) -> Roster:
        """Sums the enrolments up by lead."""
        n = len(leads.ids)
        finished = enrolled.sent >= world.campaigns.step_count[enrolled.campaign]
        code = np.where(enrolled.outcome > 0, enrolled.outcome, np.where(finished, _COMPLETED, 0))
        status, first = np.zeros(n, dtype=np.int64), np.full(n, present, dtype=np.int64)
        last = np.zeros(n, dtype=np.int64)
        np.maximum.at(status, enrolled.lead, code)
        np.minimum.at(first, enrolled.lead, enrolled.start)
        np.maximum.at(last, enrolled.lead, enrolled.ended)
        return cls(leads, enrolled, present, status, first, last)

    def lead_blocks(self, rng: np.random.Generator, world: World) -> Iterator[Block]:
        """Rows of leads, in pieces."""
        for low in range(0, len(self.leads.ids), CHUNK):
            at = np.arange(low, min(low + CHUNK, len(self.leads.ids)))
            lead = self.leads
            first, last = people.FIRST[lead.first[at]], people.LAST[lead.last[at]]
            imported = self.first[at] - rng.integers(clock.DAY, 12 * clock.DAY, len(at))
            created = clock.stamps(imported)
            bare = rng.random(len(at)) < 0.05  # lists often lack the name
            yield columns("oltp", "leads", len(at), {
                "id": lead.ids[at].tolist(), "tenant_id": world.tenants[lead.tenant[at]].tolist(),
                "email": lead.emails(at), "name": np.where(bare, NULL, first + " " + last).tolist(),
                "first_name": np.where(bare, NULL, first).tolist(),
                "last_name": np.where(bare, NULL, last).tolist(),
                "company": people.FIRM_NAMES[lead.domain[at]].tolist(),
                "position": people.POSITIONS[at % len(people.POSITIONS)].tolist(),
                "metadata": '{"source": "import"}',
                "status": _LEAD_STATUS[self.status[at]].tolist(), "imported": created, "created": created,
                "updated": clock.stamps(np.maximum(self.last[at], imported)),
            })  # fmt: skip

    def enrolment_blocks(self, rng: np.random.Generator, world: World, states: list[str]) -> Iterator[Block]:
        """Rows of campaign_leads, in pieces; `states` are those of the campaigns."""
        camps, stopped = world.campaigns, np.array([s in ("paused", "completed") for s in states], dtype=bool)
        for low in range(0, len(self.enrolled.lead), CHUNK):
            part = Enrolments(*(getattr(self.enrolled, f)[low : low + CHUNK] for f in Enrolments.__dataclass_fields__))
            finished = part.sent >= camps.step_count[part.campaign]
            left = part.outcome > 0
            over = finished | left
            status = np.where(
                left,
                "exited",
                np.where(
                    finished,
                    "completed",
                    np.where(stopped[part.campaign], "paused", np.where(part.sent > 0, "active", "enrolled")),
                ),
            )
            created = clock.stamps(part.start - rng.integers(clock.MINUTE, clock.DAY, len(part.lead)))
            n = len(part.lead)
            yield columns("oltp", "campaign_leads", n, {
                "id": uuids(rng, n, part.start),
                "tenant_id": world.tenants[self.leads.tenant[part.lead]].tolist(),
                "campaign_id": camps.ids[part.campaign].tolist(),
                "lead_id": self.leads.ids[part.lead].tolist(),
                "status": status.tolist(),
                "current_step_id": np.where(over, NULL,
                camps.step_ids[part.campaign, np.maximum(part.sent - 1, 0)]).tolist(),
                "steps_completed": part.sent.astype(str).tolist(),
                "exit_reason": _EXIT[part.outcome].tolist(),
                "next_due": clock.stamps(part.next_due, ~over & (part.next_due > 0)),
                "started": clock.stamps(part.start), "completed": clock.stamps(part.ended, over),
                "created": created,
                "updated": clock.stamps(part.ended),
            })  # fmt: skip

    def suppression_block(self, rng: np.random.Generator, world: World) -> Block:
        """Rows of suppression_list that follow from bounces, unsubscribes and complaints."""
        at = np.flatnonzero((self.status >= plan.DEAD_ADDRESS) & (self.status <= plan.COMPLAINED))
        created = clock.stamps(np.minimum(self.last[at] + 3 * clock.SECOND, self.present))
        return columns("oltp", "suppression_list", len(at), {
            "id": uuids(rng, len(at)), "tenant_id": world.tenants[self.leads.tenant[at]].tolist(),
            "email": self.leads.emails(at), "reason": _REASON[self.status[at]].tolist(),
            "source": _SOURCE[self.status[at]].tolist(), "scope": "tenant", "created": created,
            "updated": created,
        })  # fmt: skip


def waiting_block(
    rng: np.random.Generator, world: World, leads: Leads, scheduled: list[tuple[int, str]], present: int
) -> Block:
    """Leads enrolled in campaigns that have not started; `scheduled` holds tenant number and campaign id."""
    lead_ids, campaigns, owners = [], [], []
    for tenant, campaign in scheduled:
        mine = np.flatnonzero(leads.tenant == tenant)[:25]
        lead_ids += leads.ids[mine].tolist()
        campaigns += [campaign] * len(mine)
        owners += [world.tenants[tenant]] * len(mine)
    now = clock.stamp(present - clock.HOUR)
    return columns("oltp", "campaign_leads", len(lead_ids), {
        "id": uuids(rng, len(lead_ids)), "tenant_id": owners, "campaign_id": campaigns, "lead_id": lead_ids,
        "status": "enrolled", "next_due": clock.stamp(present + 2 * clock.DAY), "created": now,
        "updated": now,
    })  # fmt: skip


def manual_suppressions(rng: np.random.Generator, world: World, present: int) -> Block:
    """A global row, one by staff and one of a single workspace for each tenant."""
    rows = [(NULL, NULL, "abuse-desk@provider.example", "legal", "staff", "global")]
    for number, tenant in enumerate(world.tenants):
        rows.append((tenant, NULL, f"competitor{number}@rival.example", "manual", "import", "tenant"))
        company = world.companies[int(np.flatnonzero(world.company_tenant == number)[0])]
        rows.append((tenant, company, f"partner{number}@friend.example", "manual", "staff", "workspace"))
    names = ("tenant_id", "company_id", "email", "reason", "source", "scope")
    created = clock.stamp(present - 20 * clock.DAY)
    return columns("oltp", "suppression_list", len(rows), {
        "id": [uuid(rng) for _ in rows], **{name: [r[i] for r in rows] for i, name in enumerate(names)},
        "created": created, "updated": created,
    })  # fmt: skip
