"""The warehouse at size: full build, increments, and the frozen questions of analysts, through the tenant views.

The mail is made by the generator for a tenth or less of the tenants, ingested as always, and then copied inside the
warehouse for further tenants: every raw row again under other ids, so that shape and distribution stay those of the
generator while ten million messages take minutes. Nothing else is short-cut: events of an increment are written to
raw with the slices that the loader writes, and `penguin build` does the rest.

SQL time is what Postgres counts as executing statements in the warehouse (`pg_stat_database.active_time`), the whole
of dbt's work and its tests included. The lag of an increment is the generator's: 80 % of the events belong to
messages under a day old, 99 % under a week; beside it events spread evenly over the history.

The server gets the settings that one of this size has in production (SERVER), a quarter of the machine's memory as
shared buffers among them; parallel workers are off, because Postgres does not count their time as the statement's, and
dbt runs one statement at a time, because on few cores a second one would be counted while it waits for the first.

The questions stand in questions.sql and run as `pm_tenant`, 8 clients at once, each time for another tenant. With
duckdb installed (it is no dependency), the same questions run on the same rows as Parquet files.

    python -m benchmarks.warehouse --messages 10000000 --base 500000
    python -m benchmarks.warehouse --home <kept folder> --only questions
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString, cast

from psycopg import sql

from penguin_pipelines import synthetic
from penguin_pipelines.lib import build, db, ingest, services, specs
from penguin_pipelines.lib.sql import parse
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import Settings

HERE = Path(__file__).parent
STATEMENTS = parse((HERE / "warehouse.sql").read_text())
QUESTIONS = parse((HERE / "questions.sql").read_text())
PARTS = ("prepare", "full", "increments", "questions")
Ask = Callable[[str, str], None]
DAYS = 90
SETTLING = 8
"""Increments before the first that counts, at most."""
SETTLED = 0.9
"""Share of the one before it below which an increment still gains by what is in memory."""
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
KEPT = ("plan_id", "vps_instance_id", "smtp_ip_address_id")
"""What all tenants share and a copy must go on referring to."""
SERVER = {
    "effective_cache_size": f"{MEMORY // 2 >> 20}MB",
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "16GB",
    "shared_buffers": f"{MEMORY // 4 >> 20}MB",
}
KINDS = {"opens": 0.62, "clicks": 0.15, "replies": 0.11, "bounces": 0.05, "unsubscribes": 0.05, "complaints": 0.02}


def main() -> None:
    """Prepares what is missing, then runs the wanted parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000_000, help="Messages in the warehouse.")
    parser.add_argument("--base", type=int, default=500_000, help="Messages that the generator makes.")
    parser.add_argument("--tenants", type=int, default=10, help="Tenants that the generator makes.")
    parser.add_argument("--writers", type=int, default=2, help="Copies made side by side.")
    parser.add_argument("--runs", type=int, default=3, help="Increments of each kind; the median is shown.")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="How often each client asks every question.")
    parser.add_argument("--home", type=Path, help="Keep servers and data here, and go on from what is there.")
    parser.add_argument(
        "--only", nargs="*", choices=["prepare", "full", "increments", "questions"], help="Only these parts."
    )
    options = parser.parse_args()
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    with contextlib.ExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penguin-bench-")))
        settings = Settings(home=home)  # type: ignore[call-arg]
        _tune(services.up(settings, print).urls["olap"])
        stack.callback(services.down, settings, print)
        services.down(settings, lambda _: None)
        endpoints = services.up(settings, lambda _: None)
        warehouse = Bench(endpoints.urls, home, endpoints.pseudonym_key)
        warehouse.prepare(options)
        parts: dict[str, Callable[[], None]] = {
            "full": warehouse.full,
            "increments": lambda: warehouse.increments(options.messages, options.runs),
            "questions": lambda: warehouse.questions(settings, options.clients, options.rounds),
        }
        for name, part in parts.items():
            if not options.only or name in options.only:
                part()


