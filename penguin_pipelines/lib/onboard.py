"""Makes a populated table of a source extractable while the application writes to it, and proposes its stanza.

One short transaction takes the table's lock, adds `change_xid` and the triggers, and leaves. The rows that are there
get the id of that transaction by a constant default, which Postgres keeps in the catalog: not a row is rewritten,
nothing has to be filled in. Under the lock nobody who has written is still open, so that id is greater than those of
all earlier changes: a bookmark below it gets every row once more, a bookmark above it has read them all. The same
transaction asks the next read to compare keys, for earlier deletes left no tombstone. Then the index is built
concurrently, partition by partition.

Every step is seen in the catalog, so a killed run is simply started again. Not here: tables of our own (migrations),
reading (extract, ingest).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from penguin_pipelines.errors import Busy, PenguinError, SchemaError
from penguin_pipelines.lib import db, specs
from penguin_pipelines.lib.sql import blocks, compose

TRIGGERS = ("mark_changed", "leave_tombstone", "leave_tombstone_of_old_key", "leave_tombstone_of_all")
_LONGEST_NAME = 63
_LONGEST_PAUSE = 10
"""seconds"""
_ADDRESS = re.compile(r"e?mail|recipient|sender|phone|address|(^|_)ip(_|$)")
_BODY = re.compile(
    r"body|content|message|subject|text|note|comment|description|payload|token|secret|password|key_path|name"
)
_CAREFUL = ("text", "json", "bytea", "xml", "character varying")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """Something that a table needs, and whether it has it."""

    name: str
    what: str
    is_done: bool


@dataclass(frozen=True)
class _Part:
    """A table that gets an index: one that holds rows, or the head of a partitioned table."""

    name: str
    holds_rows: bool

    @property
    def index(self) -> str:
        return f"{self.name[: _LONGEST_NAME - len('_change_xid_idx')]}_change_xid_idx"


def plan(url: str, source: str, table: str) -> list[Step]:
    """What the table has and lacks. Raises where it cannot be onboarded."""
    with db.connect(url, source, autocommit=True) as connection:
        facts = _facts(connection, source, table)
        parts = _parts(connection, table)
        steps = [Step("track", "column change_xid, its default, and the triggers, in one transaction", _tracked(facts))]
        for part in parts:
            how = "concurrently" if part.holds_rows else "of those of the partitions"
            steps.append(Step("index", f"index {part.index}, {how}", _has_index(connection, table, part)))
    return steps


def run(
    url: str,
    source: str,
    table: str,
    *,
    lock_timeout: str = "500ms",
    patience: float = 600,
    pause: float = 1,
    report: Report = lambda _: None,
) -> list[Step]:
    """Does what is open and returns the steps. Nobody waits for us longer than `lock_timeout`.

    Keep it under the server's `deadlock_timeout` (1 s), so that of us and an application it is we who give way.
    A lock that is not granted in that time is tried again after `pause` seconds, twice as long each time up to ten,
    for `patience` seconds in all; then it raises Busy and what was done stays done.
    """
    with db.connect(url, source, autocommit=True) as connection:
        _check_stanza(connection, source, table)
        if not _tracked(_facts(connection, source, table)):
            report(f"{source}.{table}: adding change_xid and the triggers")
            _patiently(connection, lambda: _track(connection, table), table, lock_timeout, patience, pause, report)
        parts = _parts(connection, table)
        for number, part in enumerate(parts, start=1):
            if not _has_index(connection, table, part):
                report(f"{source}.{table}: index {part.index} ({number} of {len(parts)})")
                _index(connection, part, lock_timeout, patience, pause, report)
    return plan(url, source, table)


def stanza(url: str, source: str, table: str) -> str:
    """A first stanza with the most careful class for each column, to be read by a person."""
    with db.connect(url, source, autocommit=True) as connection:
        facts = _facts(connection, source, table, need_foundation=False)
        columns = connection.execute(blocks("onboard")["columns"], {"table": _public(table)}).fetchall()
    classes: dict[str, dict[str, str]] = {"plain": {}, "pseudonym": {}, "never": {}}
    for name, kind, in_key in columns:
        classes[_class(name, kind, in_key)][name] = kind
    names = [c[0] for c in columns]
    key = [c[0] for c in columns if c[2] and c[0] != "tenant_id"] or ["tenant_id"]
    lines = [f"- name: {table}", "  description: Say what a row is."]
    lines += [] if _tracked(facts) else ["  mode: xmin"]
    lines += [f"  key: [{', '.join(key)}]"] + (["  tenant: tenant_id"] if "tenant_id" in names else [])
    lines += ["  slice: none", "  columns:"]
    for title, members in classes.items():
        if members:
            lines.append(f"    {title}: {{")
            lines += [f"      {name}: '{kind}'," for name, kind in members.items()]
            lines.append("    }")
    return "\n".join(lines)


def _class(name: str, kind: str, in_key: bool) -> str:
    """What looks like an address is hashed, what may be prose or a secret stays in the source."""
    if in_key:
        return "plain"
    if kind.startswith(("text", "character varying", "inet", "citext")) and _ADDRESS.search(name):
        return "pseudonym"
    if kind.startswith(_CAREFUL):
        short = re.fullmatch(r"character varying\((\d+)\)", kind)
        return "plain" if short and int(short[1]) <= 50 and not _BODY.search(name) else "never"
    return "plain"


def _facts(connection: psycopg.Connection, source: str, table: str, *, need_foundation: bool = True) -> dict[str, Any]:
    cursor = connection.execute(blocks("onboard")["facts"], {"table": _public(table)})
    row = cursor.fetchone()
    if row is None or cursor.description is None:
        raise PenguinError(f"Source '{source}' has no table '{table}' in schema public.")
    facts = dict(zip([c.name for c in cursor.description], row, strict=True))
    if need_foundation and connection.execute(blocks("onboard")["has_foundation"]).fetchone() != (True,):
        raise SchemaError(
            f"Source '{source}' lacks the functions that tracking needs; "
            f"make them with: penguin migrate up --tier {source} --to 0001"
        )
    if not facts["has_key"]:
        raise PenguinError(
            f"{source}.{table} has no primary key, so no row of it can be told from another; give it one."
        )
    if facts["type"] not in (None, "xid8") or (facts["type"] and not facts["is_marked"]):
        raise PenguinError(
            f"{source}.{table} has a column change_xid that is not of our making "
            f"({facts['type']}, not null with default pg_current_xact_id() is wanted); drop it and run once more."
        )
    if not facts["is_ours"] and not _tracked(facts):
        raise PenguinError(
            f"The login of source '{source}' may not alter {table}; use one that is a member of {facts['owner']}, "
            "or leave the table as it is and give its stanza mode: xmin."
        )
    return facts


def _tracked(facts: dict[str, Any]) -> bool:
    return bool(facts["is_marked"]) and set(TRIGGERS) <= set(facts["triggers"])


def _check_stanza(connection: psycopg.Connection, source: str, table: str) -> None:
    """Tombstones carry the primary key and tenant_id; a stanza with another key could not use them."""
    _facts(connection, source, table)
    row = connection.execute(blocks("onboard")["keys"], {"table": _public(table)}).fetchone()
    for stanza in specs.tables(source):
        lacking = sorted(set(stanza.raw_key) - set(row[0] if row else ()))
        if stanza.name == table and lacking:
            raise PenguinError(
                f"The stanza of {stanza.full_name} has {', '.join(lacking)} in its key, but the primary key has not: "
                "a deleted row would not be found by its tombstone. Change the key, or keep mode: xmin."
            )


def _track(connection: psycopg.Connection, table: str) -> None:
    relation, short = sql.Identifier("public", table), sql.Literal(table)
    with connection.transaction():
        connection.execute(compose("onboard", "lock", table=relation))
        facts_row = connection.execute(blocks("onboard")["facts"], {"table": _public(table)}).fetchone()
        moment = connection.execute(blocks("onboard")["moment"]).fetchone()
        row = connection.execute(blocks("onboard")["keys"], {"table": _public(table)}).fetchone()
        assert facts_row is not None and moment is not None and row is not None
        if facts_row[2] is None:
            connection.execute(compose("onboard", "mark", table=relation, moment=sql.Literal(moment[0])))
        for trigger in set(TRIGGERS) & set(facts_row[4]):
            connection.execute(sql.SQL("drop trigger {} on {}").format(sql.Identifier(trigger), relation))
        keys = list(row[0])
        changed = sql.SQL(" or ").join(
            sql.SQL("old.{0} is distinct from new.{0}").format(sql.Identifier(k)) for k in keys
        )
        arguments = sql.SQL(", ").join([short, *map(sql.Literal, keys)])
        connection.execute(
            compose("onboard", "track", table=relation, short=short, arguments=arguments, re_keyed=changed)
        )
        connection.execute(compose("onboard", "grant", table=relation))
        connection.execute("set local role pm_owner")
        connection.execute(blocks("onboard")["compare_keys"], {"name": table})


def _index(
    connection: psycopg.Connection, part: _Part, lock_timeout: str, patience: float, pause: float, report: Report
) -> None:
    """Builds one index. Built concurrently it waits for others and blocks none; a parent's only takes those in."""
    names = {"short": sql.Identifier(part.index), "table": sql.Identifier("public", part.name)}
    if part.holds_rows:
        connection.execute(blocks("onboard")["lock_timeout"], {"timeout": "0"})
        connection.execute(compose("onboard", "drop_index", index=sql.Identifier("public", part.index)))
        connection.execute(compose("onboard", "create_index", **names))
    else:
        create = compose("onboard", "create_parent_index", **names)
        _patiently(connection, lambda: connection.execute(create), part.name, lock_timeout, patience, pause, report)


