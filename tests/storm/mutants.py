"""Algorithms that are almost right: each differs from ours in one decision and loses rows for it.

They are put in place of ours by patching, for the length of a `with`; production code knows none of them. Not here:
the writers that they lose against (engine), and the episodes that each loses for certain (test_storm.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from penguin_pipelines.lib import extract, ingest, load
from penguin_pipelines.lib.extract import Bookmark
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.sql import blocks
from storm.engine import Killed

Chance = Callable[[], bool]


def never() -> bool:
    """No kill."""
    return False


def once() -> Chance:
    """A kill at the first opportunity."""
    left = [True]
    return lambda: bool(left) and left.pop()


def sometimes(seed: int) -> Chance:
    """A kill now and then."""
    dice = random.Random(seed)
    return lambda: dice.random() < 0.1


@contextlib.contextmanager
def horizon_after_rows(_: Chance = never) -> Iterator[None]:
    """Rows are read without an upper bound, then the horizon, each statement with a snapshot of its own."""
    honest_open, honest_window, honest_deletes = extract.open_snapshot, extract.window, load._collect_deletes

    @contextlib.contextmanager
    def loose(*args: Any, pseudonym_key: str, **options: Any) -> Iterator[extract.Snapshot]:
        with honest_open(*args, pseudonym_key=pseudonym_key, **options) as snapshot:
            snapshot.connection.rollback()
            snapshot.connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            snapshot.connection.execute("set local row_security = off")
            pads = [*extract.hmac_pads(pseudonym_key)]
            snapshot.connection.execute(
                "select set_config('penguin.ipad', %s, true), set_config('penguin.opad', %s, true)", pads
            )
            yield snapshot

    def open_ended(snapshot: extract.Snapshot, table: Any, low: int | None) -> sql.Composable:
        if low is None or table.mode == "xmin":
            return honest_window(snapshot, table, low)
        return sql.SQL("change_xid >= {}::xid8").format(sql.Literal(str(low)))

    def then_the_horizon(warehouse: psycopg.Connection, snapshot: extract.Snapshot, table: Any, low: Any) -> None:
        row = snapshot.connection.execute("select pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
        assert row is not None
        object.__setattr__(snapshot, "horizon", int(row[0]))
        honest_deletes(warehouse, snapshot, table, low)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "open_snapshot", loose)
        patch.setattr(extract, "window", open_ended)
        patch.setattr(load, "_collect_deletes", then_the_horizon)
        yield


@contextlib.contextmanager
def exclusive_lower_bound(_: Chance = never) -> Iterator[None]:
    """A window begins after the transaction that the last one ended before."""
    honest = extract.window

    def window(snapshot: extract.Snapshot, table: Any, low: int | None) -> sql.Composable:
        return honest(snapshot, table, None if low is None else low + 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "window", window)
        yield


@contextlib.contextmanager
def horizon_is_the_ceiling(_: Chance = never) -> Iterator[None]:
    """The horizon does not wait for transactions that still run."""
    honest = extract.open_snapshot

    @contextlib.contextmanager
    def hasty(*args: Any, **options: Any) -> Iterator[extract.Snapshot]:
        with honest(*args, **options) as snapshot:
            yield dataclasses.replace(snapshot, horizon=snapshot.ceiling)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "open_snapshot", hasty)
        yield


@contextlib.contextmanager
def upserts_before_deletes(_: Chance = never) -> Iterator[None]:
    """Deletes are applied last, to whatever bears the key then."""
    blind = blocks("load")["apply_deletes"]
    honest = load._upsert

    def upsert(warehouse: psycopg.Connection, table: Any, *, full: bool, slices: bool) -> tuple[int, int]:
        done = honest(warehouse, table, full=full, slices=slices)
        older = sql.SQL("true" if full else blocks("load")["older"])
        match = load._match("r", "g", table)
        warehouse.execute(sql.SQL(blind).format(table=load.raw_relation(table), match=match, older=older))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blocks("load"), "apply_deletes", blind.replace("where ", "where false and "))
        unguarded = blocks("extract")["tombstones"].replace("where not exists", "where true or not exists")
        patch.setitem(blocks("extract"), "tombstones", unguarded)
        patch.setattr(load, "_upsert", upsert)
        yield


@contextlib.contextmanager
def bookmark_before_rows(chance: Chance = never) -> Iterator[None]:
    """The bookmark is committed first, in a transaction of its own; then the rows, unless the process is killed."""
    honest = load.merge

    def merge(
        warehouse: psycopg.Connection, snapshot: extract.Snapshot, table: Any, bookmark: Bookmark | None
    ) -> Loaded:
        if bookmark is not None:
            load._set_bookmark(warehouse, snapshot, table, bookmark.row_count)
            warehouse.execute("commit")
            if chance():
                raise Killed
            warehouse.execute("begin")
        return honest(warehouse, snapshot, table, bookmark)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "merge", merge)
        yield


@contextlib.contextmanager
def bookmark_after_rows(chance: Chance = never) -> Iterator[None]:
    """The rows are committed first; then the bookmark, unless the process is killed. Right, as replays are harmless."""
    honest_table, honest_bookmark = ingest._in_turn, load._set_bookmark

    def in_turn(warehouse: psycopg.Connection, snapshot: extract.Snapshot, table: Any, full: bool) -> Loaded:
        late: list[tuple[Any, ...]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(load, "_set_bookmark", lambda *given: late.append(given))
            done = honest_table(warehouse, snapshot, table, full)
        if done.mode == "delta" and chance():
            warehouse.execute("commit")
            raise Killed
        for given in late:
            honest_bookmark(*given)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "_in_turn", in_turn)
        yield


MUTANTS = {
    "horizon after rows": horizon_after_rows,
    "exclusive lower bound": exclusive_lower_bound,
    "horizon is xmax": horizon_is_the_ceiling,
    "upserts before deletes": upserts_before_deletes,
    "bookmark before rows": bookmark_before_rows,
}
HARMLESS = {"bookmark after rows": bookmark_after_rows}
