"""Through the wall: what a tenant, a worker, staff and an analyst try, as real sessions of their roles."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import make
from psycopg import sql
from servers import Databases, Server

from penguin_pipelines.lib import db

pytestmark = pytest.mark.every_postgres

Denied = psycopg.errors.InsufficientPrivilege


class Tenants:
    """Two tenants with one row each in every tier, and sessions of any role."""

    def __init__(self, tiers: Databases) -> None:
        self.tiers = tiers
        with db.connect(tiers["oltp"], "oltp") as oltp:
            self.one, self.two = (make(oltp, "tenants")["id"] for _ in range(2))
            for tenant in (self.one, self.two):
                make(oltp, "campaigns", tenant_id=tenant)
                make(oltp, "inbox_message_refs", tenant_id=tenant)
                make(oltp, "suppression_list", tenant_id=tenant)
            make(oltp, "suppression_list", email="everybody@example.org")
        with db.connect(tiers["content"], "content") as content:
            for tenant in (self.one, self.two):
                make(content, "email_messages", tenant_id=tenant, storage_key=f"of {tenant}")
                make(content, "email_opens", tenant_id=tenant)
        with db.connect(tiers["olap"], "olap") as olap:
            for tenant in (self.one, self.two):
                make(olap, "marts.campaign_analytics", tenant_id=tenant)
        with db.connect(tiers["queue"], "queue") as queue:
            make(queue, "jobs", tenant_id=self.one)
            make(queue, "jobs")
            make(queue, "dead_letter_jobs", tenant_id=self.one)

    @contextmanager
    def session(self, tier: str, role: str, tenant: object = None) -> Iterator[psycopg.Connection]:
        """A transaction of a role, for a tenant if one is given; rolled back at the end."""
        connection = db.open_connection(self.tiers[tier], tier, role=role)
        try:
            if tenant is not None:
                connection.execute(sql.SQL("set local app.current_tenant_id = {}").format(sql.Literal(str(tenant))))
            yield connection
        finally:
            connection.close()


@pytest.fixture(scope="module")
def tenants(migrated: Databases, postgres: Server) -> Iterator[Tenants]:
    databases = Databases(postgres)
    yield Tenants(databases)
    databases.drop()


def owners(connection: psycopg.Connection, table: str) -> set[UUID | None]:
    query = sql.SQL("select tenant_id from {}").format(sql.Identifier(*table.split(".")))
    return {row[0] for row in connection.execute(query)}


def count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(*table.split(".")))).fetchone()
    assert row is not None
    return row[0]


TABLES = [
    ("oltp", "campaigns"),
    ("oltp", "inbox_message_refs"),
    ("content", "email_messages"),
    ("content", "email_opens"),
    ("content", "content_inbox_message_refs"),
]


@pytest.mark.parametrize(("tier", "table"), TABLES)
def test_the_application_sees_its_own_tenant_and_nobody_else(tenants: Tenants, tier: str, table: str) -> None:
    with tenants.session(tier, "pm_app", tenants.one) as session:
        assert owners(session, table) == {tenants.one}


@pytest.mark.parametrize(("tier", "table"), TABLES)
def test_without_a_tenant_nothing_is_visible(tenants: Tenants, tier: str, table: str) -> None:
    with tenants.session(tier, "pm_app") as session:
        assert owners(session, table) == set()


@pytest.mark.parametrize("role", ["pm_app", "pm_worker"])
def test_the_empty_string_that_a_past_set_local_leaves_shows_nothing(tenants: Tenants, role: str) -> None:
    with tenants.session("oltp", role, tenants.one) as session:
        assert count(session, "campaigns") == 1
        session.commit()
        assert session.execute("select current_setting('app.current_tenant_id', true)").fetchone() == ("",)
        assert count(session, "campaigns") == 0


def test_a_malformed_tenant_fails_closed(tenants: Tenants) -> None:
    with (
        tenants.session("oltp", "pm_app", "not a uuid") as session,
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
    ):
        count(session, "campaigns")


def test_rows_of_another_tenant_can_be_neither_made_nor_changed_nor_taken_over(tenants: Tenants) -> None:
    with tenants.session("oltp", "pm_app", tenants.one) as session, pytest.raises(Denied):
        session.execute("insert into templates (tenant_id, name) values (%s, 'x')", [tenants.two])
    with tenants.session("oltp", "pm_app", tenants.one) as session:
        assert session.execute("update campaigns set name = 'x' where tenant_id = %s", [tenants.two]).rowcount == 0
        assert session.execute("delete from campaigns where tenant_id = %s", [tenants.two]).rowcount == 0
        with pytest.raises(Denied):
            session.execute("update suppression_list set tenant_id = %s", [tenants.two])


def test_a_foreign_key_cannot_reach_into_another_tenant(tenants: Tenants) -> None:
    with db.connect(tenants.tiers["oltp"], "oltp") as owner:
        row = owner.execute("select id from companies where tenant_id = %s", [tenants.two]).fetchone()
    assert row is not None
    with (
        tenants.session("oltp", "pm_app", tenants.one) as session,
        pytest.raises(psycopg.errors.ForeignKeyViolation),
    ):
        session.execute(
            "insert into campaigns (tenant_id, company_id, name) values (%s, %s, 'x')", [tenants.one, row[0]]
        )


@pytest.mark.parametrize(("tier", "table"), [("oltp", "inbox_message_refs"), ("content", "email_opens")])
def test_a_partition_read_directly_shows_nothing(tenants: Tenants, tier: str, table: str) -> None:
    with db.connect(tenants.tiers[tier], tier) as owner:
        found = owner.execute("select relid::text from pg_partition_tree(%s) where isleaf", [table]).fetchall()
        for (partition,) in found:  # as if somebody had granted it
            owner.execute(sql.SQL("grant select on {} to pm_app").format(sql.Identifier(partition)))
    assert found
    with tenants.session(tier, "pm_app", tenants.one) as session:
        assert {count(session, partition) for (partition,) in found} == {0}


def test_the_owner_of_the_tables_is_bound_as_well(tenants: Tenants) -> None:
    with tenants.session("oltp", "pm_owner") as session:
        assert count(session, "campaigns") == 0


@pytest.mark.parametrize(("tier", "table"), [*TABLES[:4], ("olap", "marts.campaign_analytics")])
def test_staff_sees_every_tenant(tenants: Tenants, tier: str, table: str) -> None:
    with tenants.session(tier, "pm_staff") as session:
        assert owners(session, table) >= {tenants.one, tenants.two}


def test_rows_without_tenant_are_everybodys_to_read_and_nobodys_to_change(tenants: Tenants) -> None:
    with tenants.session("oltp", "pm_app", tenants.one) as session:
        assert owners(session, "suppression_list") == {tenants.one, None}
        assert session.execute("update suppression_list set reason = 'legal' where tenant_id is null").rowcount == 0
        with pytest.raises(Denied):
            session.execute("insert into suppression_list (email, reason) values ('a@b.c', 'legal')")


def test_tenants_see_the_people_of_their_own_tenant_only(tenants: Tenants) -> None:
    with db.connect(tenants.tiers["oltp"], "oltp") as owner:
        mine = make(owner, "tenant_users", tenant_id=tenants.one)["user_id"]
        make(owner, "tenant_users", tenant_id=tenants.two)
    with tenants.session("oltp", "pm_app", tenants.one) as session:
        assert session.execute("select id from users").fetchall() == [(mine,)]
        assert session.execute("select id from tenants").fetchall() == [(tenants.one,)]


def test_a_message_to_one_person_is_not_shown_to_another(tenants: Tenants) -> None:
    person, other = uuid4(), uuid4()
    with db.connect(tenants.tiers["content"], "content") as owner:
        for user in (person, other, None):
            make(owner, "notifications", tenant_id=tenants.one, user_id=user)
    with tenants.session("content", "pm_app", tenants.one) as session:
        session.execute(sql.SQL("set local app.current_user_id = {}").format(sql.Literal(str(person))))
        assert {row[0] for row in session.execute("select user_id from notifications")} == {person, None}


def test_a_worker_sees_all_jobs_and_a_tenant_its_own(tenants: Tenants) -> None:
    with tenants.session("queue", "pm_worker") as session:
        assert owners(session, "jobs") == {tenants.one, None}
    with tenants.session("queue", "pm_app", tenants.one) as session:
        assert owners(session, "jobs") == {tenants.one}
        assert count(session, "dead_letter_jobs") == 0


def test_a_worker_is_bound_to_a_tenant_outside_the_queue(tenants: Tenants) -> None:
    with tenants.session("content", "pm_worker") as session:
        assert count(session, "email_messages") == 0


@pytest.fixture
def login(tenants: Tenants) -> Iterator[str]:
    """URL of a login of the application's, no superuser: what a leaked password would be worth."""
    name, password = f"probe_{secrets.token_hex(4)}", secrets.token_hex(8)
    url = tenants.tiers["oltp"]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))
        owner.execute(sql.SQL("grant pm_app to {}").format(sql.Identifier(name)))
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    yield urlunsplit(parts._replace(netloc=f"{quote(name)}:{quote(password)}@{host}"))
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def test_a_session_cannot_become_staff_by_a_setting_or_by_asking(login: str) -> None:
    with psycopg.connect(login, autocommit=True) as session:
        session.execute("set role pm_app")
        for name in ("app.is_staff", "app.role", "app.current_user_role", "penguin.is_staff"):
            session.execute("select set_config(%s, 'true', false)", [name])
        assert count(session, "campaigns") == 0
        for statement in ("set role pm_staff", "set role pm_loader", "set session authorization pm_staff"):
            with pytest.raises(Denied):
                session.execute(statement)
        with pytest.raises(Denied):
            session.execute("alter role current_user bypassrls")
        session.execute("set row_security = off")
        with pytest.raises(Denied):
            count(session, "campaigns")


