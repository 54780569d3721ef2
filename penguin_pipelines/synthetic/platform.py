"""The platform's own traffic: jobs with attempts and dead letters, health samples, notices, system mail,
audit entries.

Not here: contracts (billing.py) and customers' mail (traffic.py). The queues themselves come with the
migrations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.synthetic import clock
from penguin_pipelines.synthetic.entities import Record, Scene
from penguin_pipelines.synthetic.ids import token, uuid
from penguin_pipelines.synthetic.write import Block, records

JOBS = [
    ("email-sending", "email.send", 100, 30, 3, 45), ("email-processing", "inbound.parse", 75, 60, 3, 14),
    ("bounce:process", "bounce", 75, 60, 5, 6), ("warmup:process", "warmup.send", 75, 120, 3, 10),
    ("webhook:process", "tracking", 100, 15, 5, 8), ("notification-delivery", "in-app", 50, 30, 3, 4),
    ("analytics-processing", "daily-aggregate", 50, 300, 3, 5),
    ("infrastructure-monitoring", "ip.reputation", 100, 300, 3, 3),
    ("billing-sync", "stripe.pull", 100, 60, 5, 2), ("content-archival", "archive", 200, 3600, 3, 1),
    ("import-export", "import.contacts", 150, 3600, 3, 1), ("maintenance", "partitions", 250, 3600, 1, 1),
]  # fmt: skip
"""Queue, job type, priority, timeout in seconds, attempts, share."""
ERRORS = ["connection reset by peer", "timeout while waiting for the SMTP banner", "provider answered 503",
          "lock timeout", "mailbox authentication failed"]  # fmt: skip
ERROR_CLASSES = ["ConnectionResetError", "TimeoutError", "ProviderUnavailable", "LockTimeout", "AuthenticationFailed"]
"""Class of each."""
_SHARES = {"completed": 84, "failed": 5, "queued": 5, "cancelled": 2, "expired": 1, "processing": 2,
           "migrated_to_redis": 1}  # fmt: skip
STATUSES = [status for status, share in _SHARES.items() for _ in range(share)]
"""States of a hundred jobs."""
_SAMPLE_EVERY = 5 * clock.MINUTE
_WORKERS = 4


def found_queue(scene: Scene, sampled_from: int) -> list[Block]:
    """Jobs of the last weeks, their logs, dead letters, and health samples since a moment."""
    jobs: list[Record] = []
    logs: list[Record] = []
    letters: list[Record] = []
    share = np.array([j[5] for j in JOBS], dtype=float)
    count = max(len(STATUSES), min(20_000, scene.messages // 80))
    kinds = scene.rng.choice(len(JOBS), count, p=share / share.sum())
    for at, kind in enumerate(kinds.tolist()):
        job = _found_job(scene, JOBS[kind], STATUSES[at % len(STATUSES)])
        jobs.append(job)
        logs += _found_logs(scene, job, JOBS[kind][3])
        if job["status"] == "failed":
            letters.append(_found_letter(scene, job, len(letters)))
    logs.sort(key=lambda entry: entry["created"])
    return [records("queue", "jobs", jobs), records("queue", "job_logs", logs),
            records("queue", "dead_letter_jobs", letters),
            records("queue", "queue_health", _found_samples(scene, sampled_from))]  # fmt: skip


def _found_job(scene: Scene, kind: tuple[str, str, int, int, int, int], status: str) -> Record:
    queue, job_type, priority, timeout, attempts, _ = kind
    tenant = (
        None if queue in ("maintenance", "infrastructure-monitoring") else scene.pick(scene.records["tenants"])["id"]
    )
    waiting = status in ("queued", "processing", "migrated_to_redis")
    queued = scene.ago(0.0005, 0.05) if waiting else scene.ago(0.1, 28 if status == "failed" else 6.9)
    tried = attempts if status == "failed" else 0 if status in ("queued", "cancelled", "expired") else 1
    if status in ("completed", "processing") and attempts > 1 and scene.rng.random() < 0.08:
        tried = 2
    wait = timedelta(seconds=float(scene.rng.lognormal(1.2, 1.3)))
    took = timedelta(seconds=float(min(scene.rng.lognormal(0.5, 1.0), timeout)))
    began = queued + wait + timedelta(seconds=60 * (2 ** max(tried - 1, 0) - 1))
    present = clock.moment(scene.present)
    started = min(began, present) if tried else None
    ended = min(began + took, present)
    delayed = status == "queued" and scene.rng.random() < 0.3
    return {
        "id": uuid(scene.rng), "queue_name": queue, "job_type": job_type, "status": status,
        "priority": priority,
        "payload": {"ref": token(scene.rng, 12)}, "result": {"ok": True} if status == "completed" else None,
        "attempt_count": tried, "max_attempts": attempts,
        "run": present + timedelta(minutes=30) if delayed else queued, "queued": queued, "started": started,
        "completed": ended if status == "completed" else None,
        "failed": ended if status == "failed" else None,
        "processed": queued + timedelta(seconds=1) if status not in ("queued", "cancelled",
        "expired") else None,
        "expires": queued + timedelta(hours=1) if status == "expired" else None,
        "heartbeat": present - timedelta(seconds=20) if status == "processing" else None,
        "worker_id": f"worker-{int(scene.rng.integers(_WORKERS))}" if tried else None,
        "lease_token": uuid(scene.rng) if status == "processing" else None,
        "last_error_message": scene.pick(ERRORS) if status == "failed" or tried > 1 else None,
        "progress_percentage": 100 if status == "completed" else 0, "tenant_id": tenant,
        "correlation_id": token(scene.rng, 16), "idempotency_key": token(scene.rng, 20), "created": queued,
        "updated": ended if tried else queued,
    }  # fmt: skip


def _found_logs(scene: Scene, job: Record, timeout: int) -> list[Record]:
    """A line for each attempt."""
    lines = []
    end: datetime = job["completed"] or job["failed"] or job["started"] or job["queued"]
    for attempt in range(job["attempt_count"], 0, -1):
        final = attempt == job["attempt_count"]
        running = final and job["status"] in ("processing", "migrated_to_redis")
        took = timedelta(seconds=float(min(scene.rng.lognormal(0.5, 1.0), timeout)))
        start = max(end - took, job["queued"])
        outcome = "attempting" if running else "success" if final and job["status"] == "completed" else \
            "failed" if final else "retry"  # fmt: skip
        lines.append({
            "job_id": job["id"], "tenant_id": job["tenant_id"],
            "log_level": {"failed": "error", "retry": "warning"}.get(outcome, "info"), "status": outcome,
            "message": {"failed": "Attempts used up", "retry": "Attempt failed, will retry"}.get(outcome,
            "Done")
            if not running else "Started",
            "context": _found_context(job, attempt, start, outcome), "attempt_number": attempt,
            "worker_id": job["worker_id"],
            "duration_ms": None if running else int((end - start).total_seconds() * 1000),
            "memory_usage_mb": int(scene.rng.integers(60, 240)), "started": start,
            "finished": None if running else end,
            "created": start if running else end,
        })  # fmt: skip
        end = max(start - timedelta(seconds=60 * 2 ** (attempt - 2)) if attempt > 1 else start, job["queued"])
    return lines


def _found_context(job: Record, attempt: int, start: datetime, outcome: str) -> dict[str, Any] | None:
    """What the engine writes beside a line: the queue, what was to run since when, and why it failed."""
    if outcome == "attempting":
        return None
    due = job["queued"] if attempt == 1 else max(start - timedelta(seconds=2), job["queued"])
    about = {"queue": job["queue_name"], "type": job["job_type"], "correlation_id": job["correlation_id"],
             "run": due.isoformat()}  # fmt: skip
    if outcome != "success":
        about["error_class"] = ERROR_CLASSES[ERRORS.index(job["last_error_message"])]
    return about


def _found_letter(scene: Scene, job: Record, number: int) -> Record:
    resolved = number % 3 == 0
    when = min(job["failed"] + timedelta(hours=5), clock.moment(scene.present)) if resolved else None
    return {
        "id": uuid(scene.rng), "original_job_id": job["id"], "tenant_id": job["tenant_id"],
        "queue_name": job["queue_name"],
        "job_type": job["job_type"], "final_attempt": job["attempt_count"],
        "failure_reason": job["last_error_message"],
        "error_details": {"class": "TransientError"}, "payload": job["payload"],
        "failure_timestamp": job["failed"],
        "last_retry": when, "retry_count": 1 if resolved else 0, "is_resolved": resolved, "resolved": when,
        "resolved_by": scene.records["users"][0]["id"] if resolved else None,
        "resolution_notes": "Replayed after the provider recovered." if resolved else None,
        "created": job["failed"],
    }  # fmt: skip


def _found_samples(scene: Scene, sampled_from: int) -> list[Record]:
    """One sample of every queue each five minutes; one queue had a bad hour."""
    out = []
    for time in range(sampled_from, scene.present, _SAMPLE_EVERY):
        for at, job in enumerate(JOBS):
            bad = at == 0 and scene.present - 7 * clock.HOUR < time < scene.present - 6 * clock.HOUR
            pending = int(scene.rng.poisson(1500 if bad else job[5] / 3))
            out.append({
                # Half a minute past, where no live sample falls: a queue has one sample per moment.
                "queue_name": job[0], "sampled": clock.moment(time - time % clock.MINUTE + clock.MINUTE // 2),
                "pending_jobs": pending,
                "redis_depth": int(pending * 0.2), "processing_jobs": int(scene.rng.integers(0, 6)),
                "failed_jobs_24h": int(scene.rng.poisson(2)), "dead_letter_open": int(scene.rng.poisson(1)),
                "oldest_pending_seconds": 600 if bad else min(pending, 40), "alerts_generated": int(bad),
                "health_status": "critical" if bad else "healthy",
            })  # fmt: skip
    return out


def found_notices(scene: Scene) -> list[Block]:
    """System mail, notifications and the rules of retention."""
    mails, notices = [], []
    for member in scene.records["tenant_users"]:
        mails.append(_mail(scene, member, "WELCOME_EMAIL", "Welcome to PenguinMails", member["created"], "delivered"))
        for _ in range(3):
            kind, status = scene.pick([("INVOICE_READY", "delivered"), ("QUOTA_WARNING", "sent"),
                ("PASSWORD_RESET", "bounced"),
                                       ("SECURITY_ALERT", "delivered"),
                                       ("SYSTEM_MAINTENANCE", "failed")])  # fmt: skip
            mails.append(_mail(scene, member, kind, kind.replace("_", " ").capitalize(), scene.ago(0.1, 60), status))
        for _ in range(4):
            notices.append(_notice(scene, member))
    mails[-1].update(status="queued", sent=None, delivered=None, bounced=None, failed=None)
    notices[0]["user_id"] = None
    policies = [_policy(scene, None, kind, days) for kind, days in
                (("email", 2555), ("attachment", 365), ("notification", 90), ("export", 30),
                ("backup", 35))]  # fmt: skip
    policies.append(_policy(scene, scene.records["tenants"][0]["id"], "email", 1825))
    return [records("content", "transactional_emails", mails), records("content", "notifications", notices),
            records("content", "retention_policies", policies)]  # fmt: skip


def _mail(scene: Scene, member: Record, kind: str, subject: str, queued: datetime, status: str) -> Record:
    sent = min(queued + timedelta(seconds=4), clock.moment(scene.present))
    left = status not in ("queued", "failed")
    return {
        "id": uuid(scene.rng), "user_id": member["user_id"], "tenant_id": member["tenant_id"], "type": kind,
        "payload": {"template": kind.lower()}, "template_variables": {"name": "customer"},
        "recipient_email": member["email"], "subject": subject, "status": status, "queued": queued,
        "sent": sent if left else None, "delivered": sent if status == "delivered" else None,
        "bounced": sent if status == "bounced" else None, "failed": sent if status == "failed" else None,
        "last_error_message": scene.pick(ERRORS) if status == "failed" else None,
        "retry_count": 3 if status == "failed" else 0, "tracking_id": token(scene.rng, 24), "created": queued,
        "updated": sent,
    }  # fmt: skip


def _notice(scene: Scene, member: Record) -> Record:
    kind = scene.pick(["NEW_MESSAGE", "CAMPAIGN_COMPLETED", "DOMAIN_VERIFIED", "SECURITY_LOGIN", "QUOTA_NEARING"])
    created = scene.ago(0.05, 60)
    read = scene.after(created, 0.01, 4) if scene.rng.random() < 0.6 else None
    return {
        "id": uuid(scene.rng), "user_id": member["user_id"], "tenant_id": member["tenant_id"], "type": kind,
        "title": kind.replace("_", " ").capitalize(), "message": "Open the dashboard for details.",
        "channel": scene.pick(["in_app", "in_app", "email", "push"]),
        "priority": scene.pick(["low", "normal", "high"]),
        "is_read": read is not None, "read": read, "expires": created + timedelta(days=90),
        "action_url": "/dashboard",
        "action_text": "Open", "deleted": None, "created": created, "updated": read or created,
    }  # fmt: skip


def _policy(scene: Scene, tenant: str | None, kind: str, days: int) -> Record:
    created = clock.moment(scene.low)
    return {
        "id": uuid(scene.rng), "tenant_id": tenant, "content_type": kind, "retention_days": days,
        "auto_archive": kind == "email", "auto_delete": True, "priority": 10 if tenant else 0,
        "created": created,
        "updated": created,
    }  # fmt: skip


def record_actions(scene: Scene, olap: psycopg.Connection) -> int:
    """Entries of the audit log, through the one function that writes it. Gives their number."""
    staff = uuid(scene.rng)
    entries: list[tuple[str, str, Record, dict[str, Any] | None, dict[str, Any] | None]] = [
        ("session_start", "session", scene.records["users"][0], None, None)
    ]
    for row in scene.records.get("subscription_changes", []):
        if row["reason"] == "plan_change":
            entries.append(("billing_update", "subscription", row, {"mrr_cents": 0}, {"mrr_cents": row["mrr_cents"]}))
    for row in scene.records.get("companies", []):
        if row["status"] == "archived":
            entries.append(("company_status_change", "company", row, {"status": "active"}, {"status": "archived"}))
    entries += [("role_assignment", "user", u, None, {"role": "manager"}) for u in scene.records["tenant_users"][1:3]]
    for action, kind, row, old, new in entries:
        olap.execute(blocks("synthetic")["record_action"], {
            "admin": staff, "action": action, "kind": kind, "resource": row.get("id") or row.get("user_id"),
            "tenant": row.get("tenant_id"), "old": Jsonb(old) if old else None,
            "new": Jsonb(new) if new else None,
            "created": max(row.get("effective") or scene.ago(1, 20),
            clock.moment(scene.present - 300 * clock.DAY)),
        })  # fmt: skip
    return len(entries)
