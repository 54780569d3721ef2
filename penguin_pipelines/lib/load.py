"""Writes windows of a source table into its raw table: rows, touched slices and bookmark in one warehouse transaction.

What happens to deleted rows, once for all tables: a row that left its source stays in raw with `_deleted` set, and
staging hides it. Deletes are applied before upserts, because a row deleted and inserted again in one transaction,
or moved between partitions, leaves a tombstone with the live row's own transaction id.

Not here: what a window is (extract), the order of tables and sources (ingest).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import generators, pq, sql
from psycopg.abc import Buffer, PQGen
from psycopg.types.json import Jsonb
from psycopg.waiting import Wait

from penguin_pipelines.lib import buckets, extract
from penguin_pipelines.lib.extract import Bookmark, Holder, Snapshot
from penguin_pipelines.lib.specs import Table, long_type
from penguin_pipelines.lib.sql import blocks, compose

_MESSAGE = ("tenant_id", "storage_key", "activity_date", "campaign_id", "step_id", "mailbox_id", "lead_id")


BLOCK = 256 * 1024
"""Bytes that are gathered before they go to the warehouse."""


@dataclass(frozen=True)
class Loaded:
    """What one load of one table did."""

    table: str
    mode: str
    delivered: int
    written: int
    deleted: int
    slices: int
    row_count: int
    horizon: int
    unlisted: tuple[str, ...] = ()
    holder: Holder | None = None

    @property
    def changed(self) -> bool:
        """Whether the warehouse was written to at all."""
        return self.mode != "idle"


class Throttle:
    """Bytes a second that all readers together may take from a source."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free = time.monotonic()

    def spend(self, size: int) -> None:
        """Waits until what was read so far is within the rate."""
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + size / self._rate
            wait = self._free - now
        time.sleep(wait)


def bookmarks(warehouse: psycopg.Connection, source: str) -> dict[str, Bookmark]:
    """Bookmarks of a source by table."""
    found = warehouse.execute(blocks("load")["bookmarks"], {"source": source})
    return {row[0]: Bookmark.of(row[1:]) for row in found}


def baseline(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table) -> Loaded:
    """First load: straight into the new raw table, keys and indexes built after. Caller commits."""
    raw = raw_relation(table)
    create(warehouse, table, raw)
    delivered = pump(snapshot.connection, extract.rows(snapshot, table, None), warehouse, raw, filled_columns(table))
    complete(warehouse, table, raw)
    slices = touch_everything(warehouse, table)
    _set_bookmark(warehouse, snapshot, table, delivered)
    return Loaded(table.full_name, "baseline", delivered, delivered, 0, slices, delivered, snapshot.horizon)


def create(warehouse: psycopg.Connection, table: Table, relation: sql.Identifier) -> None:
    """An empty raw table without keys."""
    columns = sql.SQL(", ").join(_typed(c.name, c.type) for c in table.raw_columns)
    warehouse.execute(compose("load", "create_raw", table=relation, columns=columns))


def complete(warehouse: psycopg.Connection, table: Table, relation: sql.Identifier) -> None:
    """Key, indexes, protection and statistics of a raw table that has its rows."""
    name = sql.Identifier(f"{table.name}_pkey")
    warehouse.execute(compose("load", "primary_key", table=relation, constraint=name, key=_list(table.raw_key)))
    for columns in table.indexes:
        _index(warehouse, table, relation, columns)
    warehouse.execute(compose("load", "protect_raw", table=relation))
    warehouse.execute(compose("load", "grant_raw", table=relation))
    warehouse.execute(sql.SQL("analyze {}").format(relation))


def missing_indexes(warehouse: psycopg.Connection, table: Table) -> list[tuple[str, ...]]:
    """Indexes that the stanza asks for and an existing raw table lacks, because the stanza gained them later."""
    if not table.indexes:
        return []
    found = warehouse.execute(blocks("load")["indexed"], {"table": f"{table.raw_schema}.{table.name}"})
    have = {tuple(row[0] or ()) for row in found}
    return [columns for columns in table.indexes if columns not in have]


