"""Compares source, raw and marts without moving rows, and mends what differs.

Source against raw: both sides count rows and sum hashes by bucket of the key; only unequal buckets are looked at row
by row. The hash on the source is that of the very expressions that extraction uses, so pseudonyms compare too. What
changes meanwhile is no difference: rows in flight (written, or gone, at or above the bookmark) are left out on both
sides. A table that was found equal gets a mark. From then on only keys are summed over all rows; contents are read of
the row versions that are newer than the mark on either side. These are told by the row's own xmin, which no disabled
trigger can hold back.

Raw against marts: sums of the counters by tenant and month. A tenant with touched slices waits to be built.

Not here: hashing by bucket (buckets), writing raw rows (load.repair), Dagster (defs/reconciliation).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import buckets, db, extract, load, specs
from penguin_pipelines.lib.extract import Bookmark, Snapshot
from penguin_pipelines.lib.specs import Column, Table
from penguin_pipelines.lib.sql import blocks, compose
from penguin_pipelines.migrations import runner

State = Literal["equal", "different", "waiting", "never_read", "failed"]
Started = Callable[[str, int, int], None]

# A fact, and which messages it counts.
FACTS = {
    "sequence_step_analytics": "campaign_id is not null and not is_warmup",
    "campaign_analytics": "campaign_id is not null and not is_warmup",
    "mailbox_analytics": "not is_warmup",
}
ONLINE_MONTHS = 24
"""As the variable fact_months of the dbt project: older facts are in the archive."""
_SHOWN = 20


@dataclass(frozen=True)
class Compared:
    """What one comparison found. Rows that are missing, stale or ghosts are differences; those waiting are not."""

    subject: str
    state: State
    mode: Literal["full", "changes", "sums"] = "full"
    verified_through: int | None = None
    source_rows: int = 0
    raw_rows: int = 0
    compared_rows: int = 0
    buckets: int = 0
    unequal_buckets: int = 0
    missing: int = 0
    stale: int = 0
    ghost: int = 0
    waiting: int = 0
    mended: int = 0
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mark:
    """A moment on both sides at which a table was equal."""

    source: int
    raw: int


@dataclass(frozen=True)
class _Sides:
    """Both sides of a table, seen at one moment each, and the conditions under which their rows must be equal."""

    warehouse: psycopg.Connection
    snapshot: Snapshot
    table: Table
    bookmark: Bookmark
    raw_ceiling: int
    raw_database: int

    @property
    def raw(self) -> sql.Identifier:
        return sql.Identifier(self.table.raw_schema, self.table.name)

    @property
    def moving(self) -> sql.Composable:
        """Source rows written since the table was read. Ids from the future, left by a restore, are not in flight."""
        if self.table.mode == "xmin":
            version = extract.row_xid(self.snapshot.ceiling)
            return sql.SQL("{} >= {}").format(version, sql.Literal(self.bookmark.horizon))
        return sql.SQL("change_xid >= {}::xid8 and change_xid < {}::xid8").format(
            sql.Literal(str(self.bookmark.horizon)), sql.Literal(str(self.snapshot.ceiling))
        )

    @property
    def settled(self) -> sql.Composable:
        """Source rows that raw must hold as they are."""
        if not self.table.floor:
            return sql.SQL("not ({})").format(self.moving)
        return sql.SQL("not ({}) and {} >= {} - {}::interval").format(
            self.moving, sql.Identifier(self.table.floor_column), sql.Literal(self.snapshot.read),
            sql.Literal(self.table.floor),
        )  # fmt: skip

    @property
    def kept(self) -> sql.Composable:
        return load.kept(self.snapshot, self.table)

    @property
    def source_content(self) -> sql.Composable:
        return _row_hash(zip(self.table.raw_columns, extract.values(self.table), strict=True))

    @property
    def raw_content(self) -> sql.Composable:
        """The same of a raw row `r`; one that claims to be newer than the bookmark would freeze, so it never equals."""
        columns = self.table.raw_columns
        content = _row_hash((c, sql.Identifier("r", c.name)) for c in columns)
        return sql.SQL("({} # (r._change_xid >= {}::xid8)::integer::bigint)").format(
            content, sql.Literal(str(self.bookmark.horizon))
        )

    def keys(self, alias: str | None = None) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(alias, k) if alias else sql.Identifier(k) for k in self.table.raw_key)

    def match(self, left: str, right: str) -> sql.Composable:
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier(left, k), sql.Identifier(right, k)) for k in self.table.raw_key
        )

    def fingerprint(self, pseudonym_key: str) -> str:
        columns = [(c.name, c.type, c.origin, c.how) for c in self.table.raw_columns]
        databases = (self.snapshot.identity.database_oid, self.raw_database)
        return sha256(repr((columns, self.table.floor, databases, pseudonym_key)).encode()).hexdigest()[:32]


def reconcile(
    urls: Mapping[str, str],
    tables: Sequence[Table],
    *,
    pseudonym_key: str,
    foreign: Collection[str] = (),
    full: bool = False,
    fix: bool = False,
    marts: bool = True,
    started: Started = lambda *_: None,
) -> Iterator[Compared]:
    """Compares tables with their sources, then the marts with raw, and yields and keeps one result each.

    `full` compares the contents of every row instead of those that changed since the mark. `fix` reads unequal buckets
    again, touches the slices of what it mends, and compares once more. `started(subject, number, total)` is told before
    each. Sources in `foreign` were not made by our migrations. A source is looked at table by table: no snapshot is
    older than the scan of one table.
    """
    with db.connect(urls["olap"], "olap") as connection:
        runner.require_head(connection, "olap")
    ordered: list[Table] = []
    for source in specs.SOURCES:
        if wanted := [t for t in specs.tables(source) if t in tables]:
            ordered += extract.prepare(urls[source], wanted, foreign=True) if source in foreign else wanted
    total = len(ordered) + (len(FACTS) + 1 if marts else 0)
    with contextlib.closing(db.open_connection(urls["olap"], "olap", role="pm_loader", autocommit=True)) as writer:
        writer.execute(blocks("reconcile")["forget_results"])
        for number, table in enumerate(ordered, start=1):
            started(table.full_name, number, total)
            yield _keep(writer, _one_table(urls, writer, table, pseudonym_key, foreign, full=full, fix=fix))
        if marts:
            for number, result in enumerate(_marts(urls["olap"], fix=fix), start=len(ordered) + 1):
                started(result.subject, number, total)
                yield _keep(writer, result)


def verified(warehouse: psycopg.Connection) -> dict[str, dict[str, Any]]:
    """Latest result by subject: state, mark and time."""
    found = warehouse.execute(blocks("reconcile")["results"]).fetchall()
    return {r[0]: {"state": r[1], "verified_through": int(r[2]) if r[2] else None, "finished": r[3]} for r in found}


# -- source against raw ----------------------------------------------------------------------------


def _one_table(
    urls: Mapping[str, str],
    writer: psycopg.Connection,
    table: Table,
    key: str,
    foreign: Collection[str],
    *,
    full: bool,
    fix: bool,
) -> Compared:
    begun = time.monotonic()
    try:
        result, unequal = _compare(urls, writer, table, key, foreign, full=full)
        if fix and result.state == "different":
            mended = _mend(urls, writer, table, key, foreign, unequal, result.buckets)
            after, _ = _compare(urls, writer, table, key, foreign, full=full)
            result = replace(after, mended=mended, details={**after.details, "found": _found(result)})
    except PenguinError as e:
        result = Compared(table.full_name, "failed", details={"error": str(e)})
    except psycopg.Error as e:
        said = e.diag.message_primary or str(e)
        result = Compared(table.full_name, "failed", details={"error": f"The database refused: {said}."})
    return replace(result, seconds=round(time.monotonic() - begun, 3))


def _found(result: Compared) -> dict[str, int]:
    return {"missing": result.missing, "stale": result.stale, "ghost": result.ghost}


@contextlib.contextmanager
def _looking(url: str, role: str = "pm_loader") -> Iterator[psycopg.Connection]:
    """A warehouse connection with one snapshot; what is not committed is gone at the end."""
    connection = db.open_connection(url, "olap", role=role)
    try:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield connection
    finally:
        connection.close()


def _compare(
    urls: Mapping[str, str],
    writer: psycopg.Connection,
    table: Table,
    key: str,
    foreign: Collection[str],
    *,
    full: bool,
) -> tuple[Compared, list[int]]:
    """Compares one table and moves its mark when it is equal. Gives the unequal buckets too."""
    with _looking(urls["olap"]) as warehouse:
        # The warehouse's snapshot first: what its bookmark says the source's later snapshot can confirm.
        names = {"source": table.source, "table": table.name}
        row = warehouse.execute(blocks("reconcile")["bookmark"], names).fetchone()
        here = warehouse.execute(blocks("extract")["begin_window"]).fetchone()
        assert here is not None
        if row is None:
            return Compared(table.full_name, "never_read"), []
        bookmark = Bookmark.of(row)
        with extract.open_snapshot(
            urls[table.source], table.source, pseudonym_key=key, foreign=table.source in foreign
        ) as snapshot:
            extract.check_columns(snapshot, table)
            extract.check_identity(snapshot, table, bookmark)
            lacking = [c.name for c in table.raw_columns if c.name not in load.raw_columns(warehouse, table)]
            if lacking:
                raise PenguinError(
                    f"The raw table of {table.full_name} lacks {', '.join(lacking)}. "
                    f"Add them with: penguin ingest --table {table.full_name}"
                )
            sides = _Sides(warehouse, snapshot, table, bookmark, int(here[1]), here[5])
            fingerprint = sides.fingerprint(key)
            mark = None if full else _valid_mark(sides, here, fingerprint)
            result, unequal = _look(sides, mark)
        live = _live_rows(sides, result)
        warehouse.rollback()
    if live != bookmark.row_count:
        # A bookmark that was restored alone brings an old number, and windows only add to it.
        with writer.transaction():
            load.recount(writer, table)
        result = replace(result, details={**result.details, "row_count": [bookmark.row_count, live]})
    if result.state == "equal":
        values = {
            **names, **vars(snapshot.identity), "verified_through": str(bookmark.horizon), "raw_through": here[0],
            "raw_system_identifier": here[2], "raw_timeline": here[3], "fingerprint": fingerprint,
        }  # fmt: skip
        writer.execute(blocks("reconcile")["set_mark"], values)
        result = replace(result, verified_through=bookmark.horizon)
    return result, unequal


def _valid_mark(sides: _Sides, here: tuple[Any, ...], fingerprint: str) -> _Mark | None:
    """The mark of the table, unless it speaks of other clusters or columns than those of now."""
    names = {"source": sides.table.source, "table": sides.table.name}
    row = sides.warehouse.execute(blocks("reconcile")["mark"], names).fetchone()
    snapshot = sides.snapshot
    now = (snapshot.identity.system_identifier, snapshot.identity.timeline, here[2], here[3], fingerprint)
    if row is None or (row[1], row[2], row[4], row[5], row[6]) != now:
        return None
    mark = _Mark(int(row[0]), int(row[3]))
    return mark if mark.source <= sides.bookmark.horizon and mark.raw <= sides.raw_ceiling else None


def _look(sides: _Sides, mark: _Mark | None) -> tuple[Compared, list[int]]:
    table, warehouse, source = sides.table, sides.warehouse, sides.snapshot.connection
    result = Compared(table.full_name, "equal", "changes" if mark else "full", buckets=_fitting(sides))
    moving = _collect_moving(sides)
    if moving is None:
        return replace(result, state="waiting", details={"waits": "a TRUNCATE of the source is not read yet"}), []

    content = None if mark else sql.Identifier("content")
    there = buckets.bucket_digests(
        source, table, _settled_source(sides, whole=mark is None), result.buckets, live=False, content=content
    )
    here = buckets.bucket_digests(
        warehouse, table, _settled_raw(sides, whole=mark is None), result.buckets, live=False, content=content
    )
    source_rows, raw_rows = (sum(rows for rows, _ in side.values()) for side in (there, here))
    result = replace(result, waiting=moving, source_rows=source_rows, raw_rows=raw_rows)
    suspects = buckets.unequal(here, there)
    compared = source_rows if mark is None else 0
    found: dict[int, tuple[int, int, int]] = {}
    if suspects or mark:
        compared_rows, found = _row_by_row(sides, suspects, mark)
        compared += compared_rows if mark else 0
    unequal = sorted(found)
    missing, stale, ghost = (sum(counts[n] for counts in found.values()) for n in range(3))
    details: dict[str, Any] = {}
    if unequal:
        details = {"unequal": unequal[:_SHOWN], "months": _unequal_months(sides)}
    if ghost and table.mode == "xmin" and not (missing or stale):
        # Where no trigger tells of deletes every read compares keys: it will find these.
        details["waits"] = "rows that left the source are found by the next read"
        return replace(result, state="waiting", ghost=ghost, compared_rows=compared, details=details), unequal
    return replace(
        result, state="different" if unequal else "equal", unequal_buckets=len(unequal), missing=missing, stale=stale,
        ghost=ghost, compared_rows=compared, details=details,
    ), unequal  # fmt: skip


def _live_rows(sides: _Sides, result: Compared) -> int:
    """Live rows of the raw table; counted again only where the comparison left some out."""
    if result.state == "equal" and not result.waiting and not sides.table.floor:
        return result.raw_rows
    row = sides.warehouse.execute(compose("load", "count_live", table=sides.raw)).fetchone()
    assert row is not None
    return row[0]


def _fitting(sides: _Sides) -> int:
    return max(16, buckets.fitting(sides.bookmark.row_count))


def _collect_moving(sides: _Sides) -> int | None:
    """Fills `moving` with the keys in flight and counts them; None when the source was emptied meanwhile."""
    table, source, warehouse = sides.table, sides.snapshot.connection, sides.warehouse
    low = str(sides.bookmark.horizon)
    if table.mode == "xid8":
        truncated = source.execute(blocks("reconcile")["truncated"], {"table": table.name, "low": low}).fetchone()
        if truncated == (True,):
            return None
    types = sql.SQL(", ").join(_typed(k, table.columns.plain[k]) for k in table.raw_key)
    warehouse.execute(compose("reconcile", "make_moving", columns=types))
    target = sql.Identifier("moving")
    query = compose(
        "reconcile", "moving_rows", keys=sides.keys(), table=extract.source_relation(table), moving=sides.moving
    )
    count = load.pump(source, query, warehouse, target, table.raw_key)
    if table.mode == "xid8":
        keys = sql.SQL(", ").join(
            sql.SQL("(key ->> {})::{}").format(sql.Literal(k), sql.SQL(table.columns.plain[k]))  # type: ignore[arg-type]
            for k in table.raw_key
        )
        query = compose(
            "reconcile", "moving_tombstones", keys=keys, table=sql.Literal(table.name), low=sql.Literal(low)
        )
        count += load.pump(source, query, warehouse, target, table.raw_key)
    warehouse.execute("analyze moving")
    return count


def _settled_source(sides: _Sides, *, whole: bool) -> sql.Composed:
    content = sides.source_content if whole else sql.SQL("0")
    return compose(
        "reconcile", "settled_source", keys=sides.keys(), content=content,
        table=extract.source_relation(sides.table), settled=sides.settled,
    )  # fmt: skip


def _settled_raw(sides: _Sides, *, whole: bool) -> sql.Composed:
    content = sides.raw_content if whole else sql.SQL("0")
    return compose(
        "reconcile", "settled_raw", keys=sides.keys("r"), content=content, table=sides.raw, kept=sides.kept,
        match=sides.match("m", "r"),
    )  # fmt: skip


def _row_by_row(sides: _Sides, suspects: list[int], mark: _Mark | None) -> tuple[int, dict[int, tuple[int, int, int]]]:
    """Rows looked at, and by bucket what is missing, stale and a ghost among suspect buckets and changed rows."""
    table, warehouse = sides.table, sides.warehouse
    types = sql.SQL(", ").join(_typed(k, table.columns.plain[k]) for k in table.raw_key)
    warehouse.execute(compose("reconcile", "make_seen", columns=types))
    changed: sql.Composable = sql.SQL("false")
    if mark:
        changed = sql.SQL("{} >= {}").format(extract.row_xid(sides.snapshot.ceiling), sql.Literal(mark.source))
    looked = _see(sides, sql.SQL("{} or {}").format(_within(sides, suspects), changed))
    if mark:
        raw_changed = sql.SQL("{} >= {}").format(extract.row_xid(sides.raw_ceiling), sql.Literal(mark.raw))
        query = compose(
            "reconcile", "changed_alone", bucket=buckets.bucket(table, _fitting(sides)), table=sides.raw,
            changed=raw_changed, kept=sides.kept, match_moving=sides.match("m", "r"), match_seen=sides.match("s", "r"),
        )  # fmt: skip
        alone = [n for (n,) in warehouse.execute(query) if n not in suspects]
        if alone:
            looked += _see(sides, sql.SQL("{} and not ({})").format(_within(sides, alone), changed))
            suspects = suspects + alone
    found: dict[int, tuple[int, int, int]] = {}
    query = compose(
        "reconcile", "absent_or_stale", table=sides.raw, match=sides.match("r", "s"), content=sides.raw_content
    )
    for bucket, missing, stale in warehouse.execute(query):
        found[bucket] = (missing, stale, 0)
    query = compose(
        "reconcile", "ghosts", bucket=buckets.bucket(table, _fitting(sides)), table=sides.raw,
        wanted=_within(sides, suspects), kept=sides.kept, match_moving=sides.match("m", "r"),
        match_seen=sides.match("s", "r"),
    )  # fmt: skip
    for bucket, ghost in warehouse.execute(query):
        missing, stale, _ = found.get(bucket, (0, 0, 0))
        found[bucket] = (missing, stale, ghost)
    return looked, found


def _see(sides: _Sides, wanted: sql.Composable) -> int:
    query = compose(
        "reconcile", "seen_rows", bucket=buckets.bucket(sides.table, _fitting(sides)), keys=sides.keys(),
        content=sides.source_content, table=extract.source_relation(sides.table), settled=sides.settled, wanted=wanted,
    )  # fmt: skip
    columns = ["bucket", *sides.table.raw_key, "content"]
    count = load.pump(sides.snapshot.connection, query, sides.warehouse, sql.Identifier("seen"), columns)
    sides.warehouse.execute("analyze seen")
    return count


def _within(sides: _Sides, numbers: list[int]) -> sql.Composable:
    return within(sides.table, numbers, _fitting(sides))


def within(table: Table, numbers: list[int], total: int) -> sql.Composable:
    """Condition for the rows whose key lies in one of those buckets."""
    if not numbers:
        return sql.SQL("false")
    return sql.SQL("{} = any ({}::bigint[])").format(buckets.bucket(table, total), sql.Literal(numbers))


def _unequal_months(sides: _Sides) -> dict[str, list[int]]:
    """Rows of source and raw by month, where they differ in number."""
    table = sides.table
    column = table.floor_column if table.floor else "created"
    if not table.columns.plain.get(column, "").startswith("timestamptz"):
        return {}
    name = sql.Identifier(column)
    source = compose(
        "reconcile", "source_windows", column=name, table=extract.source_relation(table), settled=sides.settled
    )
    raw = compose(
        "reconcile", "raw_windows", column=name, table=sides.raw, kept=sides.kept, match=sides.match("m", "r")
    )
    months: dict[str, list[int]] = {}
    for number, (connection, relation) in enumerate([(sides.snapshot.connection, source), (sides.warehouse, raw)]):
        for month, count in connection.execute(compose("reconcile", "windows", column=name, table=relation)):
            months.setdefault(str(month)[:7], [0, 0])[number] = count
    return {month: pair for month, pair in sorted(months.items()) if pair[0] != pair[1]}


def _mend(
    urls: Mapping[str, str],
    writer: psycopg.Connection,
    table: Table,
    key: str,
    foreign: Collection[str],
    unequal: list[int],
    total: int,
) -> int:
    """Reads the unequal buckets again in one warehouse transaction; returns the rows written or marked deleted."""
    with (
        extract.open_snapshot(
            urls[table.source], table.source, pseudonym_key=key, foreign=table.source in foreign
        ) as snapshot,
        writer.transaction(),
    ):
        done = load.repair(writer, snapshot, table, within(table, unequal, total))
    return done.written + done.deleted if done else 0


def _row_hash(columns: Any) -> sql.Composable:
    """64-bit hash of a row's text, null apart from empty. Bytes go in as a digest: their text may be too long."""
    parts = [_part(column, value) for column, value in columns]
    return sql.SQL("hashtextextended(row({})::text, 0)").format(sql.SQL(", ").join(parts))


