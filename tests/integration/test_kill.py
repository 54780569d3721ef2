"""`penguin ingest` killed with -9 and started again: nothing is lost, nothing comes twice, slices are kept.

Three moments here; twenty, on more rows, by `make storm` (tests/storm/kills.py).
"""

from __future__ import annotations

from pathlib import Path

from servers import Databases
from storm.kills import Catchup


def test_ingestion_that_was_killed_ends_where_it_would_have_ended(
    tiers: Databases, redis_url: str, tmp_path: Path
) -> None:
    urls = {name: tiers[name] for name in ("oltp", "content", "queue", "olap", "dagster")}
    said: list[str] = []
    catchup = Catchup(urls, redis_url, tmp_path / "home", rows=4_000, seed=1, work=0.4)
    assert catchup.run(3, said.append), said
    assert catchup.killed == 3
