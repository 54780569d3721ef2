"""Founds what sends: domains, mailboxes, warmup plans, servers, their addresses, who uses them and block
lists.

Not here: workspaces and campaigns (entities.py).
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from penguin_pipelines.synthetic import clock, people
from penguin_pipelines.synthetic.entities import Record, Scene
from penguin_pipelines.synthetic.ids import token, uuid

BOXES_PER_DOMAIN = 4
PLANS = {"standard": (42, 10, 500), "aggressive": (28, 20, 1000), "conservative": (56, 5, 300)}
"""Warmup plans: days, first and last daily volume."""
PAUSES = ["bounce_rate", "spam_rate", "manual", "account"]
BLACKLISTS = [
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "b.barracudacentral.org",
    "dnsbl.sorbs.net",
    "psbl.surriel.com",
]
LOCALS = ["sales", "hello", "team", "contact", "growth", "info"]


def found_domains(scene: Scene) -> None:
    """Enough verified domains for the mailboxes, and beside them some pending and failed ones."""
    companies = [c for c in scene.records["companies"] if c["status"] == "active"]
    # Thirty mails on each working day of the history are much for one mailbox.
    boxes = math.ceil(scene.messages / max(scene.days * 5 / 7 * 30, 1) / len(companies))
    each = max(1, math.ceil(max(boxes, 3) / BOXES_PER_DOMAIN))
    for at, company in enumerate(companies):
        extra = {0: ["pending"], 1: ["failed"]}.get(at % 4, [])
        for number, status in enumerate(["verified"] * each + extra):
            _found_domain(scene, company, number, status)


def _found_domain(scene: Scene, company: Record, number: int, status: str) -> None:
    created = scene.after(company["created"], 0.1, 8) if status == "verified" else scene.ago(0.5, 6)
    name = f"{company['workspace_name']}-{people.base36(len(scene.records.get('domains', [])))}.example"
    verified = scene.after(created, 0.05, 2) if status == "verified" else None
    scene.add(
        "domains", id=uuid(scene.rng), tenant_id=company["tenant_id"], company_id=company["id"], domain=name,
        verification_status=status, dns_records=_dns(name, status), is_primary=number == 0, verified=verified,
        mailu_domain=f"mail.{name}" if verified else None, dns_ttl_observed=scene.pick([300, 3600, 14400]),
        dns_last_verified=scene.after(created, 0.05, 3),
        dns_verification_error="DKIM record not found" if status == "failed" else None,
        dns_verification_attempts={"verified": 1, "pending": 2, "failed": 9}[status], created=created,
        updated=verified or created,
    )  # fmt: skip


def _dns(name: str, status: str) -> dict[str, Any]:
    ok = status == "verified"
    return {
        "SPF": {"expected": "v=spf1 include:spf.penguinmails.example -all",
                "observed": "v=spf1 include:spf.penguinmails.example -all" if ok else None, "pass": ok},
        "DKIM": {"expected": f"pm1._domainkey.{name}", "observed": f"pm1._domainkey.{name}" if ok else None,
        "pass": ok},
        "DMARC": {"expected": "v=DMARC1; p=none", "observed": "v=DMARC1; p=none", "pass": True},
        "MX": {"expected": f"10 mail.{name}", "observed": f"10 mail.{name}" if ok else None, "pass": ok},
    }  # fmt: skip


def found_mailboxes(scene: Scene) -> None:
    """Mailboxes of the verified domains, a few of which cannot log in or were given up, and their warmup."""
    serial = 0
    for domain in scene.records["domains"]:
        if domain["verification_status"] != "verified":
            continue
        for number in range(BOXES_PER_DOMAIN):
            serial += 1
            status = {2: "authentication_failed", 5: "suspended", 9: "deleted"}.get(serial % 23, "active")
            if number == 0:
                status = "active"
            _found_mailbox(scene, domain, f"{LOCALS[number % len(LOCALS)]}{number}@{domain['domain']}", status)


def _found_mailbox(scene: Scene, domain: Record, email: str, status: str) -> None:
    created = scene.after(domain["verified"], 0, 3)
    box = scene.add(
        "email_accounts", id=uuid(scene.rng), tenant_id=domain["tenant_id"], company_id=domain["company_id"],
        domain_id=domain["id"], email=email, provider="mailu",
        vault_key_path=f"secret/mailboxes/{token(scene.rng)}",
        imap_settings={"host": f"mail.{domain['domain']}", "port": 993, "tls": True},
        smtp_settings={"host": f"mail.{domain['domain']}", "port": 587, "tls": True}, status=status,
        daily_limit=scene.pick([30, 40, 50, 50, 80, 120]), daily_count=0, last_warmed=None, created=created,
        updated=created,
    )  # fmt: skip
    if scene.rng.random() < 0.85:
        _found_warmup(scene, box)


def _found_warmup(scene: Scene, box: Record) -> None:
    kind = scene.pick(["standard", "standard", "aggressive", "conservative"])
    total, first, last = PLANS[kind]
    draw = scene.rng.random()
    started = max(scene.ago(1, max(90.0, scene.days)), box["created"])
    elapsed = (clock.moment(scene.present) - started).days
    day = max(0, min(total, elapsed - int(scene.rng.integers(0, 4))))
    status = "completed" if day >= total else "paused" if draw < 0.1 else "pending" if draw < 0.14 else "active"
    if box["status"] != "active" and status == "active":
        status = "paused"
    done = min(started + timedelta(days=total + 2), clock.moment(scene.present)) if status == "completed" else None
    reason = scene.pick(PAUSES) if box["status"] == "active" else "account"
    scene.add(
        "warmup_schedules", id=uuid(scene.rng), tenant_id=box["tenant_id"], email_account_id=box["id"],
        schedule_name=f"{kind.capitalize()} {total} days", schedule_type=kind, total_days=total,
        current_day=0 if status == "pending" else day, start_volume=first, target_volume=last, status=status,
        paused_reason=reason if status == "paused" else None,
        started=None if status == "pending" else started,
        completed=done, created=started, updated=done or clock.moment(scene.present - clock.DAY // 2),
    )  # fmt: skip
    if status != "pending":
        box["last_warmed"] = done or clock.moment(scene.present - clock.DAY // 2)


def found_servers(scene: Scene) -> dict[str, list[str]]:
    """Servers with four addresses each, given out to domains. Gives the addresses that each domain sends
    from."""
    domains = [d for d in scene.records["domains"] if d["verification_status"] == "verified"]
    used = max(2, math.ceil(len(domains) / 5))
    oldest = min(d["created"] for d in domains)
    states = ["warmed"] * used + ["warming", "available", "degraded", "burned", "quarantined"]
    for at, state in enumerate(states):
        if at % 4 == 0:
            _found_server(scene, at // 4, oldest)
        _found_address(scene, at, state)
    found = scene.records["smtp_ip_addresses"]
    carried: dict[str, list[str]] = {}
    for at, domain in enumerate(domains):
        chosen = [found[at % used]] + ([found[(at + 1) % used]] if at % 3 == 0 else [])
        carried[domain["id"]] = [ip["id"] for ip in chosen]
        for ip in chosen:
            _assign(scene, domain, ip, "active")
        if at % 6 == 0:
            _assign(scene, domain, found[used + 2], "expired")
    return carried


def _found_server(scene: Scene, number: int, oldest: datetime) -> None:
    created = scene.before(oldest, 10, 60)
    retired = number % 5 == 4
    start = scene.ago(1, 28)
    cost = scene.pick([9.99, 14.99, 24.99])
    scene.add(
        "vps_instances", id=uuid(scene.rng), hostwinds_instance_id=f"hw-{token(scene.rng, 8)}",
        ip_address=f"198.51.100.{number % 254 + 1}", region=scene.pick(["us-east", "us-west", "eu-central"]),
        status="scheduled_decommission" if retired else "active", monthly_cost=cost, approximate_cost=cost,
        hostwinds_billing_day=min(start.day, 28), current_billing_period_start=start,
        current_billing_period_end=start + timedelta(days=30),
        decommission_scheduled_for=clock.moment(scene.present + 20 * clock.DAY) if retired else None,
        created=created, updated=start,
    )  # fmt: skip


def _found_address(scene: Scene, number: int, status: str) -> None:
    server = scene.records["vps_instances"][-1]
    score = {"warmed": 88, "warming": 80, "available": 90, "degraded": 61, "burned": 22, "quarantined": 44}[status]
    score += int(scene.rng.integers(-6, 7))
    state = "good" if score >= 85 else "fair" if score >= 70 else "poor" if score >= 50 else "critical"
    checked = scene.ago(0.01, 0.2)
    scene.add(
        "smtp_ip_addresses", id=uuid(scene.rng), vps_instance_id=server["id"],
        ip_address=f"203.0.{113 + number // 254}.{number % 254 + 1}", status=status, reputation_state=state,
        reputation_score=score, approximate_cost=4.99, last_reputation_check=checked, assigned_count=0,
        provider_blacklist_status={n: {"listed": score < 50 and n.startswith("zen")} for n in BLACKLISTS},
        created=scene.after(server["created"], 0, 3), updated=checked,
    )  # fmt: skip


def _assign(scene: Scene, domain: Record, ip: Record, status: str) -> None:
    assigned = max(domain["created"], ip["created"])
    over = scene.after(assigned, 10, 20) if status == "expired" else None
    scene.add(
        "domain_ip_assignments", id=uuid(scene.rng), tenant_id=domain["tenant_id"], domain_id=domain["id"],
        smtp_ip_address_id=ip["id"], status=status,
        warmup_state="warmed" if status == "active" else "unwarmed",
        assigned=assigned, expires=over, last_sent=None, created=assigned, updated=over or assigned,
    )  # fmt: skip


def check_blacklists(scene: Scene) -> None:
    """Look-ups of every address and of some domains, a few of them listed and some delisted again."""
    for ip in scene.records["smtp_ip_addresses"]:
        for name in BLACKLISTS[:3]:
            bad = ip["reputation_state"] in ("poor", "critical") and name == BLACKLISTS[0]
            _check(scene, "ip", ip["ip_address"], name, bad or scene.rng.random() < 0.05, ip=ip["id"])
    for at, domain in enumerate(scene.records["domains"]):
        if at % 2 == 0:
            _check(scene, "domain", domain["domain"], "dbl.spamhaus.org", scene.rng.random() < 0.1, domain=domain)


def _check(
    scene: Scene,
    kind: str,
    value: str,
    name: str,
    listed: bool,
    *,
    ip: str | None = None,
    domain: Record | None = None,
) -> None:
    since = scene.ago(3, 40) if listed else None
    gone = listed and scene.rng.random() < 0.4
    checked = scene.ago(0.01, 2)
    scene.add(
        "blacklist_checks", id=uuid(scene.rng), tenant_id=domain["tenant_id"] if domain else None,
        check_type=kind,
        smtp_ip_address_id=ip, domain_id=domain["id"] if domain else None, check_value=value,
        blacklist_name=name,
        is_listed=listed and not gone, listing_reason="Unsolicited mail received" if listed else None,
        listed_since=since, delisted=checked if gone else None, checked=checked, created=checked,
    )  # fmt: skip
