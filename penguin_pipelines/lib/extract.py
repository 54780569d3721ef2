"""Reads a source exactly: one snapshot, a horizon below everything still being written, windows without gap or overlap.

Why this is exact: every tracked row carries the id of the transaction that last wrote it (change_xid). The horizon
H is the oldest transaction that may still write, so every transaction below H has ended and its rows are visible in
our snapshot. Rows with `previous H <= change_xid < H` are therefore all there is to know about that range of
transactions, for ever. H is read first, in the same REPEATABLE READ snapshot as the rows. Tables that must not be
altered are read by row xmin, from the previous H upwards, without an upper bound: rows may arrive twice, none is
missed.

Not here: what happens to the rows (load), which tables there are (specs).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from penguin_pipelines.errors import ConnectionFailed, SourceReplaced, TableDrift, TableRewritten
from penguin_pipelines.lib import db
from penguin_pipelines.lib.specs import Column, Table
from penguin_pipelines.lib.sql import blocks, compose
from penguin_pipelines.migrations import runner

PSEUDONYM_LENGTH = 32
_BLOCK = 64  # bytes, block size of SHA-256


@dataclass(frozen=True)
class Holder:
    """Who keeps the horizon low: the oldest transaction that may still write."""

    pid: int | None
    seconds: int
    what: str

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid else self.what
        return f"held back by {who} for {self.seconds // 60} min {self.seconds % 60} s"


@dataclass(frozen=True)
class Identity:
    """Where transaction ids have their meaning: a database of a cluster on a timeline."""

    system_identifier: int
    timeline: int
    database_oid: int | None
    """None in bookmarks of older releases."""


@dataclass(frozen=True)
class Bookmark:
    """How far a table has been read."""

    horizon: int
    identity: Identity
    row_count: int

    @classmethod
    def of(cls, row: Sequence[Any]) -> Bookmark:
        """From horizon, system identifier, timeline, rows and database, as the queries give them."""
        return cls(int(row[0]), Identity(row[1], row[2], row[4]), row[3])


@dataclass(frozen=True)
class Snapshot:
    """One consistent look at a source. All its tables are read through `connection`, inside one transaction."""

    source: str
    connection: psycopg.Connection
    horizon: int
    ceiling: int
    identity: Identity
    read: datetime
    holder: Holder | None
    columns: dict[str, dict[str, str]]


@contextlib.contextmanager
def open_snapshot(url: str, source: str, *, pseudonym_key: str, foreign: bool = False) -> Iterator[Snapshot]:
    """Opens a source as pm_loader in one READ ONLY REPEATABLE READ transaction and reads the horizon first.

    A foreign source knows no such role; it is read with the rights of its login. `row_security = off` makes a reader
    that lost BYPASSRLS fail instead of delivering nothing.
    """
    connection = db.open_connection(url, source, role=None if foreign else "pm_loader")
    try:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("set local row_security = off")
        window = connection.execute(blocks("extract")["begin_window"]).fetchone()
        assert window is not None
        inner, outer = hmac_pads(pseudonym_key)
        connection.execute(
            "select set_config('penguin.ipad', %s, true), set_config('penguin.opad', %s, true)", [inner, outer]
        )
        held = connection.execute(blocks("extract")["held_back_by"]).fetchone() if window[0] != window[1] else None
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(blocks("extract")["source_columns"]):
            columns.setdefault(table, {})[column] = kind
        yield Snapshot(
            source=source,
            connection=connection,
            horizon=int(window[0]),
            ceiling=int(window[1]),
            identity=Identity(window[2], window[3], window[5]),
            read=window[4],
            holder=Holder(*held) if held else None,
            columns=columns,
        )
    except psycopg.errors.InsufficientPrivilege as e:
        if foreign:
            raise ConnectionFailed(
                f"Source '{source}' does not let its login read everything ({e.diag.message_primary}). Grant it SELECT "
                "on the tables of the stanzas, and BYPASSRLS where they have row level security, then run once more; "
                "no bookmark has moved."
            ) from None
        raise ConnectionFailed(
            f"Source '{source}' does not let pm_loader read everything ({e.diag.message_primary}). "
            "Give the role BYPASSRLS again (alter role pm_loader bypassrls) and run once more; no bookmark has moved."
        ) from None
    finally:
        connection.close()


def prepare(url: str, tables: Sequence[Table], *, foreign: bool = False) -> list[Table]:
    """The tables of one source in the mode in which they can be read there.

    A source of our own must be at the newest revision. Of a foreign one nothing is asked: tables whose changes our
    triggers do not mark are read by xmin, whatever the stanza says.
    """
    source = tables[0].source
    with db.connect(url, source) as connection:
        if not foreign:
            runner.require_head(connection, source)
            return list(tables)
        marked = {name for (name,) in connection.execute(blocks("extract")["marked_tables"])}
    return [t if t.name in marked else t.model_copy(update={"mode": "xmin"}) for t in tables]


def hmac_pads(key: str) -> tuple[str, str]:
    """Inner and outer pad of HMAC-SHA256 in hex, so that plain sha256() in SQL makes a true keyed hash."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block).hex(), bytes(b ^ 0x5C for b in block).hex()