def add_indexes(warehouse: psycopg.Connection, table: Table) -> None:
    """Builds the missing indexes of a raw table. Readers go on; only other loads of the table wait."""
    for columns in missing_indexes(warehouse, table):
        _index(warehouse, table, raw_relation(table), columns)


def _index(warehouse: psycopg.Connection, table: Table, relation: sql.Identifier, columns: tuple[str, ...]) -> None:
    name = sql.Identifier(f"{table.name}_{'_'.join(columns)}_idx")
    warehouse.execute(compose("load", "index", index=name, table=relation, columns=_list(columns)))


def filled_columns(table: Table) -> list[str]:
    """Columns of a raw table in the order in which its rows arrive."""
    return [*(c.name for c in table.raw_columns), "_change_xid"]


def merge(
    warehouse: psycopg.Connection,
    snapshot: Snapshot,
    table: Table,
    bookmark: Bookmark | None,
    *,
    all_touched: bool = False,
) -> Loaded:
    """Brings an existing raw table up to the snapshot: a window since the bookmark, or everything without one.

    `all_touched` leaves single slices out, where everything is marked already. Caller commits.
    """
    single = bookmark is not None and not all_touched and table.slice != "none"
    low = bookmark.horizon if bookmark else None
    raw = raw_relation(table)
    _landing(warehouse, table)
    incoming = sql.Identifier("incoming")
    delivered = pump(
        snapshot.connection, extract.rows(snapshot, table, low), warehouse, incoming, filled_columns(table)
    )
    _collect_deletes(warehouse, snapshot, table, bookmark)
    if delivered > 1000:
        warehouse.execute("analyze incoming")

    slices = _old_slices(warehouse, table) if single else 0
    older = sql.SQL("true" if bookmark is None else blocks("load")["older"])
    deletes = compose("load", "apply_deletes", table=raw, match=_match("r", "g", table), older=older)
    deleted = warehouse.execute(deletes).rowcount
    replaced = _one(warehouse, compose("load", "replaced", table=raw, match=_match("r", "i", table)))[0]
    written, noted = _upsert(warehouse, table, full=bookmark is None, slices=single)
    if bookmark is None:
        count = _one(warehouse, compose("load", "count_live", table=raw))[0]
        slices = touch_everything(warehouse, table)
    else:
        count = bookmark.row_count + written - replaced - deleted
    _set_bookmark(warehouse, snapshot, table, count)
    mode = "full" if low is None else "delta"
    return Loaded(table.full_name, mode, delivered, written, deleted, slices + noted, count, snapshot.horizon)


def repair(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, wanted: sql.Composable) -> Loaded | None:
    """Makes the raw rows that fulfil `wanted`, a condition on the key, equal to the source again; None when another
    run has read the table beyond the snapshot. The bookmark stays where it is. Caller commits.
    """
    warehouse.execute(blocks("load")["take_turn"], {"table": table.full_name})
    row = warehouse.execute(blocks("load")["bookmark"], {"source": table.source, "table": table.name}).fetchone()
    if row is None or int(row[0]) > snapshot.horizon:
        return None
    raw, names = raw_relation(table), [c.name for c in table.raw_columns]
    _landing(warehouse, table)
    delivered = pump(
        snapshot.connection, extract.rows(snapshot, table, None, wanted), warehouse, sql.Identifier("incoming"),
        filled_columns(table),
    )  # fmt: skip
    _gather_missing(warehouse, snapshot, table, wanted)
    slices = 0
    if table.slice != "none":
        slice_columns, kind, values, through = _slice(table)
        query = compose(
            "reconcile", "repair_old_slices", slice=slice_columns, kind=kind, cause=sql.Literal(table.full_name),
            old=values, table=raw, through=through, match_incoming=_match("r", "i", table),
            match_gone=_match("r", "g", table), mine=_qualified("r", names), theirs=_qualified("i", names),
        )  # fmt: skip
        slices = warehouse.execute(query).rowcount
    deleted = warehouse.execute(
        compose("load", "apply_deletes", table=raw, match=_match("r", "g", table), older=sql.SQL("true"))
    ).rowcount
    written, noted = _upsert(warehouse, table, full=True, slices=table.slice != "none")
    count = recount(warehouse, table)
    return Loaded(table.full_name, "repair", delivered, written, deleted, slices + noted, count, int(row[0]))


