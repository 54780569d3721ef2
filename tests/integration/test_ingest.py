"""Ingestion on real servers: whatever happens in a source, its raw table ends up equal, and nothing is moved twice.

Concurrent writers are in test_storm.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from factories import make, now
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, Server, settle

from penguin_pipelines.errors import ConnectionFailed, SchemaError, SourceReplaced, TableDrift
from penguin_pipelines.lib import buckets, db, extract, ingest, load, specs, tombstones
from penguin_pipelines.lib.ingest import Failed
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.specs import Table

everywhere = pytest.mark.every_postgres

MESSAGES = "content.email_messages"
OPENS = "content.email_opens"
TENANTS = "oltp.tenants"


class Platform:
    """The tiers of one test with an open connection to each source."""

    def __init__(self, tiers: Databases) -> None:
        self.tiers = tiers
        self._open: dict[str, psycopg.Connection] = {}

    def __getitem__(self, tier: str) -> psycopg.Connection:
        if tier not in self._open:
            self._open[tier] = db.open_connection(self.tiers[tier], tier, autocommit=True)
        return self._open[tier]

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def forget_connections(self) -> None:
        self.close()
        self._open.clear()

    def results(self, *names: str, full: bool = False) -> dict[str, Loaded | Failed]:
        """One run over tables by name, once everything committed lies below the horizon."""
        tables = [specs.find(name) for name in names]
        settle(self.tiers[tables[0].source])
        found = ingest.ingest(self.tiers, tables, pseudonym_key=PSEUDONYM_KEY, full=full)
        return {result.table: result for result in found}

    def run(self, name: str, *, full: bool = False) -> Loaded:
        """One run over one table that must succeed."""
        result = self.results(name, full=full)[name]
        assert isinstance(result, Loaded), result
        return result

    def source(self, table: Table) -> list[tuple[Any, ...]]:
        return self._rows(table, self[table.source], sql.Identifier(table.name), sql.SQL("true"))

    def raw(self, table: Table) -> list[tuple[Any, ...]]:
        return self._rows(table, self["olap"], _raw(table), sql.SQL("_deleted is null"))

    def _rows(
        self, table: Table, connection: psycopg.Connection, relation: sql.Composable, live: sql.Composable
    ) -> list[tuple[Any, ...]]:
        """Plain columns as text, for objects of Python cannot hold every value."""
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in table.columns.plain)
        query = sql.SQL("select {} from {} where {} order by 1, 2").format(columns, relation, live)
        return sorted(connection.execute(query).fetchall(), key=str)

    def assert_equal(self, *names: str) -> None:
        for table in map(specs.find, names):
            assert self.raw(table) == self.source(table)
            kept = (
                self["olap"]
                .execute(
                    "select row_count from ops.bookmarks where source = %s and table_name = %s",
                    [table.source, table.name],
                )
                .fetchone()
            )
            assert kept == (len(self.raw(table)),), "The bookmark must know how many rows are live."

    def empty(self) -> None:
        """Takes back what tests write: source rows and their tombstones, raw tables, bookmarks and slices."""
        # A test that never looked into the warehouse has filled it all the same.
        opened = {"olap": self["olap"], **self._open}
        for tier, connection in opened.items():
            with connection.transaction():
                connection.execute("set local session_replication_role = replica")
                if tier == "olap":
                    connection.execute("truncate ops.bookmarks, ops.touched_slices, ops.baselines cascade")
                    _each(connection, "drop table {}", "n.nspname like 'raw\\_%'")
                else:
                    own = "n.nspname = 'public' and c.relname not in ('plans', 'job_queues')"
                    _each(connection, "truncate {} cascade", own)
                    connection.execute("delete from penguin.tombstones")

    def bookmark(self, name: str) -> tuple[Any, ...] | None:
        return (
            self["olap"]
            .execute("select horizon::text, updated from ops.bookmarks where source || '.' || table_name = %s", [name])
            .fetchone()
        )

    def slices(self, kind: str) -> list[tuple[Any, ...]]:
        """Slices by what identifies them, and forgets them."""
        found = self["olap"].execute(
            "delete from ops.touched_slices where kind = %s "
            "returning cause, storage_key, activity_date::text, entity_id",
            [kind],
        )
        return sorted(set(found.fetchall()), key=str)


def _each(connection: psycopg.Connection, statement: str, condition: str) -> None:
    """One statement over all tables that fulfil a condition."""
    found = connection.execute(
        "select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "  # type: ignore[arg-type]
        f"where c.relkind in ('r', 'p') and not c.relispartition and {condition}"
    ).fetchall()
    if found:
        names = sql.SQL(", ").join(sql.Identifier(*name) for name in found)
        connection.execute(sql.SQL(statement).format(names))  # type: ignore[arg-type]


def _raw(table: Table) -> sql.Identifier:
    return sql.Identifier(table.raw_schema, table.name)


@pytest.fixture(scope="module")
def reused(postgres: Server) -> Iterator[Databases]:
    """Databases that serve one test after the other: copying a warehouse takes longer than most tests."""
    databases = Databases(postgres)
    yield databases
    databases.drop()


@pytest.fixture
def platform(request: pytest.FixtureRequest, postgres: Server) -> Iterator[Platform]:
    """Empty tiers. A test that alters a schema says so by the mark `alters` and gets databases of its own."""
    own = request.node.get_closest_marker("alters")
    platform = Platform(request.getfixturevalue("tiers" if own else "reused"))
    yield platform
    if not own:
        platform.empty()
    platform.close()


# -- what a run moves ------------------------------------------------------------------------------


@everywhere
def test_a_first_run_copies_every_row(platform: Platform) -> None:
    for _ in range(3):
        make(platform["content"], "email_messages")
    done = platform.run(MESSAGES)
    assert (done.mode, done.delivered, done.row_count) == ("baseline", 3, 3)
    platform.assert_equal(MESSAGES)
    assert platform.slices("all") == [(MESSAGES, None, None, None)]


@everywhere
def test_a_later_run_moves_exactly_the_changed_rows(platform: Platform) -> None:
    content = platform["content"]
    rows = [make(content, "email_messages") for _ in range(5)]
    platform.run(MESSAGES)
    content.execute("update email_messages set status = 'delivered' where storage_key = %s", [rows[0]["storage_key"]])
    content.execute("delete from email_messages where storage_key = %s", [rows[1]["storage_key"]])
    make(content, "email_messages")
    done = platform.run(MESSAGES)
    assert (done.mode, done.delivered, done.written, done.deleted, done.row_count) == ("delta", 2, 2, 1, 5)
    platform.assert_equal(MESSAGES)


@everywhere
def test_a_run_without_changes_writes_nothing(platform: Platform) -> None:
    make(platform["content"], "email_messages")
    make(platform["oltp"], "tenants")
    platform.results(MESSAGES, TENANTS)
    before = platform.bookmark(MESSAGES), platform.bookmark(TENANTS)
    written = "select tup_inserted + tup_updated + tup_deleted from pg_stat_database where datname = current_database()"
    count = platform["olap"].execute(written).fetchone()
    results = platform.results(MESSAGES, TENANTS)
    assert {r.mode for r in results.values() if isinstance(r, Loaded)} == {"idle"}
    assert not any(r.changed for r in results.values() if isinstance(r, Loaded))
    assert (platform.bookmark(MESSAGES), platform.bookmark(TENANTS)) == before
    assert platform["olap"].execute(written).fetchone() == count


def test_a_table_without_tenant_and_one_of_the_queue_come_over_too(platform: Platform) -> None:
    make(platform["oltp"], "suppression_list")
    make(platform["queue"], "jobs")
    make(platform["queue"], "job_logs")
    names = ("oltp.suppression_list", "oltp.plans", "queue.jobs", "queue.job_logs", "queue.job_queues")
    platform.results(*names)
    platform["queue"].execute("update jobs set status = 'processing'")
    platform.results(*names)
    platform.assert_equal(*names)


@everywhere
def test_every_stanza_can_be_read(platform: Platform) -> None:
    tables = specs.all_tables()
    results = platform.results(*(t.full_name for t in tables))
    assert [r for r in results.values() if isinstance(r, Failed)] == []
    assert list(results) == [t.full_name for t in tables]


def test_progress_is_told_before_each_table(platform: Platform) -> None:
    told: list[tuple[str, int, int]] = []
    tables = [specs.find(OPENS), specs.find(MESSAGES)]
    list(ingest.ingest(platform.tiers, tables, pseudonym_key=PSEUDONYM_KEY, started=lambda *what: told.append(what)))
    assert told == [(MESSAGES, 1, 2), (OPENS, 2, 2)]


# -- rows that leave -------------------------------------------------------------------------------


@everywhere
def test_a_hard_delete_is_marked_and_kept(platform: Platform) -> None:
    row = make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    platform["content"].execute("delete from email_messages")
    assert platform.run(MESSAGES).deleted == 1
    kept = platform["olap"].execute("select storage_key, _deleted is not null from raw_content.email_messages")
    assert kept.fetchall() == [(row["storage_key"], True)]
    platform.assert_equal(MESSAGES)


@everywhere
def test_a_row_deleted_and_inserted_again_in_one_transaction_stays(platform: Platform) -> None:
    row = make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with platform["content"].transaction():
        platform["content"].execute("delete from email_messages")
        make(platform["content"], "email_messages", storage_key=row["storage_key"], tenant_id=row["tenant_id"])
    done = platform.run(MESSAGES)
    assert (done.delivered, done.row_count) == (1, 1)
    platform.assert_equal(MESSAGES)


def test_a_row_that_comes_back_after_its_deletion_was_read_is_live_again(platform: Platform) -> None:
    row = make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    platform["content"].execute("delete from email_messages")
    platform.run(MESSAGES)
    make(platform["content"], "email_messages", storage_key=row["storage_key"], tenant_id=row["tenant_id"])
    assert platform.run(MESSAGES).row_count == 1
    platform.assert_equal(MESSAGES)


def test_a_row_inserted_again_by_an_older_transaction_than_the_one_that_deleted_it_stays(platform: Platform) -> None:
    """Transactions end in another order than their ids: the tombstone then has the higher one."""
    row = make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with psycopg.connect(platform.tiers["content"]) as older:
        older.execute("select pg_current_xact_id()")
        platform["content"].execute("delete from email_messages")
        make(older, "email_messages", storage_key=row["storage_key"], tenant_id=row["tenant_id"])
    platform.run(MESSAGES)
    assert len(platform.raw(specs.find(MESSAGES))) == 1
    platform.assert_equal(MESSAGES)


@pytest.mark.parametrize("removal", ["delete from email_messages", "truncate email_messages cascade"])
def test_a_row_inserted_again_and_read_before_the_older_deletion_is_read_stays(
    platform: Platform, removal: str
) -> None:
    """Between the id of the insert and the higher one of the deletion lies the horizon of a run."""
    row = make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with psycopg.connect(platform.tiers["content"]) as older, psycopg.connect(platform.tiers["content"]) as holder:
        older.execute("select pg_current_xact_id()")
        holder.execute("select pg_current_xact_id()")
        platform["content"].execute(removal)  # type: ignore[arg-type]
        make(older, "email_messages", storage_key=row["storage_key"], tenant_id=row["tenant_id"])
        older.commit()
        _run_now(platform, MESSAGES)
    platform.run(MESSAGES)
    assert len(platform.raw(specs.find(MESSAGES))) == 1
    platform.assert_equal(MESSAGES)


@everywhere
def test_a_changed_key_leaves_only_the_new_one(platform: Platform) -> None:
    make(platform["content"], "email_messages", storage_key="old")
    platform.run(MESSAGES)
    platform["content"].execute("update email_messages set storage_key = 'new'")
    done = platform.run(MESSAGES)
    assert (done.deleted, done.row_count) == (1, 1)
    platform.assert_equal(MESSAGES)


def test_a_move_to_another_tenant_is_a_delete_and_an_insert(platform: Platform) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    platform["content"].execute("update email_messages set tenant_id = gen_random_uuid()")
    done = platform.run(MESSAGES)
    assert (done.deleted, done.row_count) == (1, 1)
    platform.assert_equal(MESSAGES)


@everywhere
def test_a_move_to_another_partition_is_no_loss(platform: Platform) -> None:
    opened = make(platform["content"], "email_opens")["opened"]
    platform.results(MESSAGES, OPENS)
    platform["content"].execute("update email_opens set opened = %s", [opened - timedelta(days=40)])
    platform.run(OPENS)
    platform.assert_equal(OPENS)


@everywhere
def test_a_truncated_table_is_empty_and_fills_again(platform: Platform) -> None:
    for _ in range(3):
        make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with platform["content"].transaction():
        platform["content"].execute("truncate email_messages")
        make(platform["content"], "email_messages")
    done = platform.run(MESSAGES)
    assert (done.deleted, done.row_count) == (3, 1)
    platform.assert_equal(MESSAGES)


def test_tombstones_go_when_their_table_has_been_read_and_a_week_is_over(platform: Platform) -> None:
    content = platform["content"]

    def deleted(key: str, days: int) -> None:
        make(content, "email_messages", storage_key=key)
        content.execute("delete from email_messages where storage_key = %s", [key])
        content.execute(
            "update penguin.tombstones set deleted = now() - %s * interval '1 day' where key ->> 'storage_key' = %s",
            [days, key],
        )

    def prune() -> int:
        with (
            db.connect(platform.tiers["content"], "content", role="pm_owner") as source,
            db.connect(platform.tiers["olap"], "olap", role="pm_loader") as warehouse,
        ):
            return tombstones.prune(source, warehouse, "content")

    deleted("old", 8)
    deleted("young", 6)
    assert prune() == 0  # nothing has been read
    platform.results(MESSAGES, OPENS)
    deleted("unread", 8)
    assert prune() == 1
    platform.run(MESSAGES)
    assert prune() == 1  # though the bookmark of the other table, which rests, is lower
    left = content.execute("select key ->> 'storage_key' from penguin.tombstones").fetchall()
    assert left == [("young",)]


def test_a_soft_delete_flows_as_an_ordinary_change(platform: Platform) -> None:
    make(platform["content"], "notifications")
    platform.run("content.notifications")
    platform["content"].execute("update notifications set deleted = now()")
    platform.run("content.notifications")
    kept = platform["olap"].execute("select deleted is not null, _deleted is null from raw_content.notifications")
    assert kept.fetchall() == [(True, True)]


def test_rows_that_the_source_dropped_after_its_retention_are_not_missed(platform: Platform) -> None:
    old = now() - timedelta(days=100)
    make(platform["content"], "email_opens", created=old, opened=old)
    make(platform["content"], "email_opens", created=old + timedelta(days=80), opened=now())
    platform.results(MESSAGES, OPENS)
    with platform["content"].transaction():
        platform["content"].execute("set local session_replication_role = replica")
        platform["content"].execute("delete from email_opens")
    done = platform.run(OPENS, full=True)
    assert (done.mode, done.deleted, done.row_count) == ("full", 1, 1)


# -- tables that must not be altered ---------------------------------------------------------------


@everywhere
def test_identity_tables_are_followed_without_altering_them(platform: Platform) -> None:
    oltp = platform["oltp"]
    kept, gone = (make(oltp, "tenants") for _ in range(2))
    assert platform.run(TENANTS).delivered == 2
    oltp.execute("update tenants set name = 'renamed' where id = %s", [kept["id"]])
    make(oltp, "tenants")
    done = platform.run(TENANTS)
    assert (done.mode, done.delivered, done.row_count) == ("delta", 2, 3)
    oltp.execute("delete from tenants where id = %s", [gone["id"]])
    done = platform.run(TENANTS)
    assert (done.deleted, done.row_count) == (1, 2)
    platform.assert_equal(TENANTS)


def test_a_vanished_identity_row_is_found_by_moving_few_keys(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only buckets that differ are compared key by key; a new row alone makes none differ."""
    oltp = platform["oltp"]
    rows = [make(oltp, "tenants") for _ in range(60)]
    platform.run(TENANTS)
    monkeypatch.setattr(buckets, "ROWS_PER_BUCKET", 2)
    moved: list[int] = []

    def counting(*arguments: Any) -> int:
        moved.append(pump(*arguments))
        return moved[-1]

    pump = load.pump
    monkeypatch.setattr(load, "pump", counting)
    make(oltp, "tenants")
    platform.run(TENANTS)
    assert moved == [1]  # the row itself
    moved.clear()
    oltp.execute("delete from tenants where id = %s", [rows[7]["id"]])
    assert platform.run(TENANTS).deleted == 1
    rows_moved, keys_moved = moved
    assert rows_moved == 0 and keys_moved < 20
    platform.assert_equal(TENANTS)


