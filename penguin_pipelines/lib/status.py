"""What the platform looks like right now, as data: tiers, source tables, marts, queues. The command line prints it.

A tier that cannot be reached is part of the answer, not an error. Not here: judging configuration (doctor).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from penguin_pipelines.errors import PenguinError, mask
from penguin_pipelines.lib import db, extract, reconcile, specs
from penguin_pipelines.lib.extract import Bookmark, Snapshot
from penguin_pipelines.lib.sql import blocks, compose
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import TIERS

Report = dict[str, Any]


def collect(
    urls: Mapping[str, str], *, pseudonym_key: str, foreign: Collection[str] = (), show_urls: bool = False
) -> Report:
    """Everything as one JSON-ready mapping with the keys tiers, sources, warehouse, marts and queues."""
    tiers = {tier: _tier(urls[tier], tier, show_urls=show_urls, foreign=tier in foreign) for tier in TIERS}
    reachable = {t for t, state in tiers.items() if state["health"] == "ok"}
    report: Report = {"tiers": tiers, "sources": {}, "warehouse": {}, "marts": {}, "queues": {}}
    tiers["redis"] = {"url": urls["redis"] if show_urls else mask(urls["redis"]), "health": _redis(urls["redis"])}
    if "olap" in reachable:
        with db.connect(urls["olap"], "olap", role="pm_etl") as warehouse:
            report["warehouse"], report["marts"] = _warehouse(warehouse)
            for source in specs.SOURCES:
                if source in reachable:
                    report["sources"] |= _source(
                        urls[source], source, warehouse, pseudonym_key, foreign=source in foreign
                    )
    if "queue" in reachable and "queue" not in foreign:
        with db.connect(urls["queue"], "queue", role="pm_worker") as queue:
            report["queues"] = _queues(queue)
    return report


def _tier(url: str, tier: str, *, show_urls: bool, foreign: bool) -> Report:
    state: Report = {
        "url": url if show_urls else mask(url),
        "revision": None,
        "head": runner.head(tier),
        "health": "ok",
    }
    try:
        with db.connect(url, tier) as connection:
            version = connection.execute(blocks("status")["server"]).fetchone()
            state["postgres"] = version[1] if version else None
            if foreign:
                state |= {"revision": "foreign", "head": None}
            else:
                state["revision"] = runner.current(connection)
                runner.require_head(connection, tier)
    except PenguinError as e:
        state["health"] = str(e)
    return state


def _redis(url: str) -> str:
    import redis

    try:
        with contextlib.closing(redis.Redis.from_url(url, socket_connect_timeout=3)) as client:
            client.ping()
        return "ok"
    except redis.RedisError as e:
        return f"Redis cannot be reached: {mask(str(e))}. Check PENGUIN_REDIS_URL, or run: penguin doctor"


def _warehouse(warehouse: psycopg.Connection) -> tuple[Report, Report]:
    row = warehouse.execute(blocks("status")["data_as_of"]).fetchone()
    as_of, waiting = row if row else (None, 0)
    marts: Report = {}
    for name, is_view in warehouse.execute(blocks("status")["marts"]).fetchall():
        count = warehouse.execute(compose("status", "mart_rows", mart=sql.Identifier("marts", name))).fetchone()
        marts[name] = {
            "rows": count[0] if count else 0,
            "kind": "materialized view" if is_view else "table",
            "data_as_of": _iso(as_of),
        }
    return {"data_as_of": _iso(as_of), "slices_waiting": waiting}, marts


def _source(url: str, source: str, warehouse: psycopg.Connection, pseudonym_key: str, *, foreign: bool) -> Report:
    marks = {row[0]: row for row in warehouse.execute(blocks("load")["bookmarks"], {"source": source}).fetchall()}
    found: Report = {}
    compared = reconcile.verified(warehouse)
    tables = extract.prepare(url, specs.tables(source), foreign=foreign)
    with extract.open_snapshot(url, source, pseudonym_key=pseudonym_key, foreign=foreign) as snapshot:
        for table in tables:
            mark = marks.get(table.name)
            found[table.full_name] = (
                _table(snapshot, table, mark) if mark else {"watermark": None, "state": "never read"}
            )
            last = compared.get(table.full_name)
            found[table.full_name]["reconciled"] = last and {**last, "finished": _iso(last["finished"])}
    return found


def _table(snapshot: Snapshot, table: specs.Table, mark: tuple[Any, ...]) -> Report:
    bookmark, source_read = Bookmark.of(mark[1:]), mark[-1]
    try:
        extract.check_columns(snapshot, table)
        extract.check_identity(snapshot, table, bookmark)
        pending = extract.has_changes(snapshot, table, bookmark.horizon)
        state = "changes waiting" if pending else "up to date"
    except PenguinError as e:
        pending, state = True, str(e)
    lag = int((datetime.now(UTC) - source_read).total_seconds()) if pending else 0
    held = str(snapshot.holder) if snapshot.holder and snapshot.holder.seconds >= 60 else None
    return {
        "watermark": bookmark.horizon,
        "read": _iso(source_read),
        "rows": bookmark.row_count,
        "lag_seconds": lag,
        "state": state,
        "held_back": held,
    }


def _queues(queue: psycopg.Connection) -> Report:
    names = ("active", "waiting", "delayed", "running", "oldest_wait_seconds", "dead_letters")
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in queue.execute(blocks("status")["queue_depth"])}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