def recount(warehouse: psycopg.Connection, table: Table) -> int:
    """Makes the row count of a bookmark right again, while no other run loads the table. Caller commits."""
    warehouse.execute(blocks("load")["take_turn"], {"table": table.full_name})
    names = {"source": sql.Literal(table.source), "short": sql.Literal(table.name)}
    return _one(warehouse, compose("load", "recount", table=raw_relation(table), **names))[0]


def kept(snapshot: Snapshot, table: Table) -> sql.Composable:
    """Condition for the raw rows `r` that the source still has to hold: those within its own retention."""
    if not table.floor:
        return sql.SQL("true")
    return sql.SQL("r.{} >= {} - {}::interval").format(
        sql.Identifier(table.floor_column), sql.Literal(snapshot.read), sql.Literal(table.floor)
    )


def raw_columns(warehouse: psycopg.Connection, table: Table) -> dict[str, str]:
    """Columns that the raw table has; empty when it does not exist."""
    found = warehouse.execute(blocks("load")["raw_columns"], {"table": f"{table.raw_schema}.{table.name}"})
    return dict(found.fetchall())


def add_columns(warehouse: psycopg.Connection, table: Table, have: dict[str, str]) -> list[str]:
    """Adds columns that the stanza has gained; returns their names. Their values come with a full read."""
    new = [c for c in table.raw_columns if c.name not in have]
    for column in new:
        warehouse.execute(
            sql.SQL("alter table {} add column {}").format(raw_relation(table), _typed(column.name, column.type))
        )
    return [c.name for c in new]


def pump(
    source: psycopg.Connection,
    query: sql.Composed,
    target: psycopg.Connection,
    relation: sql.Composable,
    columns: Iterable[str],
    throttle: Throttle | None = None,
) -> int:
    """Moves rows in binary COPY from server to server and returns how many; they never become Python objects."""
    into = sql.SQL("copy {} ({}) from stdin (format binary)").format(relation, _list(columns))
    with source.cursor() as reader, target.cursor() as writer:
        with reader.copy(query), writer.copy(into) as incoming:
            for block in _blocks(source):
                incoming.write(block)
                if throttle:
                    throttle.spend(len(block))
        return writer.rowcount


def _blocks(source: psycopg.Connection) -> Iterator[Buffer]:
    """What an open COPY delivers, in blocks of about BLOCK bytes.

    psycopg hands over one row at a time and waits for each through Python, which costs more than both servers'
    share of the work. Here rows that libpq holds already are taken in a bare loop.
    """
    take = source.pgconn.get_copy_data
    block = bytearray()
    while True:
        length, row = take(1)
        if length > BLOCK:
            # Not copied once more: it may be the largest value that Postgres can hold.
            if block:
                yield block
            yield row
            block = bytearray()
        elif length > 0:
            block += row
            if len(block) >= BLOCK:
                yield block
                block = bytearray()
        elif length == 0:
            source.wait(_arrival(source.pgconn))
        else:
            break
    if block:
        yield block
    (result,) = source.wait(generators.fetch_many(source.pgconn))
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)


def _arrival(connection: pq.abc.PGconn) -> PQGen[None]:
    """Waits until the server has sent more."""
    while not (yield Wait.R):
        pass
    connection.consume_input()


