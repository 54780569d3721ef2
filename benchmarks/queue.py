"""Enqueue, throughput with no-op jobs and pick-up latency when idle, beside a bare `FOR UPDATE SKIP LOCKED` loop.

Ours runs with everything on: row level security, leases, fencing, one log row per attempt, a process per slot. The
bare loop selects 100 rows for update, skips locked ones, marks them done and commits; once on a table of its own with
one index, once on our `jobs` with its indexes and triggers. procrastinate and pgqueuer join in when they are
installed; they are no dependency: pip install procrastinate pgqueuer asyncpg into a throw-away environment beside
this project.

    python -m benchmarks.queue --jobs 30000 --workers 1 4 --runs 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from pydantic import BaseModel

from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import Producer
from penguin_pipelines.lib.queue.worker import Options, Worker
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import Settings

QUEUE = "bench"
BATCH = 100


class Nothing(BaseModel):
    n: int = 0


@handler("bench.noop", Nothing)
def noop(payload: Nothing, job: Context) -> Result:
    """What every contender runs."""
    return None


def main() -> None:
    """Runs the contenders and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1], help="Numbers of our worker processes.")
    parser.add_argument("--concurrency", type=int, default=2, help="Slots of each of our workers.")
    parser.add_argument("--latency", type=int, default=300, help="Jobs of the pick-up measurement.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="Only contenders whose name holds one of these words.")
    parser.add_argument("--long-query", action="store_true", help="A transaction with a snapshot stays open meanwhile.")
    parser.add_argument("--child", nargs=2, metavar=("QUEUE_URL", "REDIS_URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _worker(dict(zip(("queue", "redis"), options.child, strict=True)), options.concurrency).run()
        return
    with tempfile.TemporaryDirectory(prefix="penguin-bench-") as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        urls = dict(services.up(settings, print).urls)
        try:
            runner.up(urls["queue"], "queue")
            with db.connect(urls["queue"], "queue") as connection:
                connection.execute("insert into job_queues (name, max_concurrent_jobs) values (%s, 1000000)", [QUEUE])
            with _snapshot(urls["queue"]) if options.long_query else contextlib.nullcontext():
                throughput(urls, options)
            latency(urls, options.latency)
        finally:
            services.down(settings, print)


def throughput(urls: dict[str, str], options: argparse.Namespace) -> None:
    """Enqueue and run `--jobs` jobs with each contender, interleaved so that noise meets all of them."""
    url, jobs = urls["queue"], options.jobs
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "bare loop, own table": lambda: _bare(url, jobs, ours=False),
        "bare loop, table jobs": lambda: _bare(url, jobs, ours=True),
        **{
            f"ours, {n} worker{'s' if n > 1 else ''}": lambda n=n: _ours(urls, jobs, n, options.concurrency)
            for n in options.workers
        },
        "pgqueuer": lambda: asyncio.run(_pgqueuer(urls["dagster"], jobs)),
        "procrastinate": lambda: asyncio.run(_procrastinate(urls["dagster"], min(jobs, 3_000))),
    }
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.runs):
        for name, contend in contenders.items():
            if options.only and not any(word in name for word in options.only):
                continue
            try:
                found.setdefault(name, []).append(contend())
            except ImportError as e:
                found.pop(name, None)
                print(f"{name}: not installed ({e.name}).")
    print(f"\n{'no-op jobs a second':<24}{'enqueue':>10}{'run':>10}{'spread of run':>18}")
    for name, rates in found.items():
        enqueued, ran = (statistics.median(r[i] for r in rates) for i in (0, 1))
        spread = f"{min(r[1] for r in rates):,.0f}..{max(r[1] for r in rates):,.0f}"
        print(f"{name:<24}{enqueued:>10,.0f}{ran:>10,.0f}{spread:>18}")


def latency(urls: dict[str, str], jobs: int) -> None:
    """From the commit of an enqueue to the start of the handler, one job at a time on an idle worker."""
    _clean(urls["queue"])
    worker = _worker(urls, 2)
    thread = threading.Thread(target=worker.run)
    thread.start()
    producer = Producer(urls["queue"], urls["redis"])
    committed: dict[Any, float] = {}
    try:
        with db.connect(urls["queue"], "queue", autocommit=True) as connection:
            for n in range(jobs + 5):
                with producer.transaction():
                    pass  # a connection that is open and warm, as an application's is
                made = producer.enqueue(NewJob(QUEUE, "bench.noop", {}))
                if n >= 5:
                    committed[made.id] = time.time()
                while connection.execute("select status from jobs where id = %s", [made.id]).fetchone() != (
                    "completed",
                ):
                    time.sleep(0.002)
                time.sleep(0.01)
            started = dict(
                connection.execute("select job_id, extract(epoch from started)::float from job_logs").fetchall()
            )
    finally:
        worker.stop()
        thread.join()
        producer.close()
    waits = sorted(max(0.0, (started[id_] - at) * 1000) for id_, at in committed.items())
    print(f"\npick-up when idle, ms: p50 {waits[len(waits) // 2]:.1f}, p99 {waits[int(len(waits) * 0.99)]:.1f}")


@contextlib.contextmanager
def _snapshot(url: str) -> Iterator[None]:
    """What a long analytical query does to the queue: dead rows cannot be removed."""
    with psycopg.connect(url) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select count(*) from jobs")
        yield


def _clean(url: str) -> None:
    with db.connect(url, "queue", autocommit=True) as connection:
        connection.execute("truncate jobs, job_logs, penguin.tombstones")
        connection.execute("vacuum analyze jobs")


def _worker(urls: dict[str, str], concurrency: int, *, until_empty: bool = False) -> Worker:
    return Worker(
        urls, Options((QUEUE,), concurrency=concurrency, modules=("benchmarks.queue",), until_empty=until_empty)
    )


def _ours(urls: dict[str, str], jobs: int, workers: int, concurrency: int) -> tuple[float, float]:
    """The clock runs from the first start of an attempt to the end of the last statement."""
    _clean(urls["queue"])
    began = time.perf_counter()
    producer = Producer(urls["queue"], urls["redis"])
    producer.enqueue_many(NewJob(QUEUE, "bench.noop", {"n": n}) for n in range(jobs))
    producer.close()
    enqueued = time.perf_counter() - began
    command = [sys.executable, "-m", "benchmarks.queue", "--concurrency", str(concurrency)]
    processes = [
        subprocess.Popen([*command, "--child", urls["queue"], urls["redis"]], start_new_session=True)
        for _ in range(workers)
    ]
    with db.connect(urls["queue"], "queue", autocommit=True) as connection:
        while connection.execute("select exists (select from jobs where status not in ('completed'))").fetchone() != (
            False,
        ):
            time.sleep(0.02)
        ended = time.time()
        row = connection.execute("select extract(epoch from min(started))::float, count(*) from job_logs").fetchone()
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
    assert row is not None
    assert row[1] == jobs, f"{row[1]} attempts of {jobs} jobs"
    return jobs / enqueued, jobs / (ended - row[0])


def _bare(url: str, jobs: int, *, ours: bool) -> tuple[float, float]:
    """The loop that every queue on Postgres contains."""
    table, todo, done, order = ("jobs", "queued", "completed", "run") if ours else ("bare", "q", "d", "id")
    _clean(url)
    with db.connect(url, "queue", autocommit=True) as connection:
        connection.execute("drop table if exists bare")
        connection.execute(
            "create table bare "
            "(id bigint generated always as identity primary key, status text default 'q', payload jsonb)"
        )
        connection.execute("create index on bare (id) where status = 'q'")
        began = time.perf_counter()
        if ours:
            source = "select %s, 'bench.noop', '{}' from generate_series(1, %s)"
            connection.execute(f"insert into jobs (queue_name, job_type, payload) {source}", [QUEUE, jobs])  # type: ignore[arg-type]
        else:
            connection.execute("insert into bare (payload) select '{}' from generate_series(1, %s)", [jobs])
        enqueued = time.perf_counter() - began
        connection.execute(f"vacuum analyze {table}")  # type: ignore[arg-type]
        pick = f"select id from {table} where status = '{todo}' order by {order} limit {BATCH} for update skip locked"
        mark = f"update {table} set status = '{done}' where id = any(%s)"
        began = time.perf_counter()
        while True:
            with connection.transaction():
                ids = [row[0] for row in connection.execute(pick)]  # type: ignore[arg-type]
                connection.execute(mark, [ids])  # type: ignore[arg-type]
            if not ids:
                return jobs / enqueued, jobs / (time.perf_counter() - began)


async def _pgqueuer(url: str, jobs: int) -> tuple[float, float]:
    import asyncpg  # type: ignore[import-not-found]
    from pgqueuer import AsyncpgDriver, PgQueuer, Queries  # type: ignore[import-not-found]

    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    with contextlib.suppress(asyncpg.PostgresError):
        await queries.uninstall()
    await queries.install()
    began = time.perf_counter()
    for start in range(0, jobs, 1_000):
        n = min(1_000, jobs - start)
        await queries.enqueue(["noop"] * n, [b"{}"] * n, [0] * n)
    enqueued = time.perf_counter() - began
    queue, left = PgQueuer(AsyncpgDriver(connection)), jobs

    @queue.entrypoint("noop")
    async def _(job: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            queue.shutdown.set()

    began = time.perf_counter()
    await queue.run(batch_size=BATCH)
    ran = time.perf_counter() - began
    await connection.close()
    return jobs / enqueued, jobs / ran


async def _procrastinate(url: str, jobs: int) -> tuple[float, float]:
    import procrastinate  # type: ignore[import-not-found]

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def task(n: int) -> None:
        return None

    async with app.open_async():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("drop schema public cascade; create schema public")
        await app.schema_manager.apply_schema_async()
        began = time.perf_counter()
        for start in range(0, jobs, 1_000):
            await task.batch_defer_async(*({"n": n} for n in range(start, min(start + 1_000, jobs))))
        enqueued = time.perf_counter() - began
        began = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=10, install_signal_handlers=False, listen_notify=False)
        ran = time.perf_counter() - began
    return jobs / enqueued, jobs / ran


if __name__ == "__main__":
    main()
