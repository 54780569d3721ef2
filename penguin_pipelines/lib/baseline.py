"""First reads of very large tables: in ranges of blocks, each from a short snapshot and with a commit of its own.

The horizon H is read before the first range and becomes the bookmark. A range delivers the rows that were there at H
and have not changed since; whatever changes while the ranges are read carries a transaction id of H or above and
arrives with the first window, which starts at H: a row that moves to another block, a row that is new, the tombstone
of a row that left. So no row is read twice and none is missed, whatever order the ranges are read in.

A killed read goes on where it stopped. It starts over when that would be wrong: another source, other columns, or a
table whose file was rewritten (VACUUM FULL, CLUSTER, TRUNCATE), which moves rows without a transaction id.

The rows gather in a table beside the raw table. That appears only with the commit that also holds what changed
meanwhile (`adopt`, then a merge): nobody ever sees half of a table.

Not here: which rows a range delivers (extract), keys and indexes (load), when a table is read this way (ingest).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from penguin_pipelines.errors import BaselineRunning, PenguinError
from penguin_pipelines.lib import db, extract, load
from penguin_pipelines.lib.extract import Bookmark, Identity, Snapshot
from penguin_pipelines.lib.load import Throttle
from penguin_pipelines.lib.specs import Table, long_type
from penguin_pipelines.lib.sql import blocks, compose
from penguin_pipelines.settings import Settings

ATTEMPTS = 3
"""How often a read starts over by itself because the table was rewritten meanwhile."""

SLOW_SNAPSHOT_SECONDS = 30
"""A throttled range is made so small that its snapshot is not held for longer."""


@dataclass(frozen=True)
class Limits:
    """What one look at a source may cost it."""

    chunk_bytes: int = 512 * 2**20
    """Size of a range; larger tables are read in ranges at first."""
    window_rows: int = 2_000_000
    """Rows of a window that are read from one snapshot."""
    readers: int = 1
    """Ranges that are read at the same time, each over a connection of its own."""
    bytes_per_second: int | None = None
    """What all readers of first reads together may take."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings say."""
        rate = settings.ingest_mb_per_second
        return cls(
            chunk_bytes=settings.ingest_chunk_mb * 2**20,
            readers=settings.ingest_readers,
            bytes_per_second=rate * 2**20 if rate else None,
        )

    @property
    def range_bytes(self) -> int:
        """Size of a range with regard to the throttle."""
        if self.bytes_per_second is None:
            return self.chunk_bytes
        return min(self.chunk_bytes, self.bytes_per_second * SLOW_SNAPSHOT_SECONDS)


@dataclass(frozen=True)
class Progress:
    """How far a first read is."""

    table: str
    rows: int
    expected: int
    share: float
    seconds_left: int | None

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", about {self.seconds_left // 60 + 1} min left"
        return f"{self.table}: {self.rows:,} rows, {self.share:.0%}{left}"


Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class _Read:
    """A first read that is under way."""

    horizon: int
    identity: Identity
    columns: dict[str, str]
    files: dict[str, int]
    expected: int
    is_ready: bool


class _Rewritten(Exception):
    """The table is not where it was: rows may have moved between ranges."""


def sizes(snapshot: Snapshot, tables: Iterable[Table]) -> dict[str, int]:
    """Bytes of each table of the source by name, partitions included."""
    names = [t.name for t in tables]
    return dict(snapshot.connection.execute(blocks("baseline")["sizes"], {"tables": names}).fetchall())


def begun(warehouse: psycopg.Connection, table: Table) -> bool:
    """Whether a first read in ranges is under way or waits for its first window."""
    return _known(warehouse, table) is not None


def read(
    urls: Mapping[str, str], table: Table, *, pseudonym_key: str, foreign: bool = False, limits: Limits, tell: Tell
) -> None:
    """Reads what is left of a table, up to where only the changes since the beginning are missing.

    Commits range by range. Raises BaselineRunning when another process reads the same table.
    """
    origin = _Origin(urls[table.source], table, pseudonym_key, foreign)
    with (
        contextlib.closing(db.open_connection(urls["olap"], "olap", role="pm_loader", autocommit=True)) as warehouse,
        _turn(warehouse, table),
    ):
        for _ in range(ATTEMPTS):
            known = _resumable(warehouse, origin)
            known = known or _begin(warehouse, origin, limits)
            if known.is_ready:
                return
            try:
                _read_ranges(urls["olap"], warehouse, origin, known, limits, tell)
            except _Rewritten:
                _abandon(warehouse, table)
                continue
            _finish(warehouse, table)
            return
    raise PenguinError(
        f"{table.full_name} was rewritten {ATTEMPTS} times while it was read (VACUUM FULL, CLUSTER or TRUNCATE). "
        f"Keep them away and run: penguin ingest --table {table.full_name}"
    )