@pytest.mark.parametrize("role", ["pm_app", "pm_worker", "pm_staff"])
@pytest.mark.parametrize(
    "statement",
    [
        "update templates set change_xid = '1'",
        "insert into templates (tenant_id, name, change_xid) values (gen_random_uuid(), 'x', '1')",
    ],
)
def test_no_service_can_write_the_watermark(tenants: Tenants, role: str, statement: str) -> None:
    with tenants.session("oltp", role, tenants.one) as session, pytest.raises(Denied):
        session.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["pm_app", "pm_worker", "pm_staff", "pm_loader"])
def test_nobody_can_truncate_or_disable_triggers_or_forge_tombstones(tenants: Tenants, role: str) -> None:
    for statement in (
        "truncate campaigns cascade",
        "alter table campaigns disable trigger all",
        "insert into penguin.tombstones (table_name, is_truncate) values ('campaigns', true)",
    ):
        with tenants.session("oltp", role, tenants.one) as session, pytest.raises(Denied):
            session.execute(statement)  # type: ignore[arg-type]


# -- the warehouse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["pm_app", "pm_tenant"])
def test_tenants_do_not_read_the_facts_themselves(tenants: Tenants, role: str) -> None:
    with tenants.session("olap", role, tenants.one) as session, pytest.raises(Denied):
        count(session, "marts.campaign_analytics")


