"""Runs ingestion: every wanted table of a source from one snapshot, each in a warehouse transaction of its own.

A table that fails is named and leaves its bookmark and the other tables alone. Nothing is written for a table
without changes. Not here: the exact window (extract), the merge (load), Dagster (defs/ingestion).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import baseline, db, extract, load, specs
from penguin_pipelines.lib.baseline import Limits, Tell
from penguin_pipelines.lib.extract import Bookmark, Snapshot
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.specs import Table
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.migrations import runner


@dataclass(frozen=True)
class Failed:
    """A table that could not be loaded, and why."""

    table: str
    error: PenguinError


_T = TypeVar("_T")
Result = Loaded | Failed
Started = Callable[[str, int, int], None]


def ingest(
    urls: Mapping[str, str],
    tables: Sequence[Table],
    *,
    pseudonym_key: str,
    full: bool = False,
    foreign: Collection[str] = (),
    limits: Limits = Limits(),
    started: Started = lambda *_: None,
    progressed: Tell = lambda _: None,
) -> Iterator[Result]:
    """Loads tables of any sources and yields one result each, in stanza order.

    What one snapshot must not hold is read before, in parts from short snapshots: very large tables that are new, and
    very large windows. `progressed` is called after each part. What is left then comes from one snapshot a source.

    Every source's snapshot is taken before the first write: where tiers share a cluster, our own open write would
    hold the horizon back. The bookmarks are read before the snapshots: one that another run sets in between would
    look as if it came from the future. Sources in `foreign` were not made by
    our migrations. `started(table, number, total)` is called before each table.
    """
    sources = [s for s in specs.SOURCES if any(t.source == s for t in tables)]
    with db.connect(urls["olap"], "olap") as connection:
        runner.require_head(connection, "olap")
    ordered: list[Table] = []
    for source in sources:
        wanted = [t for t in specs.tables(source) if t in tables]
        ordered += extract.prepare(urls[source], wanted, foreign=source in foreign)
    with contextlib.ExitStack() as stack:
        warehouse = stack.enter_context(
            contextlib.closing(db.open_connection(urls["olap"], "olap", role="pm_loader", autocommit=True))
        )
        parts = _Parts(urls, warehouse, pseudonym_key, foreign, limits, progressed)
        before: dict[str, list[Loaded] | Failed] = {}
        for source in sources:
            for table, job in parts.needed([t for t in ordered if t.source == source], full=full):
                before[table.full_name] = _guarded(table, job)
        known = {s: load.bookmarks(warehouse, s) for s in sources}
        snapshots = {
            s: stack.enter_context(extract.open_snapshot(urls[s], s, pseudonym_key=pseudonym_key, foreign=s in foreign))
            for s in sources
        }
        for number, table in enumerate(ordered, start=1):
            started(table.full_name, number, len(ordered))
            already = before.get(table.full_name, [])
            if isinstance(already, Failed):
                yield already
                continue
            snapshot, seen = snapshots[table.source], known[table.source].get(table.name)

            def load_it(snapshot: Snapshot = snapshot, table: Table = table, seen: Bookmark | None = seen) -> Loaded:
                # A savepoint: an error would otherwise spoil the snapshot for the tables that follow.
                with snapshot.connection.transaction():
                    return _table(warehouse, snapshot, table, seen, full)

            done = _guarded(table, load_it)
            yield done if isinstance(done, Failed) else _summed([*already, done], snapshot)


def _guarded(table: Table, work: Callable[[], _T]) -> _T | Failed:
    """The work on one table, or why it failed. A missing privilege concerns the whole source and is raised."""
    try:
        return work()
    except PenguinError as e:
        return Failed(table.full_name, e)
    except psycopg.errors.InsufficientPrivilege:
        raise  # open_snapshot has the remedy
    except psycopg.Error as e:
        said = e.diag.message_primary or str(e)
        return Failed(table.full_name, PenguinError(f"The database refused: {said}. Its bookmark has not moved."))


def _summed(parts: Sequence[Loaded], snapshot: Snapshot) -> Loaded:
    """What several loads of one table did together, the last one telling how it stands."""
    last = parts[-1]
    return dataclasses.replace(
        last,
        mode="delta" if last.mode == "idle" and len(parts) > 1 else last.mode,
        delivered=sum(p.delivered for p in parts),
        written=sum(p.written for p in parts),
        deleted=sum(p.deleted for p in parts),
        slices=sum(p.slices for p in parts),
        holder=snapshot.holder,
    )


@dataclass(frozen=True)
class _Parts:
    """What is read in parts, before the snapshots that all tables share."""

    urls: Mapping[str, str]
    warehouse: psycopg.Connection
    pseudonym_key: str
    foreign: Collection[str]
    limits: Limits
    progressed: Tell

    def needed(self, tables: Sequence[Table], *, full: bool) -> Iterator[tuple[Table, Callable[[], list[Loaded]]]]:
        """Tables of one source that are too large for one snapshot, each with the work that is to be done first."""
        known = load.bookmarks(self.warehouse, tables[0].source)
        new = [t for t in tables if t.name not in known and not load.raw_columns(self.warehouse, t)]
        windows: list[Table] = []
        with self._snapshot(tables[0].source) as snapshot:
            sizes = baseline.sizes(snapshot, new) if new else {}
            for table in tables:
                seen = known.get(table.name)
                if seen and not full and self._first_part(snapshot, table, seen):
                    windows.append(table)
        for table in new:
            large = sizes.get(table.name, 0) > self.limits.chunk_bytes
            if large or baseline.begun(self.warehouse, table):
                yield table, lambda table=table: self._baseline(table)
        for table in windows:
            yield table, lambda table=table: self._windows(table)

    def _baseline(self, table: Table) -> list[Loaded]:
        with self._snapshot(table.source) as snapshot:
            extract.check_columns(snapshot, table)
        baseline.read(
            self.urls, table, pseudonym_key=self.pseudonym_key, foreign=table.source in self.foreign,
            limits=self.limits, tell=self.progressed,
        )  # fmt: skip
        return []

    def _windows(self, table: Table) -> list[Loaded]:
        """Loads the parts of a large window, each from a snapshot and with a bookmark of its own, but for the last."""
        done: list[Loaded] = []
        while True:
            with self._snapshot(table.source) as snapshot:
                seen = load.bookmarks(self.warehouse, table.source)[table.name]
                part = self._first_part(snapshot, table, seen)
                if part is None:
                    return done
                with self.warehouse.transaction():
                    done.append(_in_turn(self.warehouse, part, table, full=False))
                share = (part.horizon - seen.horizon) / max(1, snapshot.horizon - seen.horizon)
                rows = sum(d.delivered for d in done)
                self.progressed(baseline.Progress(table.full_name, rows, int(rows / max(share, 0.01)), share, None))

    def _first_part(self, snapshot: Snapshot, table: Table, seen: Bookmark) -> Snapshot | None:
        """The snapshot as far as one part goes. What is wrong with the table is reported with the table."""
        try:
            extract.check_columns(snapshot, table)
            extract.check_identity(snapshot, table, seen)
        except PenguinError:
            return None
        return extract.part_of_window(snapshot, table, seen.horizon, self.limits.window_rows)

    def _snapshot(self, source: str) -> contextlib.AbstractContextManager[Snapshot]:
        return extract.open_snapshot(
            self.urls[source], source, pseudonym_key=self.pseudonym_key, foreign=source in self.foreign
        )


def _table(
    warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, seen: Bookmark | None, full: bool
) -> Loaded:
    unlisted = tuple(extract.check_columns(snapshot, table))
    extract.hold(snapshot, table)
    if seen and not full:
        extract.check_identity(snapshot, table, seen)
        gained = [c for c in table.raw_columns if c.name not in load.raw_columns(warehouse, table)]
        gained_index = load.missing_indexes(warehouse, table)
        if not gained and not gained_index and not _changed(warehouse, snapshot, table, seen):
            if seen.identity.database_oid is None:
                load.name_database(warehouse, snapshot, table)
            return Loaded(table.full_name, "idle", 0, 0, 0, 0, seen.row_count, seen.horizon, unlisted)
    with warehouse.transaction():
        done = _in_turn(warehouse, snapshot, table, full)
    return dataclasses.replace(done, unlisted=unlisted)


def _changed(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, seen: Bookmark) -> bool:
    if extract.has_changes(snapshot, table, seen.horizon):
        return True
    return table.mode == "xmin" and load.keys_left(warehouse, snapshot, table)


def _in_turn(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, full: bool) -> Loaded:
    """Loads one table while no other run does. The bookmark is read under the lock: a faster run is built upon."""
    warehouse.execute(blocks("load")["take_turn"], {"table": table.full_name})
    row = warehouse.execute(blocks("load")["bookmark"], {"source": table.source, "table": table.name}).fetchone()
    bookmark = Bookmark.of(row) if row else None
    have = load.raw_columns(warehouse, table)
    if not have:
        return _first(warehouse, snapshot, table)
    load.add_indexes(warehouse, table)
    if load.add_columns(warehouse, table, have) or full:
        bookmark = None
    if bookmark and bookmark.horizon > snapshot.horizon:
        return Loaded(table.full_name, "overtaken", 0, 0, 0, 0, bookmark.row_count, bookmark.horizon)
    return load.merge(warehouse, snapshot, table, bookmark)


def _first(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table) -> Loaded:
    """The first load: in one go, or the last step of one that was read in ranges."""
    bookmark = baseline.adopt(warehouse, table)
    if bookmark is None:
        return load.baseline(warehouse, snapshot, table)
    extract.check_identity(snapshot, table, bookmark)
    rest = load.merge(warehouse, snapshot, table, bookmark, all_touched=True)
    return dataclasses.replace(
        rest,
        mode="baseline",
        delivered=bookmark.row_count + rest.delivered,
        written=bookmark.row_count + rest.written,
        slices=rest.slices + 1,
    )
