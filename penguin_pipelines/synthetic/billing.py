"""Founds contracts: subscriptions, add-ons, their history at the price of the day, and payments.

Not here: the price list, which the migrations bring and which is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from penguin_pipelines.synthetic import clock
from penguin_pipelines.synthetic.entities import Record, Scene
from penguin_pipelines.synthetic.ids import token, uuid

ADDONS = {
    "extra_emails": 10,
    "extra_user": 15,
    "dedicated_ip": 50,
    "extra_workspace": 20,
    "priority_support": 99,
}
"""US dollars a month."""
_MONTH = timedelta(days=30)
_NEWEST_PAYMENTS = 24


@dataclass(frozen=True)
class Price:
    """A plan of the price list; amounts in cents."""

    id: str
    slug: str
    monthly: int
    yearly: int


@dataclass(frozen=True)
class Contract:
    """Where a tenant ended up and which plans it had before."""

    plans: tuple[str, ...]
    interval: str
    status: str
    addons: tuple[tuple[str, int], ...] = ()


CONTRACTS = [
    Contract(("starter", "professional"), "month", "active", (("extra_user", 2),)),
    Contract(("professional", "business"), "year", "active", (("dedicated_ip", 1), ("extra_emails", 3))),
    Contract(("starter",), "month", "past_due", (("extra_emails", 1),)),
    Contract(("professional",), "month", "trialing"),
    Contract(("professional", "starter"), "month", "canceled"),
    Contract(("starter",), "year", "active"),
    Contract(("starter", "professional", "business"), "month", "active", (("priority_support", 1),)),
]
"""Contracts of tenants in turn."""
TRIAL = Contract(("professional",), "month", "canceled")
"""An earlier contract of the first tenant, so that a lapse and a return are in the history."""


def found_contracts(scene: Scene, prices: dict[str, Price]) -> None:
    """Contracts of all tenants."""
    for at, tenant in enumerate(scene.records["tenants"]):
        begin = tenant["created"]
        if at == 0:
            _found_contract(scene, prices, tenant, TRIAL, begin, begin + timedelta(days=12))
            begin += timedelta(days=20)
        contract = CONTRACTS[at % len(CONTRACTS)]
        if contract.status == "trialing":
            begin = scene.ago(3, 9)
        _found_contract(scene, prices, tenant, contract, begin, clock.moment(scene.present))


def _found_contract(
    scene: Scene,
    prices: dict[str, Price],
    tenant: Record,
    contract: Contract,
    begin: datetime,
    until: datetime,
) -> None:
    last = prices[contract.plans[-1]]
    begin, until = begin.replace(microsecond=0), until.replace(microsecond=0)
    step = _MONTH if contract.interval == "month" else timedelta(days=365)
    period = begin + step * ((until - begin) // step)
    canceled = contract.status == "canceled"
    owner = next(m["user_id"] for m in scene.records["tenant_users"] if m["tenant_id"] == tenant["id"])
    subscription = scene.add(
        "subscriptions", id=uuid(scene.rng), tenant_id=tenant["id"], plan_id=last.id, pending_plan_id=None,
        status=contract.status, billing_interval=contract.interval, current_period_start=period,
        current_period_end=period + step, cancel_at_period_end=canceled,
        cancel_reason="too expensive" if canceled else None,
        cancel_date=until - timedelta(days=1) if canceled else None, billing_contact_user_id=owner,
        stripe_subscription_id=f"sub_{token(scene.rng)}", created=begin,
        updated=max(begin, until - timedelta(days=1)) if canceled else period,
    )  # fmt: skip
    addons = [_found_addon(scene, subscription, kind, quantity, begin) for kind, quantity in contract.addons]
    _found_history(scene, prices, subscription, contract, addons, until)
    _found_payments(scene, prices, subscription, contract, until)


def _found_addon(scene: Scene, subscription: Record, kind: str, quantity: int, begin: datetime) -> Record:
    created = scene.after(begin, 5, 25)
    return scene.add(
        "subscription_addons", id=f"si_{token(scene.rng)}", tenant_id=subscription["tenant_id"],
        subscription_id=subscription["id"], addon_type=kind, quantity=quantity, price_monthly=ADDONS[kind],
        stripe_price_id=f"price_{kind}", is_active=True, created=created, updated=created,
    )  # fmt: skip


def revenue(price: Price, interval: str, addons: list[Record]) -> int:
    """Monthly recurring revenue in cents."""
    extra = sum(100 * a["quantity"] * a["price_monthly"] for a in addons)
    return (price.monthly if interval == "month" else round(price.yearly / 12)) + extra


def _found_history(
    scene: Scene,
    prices: dict[str, Price],
    subscription: Record,
    contract: Contract,
    addons: list[Record],
    until: datetime,
) -> None:
    begin, trial = subscription["created"], timedelta(days=14)
    first = prices[contract.plans[0]]
    trialed = contract.status == "trialing" or begin + trial < until

    def note(effective: datetime, price: Price, status: str, reason: str, bought: list[Record]) -> None:
        paid = status in ("active", "past_due")
        scene.add(
            "subscription_changes", id=uuid(scene.rng), tenant_id=subscription["tenant_id"],
            subscription_id=subscription["id"], plan_id=price.id, status=status,
            billing_interval=subscription["billing_interval"],
            mrr_cents=revenue(price, contract.interval, bought) if paid else 0, reason=reason,
            effective=effective,
            created=effective,
        )  # fmt: skip

    note(begin, first, "trialing" if trialed else "active", "created", [])
    if trialed and contract.status != "trialing":
        note(begin + trial, first, "active", "status_change", [])
    bought: list[Record] = []
    for addon in addons:
        addon["created"] = addon["updated"] = max(addon["created"], begin + trial + timedelta(hours=1))
        bought.append(addon)
        note(addon["created"], first, "active", "addon_change", list(bought))
    current = begin + timedelta(days=28)
    for slug in contract.plans[1:]:
        current = min(scene.after(current, 8, 70), until - timedelta(days=2))
        note(current, prices[slug], "active", "plan_change", bought)
    last = prices[contract.plans[-1]]
    if contract.status in ("past_due", "canceled"):
        back = timedelta(days=3) if contract.status == "past_due" else timedelta(days=1)
        note(until - back, last, contract.status, "status_change", bought)


def _found_payments(
    scene: Scene, prices: dict[str, Price], subscription: Record, contract: Contract, until: datetime
) -> None:
    if contract.status == "trialing" or contract is TRIAL:
        return
    yearly = contract.interval == "year"
    step = timedelta(days=365) if yearly else _MONTH
    price = prices[contract.plans[-1]]
    start = subscription["created"]
    periods = [start + step * i for i in range((until - start) // step + 1)][-_NEWEST_PAYMENTS:]
    for at, period in enumerate(periods):
        due = contract.status == "past_due" and at == len(periods) - 1
        amount = (price.yearly if yearly else price.monthly) / 100
        _pay(scene, subscription, amount, "failed" if due else "succeeded", period, step)
    if contract.status == "active" and len(periods) > 1:
        _pay(scene, subscription, -10.0, "refunded", periods[-1], step)


def _pay(scene: Scene, subscription: Record, amount: float, status: str, period: datetime, step: timedelta) -> None:
    at = min(period + timedelta(minutes=5), clock.moment(scene.present))
    scene.add(
        "payments", id=uuid(scene.rng), tenant_id=subscription["tenant_id"],
        subscription_id=subscription["id"],
        initiated_by_user_id=None, amount=f"{amount:.2f}", currency="USD", status=status,
        processed=None if status == "failed" else at, description="Subscription", billing_period_start=period,
        stripe_payment_intent_id=f"pi_{token(scene.rng, 24)}", billing_period_end=period + step, created=at,
    )  # fmt: skip
