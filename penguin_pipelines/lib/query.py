"""Runs one read-only query on the warehouse as an analyst or as a tenant would.

Not here: printing (cli) and the queries themselves.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib import db, services
from penguin_pipelines.settings import Settings, child_environment

ROLES = {"analyst": "pm_analyst", "tenant": "pm_tenant", "staff": "pm_staff"}
TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Answer:
    """Column names and rows of a result."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


def role(name: str, tenant: str | None) -> str:
    """Database role for a reader; naming a tenant makes it one."""
    chosen = "tenant" if tenant and name == "analyst" else name
    if chosen not in ROLES:
        raise UnknownName.of("role", name, ROLES)
    return ROLES[chosen]


def ask(url: str, query: str, *, reader: str = "analyst", tenant: str | None = None) -> Answer:
    """The answer of one statement in a READ ONLY transaction; a tenant is set for that transaction alone."""
    with db.connect(url, "olap", role=role(reader, tenant)) as connection:
        connection.read_only = True
        try:
            connection.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(TIMEOUT_MS)))
            if tenant:
                connection.execute(sql.SQL("set local app.current_tenant_id = {}").format(sql.Literal(_uuid(tenant))))
            cursor = connection.execute(cast("LiteralString", query))
            if cursor.description is None:
                return Answer((), ())
            return Answer(tuple(c.name for c in cursor.description), cursor.fetchall())
        except psycopg.Error as e:
            hint = f" {e.diag.message_hint}" if e.diag.message_hint else ""
            raise PenguinError(f"The warehouse refused the query: {e.diag.message_primary or e}.{hint}") from None


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise PenguinError(
            f"Tenant {text!r} is not a UUID; list tenants with: "
            "penguin sql 'select tenant_id, name from marts.dim_tenants'"
        ) from None


def shell(settings: Settings, url: str, reader: str, tenant: str | None) -> int:
    """Opens psql in the reader's role; returns its exit code."""
    psql = services.find_postgres(settings).bin / "psql"
    options = [f"-c role={role(reader, tenant)}", "-c default_transaction_read_only=on"]
    if tenant:
        options.append(f"-c app.current_tenant_id={_uuid(tenant)}")
    parts = conninfo_to_dict(url)
    # The password travels in the environment: an argument would show it to every user of the machine.
    environment = child_environment(PGOPTIONS=" ".join(options), PGPASSWORD=str(parts.pop("password", "")))
    return subprocess.run([str(psql), make_conninfo("", **parts)], env=environment, check=False).returncode
