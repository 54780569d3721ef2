"""What a run costs when nothing changed: time in each source by its own statistics, and what the warehouse wrote.

Looks at the platform of PENGUIN_HOME (or of the URLs in the environment), which must have been migrated and ingested;
nobody else should be using it. The first run takes what is left, the others are measured.

    penguin up && penguin migrate up && penguin generate --tenants 20 --messages 20000 --days 60 --seed 1
    python -m benchmarks.idle --runs 3
"""

from __future__ import annotations

import argparse
import statistics
import time

import psycopg

from penguin_pipelines.lib import ingest, services, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.settings import load_settings


def main() -> None:
    """Runs ingestion at rest and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    endpoints = services.endpoints(load_settings())
    tables = specs.all_tables()

    def run() -> list[ingest.Result]:
        return list(ingest.ingest(endpoints.urls, tables, pseudonym_key=endpoints.pseudonym_key))

    run()
    run()
    sources: list[float] = []
    elapsed: list[float] = []
    rows_written = 0
    for _ in range(options.runs):
        before = {tier: _statistics(endpoints.urls[tier]) for tier in (*specs.SOURCES, "olap")}
        began = time.perf_counter()
        results = run()
        elapsed.append(time.perf_counter() - began)
        busy = [r for r in results if not isinstance(r, Loaded) or r.changed]
        if busy:
            raise SystemExit(f"Not at rest: {busy[0]}")
        time.sleep(1.5)  # sessions hand in their statistics when they end, and the server once a second
        after = {tier: _statistics(endpoints.urls[tier]) for tier in before}
        sources.append(sum(after[t][0] - before[t][0] for t in specs.SOURCES) / 1000)
        rows_written += after["olap"][1] - before["olap"][1]
    print(
        f"idle run over {len(tables)} tables: {statistics.median(elapsed):.2f} s, "
        f"{min(elapsed):.2f}..{max(elapsed):.2f}"
    )
    print(f"time in the sources: {statistics.median(sources):.3f} s, {min(sources):.3f}..{max(sources):.3f}")
    print(f"rows written to the warehouse: {rows_written}")


def _statistics(url: str) -> tuple[float, int]:
    """Milliseconds spent in statements, and rows written, by the statistics of the database."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select active_time, tup_inserted + tup_updated + tup_deleted from pg_stat_database "
            "where datname = current_database()"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


if __name__ == "__main__":
    main()
