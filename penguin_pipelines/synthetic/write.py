"""Writes rows: COPY text of columns or of small records, and one thread and one transaction for each tier.

Not here: what the rows hold. A block is all rows of one COPY; blocks of a tier are written in the order
given.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any

import psycopg
from psycopg import sql

from penguin_pipelines.lib import db

NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
COMMIT_ORDER = ("content", "queue", "olap", "oltp")
"""OLTP last: until it commits there is no tenant, and a later run sees that an earlier one broke off."""


@dataclass(frozen=True)
class Block:
    """Rows of one table, ready for COPY."""

    tier: str
    table: str
    columns: tuple[str, ...]
    data: bytes
    rows: int


def escape(text: str) -> str:
    """Text as COPY wants it."""
    return text.translate(_ESCAPES)


def columns(tier: str, table: str, n: int, values: Mapping[str, Sequence[str] | str]) -> Block:
    """A block from columns of escaped text; a plain string stands for the same value in each row."""
    parts = [repeat(v, n) if isinstance(v, str) else v for v in values.values()]
    lines = "\n".join(map("\t".join, zip(*parts, strict=True))) if n else ""
    return Block(tier, table, tuple(values), (lines + "\n").encode() if n else b"", n)


def _text(value: Any) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, dict):
        return escape(json.dumps(value, ensure_ascii=False))
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    if isinstance(value, list):
        return "{" + ",".join(map(str, value)) + "}"
    return escape(str(value))


def records(tier: str, table: str, rows: Iterable[Mapping[str, Any]]) -> Block:
    """A block from a few records that all have the same fields."""
    given = list(rows)
    names = tuple(given[0]) if given else ()
    lines = "".join("\t".join(_text(row[name]) for name in names) + "\n" for row in given)
    return Block(tier, table, names, lines.encode(), len(given))


def copy(connection: psycopg.Connection, block: Block) -> None:
    """Appends a block to its table."""
    if not block.rows:
        return
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(block.table), sql.SQL(", ").join(map(sql.Identifier, block.columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(block.data)


class _Lane(threading.Thread):
    """Copies the blocks of one tier while the next ones are made."""

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__(daemon=True)
        self.connection = connection
        self.waiting: queue.Queue[list[Block] | None] = queue.Queue(maxsize=2)
        self.error: BaseException | None = None

    def run(self) -> None:
        while (blocks := self.waiting.get()) is not None:
            try:
                for block in blocks if self.error is None else []:
                    copy(self.connection, block)
            except BaseException as error:  # noqa: BLE001  # whoever hands over next raises it
                self.error = error
            finally:
                self.waiting.task_done()


class Writers:
    """An open transaction in each tier. Leaving the `with` normally commits in COMMIT_ORDER, otherwise
    nothing stays."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.connections: dict[str, psycopg.Connection] = {}
        self.rows: Counter[str] = Counter()
        try:
            for tier in COMMIT_ORDER:
                self.connections[tier] = db.open_connection(urls[tier], tier)
        except BaseException:
            self._close()
            raise
        self._lanes = {tier: _Lane(c) for tier, c in self.connections.items()}
        for lane in self._lanes.values():
            lane.start()

    def put(self, blocks: Iterable[Block]) -> None:
        """Hands blocks to the lanes; waits when a lane is two hand-overs behind."""
        by_tier: dict[str, list[Block]] = {}
        for block in blocks:
            if block.rows:
                by_tier.setdefault(block.tier, []).append(block)
                self.rows[f"{block.tier}.{block.table}"] += block.rows
        for tier, given in by_tier.items():
            self._raise()
            self._lanes[tier].waiting.put(given)

    def drain(self) -> None:
        """Returns when everything handed over is in its table; the connections may then be used directly."""
        for lane in self._lanes.values():
            lane.waiting.join()
        self._raise()

    def _raise(self) -> None:
        for lane in self._lanes.values():
            if lane.error is not None:
                raise lane.error

    def _stop(self) -> None:
        for lane in self._lanes.values():
            lane.waiting.put(None)
        for lane in self._lanes.values():
            lane.join()

    def _close(self) -> None:
        for connection in self.connections.values():
            connection.close()

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                for lane in self._lanes.values():
                    lane.error = lane.error or RuntimeError("stopped")
            self._stop()
            if kind is None:
                self._raise()
                for tier in COMMIT_ORDER:
                    self.connections[tier].commit()
        finally:
            self._close()