def test_an_analyst_reads_all_tenants_but_no_audit_log_and_no_raw_data(tenants: Tenants) -> None:
    with tenants.session("olap", "pm_analyst") as session:
        assert owners(session, "marts.campaign_analytics") >= {tenants.one, tenants.two}
        with pytest.raises(Denied):
            count(session, "marts.admin_audit_log")
    with tenants.session("olap", "pm_analyst") as session, pytest.raises(Denied):
        session.execute("insert into marts.campaign_analytics default values")


RECORD = "select marts.record_admin_action(%s, 'data_export', 'campaign', '1', null)"


@pytest.mark.parametrize("role", ["pm_app", "pm_worker", "pm_staff", "pm_etl"])
def test_every_privileged_service_can_write_the_audit_log_through_its_function(tenants: Tenants, role: str) -> None:
    with tenants.session("olap", role) as session:
        person = uuid4()
        session.execute(RECORD, [person])
        session.execute("reset role")
        kept = session.execute("select action from marts.admin_audit_log where admin_user_id = %s", [person])
        assert kept.fetchall() == [("data_export",)]


@pytest.mark.parametrize("role", ["pm_analyst", "pm_tenant", "pm_loader"])
def test_nobody_else_can(tenants: Tenants, role: str) -> None:
    with tenants.session("olap", role) as session, pytest.raises(Denied):
        session.execute(RECORD, [uuid4()])


@pytest.mark.parametrize(
    "statement", ["update marts.admin_audit_log set notes = 'x'", "delete from marts.admin_audit_log"]
)
def test_the_audit_log_is_append_only_even_for_a_superuser(tenants: Tenants, statement: str) -> None:
    with db.connect(tenants.tiers["olap"], "olap") as session:
        session.execute(RECORD, [uuid4()])
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            session.execute(statement)  # type: ignore[arg-type]
        session.rollback()
    for role in ("pm_staff", "pm_app", "pm_etl"):
        with tenants.session("olap", role) as session, pytest.raises(Denied):
            session.execute(statement)  # type: ignore[arg-type]


def test_the_audit_log_cannot_be_truncated(tenants: Tenants) -> None:
    with db.connect(tenants.tiers["olap"], "olap") as session:
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            session.execute("truncate marts.admin_audit_log")
        session.rollback()


def test_staff_reads_the_audit_log_and_the_application_does_not(tenants: Tenants) -> None:
    with db.connect(tenants.tiers["olap"], "olap") as owner:
        owner.execute(RECORD, [uuid4()])
    with tenants.session("olap", "pm_staff") as session:
        assert count(session, "marts.admin_audit_log") >= 1
    with tenants.session("olap", "pm_app") as session, pytest.raises(Denied):
        count(session, "marts.admin_audit_log")
