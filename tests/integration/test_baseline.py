"""First reads in ranges and windows in parts, on real servers: whatever happens between two parts, nothing is lost,
doubled or seen half.

What happens in between is staged in the callback that follows each part, so every run meets the same moments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from factories import make
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.errors import BaselineRunning
from penguin_pipelines.lib import baseline, db, ingest, load, specs
from penguin_pipelines.lib.baseline import Limits, Progress
from penguin_pipelines.lib.ingest import Failed
from penguin_pipelines.lib.load import Loaded

everywhere = pytest.mark.every_postgres

MESSAGES, OPENS, TENANTS = (specs.find(n) for n in ("content.email_messages", "content.email_opens", "oltp.tenants"))
SMALL = Limits(chunk_bytes=16_384, window_rows=20)
ROWS = 150

Between = Callable[[int], None]


class Interrupted(Exception):
    """Stands for a kill: what has been committed stays, nothing else."""


def run(tiers: Databases, table: specs.Table, limits: Limits = SMALL, between: Between = lambda _: None) -> Loaded:
    """One run over one table; `between` is called with the number of each part when it is done."""
    settle(tiers[table.source])
    count = itertools.count(1)
    told: list[Progress] = []

    def progressed(progress: Progress) -> None:
        told.append(progress)
        between(next(count))

    (result,) = ingest.ingest(tiers, [table], pseudonym_key=PSEUDONYM_KEY, limits=limits, progressed=progressed)
    assert isinstance(result, Loaded), result
    assert [p.rows for p in told] == sorted(p.rows for p in told)
    return result


def fill(connection: psycopg.Connection, rows: int = ROWS) -> None:
    """Messages that fill many blocks, and an open of each, in the partitions of two months."""
    message = make(connection, "email_messages", storage_key="m0000", subject="s" * 400)
    make(connection, "email_opens", storage_key="m0000", tenant_id=message["tenant_id"])
    connection.execute(
        "insert into email_messages select (jsonb_populate_record(m, jsonb_build_object("
        "  'storage_key', 'm' || lpad(i::text, 4, '0'), 'message_ref_id', gen_random_uuid()))).* "
        "from email_messages as m, generate_series(1, %s) as i where storage_key = 'm0000'",
        [rows - 1],
    )
    connection.execute(
        "insert into email_opens overriding system value select (jsonb_populate_record(o, jsonb_build_object("
        "  'storage_key', 'm' || lpad(i::text, 4, '0'), 'id', o.id + i, 'event_key', i::text, "
        "  'opened', o.opened - i %% 2 * interval '31 days'))).* "
        "from email_opens as o, generate_series(1, %s) as i where storage_key = 'm0000'",
        [rows - 1],
    )


def rows_of(tiers: Databases, table: specs.Table, tier: str, relation: sql.Composable, live: str) -> list[str]:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns.plain))
    query = sql.SQL("select row({})::text from {} where {} order by 1").format(columns, relation, sql.SQL(live))  # type: ignore[arg-type]
    with db.connect(tiers[tier], tier) as connection:
        return [row[0] for row in connection.execute(query)]


def assert_equal(tiers: Databases, table: specs.Table) -> None:
    """Compares once everything lies below the horizon, which other databases of the server may have kept low."""
    run(tiers, table)
    raw = sql.Identifier(table.raw_schema, table.name)
    truth = rows_of(tiers, table, table.source, sql.Identifier(table.name), "true")
    assert truth
    assert rows_of(tiers, table, "olap", raw, "_deleted is null") == truth
    with db.connect(tiers["olap"], "olap") as warehouse:
        assert load.bookmarks(warehouse, table.source)[table.name].row_count == len(truth)
        assert warehouse.execute("select count(*) from ops.baselines").fetchone() == (0,)
        assert warehouse.execute(
            "select to_regclass(%s)", [f"{table.raw_schema}.{table.name}__baseline"]
        ).fetchone() == (None,)


def has_raw(tiers: Databases, table: specs.Table) -> bool:
    with db.connect(tiers["olap"], "olap") as warehouse:
        return bool(load.raw_columns(warehouse, table))


@pytest.fixture
def content(tiers: Databases) -> Iterator[psycopg.Connection]:
    with psycopg.connect(tiers["content"], autocommit=True) as connection:
        yield connection


@everywhere
@pytest.mark.parametrize("table", [MESSAGES, OPENS], ids=lambda t: t.name)
def test_whatever_changes_between_two_ranges_arrives_once(
    tiers: Databases, content: psycopg.Connection, table: specs.Table
) -> None:
    fill(content)
    statements = [
        "update email_messages set click_count = click_count + 1, subject = repeat('x', 480)",  # moves to other blocks
        "delete from email_messages where storage_key in ('m0003', 'm0140')",
        "delete from email_opens where storage_key in ('m0005', 'm0141')",
        "vacuum email_messages, email_opens",  # later rows take the free places of ranges that were read
        "update email_opens set opened = opened - interval '31 days' where opened > now() - interval '5 days'",
        "update email_messages set storage_key = 'again' where storage_key = 'm0145'",
    ]

    def between(number: int) -> None:
        if number <= len(statements):
            content.execute(statements[number - 1])  # type: ignore[arg-type]
        make(content, "email_messages", storage_key=f"new{number}")

    done = run(tiers, table, between=between)
    assert done.mode == "baseline"
    assert_equal(tiers, table)


@everywhere
def test_a_table_that_must_not_be_altered_is_read_in_ranges_too(tiers: Databases) -> None:
    with psycopg.connect(tiers["oltp"], autocommit=True) as oltp:
        oltp.execute(
            "insert into tenants (id, name) select gen_random_uuid(), repeat('n', 300) from generate_series(1, %s)",
            [ROWS],
        )
        rows = [row[0] for row in oltp.execute("select id from tenants order by ctid")]

        def between(number: int) -> None:
            if number == 1:
                oltp.execute("update tenants set name = 'renamed' where id = %s", [rows[0]])
                oltp.execute("update tenants set name = repeat('x', 400) where id = %s", [rows[-1]])
                oltp.execute("delete from tenants where id = any(%s)", [[rows[3], rows[-2]]])

        assert run(tiers, TENANTS, between=between).mode == "baseline"
        assert_equal(tiers, TENANTS)


def test_a_killed_first_read_goes_on_where_it_stopped_and_nobody_sees_half_of_it(
    tiers: Databases, content: psycopg.Connection
) -> None:
    fill(content)
    with pytest.raises(Interrupted):
        run(tiers, MESSAGES, between=_interrupt_at(3))
    assert not has_raw(tiers, MESSAGES)
    with db.connect(tiers["olap"], "olap") as warehouse:
        horizon = warehouse.execute("select horizon from ops.baselines").fetchone()
        assert warehouse.execute("select count(*) from ops.touched_slices").fetchone() == (0,)
    content.execute("update email_messages set click_count = 7, subject = repeat('x', 480)")
    parts: list[int] = []

    def between(number: int) -> None:
        parts.append(number)
        with db.connect(tiers["olap"], "olap") as warehouse:
            assert warehouse.execute("select horizon from ops.baselines").fetchone() == horizon

    run(tiers, MESSAGES, between=between)
    with db.connect(tiers["olap"], "olap") as warehouse:
        assert warehouse.execute("select kind, cause from ops.touched_slices where kind = 'all'").fetchall() == [
            ("all", MESSAGES.full_name)
        ]
    assert_equal(tiers, MESSAGES)
    assert 0 < len(parts) < len(_parts_of_a_whole_read(tiers, content))


def _parts_of_a_whole_read(tiers: Databases, content: psycopg.Connection) -> list[int]:
    """Parts that the same blocks take from the beginning."""
    with db.connect(tiers["olap"], "olap") as warehouse:
        warehouse.execute("drop table raw_content.email_messages")
        warehouse.execute("delete from ops.bookmarks")
    parts: list[int] = []
    run(tiers, MESSAGES, between=parts.append)
    return parts


def _interrupt_at(last: int) -> Between:
    def between(number: int) -> None:
        if number == last:
            raise Interrupted

    return between


@pytest.mark.parametrize("statement", ["vacuum full email_messages", "truncate email_messages cascade"])
def test_a_table_rewritten_during_its_first_read_is_read_from_the_beginning(
    tiers: Databases, content: psycopg.Connection, statement: str
) -> None:
    fill(content)
    # Free blocks in front: the rewrite moves every row into ranges that have been read.
    content.execute("delete from email_messages where storage_key < 'm0060'")

    def between(number: int) -> None:
        if number == 3:
            content.execute(statement)  # type: ignore[arg-type]
            make(content, "email_messages")

    run(tiers, MESSAGES, between=between)
    assert_equal(tiers, MESSAGES)


def test_a_first_read_of_another_source_starts_over(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content)
    with pytest.raises(Interrupted):
        run(tiers, MESSAGES, between=_interrupt_at(3))
    with db.connect(tiers["olap"], "olap") as warehouse:
        warehouse.execute("update ops.baselines set system_identifier = 1")
    assert_equal(tiers, MESSAGES)


def test_a_second_run_leaves_a_first_read_alone_and_says_so(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content)
    met: list[object] = []

    def between(number: int) -> None:
        if number == 2:
            met.extend(ingest.ingest(tiers, [MESSAGES], pseudonym_key=PSEUDONYM_KEY, limits=SMALL))

    run(tiers, MESSAGES, between=between)
    (other,) = met
    assert isinstance(other, Failed) and isinstance(other.error, BaselineRunning)
    assert_equal(tiers, MESSAGES)


def test_ranges_read_side_by_side_and_slowly_give_the_same_table(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content)
    run(tiers, MESSAGES, Limits(chunk_bytes=16_384, readers=3, bytes_per_second=2**20))
    assert_equal(tiers, MESSAGES)


def test_ranges_cover_every_block_of_every_file_once() -> None:
    files = [(10, 80_000), (3, 900_000), (0, 0), (1000, 8_000_000)]
    found = list(baseline.boundaries(files, 100_000))
    assert found[0][0] == 0 and found[-1][1] == 1000
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    heaviest = max(
        sum(size / n * max(0, min(end, n) - first) for n, size in files if n > first) for first, end in found
    )
    assert heaviest < 400_000  # one block of each file, if it is more than the wanted size
    assert list(baseline.boundaries([], 100)) == []


# -- windows ---------------------------------------------------------------------------------------


@everywhere
def test_a_large_window_is_read_in_parts_with_a_bookmark_each(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content, 5)
    run(tiers, MESSAGES)
    fill_more(content)

    def between(number: int) -> None:
        # Changes of rows that were read and of rows that were not, a deletion, and a key that comes back.
        content.execute("update email_messages set click_count = %s where storage_key in ('w01', 'w55')", [number])
        if number == 2:
            content.execute("delete from email_messages where storage_key in ('w02', 'w50')")
            make(content, "email_messages", storage_key="w02")

    parts: list[int] = []
    done = run(tiers, MESSAGES, between=lambda n: (between(n), parts.append(n))[0])
    # What a transaction of another test held back comes with the next run.
    rest = run(tiers, MESSAGES)
    assert len(parts) >= 2 and done.mode == "delta" and done.delivered + rest.delivered >= 60
    assert_equal(tiers, MESSAGES)


def test_a_killed_large_window_goes_on_after_its_last_part(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content, 5)
    run(tiers, MESSAGES)
    fill_more(content)
    with pytest.raises(Interrupted):
        run(tiers, MESSAGES, between=_interrupt_at(2))
    assert run(tiers, MESSAGES).delivered == 20
    assert_equal(tiers, MESSAGES)


def test_rows_of_one_transaction_are_never_parted(tiers: Databases, content: psycopg.Connection) -> None:
    fill(content, 50)
    run(tiers, MESSAGES)
    content.execute("update email_messages set click_count = 9")
    make(content, "email_messages")
    parts: list[int] = []
    assert run(tiers, MESSAGES, between=parts.append).delivered == 51
    assert parts == [1]
    assert_equal(tiers, MESSAGES)


def fill_more(connection: psycopg.Connection) -> None:
    """Sixty rows of a transaction each."""
    for number in range(60):
        make(connection, "email_messages", storage_key=f"w{number:02}")
