"""Readers query every mart and view without pause while the warehouse is built, rebuilt and its dbt killed.

Reports what was missing, empty, or waited for a lock for half a second, and how long the longest answers took, waiting
and work together, beside what they took while nothing was built. The suite runs the same readers for a few seconds
(tests/integration/test_readers.py).

    python -m benchmarks.readers --messages 200000 --rounds 5

Ends with 1 when anything was missing or empty, waited so long for a lock, or took longer than that to answer;
interrupted, it tells what it has seen so far. What waits for a processor that others use says nothing: leave the
machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from penguin_pipelines.errors import BuildFailed
from penguin_pipelines.lib import build, ingest, services, specs
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import TIERS, Settings
from penguin_pipelines.synthetic import Options, generate

LONGEST = 0.5
"""Seconds that no reader may wait."""
ALONE = 20
"""Seconds of reading before the first build."""
RELATIONS = """
select n.nspname, c.relname
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('marts', 'tenant') and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
  and has_table_privilege(c.oid, 'select')
order by 1, 2
"""


@dataclass
class Seen:
    """What the readers saw; relations as `schema.name`, times in seconds."""

    reads: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)


@contextmanager
def reading(url: str, tenant: str, *, readers: int = 2) -> Iterator[Seen]:
    """Reads what has rows now, over and over, as an analyst and as a tenant, until the block ends."""
    seen, stop = Seen(), threading.Event()
    threads = [
        threading.Thread(target=_read, args=(url, role, tenant, seen, stop, number))
        for number, role in enumerate(["pm_analyst", "pm_tenant"] * readers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def filled(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Marts and views that the role of the session sees rows in."""
    found = connection.execute(RELATIONS).fetchall()
    return [(schema, name) for schema, name in found if _has_rows(connection, schema, name)]


def _has_rows(connection: psycopg.Connection, schema: str, name: str) -> bool:
    query = sql.SQL("select exists (select from {})").format(sql.Identifier(schema, name))
    return connection.execute(query).fetchone() == (True,)


def _read(url: str, role: str, tenant: str, seen: Seen, stop: threading.Event, number: int) -> None:
    with psycopg.connect(url, autocommit=True, application_name=f"reader {number}") as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{LONGEST}s")))
        connection.execute(sql.SQL("set app.current_tenant_id = {}").format(sql.Literal(tenant)))
        relations = filled(connection)
        # A breath between rounds leaves the processor to the build that is watched.
        while not stop.wait(0.05):
            for schema, name in relations:
                relation, begun = f"{schema}.{name}", time.monotonic()
                try:
                    if not _has_rows(connection, schema, name):
                        seen.empty[relation] += 1
                except psycopg.Error as error:
                    seen.errors.append(f"{relation}: {error}")
                seen.reads[relation] += 1
                seen.longest[relation] = max(seen.longest.get(relation, 0.0), time.monotonic() - begun)


class DbtKilled:
    """Reports of a build that kill its dbt with SIGKILL once the word is reported."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.killed = False

    def __call__(self, line: str) -> None:
        """A line of progress."""
        if not self.killed and self.word in line:
            for pid in children():
                os.kill(pid, signal.SIGKILL)
                self.killed = True


def children() -> list[int]:
    """Processes of dbt that this process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            is_dbt = b"dbt" in (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and is_dbt:
            found.append(int(stat.parent.name))
    return found


def main() -> int:
    """Builds under readers and prints what they saw; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=2, help="pairs of an analyst and a tenant")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        urls = dict(services.up(settings, print).urls)
        try:
            _prepare(urls, options.messages, Path(home))
            print(f"{options.messages:,} messages are built; reading begins", flush=True)
            return _rounds(urls, options, Path(home))
        finally:
            services.down(settings, print)


def _prepare(urls: dict[str, str], messages: int, home: Path) -> None:
    for tier in TIERS:
        runner.up(urls[tier], tier)
    generate(urls, Options(tenants=5, messages=messages, days=90, seed=1))
    _load(urls)
    build.run(urls["olap"], home=home)


def _load(urls: dict[str, str]) -> None:
    for _ in ingest.ingest(urls, specs.all_tables(), pseudonym_key="a key that only benchmarks use"):
        pass


def _rounds(urls: dict[str, str], options: argparse.Namespace, home: Path) -> int:
    with psycopg.connect(urls["olap"]) as connection:
        row = connection.execute("select tenant_id::text from marts.campaign_analytics limit 1").fetchone()
        assert row is not None
    with reading(urls["olap"], row[0], readers=options.readers) as alone:
        time.sleep(ALONE)
    seen = Seen()
    try:
        with reading(urls["olap"], row[0], readers=options.readers) as seen:
            for number in range(1, options.rounds + 1):
                _round(number, urls, options.messages, home)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return _tell(seen, alone)


def _round(number: int, urls: dict[str, str], messages: int, home: Path) -> None:
    generate(urls, Options(messages=messages // 100, days=1, seed=number + 1, append=True))
    _load(urls)
    for word in ("int_messages", "mailbox_analytics", "campaign_performance_summary"):
        try:
            build.run(urls["olap"], home=home, report=DbtKilled(word))
        except BuildFailed as error:
            print(f"round {number}, dbt killed at {word}: {error}", flush=True)
    build.run(urls["olap"], home=home)
    result = build.run(urls["olap"], home=home, full_refresh=True)
    print(f"round {number}: rebuilt in {result.seconds:.1f} s", flush=True)


def _tell(seen: Seen, alone: Seen) -> int:
    print(f"{sum(seen.reads.values()):,} reads of {len(seen.reads)} marts and views")
    print(f"missing or waited {LONGEST} s for a lock: {len(seen.errors)}; empty: {sum(seen.empty.values())}")
    for line in seen.errors[:10]:
        print(f"  {line}")
    for relation, seconds in sorted(seen.longest.items(), key=lambda item: -item[1])[:10]:
        before = alone.longest.get(relation, 0.0)
        print(f"  {relation:<50} longest answer {seconds * 1000:8.1f} ms, without a build {before * 1000:8.1f} ms")
    return 1 if seen.errors or seen.empty or max(seen.longest.values(), default=0) > LONGEST else 0


if __name__ == "__main__":
    sys.exit(main())
