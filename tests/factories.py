"""Builds one valid row with its parents; a test names only what matters to it.

`make(connection, "campaigns", status="paused")` inserts and gives the row as a dict. The connection decides the role.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Row = dict[str, Any]
Recipe = Callable[[psycopg.Connection, Row], Any]

SENT = datetime(2026, 1, 15, 12, tzinfo=UTC)


def now() -> datetime:
    """The present, where a row must lie in a partition that exists."""
    return datetime.now(UTC)


def _address(_: psycopg.Connection, __: Row) -> str:
    return f"{secrets.token_hex(4)}@example.org"


def _word(_: psycopg.Connection, __: Row) -> str:
    return secrets.token_hex(6)


def _id(_: psycopg.Connection, __: Row) -> Any:
    return uuid4()


def _the(value: Any) -> Recipe:
    return lambda _, __: value


def _now(_: psycopg.Connection, __: Row) -> datetime:
    return now()


def _parent(table: str, column: str = "id", **given: Any) -> Recipe:
    """A parent in the same tenant."""

    def build(connection: psycopg.Connection, row: Row) -> Any:
        shared = {"tenant_id": row["tenant_id"]} if "tenant_id" in row and "tenant_id" in RECIPES[table] else {}
        return make(connection, table, **shared, **given)[column]

    return build


def _event(**more: Recipe) -> Mapping[str, Recipe]:
    return {"tenant_id": _id, "storage_key": _word, "event_key": _word, **more}


RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "tenants": {"name": _word},
    "users": {"email": _address},
    "tenant_users": {"tenant_id": _parent("tenants"), "user_id": _parent("users"), "roles": _the(["owner"])},
    "companies": {"tenant_id": _parent("tenants"), "name": _word},
    "domains": {
        "tenant_id": _parent("tenants"),
        "company_id": _parent("companies"),
        "domain": lambda *_: f"{secrets.token_hex(4)}.org",
    },
    "email_accounts": {"tenant_id": _parent("tenants"), "domain_id": _parent("domains"), "email": _address},
    "leads": {"tenant_id": _parent("tenants"), "email": _address},
    "templates": {"tenant_id": _parent("tenants"), "name": _word},
    "campaigns": {"tenant_id": _parent("tenants"), "company_id": _parent("companies"), "name": _word},
    "campaign_sequence_steps": {
        "tenant_id": _parent("tenants"),
        "campaign_id": _parent("campaigns"),
        "template_id": _parent("templates"),
        "step_order": _the(1),
        "step_type": _the("email"),
    },
    "campaign_leads": {
        "tenant_id": _parent("tenants"),
        "campaign_id": _parent("campaigns"),
        "lead_id": _parent("leads"),
    },
    "suppression_list": {"email": _address, "reason": _the("manual")},
    "inbox_message_refs": {
        "tenant_id": _parent("tenants"),
        "email_account_id": _id,
        "direction": _the("outbound"),
        "from_email": _address,
        "to_email": _address,
    },
    "plans": {"name": _word, "slug": _word},
    "subscriptions": {
        "tenant_id": _parent("tenants"),
        "plan_id": _parent("plans"),
        "status": _the("active"),
        "current_period_start": _the(SENT),
        "current_period_end": _the(SENT + timedelta(days=30)),
    },
    "vps_instances": {},
    "smtp_ip_addresses": {"vps_instance_id": _parent("vps_instances"), "ip_address": _word},
    "content_objects": {"storage_key": _word, "tenant_id": _id, "object_kind": _the("email")},
    "email_messages": {
        "storage_key": _word,
        "tenant_id": _id,
        "direction": _the("outbound"),
        "from_email": _address,
        "to_email": _address,
        "sent": _the(SENT),
    },
    "email_opens": _event(opened=_now),
    "email_clicks": _event(clicked=_now, clicked_url=_the("https://example.org/")),
    "email_bounces": _event(bounced=_now, bounce_type=_the("hard")),
    "email_replies": _event(replied=_now),
    "notifications": {
        "tenant_id": _id,
        "type": _the("NEW_MESSAGE"),
        "title": _word,
        "message": _word,
    },
    "jobs": {"queue_name": _the("email-sending"), "job_type": _word, "payload": _the(Jsonb({}))},
    "job_logs": {"job_id": _id, "message": _word, "attempt_number": _the(1)},
    "dead_letter_jobs": {
        "original_job_id": _id,
        "queue_name": _the("email-sending"),
        "job_type": _word,
        "final_attempt": _the(3),
        "failure_reason": _word,
        "payload": _the(Jsonb({})),
    },
    "marts.campaign_analytics": {
        "tenant_id": _id,
        "company_id": _id,
        "campaign_id": _id,
        "activity_date": lambda *_: now().date(),
    },
}


def make(connection: psycopg.Connection, table: str, **given: Any) -> Row:
    """Inserts one row and gives it back with everything that the database filled in."""
    row: Row = {}
    for column, build in RECIPES[table].items():
        row[column] = given[column] if column in given else build(connection, row)
    row |= given
    with connection.cursor(row_factory=dict_row) as cursor:
        names = sql.SQL(", ").join(map(sql.Identifier, row))
        values = sql.SQL(", ").join(sql.Placeholder() * len(row))
        target = sql.Identifier(*table.split("."))
        body = sql.SQL("({}) values ({})").format(names, values) if row else sql.SQL("default values")
        cursor.execute(sql.SQL("insert into {} {} returning *").format(target, body), list(row.values()))
        made = cursor.fetchone()
    assert made is not None
    return made