def _part(column: Column, value: sql.Composable) -> sql.Composable:
    return sql.SQL("sha256({})").format(value) if column.type == "bytea" else value


def _typed(name: str, kind: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))  # type: ignore[arg-type]


# -- raw against marts -----------------------------------------------------------------------------


def _marts(url: str, *, fix: bool) -> Iterator[Compared]:
    with _looking(url, role="pm_etl") as warehouse:
        if warehouse.execute(blocks("reconcile")["is_built"]).fetchone() != (True,):
            return
        waiting = {row[0] for row in warehouse.execute(blocks("reconcile")["waiting_tenants"])}
        yield _sums(warehouse, "intermediate.int_messages", blocks("reconcile")["message_sums"], waiting, fix=fix)
        for fact, counted in FACTS.items():
            relation = sql.Identifier("marts", fact)
            counters = [
                name
                for (name,) in warehouse.execute(
                    compose("reconcile", "counters", fact=sql.Literal(f"marts.{fact}"))
                ).fetchall()
            ]
            query = compose(
                "reconcile", "fact_sums", fact=relation, of_fact=sql.SQL(counted),  # type: ignore[arg-type]
                sums=sql.SQL(", ").join(sql.SQL("sum({0}) as {0}").format(sql.Identifier(c)) for c in counters),
                left=sql.SQL(", ").join(sql.Identifier("a", c) for c in counters),
                right=sql.SQL(", ").join(sql.Identifier("b", c) for c in counters),
            )  # fmt: skip
            yield _sums(warehouse, f"marts.{fact}", query, waiting, fix=fix)
        warehouse.commit()


