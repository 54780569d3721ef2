"""Runs ingestion: every wanted table of a source from one snapshot, each in a warehouse transaction of its own.

A table that fails is named and leaves its bookmark and the other tables alone. Nothing is written for a table
without changes. Not here: the exact window (extract), the merge (load), Dagster (defs/ingestion).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import db, extract, load, specs
from penguin_pipelines.lib.extract import Snapshot
from penguin_pipelines.lib.load import Bookmark, Loaded
from penguin_pipelines.lib.specs import Table
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.migrations import runner


@dataclass(frozen=True)
class Failed:
    """A table that could not be loaded, and why."""

    table: str
    error: PenguinError


Result = Loaded | Failed
Started = Callable[[str, int, int], None]


def ingest(
    urls: Mapping[str, str],
    tables: Sequence[Table],
    *,
    pseudonym_key: str,
    full: bool = False,
    started: Started = lambda *_: None,
) -> Iterator[Result]:
    """Loads tables of any sources and yields one result each, in stanza order.

    Every source's snapshot is taken before the first write: where tiers share a cluster, our own open write would
    hold the horizon back. The bookmarks are read before the snapshots: one that another run sets in between would
    look as if it came from the future. `started(table, number, total)` is called before each table.
    """
    sources = [s for s in specs.SOURCES if any(t.source == s for t in tables)]
    with db.connect(urls["olap"], "olap") as connection:
        runner.require_head(connection, "olap")
    for source in sources:
        with db.connect(urls[source], source) as connection:
            runner.require_head(connection, source)
    with contextlib.ExitStack() as stack:
        warehouse = stack.enter_context(
            contextlib.closing(db.open_connection(urls["olap"], "olap", role="pm_loader", autocommit=True))
        )
        known = {s: load.bookmarks(warehouse, s) for s in sources}
        snapshots = {
            s: stack.enter_context(extract.open_snapshot(urls[s], s, pseudonym_key=pseudonym_key)) for s in sources
        }
        ordered = [t for s in sources for t in specs.tables(s) if t in tables]
        for number, table in enumerate(ordered, start=1):
            started(table.full_name, number, len(ordered))
            snapshot = snapshots[table.source]
            try:
                # A savepoint: an error would otherwise spoil the snapshot for the tables that follow.
                with snapshot.connection.transaction():
                    yield _table(warehouse, snapshot, table, known[table.source].get(table.name), full)
            except PenguinError as e:
                yield Failed(table.full_name, e)
            except psycopg.errors.InsufficientPrivilege:
                raise  # concerns the whole source; open_snapshot has the remedy
            except psycopg.Error as e:
                said = e.diag.message_primary or str(e)
                yield Failed(
                    table.full_name, PenguinError(f"The database refused: {said}. Its bookmark has not moved.")
                )


def _table(
    warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, seen: Bookmark | None, full: bool
) -> Loaded:
    unlisted = tuple(extract.check_columns(snapshot, table))
    if seen and not full:
        extract.check_identity(snapshot, table, seen.horizon, seen.system_identifier, seen.timeline)
        gained = [c for c in table.raw_columns if c.name not in load.raw_columns(warehouse, table)]
        if not gained and not _changed(warehouse, snapshot, table, seen):
            return Loaded(table.full_name, "idle", 0, 0, 0, 0, seen.row_count, seen.horizon, unlisted)
    with warehouse.transaction():
        done = _in_turn(warehouse, snapshot, table, full)
    return Loaded(**{**done.__dict__, "unlisted": unlisted})


def _changed(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, seen: Bookmark) -> bool:
    if extract.has_changes(snapshot, table, seen.horizon):
        return True
    return table.mode == "xmin" and load.keys_left(warehouse, snapshot, table)


def _in_turn(warehouse: psycopg.Connection, snapshot: Snapshot, table: Table, full: bool) -> Loaded:
    """Loads one table while no other run does. The bookmark is read under the lock: a faster run is built upon."""
    warehouse.execute(blocks("load")["take_turn"], {"table": table.full_name})
    row = warehouse.execute(blocks("load")["bookmark"], {"source": table.source, "table": table.name}).fetchone()
    bookmark = Bookmark(int(row[0]), row[1], row[2], row[3]) if row else None
    have = load.raw_columns(warehouse, table)
    if not have:
        return load.baseline(warehouse, snapshot, table)
    if load.add_columns(warehouse, table, have) or full:
        bookmark = None
    if bookmark and bookmark.horizon > snapshot.horizon:
        return Loaded(table.full_name, "overtaken", 0, 0, 0, 0, bookmark.row_count, bookmark.horizon)
    return load.merge(warehouse, snapshot, table, bookmark)
