"""The companies that send, as columns: what traffic needs to know of tenants, mailboxes and campaigns.

Here: the columns and how to read them back from the tiers. Not here: founding new ones (entities.py,
fleet.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import psycopg
from numpy.typing import NDArray

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import clock
from penguin_pipelines.synthetic.ids import objects

Ints = NDArray[np.int64]
Texts = NDArray[np.object_]

SLOTS = 4
"""Most e-mail steps that a campaign has."""


def ints(values: list[int]) -> Ints:
    """Column of numbers."""
    return np.array(values, dtype=np.int64)


@dataclass
class Campaigns:
    """Campaigns that have sent or will send. `waits[c, s]` is the pause before step s, `closes` ends all
    sending."""

    ids: Texts
    company: Ints
    opens: Ints
    enrols_until: Ints
    closes: Ints
    weight: NDArray[np.float64]
    step_ids: Texts
    step_count: Ints
    waits: Ints


@dataclass
class World:
    """Numbers point from column to column: a mailbox names its domain, a domain its company, a company its
    tenant."""

    tenants: Texts
    companies: Texts
    company_tenant: Ints
    company_zone: Ints
    domains: Texts
    domain_names: Texts
    domain_ips: list[list[str]]
    boxes: Texts
    box_email: Texts
    box_domain: Ints
    box_company: Ints
    warmed_from: Ints
    campaigns: Campaigns
    box_first: Ints = field(init=False)
    box_count: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.box_count = np.bincount(self.box_company, minlength=len(self.companies)).astype(np.int64)
        self.box_first = np.cumsum(self.box_count) - self.box_count

    def zone_offset(self, company: Ints) -> Ints:
        """Distance of local time from UTC."""
        return clock.OFFSETS[self.company_zone[company]]


def zone_of(company_id: str) -> int:
    """Zone of a workspace, from its id, so that it needs no column of its own."""
    return int(company_id[-4:], 16) % len(clock.OFFSETS)


def empty_campaigns() -> Campaigns:
    """No campaign at all."""
    none = ints([])
    shape = np.empty((0, SLOTS))
    return Campaigns(
        objects([]), none, none, none, none, np.array([]), shape.astype(object), none, shape.astype(np.int64)
    )


def _numbers(ids: list[str]) -> dict[str, int]:
    return {value: at for at, value in enumerate(ids)}


def read(oltp: psycopg.Connection, low: int, high: int) -> World:
    """The world as the OLTP tier has it; campaigns that may send do so between low and high."""
    queries = blocks("synthetic")
    tenants = [r[0] for r in oltp.execute(queries["tenants"])]
    companies = oltp.execute(queries["companies"]).fetchall()
    domains = oltp.execute(queries["domains"]).fetchall()
    by_tenant, by_company = _numbers(tenants), _numbers([c[0] for c in companies])
    by_domain = _numbers([d[0] for d in domains])
    boxes = sorted(oltp.execute(queries["mailboxes"]).fetchall(), key=lambda b: by_company[b[2]])
    return World(
        tenants=objects(tenants),
        companies=objects([c[0] for c in companies]),
        company_tenant=ints([by_tenant[c[1]] for c in companies]),
        company_zone=ints([zone_of(c[0]) for c in companies]),
        domains=objects([d[0] for d in domains]),
        domain_names=objects([d[1] for d in domains]),
        domain_ips=[d[2] for d in domains],
        boxes=objects([b[0] for b in boxes]),
        box_email=objects([b[1] for b in boxes]),
        box_domain=ints([by_domain[b[3]] for b in boxes]),
        box_company=ints([by_company[b[2]] for b in boxes]),
        warmed_from=ints([-1 if b[4] is None else clock.micros(b[4]) for b in boxes]),
        campaigns=_read_campaigns(oltp, by_company, {b[2] for b in boxes}, low, high),
    )


def _read_campaigns(
    oltp: psycopg.Connection, by_company: dict[str, int], can_send: set[str], low: int, high: int
) -> Campaigns:
    rows = [r for r in oltp.execute(blocks("synthetic")["campaigns"]) if r[1] in can_send]
    if not rows:
        return empty_campaigns()
    n = len(rows)
    step_ids = np.full((n, SLOTS), "", dtype=object)
    waits = np.zeros((n, SLOTS), dtype=np.int64)
    counts = []
    for at, row in enumerate(rows):
        steps = row[2][:SLOTS]
        counts.append(len(steps))
        step_ids[at, : len(steps)] = steps
        waits[at, 1:] = 72 * clock.HOUR
    full = np.full(n, high, dtype=np.int64)
    return Campaigns(
        objects([r[0] for r in rows]), ints([by_company[r[1]] for r in rows]),
        np.full(n, low, dtype=np.int64),
        full, full.copy(), np.ones(n), step_ids, ints(counts), waits,
    )  # fmt: skip