def check_identity(snapshot: Snapshot, table: Table, bookmark: Bookmark) -> None:
    """Stops when a bookmark speaks of another cluster or database: its transaction ids mean nothing here."""
    seen, here = bookmark.identity, snapshot.identity
    remedy = f"Read the table anew with: penguin ingest --full --table {table.full_name}"
    if seen.system_identifier != here.system_identifier:
        raise SourceReplaced(
            f"Source '{snapshot.source}' is another cluster than {table.full_name} was read from. {remedy}"
        )
    if seen.timeline != here.timeline:
        raise SourceReplaced(
            f"Source '{snapshot.source}' is on timeline {here.timeline}, {table.full_name} was read on "
            f"{seen.timeline}: it was restored or failed over. {remedy}"
        )
    if seen.database_oid not in (None, here.database_oid):
        raise SourceReplaced(
            f"Source '{snapshot.source}' is another database of the cluster (oid {here.database_oid}) than "
            f"{table.full_name} was read from (oid {seen.database_oid}): it was dropped and restored, or its URL "
            f"changed. {remedy}"
        )
    if bookmark.horizon > snapshot.ceiling:
        raise SourceReplaced(
            f"The bookmark of {table.full_name} ({bookmark.horizon}) lies beyond the last transaction of source "
            f"'{snapshot.source}' ({snapshot.ceiling}). {remedy}"
        )


def check_columns(snapshot: Snapshot, table: Table) -> list[str]:
    """Raises TableDrift when a column that is read was dropped, renamed or retyped; returns columns nobody declared."""
    live = snapshot.columns.get(table.name)
    if live is None:
        raise TableDrift(
            f"Source '{table.source}' has no table '{table.name}'; restore it, "
            f"or take its stanza out of tables/{table.source}.yml."
        )
    for name, wanted in table.source_types.items():
        if name not in live:
            raise TableDrift(
                f"{table.full_name} has no column '{name}' any more; restore it, "
                f"or change its stanza in tables/{table.source}.yml. Its bookmark has not moved."
            )
        if live[name] != wanted:
            raise TableDrift(
                f"{table.full_name}.{name} is {live[name]}, its stanza says {wanted}; change one of them. "
                "Its bookmark has not moved."
            )
    known = {*table.source_types, *table.columns.never, "change_xid"}
    return sorted(set(live) - known)


def hold(snapshot: Snapshot, table: Table) -> None:
    """Locks a table against being rewritten until the snapshot ends; raises TableRewritten when it just was.

    ALTER TABLE and TRUNCATE do not heed snapshots: a table rewritten after ours looks empty in it.
    """
    snapshot.connection.execute(compose("extract", "hold", table=_name(table)))
    if _scalar(snapshot, blocks("extract")["rewritten"], {"table": f'public."{table.name}"'}):
        raise TableRewritten(
            f"{table.full_name} was rewritten (ALTER TABLE, VACUUM FULL, TRUNCATE) while a run began to read it. "
            f"Its bookmark has not moved; run once more: penguin ingest --table {table.full_name}"
        )


