"""Full load and delta of one table, ours beside the `psql` pipe, ADBC, pandas and dlt, on servers of its own.

Every contender copies the same rows from one database to another of one cluster, fsync on, into a logged table whose
primary key is built after the rows. Prints medians, the spread, and ratios to ours.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install --require-hashes -r requirements.lock
    /tmp/peers/bin/pip install -r benchmarks/requirements.txt 'sqlalchemy<2.1'
    /tmp/peers/bin/pip install --no-deps -e .
    taskset -c 0,1 /tmp/peers/bin/python -m benchmarks.ingest --rows 2000000 --runs 3

Without the peers' environment those that are not installed are left out. One percent of ten million, ours alone:

    python -m benchmarks.ingest --rows 10000000 --changes 100000 --only ours

Last comes a guard: windows of one size and of four times that size on a table of events, whose slices are those of
their messages. The larger one should take about four times as long, not sixteen.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from penguin_pipelines.lib import db, extract, load, services, specs
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import Settings

KEY = "a key that only benchmarks use"
COLUMNS = {
    "id": "uuid",
    "tenant_id": "uuid",
    "campaign_id": "uuid",
    "mailbox_id": "uuid",
    "lead_id": "uuid",
    "kind": "varchar(20)",
    "subject_length": "integer",
    "size_bytes": "bigint",
    "score": "numeric(10,2)",
    "is_warmup": "boolean",
    "note": "text",
    "sent": "timestamptz",
    "created": "timestamptz",
}
SLOW = ("pandas to_sql with COPY", "dlt, Arrow backend")
EVENTS = specs.Table(
    source="oltp",
    name="bench_events",
    description="Events of the benchmark.",
    key=("id",),
    tenant="tenant_id",
    slice="event",
    columns={"plain": {"id": "bigint", "tenant_id": "uuid", "storage_key": "varchar(500)", "kind": "text"}},  # type: ignore[arg-type]
)
TABLE = specs.Table(
    source="oltp",
    name="bench_rows",
    description="Rows of the benchmark.",
    key=("id",),
    tenant="tenant_id",
    slice="entity campaign_id",
    columns={"plain": COLUMNS},  # type: ignore[arg-type]
)


def main() -> None:
    """Runs the contenders and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=400_000, help="Rows of the table of events.")
    parser.add_argument("--slow-runs", type=int, default=1, help="Runs of dlt and pandas, which take minutes.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="Only these contenders.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penguin-bench-") as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        endpoints = services.up(settings, print)
        try:
            urls = endpoints.urls
            runner.up(urls["oltp"], "oltp")
            runner.up(urls["olap"], "olap")
            _fill(urls["oltp"], options.rows)
            full(urls, settings, options.runs, options.slow_runs, options.only)
            delta(urls, options.rows, options.changes, options.runs)
            events(urls, options.events)
        finally:
            services.down(settings, print)


def full(urls: dict[str, str], settings: Settings, runs: int, slow_runs: int, only: list[str] | None) -> None:
    """Full loads of every contender, interleaved so that noise meets all of them."""
    contenders: dict[str, Callable[[], None]] = {
        "ours": lambda: _ours(urls),
        "psql | psql": lambda: _pipe(urls, services.find_postgres(settings).bin / "psql"),
        "adbc": lambda: _adbc(urls),
        "pandas to_sql with COPY": lambda: _pandas(urls),
        "dlt, Arrow backend": lambda: _dlt(urls),
    }
    seconds: dict[str, list[float]] = {}
    for number in range(runs):
        for name, contend in contenders.items():
            if (only and name not in only) or (name in SLOW and number >= slow_runs):
                continue
            _clear(urls["olap"])
            began = time.perf_counter()
            try:
                contend()
            except ImportError as e:
                print(f"{name}: left out, because {e.name} is not installed.")
                continue
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    ours = statistics.median(seconds["ours"])
    print(f"\n{'full load':<26}{'median s':>10}{'spread s':>14}{'times ours':>12}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:<26}{median:>10.2f}{f'{min(times):.2f}..{max(times):.2f}':>14}{median / ours:>12.2f}")


def delta(urls: dict[str, str], rows: int, changes: int, runs: int) -> None:
    """Deltas in a warm process, end to end: snapshot, window, merge, bookmark, commit."""
    _clear(urls["olap"])
    _ours(urls)
    times, delivered = [], []
    for _ in range(runs):
        with psycopg.connect(urls["oltp"]) as source:
            source.execute("set search_path = public")
            source.execute(
                "update bench_rows set subject_length = subject_length + 1 "
                "where ctid in (select ctid from bench_rows tablesample system (1) limit %s)",
                [changes],
            )
        began = time.perf_counter()
        delivered.append(_ours(urls))
        times.append(time.perf_counter() - began)
    print(
        f"\ndelta of {changes:,} rows in {rows:,}: median {statistics.median(times):.3f} s, "
        f"{min(times):.3f}..{max(times):.3f}"
    )
    print(f"delivered per change: {statistics.median(delivered) / changes:.2f}")


def events(urls: dict[str, str], rows: int) -> None:
    """Windows of a twentieth and of a fifth of a table of events; their slices are found through the messages."""
    messages = specs.find("content.email_messages")
    with psycopg.connect(urls["olap"], autocommit=True) as warehouse:
        warehouse.execute("drop table if exists raw_content.email_messages")
        warehouse.execute("set role pm_loader")
        load.create(warehouse, messages, load.raw_relation(messages))
        warehouse.execute(
            "insert into raw_content.email_messages (storage_key, tenant_id, sent, _change_xid) "
            "select 'm' || i, md5((i %% 50)::text)::uuid, now() - i * interval '1 second', '3' "
            "from generate_series(1, %s) as i",
            [rows // 2],
        )
        load.complete(warehouse, messages, load.raw_relation(messages))
    with psycopg.connect(urls["oltp"], autocommit=True) as source:
        source.execute("drop table if exists public.bench_events")
        source.execute(
            "create table public.bench_events (id bigint primary key, tenant_id uuid not null, "
            "storage_key varchar(500) not null, kind text, change_xid xid8 not null default pg_current_xact_id())"
        )
        source.execute("grant select on public.bench_events to pm_loader")
        source.execute(
            "insert into public.bench_events select i, md5((i / 2 %% 50)::text)::uuid, 'm' || i / 2, 'open' "
            "from generate_series(1, %s) as i",
            [rows],
        )
        source.execute("set search_path = public")
        source.execute("select penguin.track('bench_events')")
        source.execute("vacuum analyze public.bench_events")
    _ours(urls, EVENTS)
    print()
    seconds = []
    for share in (20, 5):
        with psycopg.connect(urls["oltp"]) as source:
            source.execute("set search_path = public, penguin")
            source.execute("update bench_events set kind = kind || 'x' where id %% %s = 0", [share])
        began = time.perf_counter()
        moved = _ours(urls, EVENTS)
        seconds.append(time.perf_counter() - began)
        print(f"window of {moved:,} events in {rows:,}: {seconds[-1]:.2f} s")
    print(f"four times the window takes {seconds[1] / seconds[0]:.1f} times as long")


def _fill(url: str, rows: int) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {} not null").format(sql.Identifier(n), sql.SQL(t)) for n, t in COLUMNS.items()
    )  # type: ignore[arg-type]
    with psycopg.connect(url) as connection:
        connection.execute("set search_path = public")
        connection.execute(
            sql.SQL(
                "create table bench_rows ({}, change_xid xid8 not null default pg_current_xact_id(), primary key (id))"
            ).format(columns)
        )
        connection.execute("grant select on bench_rows to pm_loader")
        connection.execute(
            "insert into bench_rows select gen_random_uuid(), md5((i %% 500)::text)::uuid, "
            "md5((i %% 9000)::text)::uuid, md5((i %% 3000)::text)::uuid, gen_random_uuid(), "
            "'outbound', i %% 120, i * 37, (i %% 100000) / 7.0, i %% 7 = 0, "
            "'message number ' || i, now() - i * interval '1 second', now() from generate_series(1, %s) as i",
            [rows],
        )
        connection.execute("select penguin.track('bench_rows')")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze public.bench_rows")
        connection.execute("checkpoint")


def _clear(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists raw_oltp.bench_rows")
        connection.execute("drop schema if exists peer cascade")
        connection.execute("create schema peer")
        connection.execute("delete from ops.bookmarks where table_name = 'bench_rows'")
        connection.execute("checkpoint")


def _ours(urls: dict[str, str], table: specs.Table = TABLE) -> int:
    with (
        extract.open_snapshot(urls["oltp"], "oltp", pseudonym_key=KEY) as snapshot,
        contextlib.closing(db.open_connection(urls["olap"], "olap", role="pm_loader", autocommit=True)) as warehouse,
        warehouse.transaction(),
    ):
        bookmark = load.bookmarks(warehouse, "oltp").get(table.name)
        done = (
            load.merge(warehouse, snapshot, table, bookmark) if bookmark else load.baseline(warehouse, snapshot, table)
        )
    return done.delivered


def _peer_table(url: str) -> None:
    columns = ", ".join(f"{n} {t}" for n, t in COLUMNS.items())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("create table peer.bench_rows ({})").format(sql.SQL(columns)))  # type: ignore[arg-type]


def _peer_key(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table peer.bench_rows add primary key (tenant_id, id)")
        connection.execute("analyze peer.bench_rows")


def _pipe(urls: dict[str, str], psql: Path) -> None:
    _peer_table(urls["olap"])
    names = ", ".join(COLUMNS)
    out = subprocess.Popen(
        [psql, urls["oltp"], "-Xqc", f"copy (select {names} from public.bench_rows) to stdout (format binary)"],
        stdout=subprocess.PIPE,
    )
    subprocess.run(
        [psql, urls["olap"], "-Xqc", f"copy peer.bench_rows ({names}) from stdin (format binary)"],
        stdin=out.stdout,
        check=True,
    )
    if out.wait():
        raise SystemExit("psql failed")
    _peer_key(urls["olap"])


def _adbc(urls: dict[str, str]) -> None:
    import adbc_driver_postgresql.dbapi as adbc

    # ADBC has no uuid and numeric to write: the strings that it reads are cast on arrival, as its users do.
    _peer_table(urls["olap"])
    names = ", ".join(COLUMNS)
    with adbc.connect(urls["oltp"]) as source, adbc.connect(urls["olap"]) as target:
        with source.cursor() as reader, target.cursor() as writer:
            shown = [f"{n}::text" if t == "uuid" or "numeric" in t else n for n, t in COLUMNS.items()]
            reader.execute(f"select {', '.join(shown)} from public.bench_rows")
            writer.adbc_ingest("bench_landing", reader.fetch_record_batch(), mode="create", db_schema_name="peer")
        target.commit()
    with psycopg.connect(urls["olap"], autocommit=True) as connection:
        casts = ", ".join(f"{n}::{t}" for n, t in COLUMNS.items())
        connection.execute(
            sql.SQL("insert into peer.bench_rows ({}) select {} from peer.bench_landing").format(
                sql.SQL(names), sql.SQL(casts)
            )
        )  # type: ignore[arg-type]
    _peer_key(urls["olap"])


def _pandas(urls: dict[str, str]) -> None:
    import pandas as pd
    import sqlalchemy

    def copy(table: object, connection: object, keys: list[str], data: object) -> None:
        text = io.StringIO()
        pd.DataFrame(list(data), columns=keys).to_csv(text, index=False, header=False)  # type: ignore[call-overload]
        driver = connection.connection.driver_connection  # type: ignore[attr-defined]
        with (
            driver.cursor() as cursor,
            cursor.copy(f"copy peer.bench_rows ({', '.join(keys)}) from stdin (format csv)") as into,
        ):
            into.write(text.getvalue())

    _peer_table(urls["olap"])
    source = sqlalchemy.create_engine(db.sqlalchemy_url(urls["oltp"]))
    target = sqlalchemy.create_engine(db.sqlalchemy_url(urls["olap"]))
    query = f"select {', '.join(COLUMNS)} from public.bench_rows"
    with source.connect().execution_options(stream_results=True) as connection:
        for chunk in pd.read_sql(sqlalchemy.text(query), connection, chunksize=100_000):
            chunk.to_sql("bench_rows", target, schema="peer", if_exists="append", index=False, method=copy)
    source.dispose()
    target.dispose()
    _peer_key(urls["olap"])


def _dlt(urls: dict[str, str]) -> None:
    import dlt
    from dlt.sources.sql_database import sql_table

    with tempfile.TemporaryDirectory(prefix="penguin-dlt-") as folder:
        rows = sql_table(
            credentials=db.sqlalchemy_url(urls["oltp"], "psycopg2"),
            table="bench_rows",
            schema="public",
            backend="pyarrow",
        )
        pipeline = dlt.pipeline(
            "bench", pipelines_dir=folder, destination=dlt.destinations.postgres(urls["olap"]), dataset_name="peer"
        )
        pipeline.run(rows, write_disposition="append")
    _peer_key(urls["olap"])


if __name__ == "__main__":
    main()