class Bench:
    """One warehouse with its servers; `present` is the end of the generated history."""

    def __init__(self, urls: Mapping[str, str], home: Path, pseudonym_key: str) -> None:
        self.urls, self.url, self.home, self.key = urls, urls["olap"], home, pseudonym_key

    def ask(self, name: str, **values: object) -> list[tuple]:
        """Rows of a named statement."""
        with db.connect(self.url, "olap") as connection:
            return connection.execute(STATEMENTS[name], values).fetchall()

    @property
    def present(self) -> datetime:
        """The end of the history."""
        return self.ask("present")[0][0] + timedelta(minutes=1)

    def prepare(self, options: argparse.Namespace) -> None:
        """Schema, generated rows, ingestion and copies, as far as they are missing."""
        for tier in ("oltp", "content", "queue", "olap"):
            runner.up(self.urls[tier], tier)
        with db.connect(self.url, "olap") as connection:
            connection.execute(STATEMENTS["make_copies"])
            connection.execute(STATEMENTS["make_arrived"])
        with db.connect(self.urls["oltp"], "oltp") as connection:
            empty = not connection.execute(STATEMENTS["tenants"]).fetchall()
        if empty:
            began = time.perf_counter()
            synthetic.generate(
                self.urls, synthetic.Options(options.tenants, options.base, DAYS, seed=11), lambda *_: None
            )
            seconds = time.perf_counter() - began
            print(f"generated {options.base:,} messages in {seconds:,.0f} s, {options.base / seconds:,.0f} a second")
        tables = [t for s in specs.SOURCES for t in specs.tables(s)]
        for result in ingest.ingest(self.urls, tables, pseudonym_key=self.key):
            if isinstance(result, ingest.Failed):
                raise SystemExit(f"{result.table}: {result.error}")
        with db.connect(self.url, "olap") as connection:
            connection.execute(STATEMENTS["remember_tenants"])
        copies = options.messages // options.base - 1
        missing = set(range(1, copies + 1)) - {number for (number,) in self.ask("copies")}
        with ThreadPoolExecutor(options.writers) as pool:
            for line in pool.map(lambda number: self.copy(tables, number), sorted(missing)):
                print(line)
        if missing or not self.ask("has_ages")[0][0]:
            with db.connect(self.url, "olap") as connection:
                connection.execute(STATEMENTS["make_ages"])

    def copy(self, tables: list[specs.Table], number: int) -> str:
        """Every raw row of the generated tenants once more under other ids, in one transaction."""
        rows, began = 0, time.perf_counter()
        with db.connect(self.url, "olap") as connection:
            for table in tables:
                owner = "id" if table.name == "tenants" else table.tenant
                if owner is None:
                    continue
                columns = [(c.name, c.type) for c in table.raw_columns]
                rows += connection.execute(
                    sql.SQL(STATEMENTS["copy"]).format(
                        table=sql.Identifier(table.raw_schema, table.name),
                        columns=sql.SQL(", ").join(sql.Identifier(n) for n, _ in columns),
                        values=sql.SQL(", ").join(_copied(name, kind) for name, kind in columns),
                        tenant=sql.Identifier(owner),
                        moment=sql.Identifier("created" if "created" in dict(columns) else owner),
                    ),
                    {"copy": number},
                ).rowcount
            connection.execute(STATEMENTS["remember_copy"], {"copy": number})
        return f"copy {number}: {rows:,} rows in {time.perf_counter() - began:,.0f} s"

    def build(self, *, full: bool = False) -> tuple[float, float, build.BuildResult]:
        """Seconds of SQL, seconds on the clock, and the result of one build."""
        before, began = self.sql_seconds(), time.perf_counter()
        result = build.run(self.url, home=self.home, full_refresh=full, as_of=self.present, threads=1)
        seconds = time.perf_counter() - began
        return self.sql_seconds() - before, seconds, result

    def sql_seconds(self) -> float:
        """Seconds that statements have run in the warehouse so far; sessions report when they end."""
        return self.ask("active")[0][0]

    def full(self) -> None:
        """The full build over everything."""
        with db.connect(self.url, "olap", autocommit=True) as connection:
            connection.execute("vacuum analyze")
        spent, seconds, result = self.build(full=True)
        print(f"\nfull build: {spent:,.1f} s of SQL, {seconds:,.1f} s on the clock, {result.models} models")
        (self.home / "full_build_seconds").write_text(str(spent))

    def increments(self, messages: int, runs: int) -> None:
        """Builds after new events for a share of the messages, by lag. The events go again before the next, as if they
        had never come: messages that were chosen again and again would have ever more of them. The first ones are not
        counted, until they take no less from one to the next: they read the pages of the last week into memory, as the
        builds of its hours would have, and each reaches a fifth of its messages."""
        self.depart()
        last = math.inf
        for run in range(SETTLING):
            spent, _ = self.increment(messages // 100, "recent", run)
            print(f"  not counted: {spent:,.1f} s of SQL")
            if spent > SETTLED * last:
                break
            last = spent
        known = self.home / "full_build_seconds"
        whole = float(known.read_text()) if known.exists() else None
        print(f"\n{'new events for':<34}{'SQL s':>10}{'spread':>18}{'clock s':>10}{'of full':>9}")
        for share, lag in ((0.01, "recent"), (0.0001, "recent"), (0.01, "even")):
            times, clock = [], []
            for run in range(runs):
                seconds, elapsed = self.increment(int(messages * share), lag, run)
                print(f"  {share:.2%}, {lag}, run {run + 1}: {seconds:,.1f} s of SQL")
                times.append(seconds)
                clock.append(elapsed)
            median = statistics.median(times)
            label = f"{share:.2%} of {messages:,}, {lag}"
            spread = f"{min(times):,.1f}..{max(times):,.1f}"
            ratio = f"{median / whole:.1%}" if whole else "-"
            print(f"{label:<34}{median:>10,.1f}{spread:>18}{statistics.median(clock):>10,.1f}{ratio:>9}")

    def increment(self, events: int, lag: str, run: int) -> tuple[float, float]:
        """Seconds of SQL and on the clock of a build after new events, which are taken back."""
        self.arrive(events, lag, f"{events}{lag}{run}{time.time_ns()}")
        spent, clock, _ = self.build()
        self.depart()
        return spent, clock

    def depart(self) -> None:
        """Takes back the events that arrived, and builds."""
        with db.connect(self.url, "olap") as connection:
            for kind in KINDS:
                table = sql.Identifier("raw_content", f"email_{kind}")
                connection.execute(sql.SQL(STATEMENTS["depart"]).format(table=table))
            connection.execute(STATEMENTS["touch_departed"])
            connection.execute(STATEMENTS["forget_arrived"])
            connection.execute(STATEMENTS["flush"])
        self.build()

    def arrive(self, events: int, lag: str, mark: str) -> None:
        """New events with their slices, one message each as long as there are enough of the wanted age."""
        strata = [(0.80, 0, 1), (0.19, 1, 7), (0.01, 7, 28)] if lag == "recent" else [(1.0, 0, DAYS)]
        present = self.present
        with db.connect(self.url, "olap") as connection:
            connection.execute(STATEMENTS["chosen"])
            for share, younger, older in strata:
                connection.execute(
                    STATEMENTS["choose"],
                    {
                        "count": round(events * share),
                        "from": present - timedelta(days=older),
                        "to": present - timedelta(days=younger),
                        "mark": mark,
                    },
                )
            reached = 0.0
            for kind, share in KINDS.items():
                values = {"low": reached, "high": reached + share, "mark": mark, "present": present}
                connection.execute(STATEMENTS[f"arrive_{kind}"], values)
                connection.execute(STATEMENTS["touch"], {**values, "cause": f"content.email_{kind}"})
                reached += share
            connection.execute(STATEMENTS["remember_arrived"], {"mark": mark})
            connection.execute(STATEMENTS["flush"])

    def questions(self, settings: Settings, clients: int, rounds: int) -> None:
        """Every question by several clients at once, just after a start of the server and warm, which means that each
        tenant has had every answer once and the sessions stay, as those of an application do; and on DuckDB."""
        services.down(settings, lambda _: None)
        self.urls = services.up(settings, lambda _: None).urls
        self.url = self.urls["olap"]
        tenants = [str(row[0]) for row in self.ask("known_tenants")]
        today = self.present.date().isoformat()
        print(f"\n{len(QUESTIONS)} questions, {len(tenants)} tenants, {clients} clients")
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(self._client(today)) for _ in range(clients)]
            _report("first after a start", _asked(sessions, tenants, 1))
            _warm(sessions, tenants)
            _report("warm", _asked(sessions, tenants, rounds))
        try:
            import duckdb  # type: ignore[import-not-found]
        except ImportError:
            print("\nDuckDB is left out, because duckdb is not installed.")
            return
        with tempfile.TemporaryDirectory(prefix="penguin-duckdb-") as folder, contextlib.ExitStack() as stack:
            base = duckdb.connect()
            self._export(base, Path(folder))
            sessions = [stack.enter_context(_duckdb_client(base, today)) for _ in range(clients)]
            _warm(sessions, tenants)
            _report("DuckDB over Parquet, warm", _asked(sessions, tenants, rounds))

    def _export(self, base: Any, folder: Path) -> None:
        """Every mart view that a question reads, as one Parquet file behind a view of the same name."""
        base.execute("create schema tenant")
        with db.connect(self.url, "olap") as connection:
            for (view,) in connection.execute(STATEMENTS["tenant_views"]).fetchall():
                if not any(f" {view}" in question for question in QUESTIONS.values()):
                    continue
                query = sql.SQL(STATEMENTS["export"]).format(sql.Identifier("marts", view))
                with (folder / f"{view}.csv").open("wb") as file, connection.cursor().copy(query) as out:
                    for block in out:
                        file.write(block)
                columns = {
                    name: _duckdb_type(kind)
                    for name, kind in connection.execute(STATEMENTS["columns"], {"table": f"marts.{view}"})
                }
                base.execute(
                    f"copy (select * from read_csv('{folder}/{view}.csv', header = true, columns = {columns}) "
                    f"order by tenant_id) to '{folder}/{view}.parquet' (format parquet)"
                )
                base.execute(
                    f"create view tenant.{view} as select * from '{folder}/{view}.parquet' "
                    "where tenant_id = getvariable('tenant')"
                )

    @contextlib.contextmanager
    def _client(self, today: str) -> Iterator[Ask]:
        """A tenant's session of the application."""
        with contextlib.closing(db.open_connection(self.url, "olap", role="pm_tenant", autocommit=True)) as link:
            link.execute("set search_path = tenant")

            def ask(tenant: str, name: str) -> None:
                with link.transaction():
                    link.execute(sql.SQL("set local app.current_tenant_id = {}").format(sql.Literal(tenant)))
                    link.execute(_question(name, today)).fetchall()

            yield ask