def adopt(warehouse: psycopg.Connection, table: Table) -> Bookmark | None:
    """Makes a completed first read the raw table and returns the bookmark that its first window starts from.

    None when there is none. Caller merges the window and commits both.
    """
    known = _known(warehouse, table)
    if known is None:
        return None
    if not known.is_ready:
        raise _running(table)
    rows = sum(count or 0 for _, _, count in _ranges(warehouse, table))
    warehouse.execute(compose("baseline", "appear", landing=_landing(table), raw=sql.Identifier(table.name)))
    warehouse.execute(blocks("baseline")["forget"], _named(table))
    load.touch_everything(warehouse, table)
    return Bookmark(known.horizon, known.identity, rows)


@dataclass(frozen=True)
class _Origin:
    """Where a table is read from."""

    url: str
    table: Table
    pseudonym_key: str
    foreign: bool

    def snapshot(self) -> contextlib.AbstractContextManager[Snapshot]:
        return extract.open_snapshot(
            self.url, self.table.source, pseudonym_key=self.pseudonym_key, foreign=self.foreign
        )


@contextlib.contextmanager
def _turn(warehouse: psycopg.Connection, table: Table) -> Iterator[None]:
    """Keeps other processes from the same first read; a killed one lets go with its connection."""
    row = warehouse.execute(blocks("baseline")["try_turn"], {"table": table.full_name}).fetchone()
    if row != (True,):
        raise _running(table)
    try:
        yield
    finally:
        if not warehouse.broken:
            warehouse.execute(blocks("baseline")["end_turn"], {"table": table.full_name})


def _running(table: Table) -> BaselineRunning:
    return BaselineRunning(
        f"The first read of {table.full_name} is under way in another process; this run leaves it alone. "
        "It goes on from where it is with the next run, should that process end."
    )


def _known(warehouse: psycopg.Connection, table: Table) -> _Read | None:
    row = warehouse.execute(blocks("baseline")["known"], _named(table)).fetchone()
    return _Read(int(row[0]), Identity(*row[1:4]), *row[4:]) if row else None


def _ranges(warehouse: psycopg.Connection, table: Table) -> list[tuple[int, int, int | None]]:
    return warehouse.execute(blocks("baseline")["ranges"], _named(table)).fetchall()


def _resumable(warehouse: psycopg.Connection, origin: _Origin) -> _Read | None:
    """What is known of an earlier read, if going on is right; otherwise it is thrown away."""
    known = _known(warehouse, origin.table)
    if known is None:
        return None
    with origin.snapshot() as snapshot:
        if (
            known.identity == snapshot.identity
            and known.horizon <= snapshot.ceiling
            and known.columns == _columns(origin.table)
            and not _moved(snapshot, origin.table, known)
        ):
            return known
    _abandon(warehouse, origin.table)
    return None


def _begin(warehouse: psycopg.Connection, origin: _Origin, limits: Limits) -> _Read:
    """Notes the horizon and the ranges, and makes the table that the rows gather in."""
    table = origin.table
    with origin.snapshot() as snapshot:
        found = _files(snapshot, table)
        known = _Read(
            snapshot.horizon, snapshot.identity, _columns(table),
            {str(oid): file for oid, file, *_ in found}, sum(f[4] for f in found), is_ready=False,
        )  # fmt: skip
        begun = snapshot.read
    with warehouse.transaction():
        warehouse.execute(blocks("load")["take_turn"], {"table": table.full_name})
        if load.raw_columns(warehouse, table):
            raise _running(table)
        warehouse.execute(compose("baseline", "landing_gone", table=_landing(table)))
        load.create(warehouse, table, _landing(table))
        warehouse.execute(
            blocks("baseline")["begin"],
            {
                **_named(table),
                "horizon": str(known.horizon),
                **vars(known.identity),
                "columns": Jsonb(known.columns),
                "files": Jsonb(known.files),
                "rows_expected": known.expected,
                "begun": begun,
            },
        )
        for first, end in boundaries([(blocks_, size) for _, _, blocks_, size, _ in found], limits.range_bytes):
            warehouse.execute(blocks("baseline")["add_range"], {**_named(table), "first": first, "end": end})
    return known