def has_changes(snapshot: Snapshot, table: Table, low: int) -> bool:
    """Whether any row changed or left since `low`."""
    query = compose("extract", "has_changes", table=_name(table), window=window(snapshot, table, low))
    if _scalar(snapshot, query):
        return True
    if table.mode == "xmin":
        return False
    parameters = {"table": table.name, "low": str(low), "high": str(snapshot.horizon)}
    return bool(_scalar(snapshot, blocks("extract")["has_tombstones"], parameters))


def window(snapshot: Snapshot, table: Table, low: int | None) -> sql.Composable:
    """Condition for the rows written since `low`.

    None is a baseline, which has no bound at all: a restored table may carry ids from the future of this cluster.
    """
    if low is None:
        return sql.SQL("true")
    if table.mode == "xmin":
        return sql.SQL("{} >= {}").format(_row_xid(snapshot), sql.Literal(low))
    return sql.SQL("change_xid >= {}::xid8 and change_xid < {}::xid8").format(
        sql.Literal(str(low)), sql.Literal(str(snapshot.horizon))
    )


def rows(snapshot: Snapshot, table: Table, low: int | None, wanted: sql.Composable | None = None) -> sql.Composed:
    """COPY statement that delivers the window in the order of `table.raw_columns`, then the transaction id.

    With `wanted`, those rows of a baseline that fulfil it.

    A row from above the horizon is delivered as if from just below it: a transaction that still runs may change it
    under a smaller id than it carries now, and a restored row may carry an id from the future. Either must not win
    against the next window, which delivers the row again when it changed.
    """
    xid = _xid(snapshot, table)
    if low is None or table.mode == "xmin":
        xid = sql.SQL("least({}, {}::xid8)").format(xid, sql.Literal(str(snapshot.horizon - 1)))
    columns = sql.SQL(", ").join([*values(table), xid])
    return compose(
        "extract", "rows", columns=columns, table=_name(table), window=wanted or window(snapshot, table, low)
    )


def values(table: Table) -> list[sql.Composable]:
    """Expressions over a source row that give the columns of the raw row, in the order of `table.raw_columns`."""
    return [_expression(column) for column in table.raw_columns]


def tombstones(snapshot: Snapshot, table: Table, low: int) -> sql.Composed:
    """COPY statement for the keys that left since `low` and are not back, in the order of `table.raw_key`."""
    types = table.columns.plain
    keys = sql.SQL(", ").join(
        sql.SQL("(key ->> {})::{} as {}").format(
            sql.Literal(k), sql.SQL(cast("LiteralString", types[k])), sql.Identifier(k)
        )
        for k in table.raw_key
    )
    match = sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier("t", k), sql.Identifier("g", k)) for k in table.raw_key
    )
    return compose(
        "extract", "tombstones", keys=keys, names=_names(table.raw_key), of=sql.Literal(table.name),
        table=_name(table), match=match, low=sql.Literal(str(low)), high=sql.Literal(str(snapshot.horizon)),
    )  # fmt: skip


def last_truncate(snapshot: Snapshot, table: Table, low: int) -> int | None:
    """Transaction of the last TRUNCATE since `low`."""
    parameters = {"table": table.name, "low": str(low), "high": str(snapshot.horizon)}
    found = _scalar(snapshot, blocks("extract")["truncated"], parameters)
    return int(str(found)) if found else None


def keys(table: Table, wanted: sql.Composable) -> sql.Composed:
    """COPY statement for the keys of the rows that fulfil a condition, in the order of `table.raw_key`."""
    return compose("extract", "keys", keys=_names(table.raw_key), table=_name(table), wanted=wanted)