def _sums(warehouse: psycopg.Connection, subject: str, query: Any, waiting: set[Any], *, fix: bool) -> Compared:
    """Compares sums by tenant and month. What differs for a tenant with touched slices waits to be built."""
    begun = time.monotonic()
    rows = warehouse.execute(query, {"months": ONLINE_MONTHS}).fetchall()
    late = [r for r in rows if None in waiting or r[0] in waiting]
    wrong = [r for r in rows if r not in late]
    mended = 0
    if fix:
        for tenant, month, *_ in wrong:
            touched = {"tenant": tenant, "month": month}
            mended += warehouse.execute(blocks("reconcile")["touch_months"], touched).rowcount
    shown = [
        {"tenant": str(tenant), "month": month[:7], "counters": _differing(below or {}, above or {})}
        for tenant, month, below, above in wrong[:_SHOWN]
    ]
    details: dict[str, Any] = {"months": shown} if shown else {}
    if mended:
        details["waits"] = "the months are touched; build them with: penguin build"
    state: State = "different" if wrong and not mended else "waiting" if rows else "equal"
    return Compared(
        subject, state, "sums", stale=0 if mended else len(wrong), waiting=len(late), mended=mended, details=details,
        seconds=round(time.monotonic() - begun, 3),
    )  # fmt: skip


def _differing(below: Mapping[str, int], above: Mapping[str, int]) -> dict[str, list[int | None]]:
    return {c: [below.get(c), above.get(c)] for c in {**below, **above} if below.get(c) != above.get(c)}


def _keep(writer: psycopg.Connection, result: Compared) -> Compared:
    values = asdict(result) | {
        "details": Jsonb(result.details),
        "verified_through": str(result.verified_through) if result.verified_through is not None else None,
    }
    writer.execute(blocks("reconcile")["keep_result"], values)
    return result
