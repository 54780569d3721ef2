"""A history from nothing: founds the customers, plans their mail and writes everything.

Not here: continuing an existing history (append.py).
"""

from __future__ import annotations

import numpy as np

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import (
    billing,
    clock,
    entities,
    fleet,
    people,
    plan,
    platform,
    roster,
    stream,
)
from penguin_pipelines.synthetic.entities import Scene
from penguin_pipelines.synthetic.ids import objects, uuids
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.plan import Plan
from penguin_pipelines.synthetic.stream import Progress
from penguin_pipelines.synthetic.world import World, ints
from penguin_pipelines.synthetic.write import Writers, records


def _found(scene: Scene) -> World:
    """All customers in memory; their records are in the scene."""
    entities.found_tenants(scene)
    entities.found_companies(scene)
    entities.found_templates(scene)
    fleet.found_domains(scene)
    fleet.found_mailboxes(scene)
    carried = fleet.found_servers(scene)
    fleet.check_blacklists(scene)
    made = scene.records
    boxes = [b for b in made["email_accounts"] if b["status"] == "active"]
    campaigns = entities.found_campaigns(scene, {b["company_id"] for b in boxes})
    tenant = {t["id"]: at for at, t in enumerate(made["tenants"])}
    company = {c["id"]: at for at, c in enumerate(made["companies"])}
    domain = {d["id"]: at for at, d in enumerate(made["domains"])}
    started = {w["email_account_id"]: w["started"] for w in made["warmup_schedules"]}
    boxes.sort(key=lambda b: company[b["company_id"]])
    warmed = [started.get(b["id"]) for b in boxes]
    return World(
        tenants=objects([t["id"] for t in made["tenants"]]),
        companies=objects([c["id"] for c in made["companies"]]),
        company_tenant=ints([tenant[c["tenant_id"]] for c in made["companies"]]),
        company_zone=ints(entities.zones(scene)),
        domains=objects([d["id"] for d in made["domains"]]),
        domain_names=objects([d["domain"] for d in made["domains"]]),
        domain_ips=[sorted(carried.get(d["id"], [])) for d in made["domains"]],
        boxes=objects([b["id"] for b in boxes]), box_email=objects([b["email"] for b in boxes]),
        box_domain=ints([domain[b["domain_id"]] for b in boxes]),
        box_company=ints([company[b["company_id"]] for b in boxes]),
        warmed_from=ints([-1 if w is None else clock.micros(w) for w in warmed]), campaigns=campaigns,
    )  # fmt: skip


def _complete(scene: Scene, world: World, planned: Plan) -> None:
    """Counters and last times that follow from the plan."""
    made = scene.records
    today = planned.time >= scene.present // clock.DAY * clock.DAY
    daily = np.bincount(planned.box[today], minlength=len(world.boxes))
    boxes = {b["id"]: b for b in made["email_accounts"]}
    last_of_domain: dict[str, int] = {}
    last_of_box = np.zeros(len(world.boxes), dtype=np.int64)
    np.maximum.at(last_of_box, planned.box, planned.time)
    for at, identity in enumerate(world.boxes):
        boxes[identity]["daily_count"] = int(daily[at])
        name = boxes[identity]["domain_id"]
        last_of_domain[name] = max(last_of_domain.get(name, 0), int(last_of_box[at]))
    for row in made["domain_ip_assignments"]:
        last = last_of_domain.get(row["domain_id"], 0)
        if row["status"] == "active" and last:
            row["last_sent"] = clock.moment(last)
    _complete_campaigns(scene, world, planned)


def _complete_campaigns(scene: Scene, world: World, planned: Plan) -> None:
    made, camps = scene.records, world.campaigns
    steps = {s["id"]: s for s in made.get("campaign_sequence_steps", [])}
    at = planned.campaign >= 0
    number = planned.campaign[at].astype(np.int64) * camps.step_ids.shape[1] + planned.slot[at]
    count = np.bincount(number, minlength=camps.step_ids.size)
    last = np.zeros(camps.step_ids.size, dtype=np.int64)
    np.maximum.at(last, number, planned.time[at])
    for i in np.flatnonzero(count):
        steps[camps.step_ids.flat[i]].update(executed_count=int(count[i]), last_executed=clock.moment(last[i]))
    ended = last.reshape(camps.step_ids.shape).max(axis=1)
    campaigns = {c["id"]: c for c in made.get("campaigns", [])}
    for i, identity in enumerate(camps.ids):
        if campaigns[identity]["status"] == "completed":
            over = max(int(ended[i]), int(camps.opens[i])) + 6 * clock.HOUR
            campaigns[identity]["completed"] = campaigns[identity]["updated"] = clock.moment(min(over, scene.present))


def new_leads(rng: np.random.Generator, owners: np.ndarray, first_serial: int) -> Leads:
    """A lead for each owner."""
    return people.make_leads(rng, owners, uuids(rng, len(owners)), first_serial)


def _write_roster(
    scene: Scene, writers: Writers, world: World, leads: Leads, enrolled: plan.Enrolments | None, progress: Progress
) -> None:
    rng = scene.rng
    writers.put([roster.manual_suppressions(rng, world, scene.present)])
    if enrolled is None:
        return
    state = {c["id"]: c["status"] for c in scene.records["campaigns"]}
    standing = roster.Roster.of(leads, enrolled, world, scene.present)
    stream.enrol(rng, writers, world, standing, [state[i] for i in world.campaigns.ids], progress)
    tenant = {t: at for at, t in enumerate(world.tenants)}
    scheduled = [(tenant[c["tenant_id"]], c["id"]) for c in scene.records["campaigns"] if c["status"] == "scheduled"]
    writers.put([roster.waiting_block(rng, world, leads, scheduled, scene.present)])


def run(
    writers: Writers,
    rng: np.random.Generator,
    tenants: int,
    messages: int,
    days: int,
    present: int,
    progress: Progress,
) -> None:
    """Makes and writes the whole history."""
    low = present - days * clock.DAY
    scene = Scene(rng, low, present, tenants, messages)
    progress("customers", 0, 1)
    world = _found(scene)
    rows = writers.connections["oltp"].execute(blocks("synthetic")["prices"]).fetchall()
    billing.found_contracts(scene, {slug: billing.Price(key, slug, month, year) for key, slug, month, year in rows})
    progress("customers", 1, 1)
    progress("plan", 0, 1)
    planned, enrolled, owners = plan.make(rng, world, messages, low, present)
    leads = new_leads(rng, owners, 46_656)
    _complete(scene, world, planned)
    stream.prepare_partitions(writers, low, present)
    progress("plan", 1, 1)
    writers.put([records("oltp", table, made) for table, made in scene.records.items()])
    writers.put(platform.found_queue(scene, present - clock.DAY))
    writers.put(platform.found_notices(scene))
    writers.drain()
    writers.rows["olap.admin_audit_log"] += platform.record_actions(scene, writers.connections["olap"])
    _write_roster(scene, writers, world, leads, enrolled, progress)
    stream.deliver(rng, writers, world, leads, planned, present, progress)
