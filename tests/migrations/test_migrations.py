"""Migrations go up, down and up again, agree with their snapshot, and one migrator waits for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from servers import Databases

from penguin_pipelines.errors import SchemaError
from penguin_pipelines.lib import db
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import TIERS

pytestmark = pytest.mark.every_postgres


def catalog(url: str, tier: str) -> list[str]:
    with db.connect(url, tier) as connection:
        return runner.catalog(connection)


@pytest.fixture
def connection(tiers: Databases, tier: str) -> Iterator[psycopg.Connection]:
    with db.connect(tiers[tier], tier) as connection:
        yield connection


@pytest.mark.parametrize("tier", TIERS)
def test_the_kept_snapshot_equals_the_live_catalog(migrated: Databases, tier: str) -> None:
    differences = runner.verify(migrated[tier], tier)
    assert differences == [], "Look at the differences; if they are meant, write the snapshot anew: make generate"


@pytest.mark.parametrize("tier", TIERS)
def test_each_revision_goes_down_and_up_again_to_the_same_catalog(tiers: Databases, tier: str) -> None:
    revisions = [r.number for r in runner.revisions(tier)]
    after = {revisions[-1]: catalog(tiers[tier], tier)}
    for lower in reversed(revisions[:-1]):
        runner.down(tiers[tier], tier, to=lower)
        after[lower] = catalog(tiers[tier], tier)
    runner.down(tiers[tier], tier)
    assert catalog(tiers[tier], tier) == []
    for higher in revisions:
        runner.up(tiers[tier], tier, to=higher)
        assert catalog(tiers[tier], tier) == after[higher]


def test_up_on_a_migrated_tier_does_nothing(tiers: Databases) -> None:
    told: list[str] = []
    before = catalog(tiers["queue"], "queue")
    runner.up(tiers["queue"], "queue", report=told.append)
    assert told == []
    assert catalog(tiers["queue"], "queue") == before


def test_up_reports_each_step(empty_database: str) -> None:
    told: list[str] = []
    runner.up(empty_database, "queue", report=told.append)
    assert len(told) == len(runner.revisions("queue"))
    assert all(line.startswith("queue: ") for line in told)


def test_two_migrators_at_once_both_succeed(empty_database: str) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def migrate() -> None:
        try:
            start.wait()
            runner.up(empty_database, "queue")
        except BaseException as error:  # noqa: BLE001  a thread's failure must reach the test
            errors.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert runner.verify(empty_database, "queue") == []


@pytest.mark.parametrize("move", [runner.up, runner.down])
def test_an_unknown_revision_is_refused_with_the_known_ones(empty_database: str, move: object) -> None:
    with pytest.raises(SchemaError, match="'queue' has no revision '0999'; it has 0001, 0002"):
        move(empty_database, "queue", to="0999")  # type: ignore[operator]


def test_a_tier_without_schema_says_how_to_make_it(empty_database: str) -> None:
    with (
        db.connect(empty_database, "oltp") as connection,
        pytest.raises(SchemaError, match=r"'oltp' has no schema yet.*penguin migrate up --tier oltp"),
    ):
        runner.require_head(connection, "oltp")
    assert [r.number for r in runner.plan(empty_database, "oltp")] == [r.number for r in runner.revisions("oltp")]


@pytest.mark.parametrize(
    ("tier", "at", "sentence"),
    [
        ("queue", "0002", r"at revision 0002, behind \d{4}; bring it up with: penguin migrate up --tier queue"),
        ("queue", "0999", "at revision 0999, newer than this release .*; install the newer release"),
    ],
)
def test_an_older_or_newer_schema_says_what_to_do(connection: psycopg.Connection, at: str, sentence: str) -> None:
    connection.execute("update penguin.alembic_version set version_num = %s", [at])
    with pytest.raises(SchemaError, match=sentence):
        runner.require_head(connection, "queue")
    connection.rollback()
    runner.require_head(connection, "queue")


def test_the_catalog_notices_a_changed_column(tiers: Databases) -> None:
    with db.connect(tiers["queue"], "queue") as connection:
        connection.execute("alter table jobs add column colour text")
    assert runner.verify(tiers["queue"], "queue") == ["unknown: column public.jobs.colour text"]


def test_down_of_the_identity_tables_leaves_those_of_somebody_else_alone(empty_database: str) -> None:
    """A real NileDB owns them: the revision verifies their shape and never drops them."""
    with db.connect(empty_database, "oltp") as connection:
        connection.execute("create table users (id uuid primary key, name text, email text, deleted timestamptz)")
        connection.execute(
            "create table tenants (id uuid primary key, name text, created timestamptz, updated timestamptz, "
            "deleted timestamptz, compute_id uuid)"
        )
        connection.execute(
            "create table tenant_users (tenant_id uuid, user_id uuid, roles text[], deleted timestamptz, "
            "primary key (tenant_id, user_id))"
        )
        # What an operator grants on foreign tables: keys point to them.
        connection.execute("grant usage on schema public to public")
    runner.up(empty_database, "oltp", to="0002")
    runner.down(empty_database, "oltp")
    with db.connect(empty_database, "oltp") as connection:
        assert connection.execute("select to_regclass('users')").fetchone() == ("users",)


def test_identity_tables_of_another_shape_are_refused_with_what_they_lack(empty_database: str) -> None:
    with db.connect(empty_database, "oltp") as connection:
        for name, columns in (("tenants", "id bigint"), ("users", "id uuid"), ("tenant_users", "tenant_id uuid")):
            connection.execute(f"create table {name} ({columns})")  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.RaiseException, match=r"lack tenants\.id uuid"):
        runner.up(empty_database, "oltp")


@pytest.mark.parametrize("tier", ["content", "olap"])
def test_a_partition_made_later_is_protected_like_the_others(connection: psycopg.Connection, tier: str) -> None:
    """`penguin.protect` has seen only those that the migration made."""
    connection.execute("create table before as select oid from pg_class")
    connection.execute(
        "select penguin.create_range_partitions(table_name::regclass, unit, current_date + 800, current_date + 801) "
        "from penguin.partition_rules"
    )
    made = connection.execute(
        "select relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner)::text from pg_class "
        "where relkind = 'r' and relispartition and oid not in (select oid from before)"
    ).fetchall()
    connection.rollback()
    assert len(made) >= 3
    assert [partition for partition in made if partition[1:] != (True, True, "pm_owner")] == []
