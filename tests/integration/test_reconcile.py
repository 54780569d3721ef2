"""Reconciliation on real servers: what no trigger told is found in exactly its buckets, mended, and then equal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from factories import make, now
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.lib import buckets, build, db, ingest, reconcile, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.reconcile import Compared
from penguin_pipelines.synthetic import Options, generate

MESSAGES, OPENS, TENANTS = "content.email_messages", "content.email_opens", "oltp.tenants"
AS_OF = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)

Tiers = Databases


def load(tiers: Tiers, *names: str) -> None:
    tables = [specs.find(n) for n in names] if names else list(specs.all_tables())
    for source in {t.source for t in tables}:
        settle(tiers[source])
    for result in ingest.ingest(tiers, tables, pseudonym_key=PSEUDONYM_KEY):
        assert isinstance(result, Loaded), result


def compare(
    tiers: Tiers, *names: str, marts: bool = False, full: bool = False, fix: bool = False
) -> dict[str, Compared]:
    tables = [specs.find(n) for n in names] if names else list(specs.all_tables())
    found = reconcile.reconcile(tiers, tables, pseudonym_key=PSEUDONYM_KEY, marts=marts, full=full, fix=fix)
    return {r.subject: r for r in found}


def one(tiers: Tiers, name: str, **options: bool) -> Compared:
    return compare(tiers, name, **options)[name]


def past_triggers(url: str, statement: str, values: list[Any] | None = None) -> None:
    """A change as a restore or an impatient hand makes it: no trigger, no tombstone, no new change_xid."""
    with psycopg.connect(url) as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute(statement, values)  # type: ignore[call-overload]


@pytest.fixture
def content(tiers: Tiers) -> Iterator[psycopg.Connection]:
    with db.connect(tiers["content"], "content", autocommit=True) as connection:
        yield connection


@pytest.fixture
def many(tiers: Tiers) -> Tiers:
    """Messages in some hundreds of buckets, read and found equal."""
    with psycopg.connect(tiers["content"]) as connection:
        connection.execute(
            "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, sent) "
            "select 'm' || n, md5((n %% 3)::text)::uuid, 'outbound', 'a@b.c', 'd' || n || '@e.f', "
            "%s - n * interval '1 hour' "
            "from generate_series(1, 2000) as n",
            [now()],
        )
    load(tiers, MESSAGES)
    # What is above the horizon when the mark is set is compared again, in the warehouse as at the source.
    settle(tiers["olap"])
    return tiers


def bucket_of(url: str, table: specs.Table, total: int, storage_key: str) -> int:
    query = sql.SQL("select {} from {} where storage_key = {}").format(
        buckets.bucket(table, total), sql.Identifier(table.name), sql.Literal(storage_key)
    )
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("changed", [False, True], ids=["quiet", "in flight"])
def test_the_row_count_of_a_restored_bookmark_is_made_right(many: Tiers, changed: bool) -> None:
    """Replaying old windows adds nothing, so only counting can tell."""
    counted = "select row_count from ops.bookmarks where table_name = 'email_messages'"
    past_triggers(many["olap"], "update ops.bookmarks set row_count = 7, horizon = '3' where source = 'content'")
    load(many, MESSAGES)
    with psycopg.connect(many["olap"]) as warehouse, psycopg.connect(many["content"]) as content:
        assert warehouse.execute(counted).fetchone() == (7,)
        if changed:
            content.execute("update email_messages set open_count = 3 where storage_key = 'm5'")
            content.commit()
        found = one(many, MESSAGES)
        assert (found.state, found.details["row_count"]) == ("equal", [7, 2000])
        warehouse.commit()
        assert warehouse.execute(counted).fetchone() == (2000,)
    assert "row_count" not in one(many, MESSAGES).details


# -- finding and mending ---------------------------------------------------------------------------


@pytest.mark.every_postgres
@pytest.mark.parametrize("full", [True, False], ids=["every row", "since the mark"])
def test_changes_past_the_triggers_are_found_in_exactly_their_buckets_and_mended(many: Tiers, full: bool) -> None:
    table = specs.find(MESSAGES)
    first = one(many, MESSAGES)
    assert (first.state, first.mode, first.compared_rows) == ("equal", "full", 2000)
    quiet = one(many, MESSAGES)
    assert (quiet.state, quiet.mode, quiet.compared_rows) == ("equal", "changes", 0)

    total = first.buckets
    wanted = {bucket_of(many["content"], table, total, key) for key in ("m7", "m8", "m9", "m10")}
    past_triggers(many["content"], "update email_messages set click_count = 99 where storage_key = 'm7'")
    past_triggers(many["content"], "delete from email_messages where storage_key = 'm8'")
    past_triggers(many["olap"], "update raw_content.email_messages set open_count = 5 where storage_key = 'm9'")
    past_triggers(many["olap"], "delete from raw_content.email_messages where storage_key = 'm10'")
    load(many, MESSAGES)  # a run does not see them

    found = one(many, MESSAGES, full=full)
    assert (found.state, found.missing, found.stale, found.ghost) == ("different", 1, 2, 1)
    assert (found.unequal_buckets, set(found.details["unequal"])) == (len(wanted), wanted)
    if not full:
        assert found.compared_rows < 1500

    bookmark = _bookmark(many)
    mended = one(many, MESSAGES, full=full, fix=True)
    assert (mended.state, mended.mended) == ("equal", 4)
    assert _bookmark(many) == (bookmark[0], 1999)
    assert one(many, MESSAGES, full=True).state == "equal"
    assert _slices(many) >= {"m7", "m8", "m9", "m10"}


def _bookmark(tiers: Tiers) -> tuple[Any, ...]:
    with psycopg.connect(tiers["olap"]) as connection:
        row = connection.execute("select horizon::text, row_count from ops.bookmarks").fetchone()
    assert row is not None
    return row


def _slices(tiers: Tiers) -> set[str]:
    with psycopg.connect(tiers["olap"]) as connection:
        found = connection.execute("select storage_key from ops.touched_slices where kind = 'message'").fetchall()
    return {row[0] for row in found}


@pytest.mark.parametrize(
    "name", [c.name for c in specs.find(MESSAGES).raw_columns if c.name not in ("storage_key", "tenant_id")]
)
def test_every_column_that_is_copied_is_compared(reused_messages: Tiers, name: str) -> None:
    """Each column in turn is spoilt in raw alone: a checksum that forgot one would call the table equal."""
    column = next(c for c in specs.find(MESSAGES).raw_columns if c.name == name)
    other = {
        "uuid": "gen_random_uuid()",
        "boolean": f"not coalesce({name}, false)",
        "integer": f"coalesce({name}, 0) + 1",
    }
    value = other.get(column.type, "'2001-02-03'" if column.type == "timestamptz" else "'x'")
    past_triggers(reused_messages["olap"], f"update raw_content.email_messages set {name} = {value}")
    found = one(reused_messages, MESSAGES)
    assert (found.state, found.stale) == ("different", 1)
    assert one(reused_messages, MESSAGES, fix=True).state == "equal"


@pytest.fixture(scope="module")
def reused_messages(postgres: Any) -> Iterator[Tiers]:
    databases = Databases(postgres)
    with psycopg.connect(databases["content"], autocommit=True) as connection:
        make(connection, "email_messages")
    load(databases, MESSAGES)
    assert one(databases, MESSAGES).state == "equal"
    yield databases
    databases.drop()


def test_null_and_empty_are_not_the_same(tiers: Tiers, content: psycopg.Connection) -> None:
    make(content, "email_opens", user_agent="")
    load(tiers, MESSAGES, OPENS)
    past_triggers(tiers["olap"], "update raw_content.email_opens set user_agent = null")
    assert one(tiers, OPENS).stale == 1


def test_a_raw_row_that_claims_to_be_newer_than_its_bookmark_is_a_difference(
    tiers: Tiers, content: psycopg.Connection
) -> None:
    make(content, "email_messages")
    load(tiers, MESSAGES)
    past_triggers(tiers["olap"], "update raw_content.email_messages set _change_xid = '900000000000'")
    assert one(tiers, MESSAGES).stale == 1
    assert one(tiers, MESSAGES, fix=True).state == "equal"
    content.execute("update email_messages set open_count = 4")
    load(tiers, MESSAGES)
    assert one(tiers, MESSAGES, full=True).state == "equal"


# -- what is on its way is no difference -----------------------------------------------------------


@pytest.mark.parametrize("name", [MESSAGES, TENANTS])
def test_rows_in_flight_are_no_differences(tiers: Tiers, name: str) -> None:
    table = specs.find(name)
    key = table.key[0]
    with db.connect(tiers[table.source], table.source, autocommit=True) as source:
        rows = [make(source, table.name) for _ in range(6)]
        load(tiers, name)
        assert one(tiers, name).state == "equal"
        source.execute(f"update {table.name} set updated = now() where {key} = %s", [rows[0][key]])  # type: ignore[arg-type]
        source.execute(f"delete from {table.name} where {key} = %s", [rows[1][key]])  # type: ignore[arg-type]
        make(source, table.name)
        for full in (True, False):
            found = one(tiers, name, full=full)
            assert found.state in ("equal", "waiting"), found
            assert (found.missing, found.stale) == (0, 0)
        load(tiers, name)
        assert one(tiers, name).state == "equal"
        assert one(tiers, name, full=True).waiting == 0


def test_a_truncation_that_was_not_read_yet_waits(many: Tiers, content: psycopg.Connection) -> None:
    content.execute("truncate email_messages")
    assert one(many, MESSAGES).state == "waiting"
    load(many, MESSAGES)
    assert one(many, MESSAGES).state == "equal"


def test_rows_older_than_the_source_keeps_them_are_not_missed(tiers: Tiers, content: psycopg.Connection) -> None:
    old = now() - timedelta(days=100)
    make(content, "email_opens", created=old, opened=old)
    make(content, "email_opens")
    load(tiers, MESSAGES, OPENS)
    past_triggers(tiers["content"], "delete from email_opens where created < now() - interval '95 days'")
    assert one(tiers, OPENS, full=True).state == "equal"
    past_triggers(tiers["content"], "delete from email_opens")
    assert one(tiers, OPENS).ghost == 1


def test_fixing_beside_a_run_loses_no_change(many: Tiers, content: psycopg.Connection) -> None:
    """Changes in flight are read by the repair too, and once more by the next run."""
    past_triggers(many["olap"], "update raw_content.email_messages set open_count = 5")
    content.execute("update email_messages set click_count = 3 where storage_key in ('m1', 'm2')")
    content.execute("delete from email_messages where storage_key = 'm3'")
    with psycopg.connect(many["content"]) as open_writer:
        open_writer.execute("update email_messages set click_count = 4 where storage_key = 'm4'")
        assert one(many, MESSAGES, fix=True).state == "equal"
    load(many, MESSAGES)
    assert one(many, MESSAGES, full=True).state == "equal"
    assert _bookmark(many)[1] == 1999


# -- the mark --------------------------------------------------------------------------------------


def test_a_difference_does_not_move_the_mark_and_is_found_again(many: Tiers) -> None:
    mark = one(many, MESSAGES).verified_through
    past_triggers(many["content"], "update email_messages set click_count = 99 where storage_key = 'm7'")
    for _ in range(2):
        found = one(many, MESSAGES)
        assert (found.state, found.mode, found.verified_through) == ("different", "changes", None)
    assert mark is not None


@pytest.mark.parametrize(
    "spoil",
    ["fingerprint = 'other columns'", "raw_timeline = 77", "system_identifier = 1", "raw_through = '9000000000'"],
)
def test_a_mark_of_another_world_is_not_believed(many: Tiers, spoil: str) -> None:
    one(many, MESSAGES)
    past_triggers(many["olap"], f"update ops.reconcile_marks set {spoil}")
    assert one(many, MESSAGES).mode == "full"


def test_a_table_that_cannot_be_compared_says_why_and_lets_the_others_through(
    tiers: Tiers, content: psycopg.Connection
) -> None:
    make(content, "email_messages")
    make(content, "content_objects")
    load(tiers, MESSAGES, "content.content_objects")
    past_triggers(tiers["olap"], "update ops.bookmarks set system_identifier = 1 where table_name = 'content_objects'")
    found = compare(tiers, "content.content_objects", MESSAGES, OPENS)
    assert [r.state for r in found.values()] == ["failed", "equal", "never_read"]
    assert "penguin ingest --full --table content.content_objects" in found["content.content_objects"].details["error"]
    with db.connect(tiers["olap"], "olap", role="pm_etl") as warehouse:
        assert {s: r["state"] for s, r in reconcile.verified(warehouse).items()} == {
            s: r.state for s, r in found.items()
        }


# -- the marts -------------------------------------------------------------------------------------


def _each_column_differs(found: dict[str, Compared], states: dict[str, str]) -> None:
    assert {s: r.state for s, r in found.items() if r.state != "equal"} == states


def test_marts_are_the_sums_of_raw_and_a_fix_reaches_them(tiers: Tiers, dbt_home: Path) -> None:
    generate(tiers, Options(tenants=2, messages=600, days=20, seed=11, as_of=AS_OF), lambda *_: None)
    load(tiers)
    build.run(tiers["olap"], home=dbt_home, as_of=AS_OF)
    _each_column_differs(compare(tiers, marts=True), {})

    # Past the triggers: read again by the fix, and built by the build that follows.
    some = "select storage_key from email_messages where campaign_id is not null and not is_warmup order by 1 limit 3"
    past_triggers(tiers["content"], f"delete from email_messages where storage_key in ({some})")
    # And marts alone: sums that somebody edited.
    first = "select min(id) from marts.mailbox_analytics where sent > 0"
    edited = f"update marts.mailbox_analytics set sent = sent + 1, delivered = delivered + 1 where id = ({first})"
    past_triggers(tiers["olap"], edited)
    found = compare(tiers, MESSAGES, marts=True)
    _each_column_differs(found, {MESSAGES: "different", "marts.mailbox_analytics": "different"})
    assert set(found["marts.mailbox_analytics"].details["months"][0]["counters"]) == {"sent", "delivered"}

    compare(tiers, MESSAGES, fix=True)
    waiting = compare(tiers, MESSAGES, marts=True)
    assert waiting[MESSAGES].state == "equal"
    assert waiting["intermediate.int_messages"].state == "waiting"
    build.run(tiers["olap"], home=dbt_home, as_of=AS_OF)
    compare(tiers, MESSAGES, marts=True, fix=True)
    build.run(tiers["olap"], home=dbt_home, as_of=AS_OF)
    _each_column_differs(compare(tiers, marts=True, full=True), {})