def _patiently(
    connection: psycopg.Connection,
    work: Callable[[], Any],
    table: str,
    lock_timeout: str,
    patience: float,
    pause: float,
    report: Report,
) -> None:
    connection.execute(blocks("onboard")["lock_timeout"], {"timeout": lock_timeout})
    deadline = time.monotonic() + patience
    while True:
        try:
            work()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() + pause > deadline:
                raise Busy(
                    f"{table} was in use whenever we asked for its lock, for {patience:g} s; "
                    "run the same command at a quieter time. What was done stays done."
                ) from None
            report(f"{table} is in use; again in {pause:g} s")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _parts(connection: psycopg.Connection, table: str) -> list[_Part]:
    """The tables that hold rows, and last the head of them if that is another."""
    found = connection.execute(blocks("onboard")["leaves"], {"table": _public(table), "name": table}).fetchall()
    return [_Part(name, holds_rows) for name, holds_rows in found]


def _has_index(connection: psycopg.Connection, table: str, part: _Part) -> bool:
    """Whether it has a valid index of its own. That of a head is valid only with one in every partition."""
    names = [_public(_Part(name, True).index) for name in (part.name, table)]
    return connection.execute(blocks("onboard")["has_index"], {"indexes": names}).fetchone() == (True,)


def _public(name: str) -> LiteralString:
    return cast("LiteralString", 'public."' + name.replace('"', '""') + '"')