def _landing(warehouse: psycopg.Connection, table: Table) -> None:
    """Makes `incoming` and `gone`, where rows and keys that left arrive before they are merged."""
    columns = sql.SQL(", ").join(_typed(c.name, c.type) for c in table.raw_columns)
    warehouse.execute(compose("load", "incoming", columns=columns))
    keys = sql.SQL(", ").join(_typed(k, table.columns.plain[k]) for k in table.raw_key)
    warehouse.execute(compose("load", "gone", columns=keys))


def _collect_deletes(
    warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, bookmark: Bookmark | None
) -> None:
    """Fills `gone`: from tombstones where the table is ours and they name every key, else by comparing keys."""
    if bookmark is None:
        _gather_missing(warehouse, snapshot, table, sql.SQL("true"))
        return
    # A TRUNCATE names no key: then they are compared, as where no trigger tells.
    if table.mode == "xid8" and extract.last_truncate(snapshot, table, bookmark.horizon) is None:
        query = extract.tombstones(snapshot, table, bookmark.horizon)
        columns = [*table.raw_key, "_change_xid", "_deleted"]
        pump(snapshot.connection, query, warehouse, sql.Identifier("gone"), columns)
        return
    number = buckets.fitting(bookmark.row_count)
    if unequal := _unequal_buckets(warehouse, snapshot, table, number, arrived=True):
        wanted = sql.SQL("{} = any ({})").format(buckets.bucket(table, number), sql.Literal(unequal))
        _gather_missing(warehouse, snapshot, table, wanted)


def _gather_missing(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, wanted: sql.Composable) -> None:
    """Adds to `gone` the live raw keys that fulfil a condition and that the source does not hold."""
    keys = list(table.raw_key)
    types = sql.SQL(", ").join(_typed(k, table.columns.plain[k]) for k in keys)
    warehouse.execute(compose("load", "present", columns=types))
    pump(snapshot.connection, extract.keys(table, wanted), warehouse, sql.Identifier("present"), keys)
    warehouse.execute(
        compose(
            "load", "missing", table=raw_relation(table), key=_list(keys), raw_key=_qualified("r", keys),
            wanted=wanted, xid=sql.Literal(str(snapshot.horizon - 1)), kept=kept(snapshot, table),
            match=_match("r", "p", table),
        )
    )  # fmt: skip


def keys_left(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table) -> bool:
    """Whether the source of a table without tombstones holds other keys than its raw table."""
    return bool(_unequal_buckets(warehouse, snapshot, table, 1, arrived=False))


def _unequal_buckets(
    warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, number: int, *, arrived: bool
) -> list[int]:
    """Buckets whose keys differ between source and raw, with the rows that have arrived and are not merged yet."""
    here = [buckets.bucket_digests(warehouse, table, raw_relation(table), number, live=True)]
    if arrived:
        new = compose(
            "load",
            "arrived",
            key=_qualified("i", table.raw_key),
            table=raw_relation(table),
            match=_match("r", "i", table),
        )
        here.append(buckets.bucket_digests(warehouse, table, new, number, live=False))
    source = extract.source_relation(table)
    there = buckets.bucket_digests(snapshot.connection, table, source, number, live=False)
    return buckets.unequal(buckets.total(here), there)


def _old_slices(warehouse: psycopg.Connection, table: Table) -> int:
    slice_columns, kind, values, through = _slice(table)
    query = compose(
        "load", "old_slices", slice=slice_columns, kind=kind, cause=sql.Literal(table.full_name), old=values,
        table=raw_relation(table), through=through,
        match_incoming=_match("r", "i", table), match_gone=_match("r", "g", table),
    )  # fmt: skip
    return warehouse.execute(query).rowcount