def test_an_identity_row_replaced_under_the_same_key_is_followed(platform: Platform) -> None:
    row = make(platform["oltp"], "tenants")
    platform.run(TENANTS)
    platform["oltp"].execute("delete from tenants")
    platform.run(TENANTS)
    make(platform["oltp"], "tenants", id=row["id"], name="again")
    platform.run(TENANTS)
    platform.assert_equal(TENANTS)


def test_an_identity_row_changed_by_a_transaction_older_than_its_last_change_is_followed(platform: Platform) -> None:
    row = make(platform["oltp"], "tenants")
    platform.run(TENANTS)
    with psycopg.connect(platform.tiers["oltp"]) as older:
        older.execute("select pg_current_xact_id()")
        platform["oltp"].execute("update tenants set name = 'first'")
        _run_now(platform, TENANTS)
        older.execute("update tenants set name = 'last' where id = %s", [row["id"]])
    platform.run(TENANTS)
    platform.assert_equal(TENANTS)


# -- order of images -------------------------------------------------------------------------------


def _run_now(platform: Platform, name: str) -> None:
    """A run while somebody keeps the horizon low."""
    (result,) = ingest.ingest(platform.tiers, [specs.find(name)], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(result, Loaded), result


@pytest.mark.parametrize("last", ["update email_messages set click_count = 2", "delete from email_messages"])
def test_a_change_by_a_transaction_older_than_what_the_baseline_saw_is_followed(platform: Platform, last: str) -> None:
    """A baseline has no upper bound: it sees rows of transactions above its horizon."""
    make(platform["content"], "email_messages")
    with psycopg.connect(platform.tiers["content"]) as older:
        older.execute("select pg_current_xact_id()")
        platform["content"].execute("update email_messages set click_count = 1")
        _run_now(platform, MESSAGES)
        older.execute(last)  # type: ignore[arg-type]
    platform.run(MESSAGES)
    platform.assert_equal(MESSAGES)


def test_rows_above_the_horizon_arrive_late_and_the_holder_is_named(platform: Platform) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with psycopg.connect(platform.tiers["content"]) as writer:
        make(writer, "email_messages")
        pid = writer.info.backend_pid
        make(platform["content"], "email_messages")
        _run_now(platform, MESSAGES)
        assert len(platform.raw(specs.find(MESSAGES))) == 1
        with extract.open_snapshot(platform.tiers["content"], "content", pseudonym_key=PSEUDONYM_KEY) as snapshot:
            assert snapshot.horizon < snapshot.ceiling
            holder = str(snapshot.holder)
    assert f"pid {pid}" in holder or "held back by" in holder
    platform.run(MESSAGES)
    platform.assert_equal(MESSAGES)


def test_replaying_from_an_old_bookmark_ends_in_the_same_table(platform: Platform) -> None:
    content = platform["content"]
    rows = [make(content, "email_messages") for _ in range(4)]
    platform.run(MESSAGES)
    old = platform.bookmark(MESSAGES)
    assert old is not None
    content.execute("update email_messages set open_count = 1 where storage_key = %s", [rows[0]["storage_key"]])
    content.execute("delete from email_messages where storage_key = %s", [rows[1]["storage_key"]])
    with content.transaction():
        content.execute("delete from email_messages where storage_key = %s", [rows[2]["storage_key"]])
        make(content, "email_messages", storage_key=rows[2]["storage_key"], tenant_id=rows[2]["tenant_id"])
    platform.run(MESSAGES)
    content.execute("update email_messages set open_count = 2 where storage_key = %s", [rows[0]["storage_key"]])
    platform.run(MESSAGES)
    every = "select storage_key, open_count, _change_xid::text, _deleted from raw_content.email_messages order by 1"
    before = platform["olap"].execute(every).fetchall()
    platform["olap"].execute("update ops.bookmarks set horizon = %s::xid8", [old[0]])
    platform.run(MESSAGES)
    assert platform["olap"].execute(every).fetchall() == before
    platform.assert_equal(MESSAGES)


def test_an_older_image_never_overwrites_a_newer_one(platform: Platform) -> None:
    make(platform["content"], "email_messages", open_count=1)
    platform.run(MESSAGES)
    platform["content"].execute("update email_messages set open_count = 2")
    settle(platform.tiers["content"])
    with _snapshot(platform, "content") as old:
        platform["content"].execute("update email_messages set open_count = 3")
        before = load.bookmarks(platform["olap"], "content")["email_messages"]
        platform.run(MESSAGES)
        with db.connect(platform.tiers["olap"], "olap", role="pm_loader") as warehouse:
            load.merge(warehouse, old, specs.find(MESSAGES), before)
    platform.assert_equal(MESSAGES)


def test_a_run_that_another_run_overtook_leaves_everything_as_it_is(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    platform["content"].execute("update email_messages set open_count = 2")
    settle(platform.tiers["content"])
    honest = extract.open_snapshot

    opened = 0

    @contextlib.contextmanager
    def slow(*args: Any, **options: Any) -> Iterator[extract.Snapshot]:
        nonlocal opened
        opened += 1
        with honest(*args, **options) as snapshot:
            if opened == 1:  # only looks for what is too large for one snapshot
                yield snapshot
                return
            monkeypatch.setattr(extract, "open_snapshot", honest)
            platform["content"].execute("update email_messages set open_count = 3")
            assert platform.run(MESSAGES).mode == "delta"
            yield snapshot

    monkeypatch.setattr(extract, "open_snapshot", slow)
    (result,) = ingest.ingest(platform.tiers, [specs.find(MESSAGES)], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(result, Loaded) and result.mode == "overtaken"
    platform.assert_equal(MESSAGES)


@contextlib.contextmanager
def _snapshot(platform: Platform, source: str) -> Iterator[extract.Snapshot]:
    with extract.open_snapshot(platform.tiers[source], source, pseudonym_key=PSEUDONYM_KEY) as snapshot:
        yield snapshot


# -- a full read -----------------------------------------------------------------------------------


@everywhere
def test_a_full_read_mends_what_no_trigger_saw(platform: Platform) -> None:
    rows = [make(platform["content"], "email_messages") for _ in range(3)]
    platform.run(MESSAGES)
    with platform["content"].transaction():
        platform["content"].execute("set local session_replication_role = replica")
        platform["content"].execute("update email_messages set open_count = 9")
        platform["content"].execute("delete from email_messages where storage_key = %s", [rows[0]["storage_key"]])
    assert platform.run(MESSAGES).mode == "idle"
    done = platform.run(MESSAGES, full=True)
    assert (done.mode, done.written, done.deleted, done.row_count) == ("full", 2, 1, 2)
    platform.assert_equal(MESSAGES)


def test_a_full_read_without_differences_rewrites_no_row(platform: Platform) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    assert platform.run(MESSAGES, full=True).written == 0


def test_a_full_read_of_a_replaced_source_wins_over_rows_with_higher_transaction_ids(platform: Platform) -> None:
    rows = [make(platform["content"], "email_messages") for _ in range(2)]
    platform.run(MESSAGES)
    platform["olap"].execute("update raw_content.email_messages set _change_xid = '900000000000', open_count = 7")
    platform["olap"].execute("update ops.bookmarks set system_identifier = 1, horizon = '900000000001'")
    platform["content"].execute("delete from email_messages where storage_key = %s", [rows[0]["storage_key"]])
    assert platform.run(MESSAGES, full=True).row_count == 1
    platform.assert_equal(MESSAGES)
    platform["content"].execute("update email_messages set open_count = 8")
    assert platform.run(MESSAGES).delivered == 1
    platform.assert_equal(MESSAGES)


def test_rows_that_a_restore_brought_from_the_future_do_not_stay_frozen(platform: Platform) -> None:
    make(platform["content"], "email_messages", change_xid="900000000000")
    platform.run(MESSAGES)
    platform["content"].execute("update email_messages set open_count = 8")
    platform.run(MESSAGES)
    platform.assert_equal(MESSAGES)


@everywhere
def test_a_column_that_a_stanza_gains_is_filled_for_old_rows(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = specs.find("content.content_objects")
    fewer = {n: t for n, t in table.columns.plain.items() if n != "retention_days"}
    short = table.model_copy(update={"columns": table.columns.model_copy(update={"plain": fewer})})
    make(platform["content"], "content_objects", retention_days=77)
    with monkeypatch.context() as patched:
        patched.setattr(specs, "tables", lambda _: (short,))
        settle(platform.tiers["content"])
        list(ingest.ingest(platform.tiers, [short], pseudonym_key=PSEUDONYM_KEY))
    assert platform.run(table.full_name).mode == "full"
    platform.assert_equal(table.full_name)


# -- a source that is not what it was --------------------------------------------------------------


def test_an_index_that_a_stanza_gains_is_built_on_the_raw_table(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    table = specs.find(MESSAGES)
    more = table.model_copy(update={"indexes": (*table.indexes, ("tenant_id", "campaign_id"))})
    monkeypatch.setattr(specs, "tables", lambda source: (more,) if source == "content" else ())
    query = "select count(*) from pg_indexes where indexdef like '%email_messages%(tenant_id, campaign_id)'"
    (first,) = ingest.ingest(platform.tiers, [more], pseudonym_key=PSEUDONYM_KEY)
    (second,) = ingest.ingest(platform.tiers, [more], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(first, Loaded) and isinstance(second, Loaded)
    assert platform["olap"].execute(query).fetchone() == (1,)
    assert second.mode == "idle"


@pytest.mark.alters
def test_a_new_column_of_the_source_is_reported_and_not_read(platform: Platform) -> None:
    platform["content"].execute("alter table content_objects add column colour text")
    assert platform.run("content.content_objects").unlisted == ("colour",)


@pytest.mark.alters
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("alter table content_objects drop column last_accessed", "has no column 'last_accessed' any more"),
        (
            "alter table content_objects rename column last_accessed to seen",
            "has no column 'last_accessed' any more",
        ),
        ("alter table content_objects alter column retention_days type bigint", "retention_days is bigint"),
        ("alter table content_objects rename to other", "has no table 'content_objects'"),
    ],
)
def test_a_column_dropped_or_retyped_fails_that_table_by_name_and_no_other(
    platform: Platform, change: str, sentence: str
) -> None:
    name = "content.content_objects"
    make(platform["content"], "content_objects")
    make(platform["content"], "notifications")
    platform.results(name, "content.notifications")
    before = platform.bookmark(name)
    platform["content"].execute(change)  # type: ignore[arg-type]
    make(platform["content"], "notifications")
    results = platform.results(name, "content.notifications")
    failed = results[name]
    assert isinstance(failed, Failed) and isinstance(failed.error, TableDrift)
    assert sentence in str(failed.error) and "content_objects" in str(failed.error)
    assert platform.bookmark(name) == before
    platform.assert_equal("content.notifications")


def test_an_error_of_the_database_in_one_table_leaves_the_others_alone(platform: Platform) -> None:
    make(platform["content"], "email_opens")
    platform.run(OPENS)
    make(platform["content"], "email_opens")
    # Nobody has read the messages that the opens belong to, so their slices cannot be told.
    results = platform.results(OPENS, "content.email_clicks")
    failed = results[OPENS]
    assert isinstance(failed, Failed) and "bookmark has not moved" in str(failed.error)
    assert isinstance(results["content.email_clicks"], Loaded)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("system_identifier = 1", "another cluster"),
        ("timeline = timeline + 1", "restored or failed over"),
        ("horizon = '900000000000'", "beyond the last transaction"),
        ("database_oid = 1", "another database of the cluster"),
    ],
)
def test_a_replaced_source_stops_with_the_command_that_reads_it_anew(
    platform: Platform, change: str, sentence: str
) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    platform["olap"].execute(f"update ops.bookmarks set {change}")  # type: ignore[arg-type]
    before = platform.bookmark(MESSAGES)
    make(platform["content"], "email_messages")
    failed = platform.results(MESSAGES)[MESSAGES]
    assert isinstance(failed, Failed) and isinstance(failed.error, SourceReplaced)
    assert sentence in str(failed.error)
    assert f"penguin ingest --full --table {MESSAGES}" in str(failed.error)
    assert platform.bookmark(MESSAGES) == before


@pytest.mark.alters
def test_a_database_dropped_and_restored_in_its_cluster_stops_the_run(platform: Platform) -> None:
    """The ids of the copy are those of the cluster: without the oid the run would go on and miss what was lost."""
    for _ in range(3):
        make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    whole, name = platform.tiers["content"], urlsplit(platform.tiers["content"]).path.removeprefix("/")
    platform["content"].execute("delete from email_messages where ctid = '(0,1)'")
    platform.forget_connections()
    with psycopg.connect(whole.replace(f"/{name}", "/postgres"), autocommit=True) as server:
        old, new = sql.Identifier(name), sql.Identifier(f"{name}_new")
        server.execute(sql.SQL("create database {} template {}").format(new, old))
        server.execute(sql.SQL("drop database {} with (force)").format(old))
        server.execute(sql.SQL("alter database {} rename to {}").format(new, old))
    failed = platform.results(MESSAGES)[MESSAGES]
    assert isinstance(failed, Failed) and isinstance(failed.error, SourceReplaced)
    assert f"penguin ingest --full --table {MESSAGES}" in str(failed.error)
    assert platform.run(MESSAGES, full=True).row_count == 2
    assert platform.run(MESSAGES).mode == "idle"
    platform.assert_equal(MESSAGES)


def test_a_bookmark_of_an_older_release_takes_the_database_with_the_next_run(platform: Platform) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    named = "select database_oid from ops.bookmarks where table_name = 'email_messages'"
    before = platform["olap"].execute(named).fetchone()
    for change in (False, True):
        platform["olap"].execute("update ops.bookmarks set database_oid = null")
        if change:
            make(platform["content"], "email_messages")
        assert platform.run(MESSAGES).mode == ("delta" if change else "idle")
        assert platform["olap"].execute(named).fetchone() == before != (None,)


@pytest.mark.alters
def test_a_reader_that_row_level_security_binds_fails_loudly(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role is the cluster's: the test reads as one that never had BYPASSRLS instead of taking it away."""
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    before = platform.bookmark(MESSAGES)
    make(platform["content"], "email_messages")
    settle(platform.tiers["content"])
    honest = db.open_connection

    def bound(url: str, tier: str, *, role: str | None = None, **options: Any) -> psycopg.Connection:
        return honest(url, tier, role="pm_app" if tier == "content" and role else role, **options)

    platform["content"].execute("grant usage on schema penguin to pm_app")
    platform["content"].execute("grant select on penguin.tombstones to pm_app")
    monkeypatch.setattr(db, "open_connection", bound)
    with pytest.raises(ConnectionFailed, match="bypassrls"):
        list(ingest.ingest(platform.tiers, [specs.find(MESSAGES)], pseudonym_key=PSEUDONYM_KEY))
    assert platform.bookmark(MESSAGES) == before


def test_a_source_without_schema_stops_the_run_before_anything_is_read(platform: Platform, empty_database: str) -> None:
    urls = {"olap": platform.tiers["olap"], "content": empty_database}
    with pytest.raises(SchemaError, match="penguin migrate up --tier content"):
        list(ingest.ingest(urls, [specs.find(MESSAGES)], pseudonym_key=PSEUDONYM_KEY))


# -- slices ----------------------------------------------------------------------------------------


@everywhere
def test_a_message_that_moves_touches_the_day_it_left_and_the_day_it_came_to(platform: Platform) -> None:
    make(platform["content"], "email_messages", storage_key="m", sent=datetime(2026, 1, 15, 23, 30, tzinfo=UTC))
    platform.run(MESSAGES)
    platform.slices("all")
    platform["content"].execute("update email_messages set sent = '2026-01-16 00:30+00'")
    platform.run(MESSAGES)
    assert platform.slices("message") == [(MESSAGES, "m", "2026-01-15", None), (MESSAGES, "m", "2026-01-16", None)]


def test_an_event_touches_the_message_it_belongs_to_before_and_after(platform: Platform) -> None:
    content = platform["content"]
    first = make(content, "email_messages", storage_key="a", sent=datetime(2026, 1, 1, tzinfo=UTC))
    make(
        content, "email_messages", storage_key="b", tenant_id=first["tenant_id"], sent=datetime(2026, 2, 1, tzinfo=UTC)
    )
    make(content, "email_opens", storage_key="a", tenant_id=first["tenant_id"])
    platform.results(MESSAGES, OPENS)
    content.execute("update email_opens set storage_key = 'b'")
    platform.run(OPENS)
    assert platform.slices("message") == [(OPENS, "a", "2026-01-01", None), (OPENS, "b", "2026-02-01", None)]
    content.execute("delete from email_opens")
    platform.run(OPENS)
    assert platform.slices("message") == [(OPENS, "b", "2026-02-01", None)]


def test_a_deleted_message_touches_the_day_it_was_sent(platform: Platform) -> None:
    make(platform["content"], "email_messages", storage_key="m", sent=datetime(2026, 1, 15, tzinfo=UTC))
    platform.run(MESSAGES)
    platform["content"].execute("delete from email_messages")
    platform.run(MESSAGES)
    assert platform.slices("message") == [(MESSAGES, "m", "2026-01-15", None)]


def test_an_entity_touches_itself_by_its_id(platform: Platform) -> None:
    row = make(platform["oltp"], "campaigns")
    platform.run("oltp.campaigns")
    platform["oltp"].execute("update campaigns set status = 'paused'")
    platform.run("oltp.campaigns")
    assert platform.slices("entity") == [("oltp.campaigns", None, None, row["id"])]


# -- values ----------------------------------------------------------------------------------------

HOSTILE = {
    "a_time": ("timestamptz", ["'infinity'", "'-infinity'", "'0044-03-15 12:00 BC'", "'200000-01-01'", "null"]),
    "a_day": ("date", ["'infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'2024-03-04'"]),
    "an_hour": ("time without time zone", ["'24:00'", "'23:59:59.999999'"]),
    "a_span": ("interval", ["'1 mon -1 day +00:00:00.000001'", "'-178000000 years'"]),
    "a_number": ("numeric", ["'NaN'", "'Infinity'", "repeat('9', 1000)::numeric", "0.1000", "-0.0"]),
    "a_float": ("double precision", ["'NaN'", "'-0'", "'1e-308'", "0.1 + 0.2"]),
    "a_list": ("integer[]", ["'[-3:-1]={1,2,3}'::integer[]", "'{{1,2},{3,null}}'", "'{}'"]),
    "some_bytes": (
        "bytea",
        [
            "(select string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '' order by i) "
            "from generate_series(0, 255) as i)"
        ],
    ),
    "a_text": ("text", ["E'tab\\tnewline\\nbackslash\\\\ and \\\\N'", "''", "'\N{BUG}\N{COMBINING ACUTE ACCENT}'"]),
    "a_document": ("jsonb", ["'{\"a\": 1e400}'", "'null'", "'\"\\u20ac\"'"]),
    "a_network": ("inet", ["'::ffff:1.2.3.4/120'", "'10.0.0.1/8'"]),
}

# The Big List of Naughty Strings, MIT licence, beside it.
NAUGHTY: list[str] = json.loads((Path(__file__).parents[1] / "data" / "naughty_strings" / "blns.json").read_text())
DIALECT = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'sql_standard'",
    "timezone": "'Asia/Kolkata'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
}


@pytest.fixture
def hostile(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A source table of difficult values, and the only stanza there is."""
    content = platform["content"]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in HOSTILE.items())
    content.execute(
        f"create table public.hostile (id bigint primary key, {columns}, "  # type: ignore[arg-type]
        "change_xid xid8 not null default pg_current_xact_id())"
    )
    content.execute("grant select on public.hostile to pm_loader")
    number = 0
    for name, (_, values) in HOSTILE.items():
        for value in values:
            number += 1
            content.execute(f"insert into public.hostile (id, {name}) values ({number}, {value})")  # type: ignore[arg-type]
    for text in NAUGHTY:
        number += 1
        content.execute("insert into public.hostile (id, a_text) values (%s, %s)", [number, text])
    plain = {"id": "bigint", **{name: kind for name, (kind, _) in HOSTILE.items()}}
    table = Table(
        source="content",
        name="hostile",
        description="Difficult values.",
        key=("id",),
        slice="none",
        columns={"plain": plain},  # type: ignore[arg-type]
    )
    monkeypatch.setattr(specs, "tables", lambda source: (table,) if source == "content" else ())
    return table


@everywhere
@pytest.mark.alters
def test_every_value_that_postgres_can_hold_comes_over_unchanged(platform: Platform, hostile: Table) -> None:
    content = platform["content"]
    # The reader's role speaks another dialect of dates; what is copied must not depend on it.
    for setting in (f"{name} = {value}" for name, value in DIALECT.items()):
        name = content.info.dbname
        content.execute(f"alter database {name} set {setting}")  # type: ignore[arg-type]
        content.execute(f"alter role pm_loader in database {name} set {setting}")  # type: ignore[arg-type]
    settle(platform.tiers["content"])
    (result,) = ingest.ingest(platform.tiers, [hostile], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(result, Loaded) and result.delivered == sum(len(v) for _, v in HOSTILE.values()) + len(NAUGHTY)
    assert platform.raw(hostile) == platform.source(hostile)
    content.execute("update public.hostile set change_xid = pg_current_xact_id()")
    settle(platform.tiers["content"])
    (result,) = ingest.ingest(platform.tiers, [hostile], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(result, Loaded) and result.mode == "delta"
    assert platform.raw(hostile) == platform.source(hostile)


# -- confidentiality -------------------------------------------------------------------------------


def _pseudonym(value: str, key: str) -> str:
    return hmac.new(key.encode(), value.lower().encode(), hashlib.sha256).hexdigest()[:32]


@pytest.mark.parametrize("key", [PSEUDONYM_KEY, "k" * 64, "k" * 65, "Schlüssel" * 20])
def test_a_pseudonym_is_a_keyed_hash_without_case_and_its_domain_stands_apart(platform: Platform, key: str) -> None:
    make(platform["content"], "email_messages", to_email="Ann.Lee@Example.ORG", from_email="no address")
    settle(platform.tiers["content"])
    list(ingest.ingest(platform.tiers, [specs.find(MESSAGES)], pseudonym_key=key))
    kept = platform["olap"].execute(
        "select to_email, to_email_domain, from_email, internet_message_id from raw_content.email_messages"
    )
    assert kept.fetchall() == [
        (_pseudonym("ann.lee@example.org", key), "example.org", _pseudonym("no address", key), None)
    ]


def test_what_is_classed_never_does_not_reach_the_warehouse(platform: Platform) -> None:
    secret = "an unmistakable subject"
    make(platform["content"], "email_messages", subject=secret)
    make(platform["content"], "notifications", title=secret, message=secret)
    platform.results(MESSAGES, "content.notifications")
    for name in ("email_messages", "notifications"):
        rows = platform["olap"].execute(
            sql.SQL("select r::text from {} as r").format(sql.Identifier("raw_content", name))
        )
        text = rows.fetchall()
        assert len(text) == 1 and secret not in text[0][0]


@pytest.mark.parametrize("role", ["pm_app", "pm_worker", "pm_staff", "pm_analyst", "pm_tenant"])
def test_raw_tables_are_closed_to_everyone_but_loader_and_dbt(platform: Platform, role: str) -> None:
    make(platform["content"], "email_messages")
    platform.run(MESSAGES)
    with (
        db.connect(platform.tiers["olap"], "olap", role=role) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select from raw_content.email_messages")
