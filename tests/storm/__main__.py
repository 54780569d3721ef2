"""The long storm and the long kill, on a server of its own, with a table of what each algorithm lost.

    PYTHONPATH=tests python -m storm --seconds 45 --writers 24 --seeds 1 2 3 --mutants all --kills 20

Ends with an error when ours lost anything, or when a mutant lost nothing over all seeds: the storm then proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from penguin_pipelines.lib import services
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import DATABASES, Settings
from storm.engine import TABLES, Outcome, Storm, Weather
from storm.kills import Catchup
from storm.mutants import HARMLESS, MUTANTS, sometimes

OURS = "ours"
HEAD = f"{'seed':>4}  {'algorithm':<24}{'missing':>9}{'stale':>7}{'ghost':>7}{'rows':>7}{'transactions':>14}"
HEAD += f"{'rounds':>8}{'mean ms':>9}{'longest ms':>12}{'kills':>7}"


def main() -> int:
    """Blows every storm asked for and prints one line each; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45.0, help="length of each storm of ours")
    parser.add_argument("--mutant-seconds", type=float, help="length of each storm of a mutant; default as of ours")
    parser.add_argument("--writers", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2, help="processes that the writers are threads of")
    parser.add_argument("--keys", type=int, default=200, help="keys that the writers share, per table")
    parser.add_argument("--straggler", type=float, default=6.0, help="seconds that 2 %% of the transactions take")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--mutants", nargs="*", default=["all"], help=f"all, none, or of: {', '.join(MUTANTS)}")
    parser.add_argument("--kills", type=int, default=0, help="moments at which a catch-up is killed, after the storms")
    parser.add_argument("--rows", type=int, default=200_000, help="messages of the catch-up that is killed")
    options = parser.parse_args()
    known = {**MUTANTS, **HARMLESS}
    chosen = {"all": list(known), "none": []}.get(options.mutants[0] if options.mutants else "none", options.mutants)
    if unknown := set(chosen) - known.keys():
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}")

    lost: dict[str, int] = dict.fromkeys([OURS, *chosen], 0)
    with _server() as (settings, server, redis_url):
        print(HEAD, flush=True)
        for seed in options.seeds:
            for name in lost:
                length = options.seconds if name == OURS else options.mutant_seconds or options.seconds
                weather = Weather(length, options.writers, options.processes, options.keys, options.straggler)
                lost[name] += _storm(server, name, seed, weather).wrong
        good = True
        if options.kills:
            with _databases(server) as urls:
                seed = options.seeds[0] if options.seeds else 1
                catchup = Catchup(urls, redis_url, settings.home, options.rows, seed)
                good = catchup.run(options.kills, lambda line: print(line, flush=True))
    for name in MUTANTS.keys() & lost.keys():
        if options.seeds and not lost[name]:
            print(f"The mutant '{name}' lost nothing: this storm is too weak to prove anything about it.")
            good = False
    if any(lost[name] for name in (OURS, *HARMLESS) if name in lost):
        print("Rows were lost or invented.")
        good = False
    return 0 if good else 1


def _storm(server: str, name: str, seed: int, weather: Weather) -> Outcome:
    with _databases(server) as urls, contextlib.ExitStack() as stack:
        if name != OURS:
            stack.enter_context({**MUTANTS, **HARMLESS}[name](sometimes(seed)))
        outcome = Storm(urls, seed, weather).run()
        mean = 1000 * outcome.busy / outcome.storm_rounds
    print(
        f"{seed:>4}  {name:<24}{outcome.total('missing'):>9}{outcome.total('stale'):>7}{outcome.total('ghost'):>7}"
        f"{outcome.rows:>7}{outcome.transactions:>14}{outcome.rounds:>8}{mean:>9.0f}"
        f"{outcome.longest_round * 1000:>12.0f}{outcome.kills:>7}",
        flush=True,
    )
    return outcome


@contextlib.contextmanager
def _server() -> Iterator[tuple[Settings, str, str]]:
    """A server in a temporary home; gives its settings, the URL of its maintenance database and of Valkey."""
    with tempfile.TemporaryDirectory(prefix="penguin-storm-") as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        endpoints = services.up(settings, print)
        try:
            yield settings, endpoints.urls["oltp"].rsplit("/", 1)[0] + "/postgres", endpoints.urls["redis"]
        finally:
            services.down(settings, print)


@contextlib.contextmanager
def _databases(server: str) -> Iterator[dict[str, str]]:
    """Fresh migrated databases, one per tier."""
    urls = {name: server.rsplit("/", 1)[0] + f"/storm_{name}" for name in DATABASES}
    with psycopg.connect(server, autocommit=True) as connection:
        for name in DATABASES:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(f"storm_{name}")))
        try:
            for tier in {table.source for table in TABLES} | {"olap", "queue"}:
                runner.up(urls[tier], tier)
            yield urls
        finally:
            for name in DATABASES:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(f"storm_{name}")))


if __name__ == "__main__":
    sys.exit(main())
