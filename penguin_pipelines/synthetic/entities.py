"""Founds customers: tenants, people, workspaces, templates and campaigns with their plans.

Not here: domains, mailboxes and servers (fleet.py), contracts (billing.py), leads and messages (plan.py,
traffic.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from penguin_pipelines.synthetic import clock, people, text
from penguin_pipelines.synthetic.ids import objects, uuid
from penguin_pipelines.synthetic.world import SLOTS, Campaigns, ints, zone_of

Record = dict[str, Any]

STATES = ["sending", "completed", "sending", "paused", "draft", "scheduled", "sending", "completed"]
"""States of the campaigns of a tenant, repeated; the first always sends."""
CONDITIONS = ["not_replied", "opened", "not_opened", "not_clicked", "always"]


@dataclass
class Scene:
    """What the makers share: the random source, the time that is covered, the size, and the records made so
    far."""

    rng: np.random.Generator
    low: int
    present: int
    tenants: int
    messages: int
    records: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def days(self) -> float:
        """Length of the history."""
        return (self.present - self.low) / clock.DAY

    def add(self, table: str, **values: Any) -> Record:
        """Keeps a record of an OLTP table and gives it back, so that later makers may complete it."""
        self.records.setdefault(table, []).append(values)
        return values

    def ago(self, least: float, most: float) -> datetime:
        """A moment some days before the present, to the second."""
        back = int(self.rng.uniform(least, most) * clock.DAY)
        return clock.moment((self.present - back) // clock.SECOND * clock.SECOND)

    def before(self, moment: datetime, least: float, most: float) -> datetime:
        """A moment some days before another one."""
        return clock.moment(clock.micros(moment) - int(self.rng.uniform(least, most) * 86_400) * clock.SECOND)

    def after(self, moment: datetime, least: float, most: float) -> datetime:
        """A moment some days after another one, not after the present."""
        later = clock.micros(moment) + int(self.rng.uniform(least, most) * 86_400) * clock.SECOND
        return clock.moment(min(later, self.present))

    def pick(self, choices: list[Any]) -> Any:
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]


def found_tenants(scene: Scene) -> None:
    """Tenants with their people."""
    for at in range(scene.tenants):
        created = scene.ago(scene.days + 30, scene.days + 500)
        name = people.name_of(at)
        tenant = scene.add("tenants", id=uuid(scene.rng), name=name, created=created, updated=created,
            deleted=None,
                           compute_id=None)  # fmt: skip
        for number in range(int(scene.rng.integers(2, 5))):
            _found_user(scene, tenant, at, number)
    if scene.tenants > 1:  # one person who works for two customers
        shared, other = scene.records["tenant_users"][0], scene.records["tenants"][1]
        scene.add("tenant_users", tenant_id=other["id"], user_id=shared["user_id"], created=other["created"],
                  updated=other["created"], deleted=None, roles=["employee"],
                  email=shared["email"])  # fmt: skip


def _found_user(scene: Scene, tenant: Record, tenant_at: int, number: int) -> None:
    first, last = int(scene.rng.integers(len(people.FIRST))), int(scene.rng.integers(len(people.LAST)))
    suffix = people.base36(tenant_at * 100 + number)
    email = f"{people.FIRST_ASCII[first]}.{people.LAST_ASCII[last]}.{suffix}@customer.example"
    created = scene.after(tenant["created"], 0, 5)
    user = uuid(scene.rng)
    scene.add(
        "users", id=user, created=created, updated=created, deleted=None,
        name=f"{people.FIRST[first]} {people.LAST[last]}", family_name=str(people.LAST[last]),
        given_name=str(people.FIRST[first]), email=email, picture=None, email_verified=created,
    )  # fmt: skip
    scene.add("tenant_users", tenant_id=tenant["id"], user_id=user, created=created, updated=created,
        deleted=None,
              roles=[["owner"], ["manager"], ["employee"]][min(number, 2)], email=email)  # fmt: skip


def is_agency(tenant_at: int) -> bool:
    """Agencies keep a workspace for each client."""
    return tenant_at % 5 == 1


def found_companies(scene: Scene) -> None:
    """Workspaces."""
    for at, tenant in enumerate(scene.records["tenants"]):
        count = int(scene.rng.integers(6, 11)) if is_agency(at) else int(scene.rng.integers(1, 4))
        firms = scene.rng.choice(len(people.FIRMS), count, replace=False)
        for number, firm in enumerate(firms.tolist()):
            created = scene.after(tenant["created"], 0, 20)
            label = people.FIRMS[firm]
            scene.add(
                "companies", id=uuid(scene.rng), tenant_id=tenant["id"],
                name=tenant["name"] if number == 0 else label.capitalize(),
                workspace_name=f"{label}-{number}", logo_url=None,
                status="archived" if number == 5 else "active", industry=scene.pick(people.INDUSTRIES),
                company_size=scene.pick(people.SIZES), onboarding_started=created,
                onboarding_completed=scene.after(created, 0.1, 6), hide_onboarding=bool(number),
                created=created,
                updated=created,
            )  # fmt: skip


def found_templates(scene: Scene) -> None:
    """Eight messages for each tenant to choose from."""
    for tenant in scene.records["tenants"]:
        for number, subject in enumerate([*text.SUBJECTS[:4], *text.FOLLOW_UPS]):
            created = scene.after(tenant["created"], 1, 25)
            scene.add(
                "templates", id=uuid(scene.rng), tenant_id=tenant["id"],
                name=f"{'Opener' if number < 4 else 'Follow-up'} {number % 4 + 1}",
                subject=subject.replace("{", "{{").replace("}", "}}"),
                content=text.PARAGRAPHS[number % len(text.PARAGRAPHS)],
                is_starred=number == 0, created=created, updated=created,
            )  # fmt: skip


def found_campaigns(scene: Scene, can_send: set[str]) -> Campaigns:
    """Campaigns of every workspace that has a mailbox, in all states, with their steps."""
    live: list[tuple[Record, list[Record], list[int]]] = []
    companies = scene.records["companies"]
    index = {c["id"]: at for at, c in enumerate(companies)}
    each = max(2, min(40, round(scene.messages / len(companies) / 2_500)))
    turn: dict[str, int] = {}
    for company in companies:
        for _ in range(each + (not turn.get(company["tenant_id"], 0)) if company["id"] in can_send else 0):
            number = turn[company["tenant_id"]] = turn.get(company["tenant_id"], 0) + 1
            campaign = _found_campaign(scene, company, STATES[(number - 1) % len(STATES)], number)
            steps, waits = _found_steps(scene, campaign)
            if campaign["status"] in ("sending", "paused", "completed"):
                live.append((campaign, steps, waits))
    return _columns(scene, live, index)


def _found_campaign(scene: Scene, company: Record, status: str, number: int) -> Record:
    span = max(scene.days, 0.01)
    started = scene.ago(span * 0.55, span) if status == "completed" else scene.ago(span * 0.1, span)
    if number == 1:
        started = clock.moment(scene.low)
    created = scene.before(started, 1, 9)
    runs = status not in ("draft", "scheduled")
    if not runs:
        created = scene.ago(0.1, 3)
    return scene.add(
        "campaigns", id=uuid(scene.rng), tenant_id=company["tenant_id"], company_id=company["id"],
        name=f"{scene.pick(people.INDUSTRIES)} outreach {number}", description=None, status=status,
        scheduled=clock.moment(scene.present + 2 * clock.DAY) if status == "scheduled" else None,
        started=started if runs else None, completed=None, created=created,
        updated=started if runs else created,
    )  # fmt: skip


def _found_steps(scene: Scene, campaign: Record) -> tuple[list[Record], list[int]]:
    """Steps of one campaign: e-mail, wait, e-mail, condition, and so on. Gives the e-mail steps and the
    pauses."""
    templates = [t for t in scene.records["templates"][-8 * scene.tenants :] if t["tenant_id"] == campaign["tenant_id"]]
    emails, waits = [], []
    count = int(scene.rng.integers(2, SLOTS + 1))
    for order in range(1, 2 * count):
        kind = "email" if order % 2 else "wait" if order % 4 == 2 else "condition"
        hours = int(scene.pick([72, 96, 120])) if kind == "wait" else None
        number, pick = order // 2, int(scene.rng.integers(4))
        step = scene.add(
            "campaign_sequence_steps", id=uuid(scene.rng), tenant_id=campaign["tenant_id"],
            campaign_id=campaign["id"],
            step_order=order, step_type=kind, email_account_id=None,
            template_id=templates[(4 if number else 0) + pick]["id"] if kind == "email" else None,
            subject_override=None, from_name_override=None, wait_duration_hours=hours, wait_until_date=None,
            condition_type=scene.pick(CONDITIONS) if kind == "condition" else None, condition_value=None,
            send_condition=None, is_active=True, executed_count=0, last_executed=None,
            created=campaign["created"],
            updated=campaign["created"],
        )  # fmt: skip
        if kind == "email":
            emails.append(step)
        else:
            waits.append(hours or 72)
    return emails, waits


def _columns(scene: Scene, live: list[tuple[Record, list[Record], list[int]]], index: dict[str, int]) -> Campaigns:
    n = len(live)
    step_ids, waits = np.full((n, SLOTS), "", dtype=object), np.zeros((n, SLOTS), dtype=np.int64)
    opens = ints([clock.micros(c["started"]) for c, _, _ in live])
    for at, (_, emails, pauses) in enumerate(live):
        step_ids[at, : len(emails)] = [e["id"] for e in emails]
        waits[at, 1 : len(emails)] = np.array(pauses, dtype=np.int64) * clock.HOUR
    left = scene.present - opens
    share = {"sending": 1.0, "paused": 0.8, "completed": 0.4}
    until = opens + (left * np.array([share[c["status"]] for c, _, _ in live])).astype(np.int64)
    closes = np.where([c["status"] == "paused" for c, _, _ in live], until, scene.present)
    weight = scene.rng.lognormal(0, 0.7, n) * (1 + (left / clock.DAY) ** 0.5)
    return Campaigns(
        objects([c["id"] for c, _, _ in live]), ints([index[c["company_id"]] for c, _, _ in live]), opens,
        until,
        closes.astype(np.int64), weight, step_ids, ints([len(e) for _, e, _ in live]), waits,
    )  # fmt: skip


def zones(scene: Scene) -> list[int]:
    """Zone of each workspace."""
    return [zone_of(c["id"]) for c in scene.records["companies"]]