def _tune(url: str) -> None:
    with db.connect(url, "olap", autocommit=True) as connection:
        for name, value in SERVER.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))


@contextlib.contextmanager
def _duckdb_client(base: Any, today: str) -> Iterator[Ask]:
    with contextlib.closing(base.cursor()) as link:
        link.execute("set search_path = 'tenant'")

        def ask(tenant: str, name: str) -> None:
            link.execute(f"set variable tenant = '{tenant}'")
            link.execute(_question(name, today)).fetchall()

        yield ask


def _warm(sessions: list[Ask], tenants: list[str]) -> None:
    """Every question for every tenant; each session asks for some of them."""

    def work(number: int) -> None:
        for tenant in tenants[number :: len(sessions)]:
            for name in QUESTIONS:
                sessions[number](tenant, name)

    _at_once(work, len(sessions))


def _asked(sessions: list[Ask], tenants: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds by question: every session asks all of them in an order of its own, each for some tenant."""
    seconds: dict[str, list[float]] = {name: [] for name in QUESTIONS}

    def work(number: int) -> None:
        draw = random.Random(number)
        for _ in range(rounds):
            for name in draw.sample(list(QUESTIONS), len(QUESTIONS)):
                began = time.perf_counter()
                sessions[number](draw.choice(tenants), name)
                seconds[name].append(time.perf_counter() - began)

    _at_once(work, len(sessions))
    return seconds


def _at_once(work: Callable[[int], None], clients: int) -> None:
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work, number) for number in range(clients)]:
            done.result()


def _copied(name: str, kind: str) -> sql.Composable:
    if kind == "uuid" and name not in KEPT:
        return sql.SQL("md5({}::text || %(copy)s)::uuid").format(sql.Identifier(name))
    return sql.Identifier(name)


def _question(name: str, today: str) -> LiteralString:
    return cast("LiteralString", QUESTIONS[name].replace(":today", f"date '{today}'"))


def _duckdb_type(kind: str) -> str:
    known = {"uuid": "VARCHAR", "numeric": "DOUBLE", "timestamp with time zone": "TIMESTAMPTZ", "jsonb": "VARCHAR"}
    plain = kind.split("(")[0]
    return known.get(plain, "VARCHAR" if plain in ("character varying", "text", "character") else plain.upper())


def _report(label: str, seconds: dict[str, list[float]]) -> None:
    everything = sorted(s for times in seconds.values() for s in times)
    print(f"\n{label}: p50 {_at(everything, 0.5):,.1f} ms, p95 {_at(everything, 0.95):,.1f} ms of {len(everything)}")
    for name, times in seconds.items():
        print(f"  {name:<34}p50 {_at(sorted(times), 0.5):>9,.1f} ms   p95 {_at(sorted(times), 0.95):>9,.1f} ms")


def _at(ordered: list[float], share: float) -> float:
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