def before(low: int) -> sql.Composable:
    """Condition for the rows of a tracked table that earlier windows brought."""
    return sql.SQL("change_xid < {}::xid8").format(sql.Literal(str(low)))


def part_of_window(snapshot: Snapshot, table: Table, low: int, most: int) -> Snapshot | None:
    """The snapshot with a lower horizon, when the window since `low` holds more than `most` rows; else None.

    Any horizon below the snapshot's own is as good: what lies between arrives with the next window. The rows of one
    transaction are never parted.
    """
    if table.mode == "xmin":
        return None
    parts = {"table": _name(table), "window": window(snapshot, table, low)}
    found = snapshot.connection.execute(compose("extract", "split", rows=sql.Literal(most), **parts)).fetchone()
    assert found is not None
    first, beyond = found
    if beyond is not None and beyond == first:
        beyond = _scalar(snapshot, compose("extract", "next_xid", xid=sql.Literal(first), **parts))
    return None if beyond is None else dataclasses.replace(snapshot, horizon=int(str(beyond)))


def range_rows(snapshot: Snapshot, table: Table, horizon: int, first: int, end: int) -> sql.Composed:
    """COPY statement for the blocks `first` to `end` as of `horizon`, which is older than the snapshot.

    Rows that changed since are left to the first window, which starts at `horizon`. What remains was there before the
    first range was read and has not moved, so no row is in two ranges and none is between them. An id from above the
    snapshot is that of a restored row, not of a change.
    """
    xid, low, ceiling = _xid(snapshot, table), sql.Literal(str(horizon)), sql.Literal(str(snapshot.ceiling))
    if table.mode == "xmin":
        changed = sql.SQL("{} >= {}::bigint").format(_row_xid(snapshot), low)
    else:
        changed = sql.SQL("{0} >= {1}::xid8 and {0} < {2}::xid8").format(xid, low, ceiling)
    capped = sql.SQL("least({}, {}::xid8)").format(xid, sql.Literal(str(horizon - 1)))
    return compose(
        "baseline", "rows", columns=sql.SQL(", ").join([*values(table), capped]),
        table=_name(table), first=sql.Literal(f"({first},0)"), end=sql.Literal(f"({end},0)"), changed=changed,
    )  # fmt: skip


def source_relation(table: Table) -> sql.Composable:
    """The source table as an identifier."""
    return _name(table)


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier("public", table.name)


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _xid(snapshot: Snapshot, table: Table) -> sql.Composable:
    """The transaction that wrote the row, as xid8."""
    if table.mode == "xmin":
        return sql.SQL("({}::text)::xid8").format(_row_xid(snapshot))
    return sql.SQL("change_xid")


def _row_xid(snapshot: Snapshot) -> sql.Composable:
    return row_xid(snapshot.ceiling)


def row_xid(ceiling: int) -> sql.Composable:
    """The row's xmin with its epoch, as bigint: xmin alone wraps every four billion transactions.

    `ceiling` is the first transaction id that has not been given out yet.
    """
    low = ceiling % 2**32
    base = ceiling - low
    return sql.SQL("(xmin::text::bigint + case when xmin::text::bigint <= {} then {} else {} end)").format(
        sql.Literal(low), sql.Literal(base), sql.Literal(base - 2**32)
    )


def _expression(column: Column) -> sql.Composable:
    name = sql.Identifier(column.origin)
    if column.how == "plain":
        return name
    if column.how == "domain":
        return sql.SQL("lower(substring({} from '@([^@]*)$'))").format(name)
    return sql.SQL(
        "left(encode(sha256((select decode(current_setting('penguin.opad'), 'hex')) || sha256("
        "(select decode(current_setting('penguin.ipad'), 'hex')) || convert_to(lower({}::text), 'UTF8'))), 'hex'), {})"
    ).format(name, sql.Literal(PSEUDONYM_LENGTH))


def _scalar(snapshot: Snapshot, query: sql.Composed | str, parameters: dict[str, str] | None = None) -> object:
    row = snapshot.connection.execute(query, parameters).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None