def _upsert(warehouse: psycopg.Connection, table: Table, *, full: bool, slices: bool) -> tuple[int, int]:
    """Merges what arrived: a window where it is newer, a full read wherever it differs.

    A full read is the truth of its snapshot, also about rows with the same transaction id (a column that is new, a
    change that no trigger saw) or with one of another cluster.
    """
    names = [c.name for c in table.raw_columns]
    wins: sql.Composable = sql.SQL(blocks("load")["newer"])
    if full:
        wins = compose("load", "different", mine=_qualified("r", names), theirs=_qualified("excluded", names))
    assignments = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(n)) for n in names if n not in table.raw_key
    )
    note: sql.Composable = sql.SQL(blocks("load")["no_slices"])
    if slices:
        slice_columns, kind, values, through = _slice(table)
        note = compose(
            "load",
            "new_slices",
            slice=slice_columns,
            kind=kind,
            cause=sql.Literal(table.full_name),
            new=values,
            through=through,
        )
    query = compose(
        "load",
        "upsert",
        table=raw_relation(table),
        columns=_list(names),
        key=_list(table.raw_key),
        assignments=assignments,
        wins=wins,
        note=note,
    )
    row = _one(warehouse, query)
    return row[0], row[1]


def _slice(table: Table) -> tuple[sql.Composable, sql.Composable, sql.Composable, sql.Composable]:
    """Columns of a slice, its kind, their values from the raw row `r`, and the join that finds them."""
    nothing = sql.SQL("")
    message = sql.SQL(
        "{0}.tenant_id, {0}.storage_key, ({0}.sent at time zone 'UTC')::date, {0}.campaign_id, {0}.sequence_step_id, "
        "{0}.email_account_id, {0}.lead_id"
    )
    if table.slice == "message":
        return _list(_MESSAGE), sql.Literal("message"), message.format(sql.SQL("r")), nothing
    if table.slice == "event":
        through = sql.SQL(
            "join raw_content.email_messages as m on m.tenant_id = r.tenant_id and m.storage_key = r.storage_key"
        )
        return _list(_MESSAGE), sql.Literal("message"), message.format(sql.SQL("m")), through
    if table.hour:
        hour = sql.SQL("date_trunc('hour', r.{}, 'UTC')").format(sql.Identifier(table.hour))
        return _list(("event_hour",)), sql.Literal("hour"), hour, nothing
    tenant = sql.SQL("r.tenant_id") if table.tenant else sql.SQL("null::uuid")
    entity = sql.SQL("r.{}").format(sql.Identifier(table.entity)) if table.entity else sql.SQL("null::uuid")
    return _list(("tenant_id", "entity_id")), sql.Literal("entity"), sql.SQL("{}, {}").format(tenant, entity), nothing


def touch_everything(warehouse: psycopg.Connection, table: Table) -> int:
    """Marks everything that reads the table as to be built."""
    if table.slice == "none":
        return 0
    return warehouse.execute(compose("load", "everything", cause=sql.Literal(table.full_name))).rowcount


def _set_bookmark(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, count: int) -> None:
    warehouse.execute(
        blocks("load")["set_bookmark"],
        {
            "source": table.source,
            "table": table.name,
            "horizon": str(snapshot.horizon),
            **vars(snapshot.identity),
            "columns": Jsonb({c.name: long_type(c.type) for c in table.raw_columns}),
            "row_count": count,
            "source_read": snapshot.read,
        },
    )


def name_database(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table) -> None:
    """Completes a bookmark of an older release, which does not know its database, once its cluster is confirmed."""
    names = {"source": table.source, "table": table.name, "database_oid": snapshot.identity.database_oid}
    warehouse.execute(blocks("load")["name_database"], names)


def raw_relation(table: Table) -> sql.Identifier:
    """The raw table as an identifier."""
    return sql.Identifier(table.raw_schema, table.name)


def _typed(name: str, kind: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))  # type: ignore[arg-type]


def _list(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _qualified(alias: str, names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, n) for n in names)


def _match(left: str, right: str, table: Table) -> sql.Composed:
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(left, k), sql.Identifier(right, k)) for k in table.raw_key
    )


def _one(warehouse: psycopg.Connection, query: sql.Composed) -> tuple[int, ...]:
    row = warehouse.execute(query).fetchone()
    assert row is not None
    return row