def boundaries(files: Sequence[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks over files of (blocks, bytes), the same blocks of each, of about `most` bytes together."""
    first, last = 0, max((count for count, _ in files), default=0)
    while first < last:
        density = sum(size / count for count, size in files if count > first)
        end = min(last, first + max(1, int(most / density)))
        yield first, end
        first = end


def _read_ranges(
    warehouse_url: str, warehouse: psycopg.Connection, origin: _Origin, known: _Read, limits: Limits, tell: Tell
) -> None:
    ranges = _ranges(warehouse, origin.table)
    waiting = [(first, end) for first, end, rows in ranges if rows is None]
    meter = _Meter(origin.table, known.expected, ranges, tell)
    throttle = Throttle(limits.bytes_per_second) if limits.bytes_per_second else None
    stop = threading.Event()

    def one(first: int, end: int) -> tuple[int, int, int] | None:
        if stop.is_set():
            return None
        with (
            contextlib.closing(db.open_connection(warehouse_url, "olap", role="pm_loader", autocommit=True)) as target,
            origin.snapshot() as snapshot,
        ):
            return first, end, _read_range(snapshot, target, origin.table, known, (first, end), throttle)

    with ThreadPoolExecutor(max_workers=limits.readers, thread_name_prefix="range") as pool:
        try:
            for done in as_completed([pool.submit(one, first, end) for first, end in waiting]):
                if result := done.result():
                    meter.add(*result)
        finally:
            # After an error or an interrupt the ranges at work are finished and kept, the others are not begun.
            stop.set()


def _read_range(
    snapshot: Snapshot,
    warehouse: psycopg.Connection,
    table: Table,
    known: _Read,
    bounds: tuple[int, int],
    throttle: Throttle | None,
) -> int:
    if known.identity != snapshot.identity:
        raise _Rewritten
    query = extract.range_rows(snapshot, table, known.horizon, *bounds)
    with warehouse.transaction():
        rows = load.pump(snapshot.connection, query, warehouse, _landing(table), load.filled_columns(table), throttle)
        # After the rows: the lock that reading took keeps the files as they are until the snapshot ends.
        if _moved(snapshot, table, known):
            raise _Rewritten
        warehouse.execute(blocks("baseline")["range_done"], {**_named(table), "first": bounds[0], "rows": rows})
    return rows


class _Meter:
    """Tells rows, share and time left; the pace is that of this process."""

    def __init__(self, table: Table, expected: int, ranges: Sequence[tuple[int, int, int | None]], tell: Tell) -> None:
        self._table, self._expected, self._tell = table, expected, tell
        self._total = sum(end - first for first, end, _ in ranges)
        self._done = self._before = sum(end - first for first, end, rows in ranges if rows is not None)
        self._rows = sum(rows or 0 for *_, rows in ranges)
        self._began = time.monotonic()

    def add(self, first: int, end: int, rows: int) -> None:
        self._done += end - first
        self._rows += rows
        pace = (self._done - self._before) / max(time.monotonic() - self._began, 0.001)
        left = int((self._total - self._done) / pace)
        share = self._done / self._total
        self._tell(Progress(self._table.full_name, self._rows, max(self._expected, self._rows), share, left))


def _finish(warehouse: psycopg.Connection, table: Table) -> None:
    try:
        with warehouse.transaction():
            load.complete(warehouse, table, _landing(table))
            warehouse.execute(blocks("baseline")["ready"], _named(table))
    except psycopg.errors.UniqueViolation as e:
        _abandon(warehouse, table)
        raise PenguinError(
            f"Rows of {table.full_name} changed without their trigger while it was read ({e.diag.message_detail}). "
            f"What was read is thrown away; run once more: penguin ingest --table {table.full_name}"
        ) from None


def _abandon(warehouse: psycopg.Connection, table: Table) -> None:
    with warehouse.transaction():
        warehouse.execute(compose("baseline", "landing_gone", table=_landing(table)))
        warehouse.execute(blocks("baseline")["forget"], _named(table))


def _files(snapshot: Snapshot, table: Table) -> list[Any]:
    """Oid, file, blocks, bytes and estimated rows of the table or of each partition, which stay until the end."""
    snapshot.connection.execute(compose("baseline", "hold", table=extract.source_relation(table)))
    found = snapshot.connection.execute(blocks("baseline")["files"], {"table": f'public."{table.name}"'})
    return found.fetchall()


def _moved(snapshot: Snapshot, table: Table, known: _Read) -> bool:
    """Whether a file was rewritten. A partition that was taken off meanwhile has nothing more to read."""
    now = {str(oid): file for oid, file, *_ in _files(snapshot, table)}
    return any(now.get(oid, file) != file for oid, file in known.files.items())


def _columns(table: Table) -> dict[str, str]:
    return {c.name: f"{long_type(c.type)} {c.how} of {c.origin}" for c in table.raw_columns}


def _landing(table: Table) -> sql.Identifier:
    return sql.Identifier(table.raw_schema, f"{table.name}__baseline")


def _named(table: Table) -> dict[str, Any]:
    return {"source": table.source, "table": table.name}
