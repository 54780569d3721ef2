"""Enqueue, throughput with no-op jobs and pick-up latency, beside bare `FOR UPDATE SKIP LOCKED` loops and other queues.

Ours runs with everything on: row level security, leases, fencing, one log row per attempt, handlers in processes of
their own. The bare loop selects 100 rows for update, skips locked ones, marks them done and commits: once on a table of
its own with a key, a status, a payload and one partial index, once on our `jobs` with its indexes and triggers. It
leases nothing, logs nothing and knows neither tenants nor attempts. The bar of the project is half of the first.

Peers join in when they are installed, pinned in benchmarks/requirements.txt; they are no dependency. PGMQ is the SQL
that its Python package carries, with `read` and `archive` in batches of 100; pgqueuer has batches of 100, procrastinate
10 jobs at a time; arq and rq keep their jobs in Redis alone (`appendfsync everysec`).

Every contender: some jobs enqueued one by one, each in a transaction of its own; the rest in bulk; then workers that
wait ready begin, and the clock runs until nothing is left.

    python -m benchmarks.queue --jobs 20000 --workers 1 4 16 --long-query
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.resources
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue.hints import Hint
from penguin_pipelines.lib.queue.model import NewJob, new_id
from penguin_pipelines.lib.queue.producer import Producer
from penguin_pipelines.lib.queue.worker import Options, Worker
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import Settings
from penguin_pipelines.terminal import print_table

QUEUE = "bench"
BATCH = 100
PATIENCE = 600.0


def main() -> None:
    """Runs the contenders and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--singles", type=int, default=300, help="How many of them are enqueued one by one.")
    parser.add_argument("--workers", type=int, nargs="*", default=[1], help="Numbers of worker processes.")
    parser.add_argument("--slots", type=int, default=2, help="Processes for handlers of each of our workers.")
    parser.add_argument("--latency", type=int, default=300, help="Jobs of the pick-up measurement.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="Only contenders whose name holds one of these words.")
    parser.add_argument(
        "--long-query", action="store_true", help="All again while an analytical query runs in one transaction."
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        given = json.loads(sys.stdin.readline())
        contender = CONTENDERS[options.child](given["urls"], given["slots"])
        with contextlib.suppress(KeyboardInterrupt):
            contender.work(Path(given["gate"]))
        return
    with tempfile.TemporaryDirectory(prefix="penguin-bench-") as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        urls = dict(services.up(settings, print).urls)
        try:
            runner.up(urls["queue"], "queue")
            with db.connect(urls["queue"], "queue") as connection:
                connection.execute("insert into job_queues (name, max_concurrent_jobs) values (%s, 1000000)", [QUEUE])
            measure(urls, options, Path(home))
            if options.long_query:
                with analytical_query(urls):
                    print("\nUnder a long-running analytical query on the same server:")
                    measure(urls, options, Path(home))
        finally:
            services.down(settings, print)


def measure(urls: dict[str, str], options: argparse.Namespace, home: Path) -> None:
    """All contenders in turn, so that noise meets all of them; then pick-up."""
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    missing: set[str] = set()
    rounds = [(w, name) for _ in range(options.runs) for w in options.workers for name in CONTENDERS]
    for number, (workers, name) in enumerate(rounds):
        if name in missing or (options.only and not any(word in name for word in options.only)):
            continue
        try:
            contender = CONTENDERS[name](urls, options.slots)
        except ImportError as e:
            missing.add(name)
            print(f"{name}: not installed ({e.name}).", file=sys.stderr)
            continue
        jobs = min(options.jobs, contender.most)
        rates = one_round(contender, name, jobs, min(options.singles, jobs), workers, home / f"gate{number}")
        contender.close()
        found.setdefault((name, workers), []).append(rates)
        print(f"{name}, {workers}: {', '.join(f'{r:,.0f}' for r in rates)}", file=sys.stderr)
    rows = []
    for (name, workers), rates in found.items():
        middle = [f"{statistics.median(column):,.0f}" for column in zip(*rates, strict=True)]
        ran = [r[2] for r in rates]
        rows.append((name, workers, *middle, f"{min(ran):,.0f}..{max(ran):,.0f}"))
    print()
    print_table(["jobs a second", "workers", "enqueue one", "enqueue bulk", "run", "spread of run"], rows)
    if options.latency:
        latency(urls, options.latency)


def one_round(
    contender: Contender, name: str, jobs: int, singles: int, workers: int, gate: Path
) -> tuple[float, float, float]:
    """Jobs a second enqueued one by one, enqueued in bulk, and run by so many workers."""
    contender.clean()
    began = time.perf_counter()
    contender.single(singles)
    single = time.perf_counter() - began
    began = time.perf_counter()
    contender.bulk(jobs - singles)
    bulk = time.perf_counter() - began
    given = json.dumps({"urls": dict(contender.urls), "slots": contender.slots, "gate": str(gate)}) + "\n"
    children = []
    try:
        for _ in range(workers):
            command = [sys.executable, "-m", "benchmarks.queue", "--child", name]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
            children.append(child)
            assert child.stdin is not None
            child.stdin.write(given)
            child.stdin.flush()
        _until(lambda: contender.ready(gate, workers), "the workers are ready")
        began = time.time()
        contender.begin(gate)
        _until(lambda: contender.left() == 0, "nothing is left")
        ran = time.time() - max(began, contender.first_start() or 0)
    finally:
        for child in children:
            child.kill() if contender.rough else child.terminate()
        for child in children:
            child.wait()
    return singles / single, max(jobs - singles, 1) / bulk, jobs / ran


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Not within {PATIENCE:.0f} s: {what}.")
        time.sleep(0.01)


class Contender:
    """A queue: how jobs get in, how a worker process works them, and how many are left."""

    most = 1_000_000
    rough = True
    """Whether its workers are killed; ours are asked to stop."""

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        self.urls = urls
        self.slots = slots
        self.url = urls["dagster"]
        self._watching: psycopg.Connection | None = None

    def clean(self) -> None:
        """An empty queue."""
        raise NotImplementedError

    def single(self, jobs: int) -> None:
        """Each job in a transaction of its own."""
        raise NotImplementedError

    def bulk(self, jobs: int) -> None:
        """The fastest way in."""
        raise NotImplementedError

    def run(self) -> None:
        """What a worker process does, once it may begin."""
        raise NotImplementedError

    def left(self) -> int:
        """Jobs that have not ended."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What a worker does before it says that it is ready."""

    def work(self, gate: Path) -> None:
        self.prepare()
        gate.with_name(f"{gate.name}-{new_id()}").touch()
        while not gate.exists():
            time.sleep(0.002)
        self.run()

    def ready(self, gate: Path, workers: int) -> bool:
        return len(list(gate.parent.glob(f"{gate.name}-*"))) == workers

    def begin(self, gate: Path) -> None:
        gate.touch()

    def first_start(self) -> float | None:
        """When the first job began, where that is later than the sign to begin."""
        return None

    def watching(self) -> psycopg.Connection:
        if self._watching is None:
            self._watching = psycopg.connect(self.url, autocommit=True)
        return self._watching

    def close(self) -> None:
        if self._watching is not None:
            self._watching.close()

    def one(self, query: str) -> Any:
        row = self.watching().execute(query).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]


class Ours(Contender):
    rough = False

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self.url = urls["queue"]
        self._producer = Producer(urls["queue"], urls["redis"])

    def clean(self) -> None:
        clean(self.urls)
        self.watching().execute("update job_queues set is_active = false where name = %s", [QUEUE])

    def single(self, jobs: int) -> None:
        for n in range(jobs):
            self._producer.enqueue(NewJob(QUEUE, "bench.noop", {"n": n}))

    def bulk(self, jobs: int) -> None:
        self._producer.enqueue_many(NewJob(QUEUE, "bench.noop", {"n": n}) for n in range(jobs))

    def work(self, gate: Path) -> None:
        worker(self.urls, self.slots).run()

    def ready(self, gate: Path, workers: int) -> bool:
        with redis.Redis.from_url(self.urls["redis"]) as client:
            return len(list(client.scan_iter("worker:*"))) == workers

    def begin(self, gate: Path) -> None:
        self.watching().execute("update job_queues set is_active = true where name = %s", [QUEUE])
        self._producer.hints.push([Hint(QUEUE, 100, new_id())] * 100)

    def left(self) -> int:
        # Each through its index, as the bare loop is watched: a walk over ended jobs every 10 ms would load the server.
        return self.one(
            "select (exists (select from jobs where status = 'queued') "
            "or exists (select from jobs where status = 'processing'))::int"
        )

    def first_start(self) -> float | None:
        doubled = self.one("select count(*) - count(distinct job_id) from job_logs")
        assert doubled == 0, f"{doubled} attempts too many"
        return self.one("select extract(epoch from min(started))::float from job_logs")

    def close(self) -> None:
        super().close()
        self._producer.close()


class BareLoop(Contender):
    """The loop that every queue on Postgres contains."""

    table, todo, done, order = "bare", "q", "d", "id"

    def clean(self) -> None:
        self.watching().execute(
            "drop table if exists bare; create table bare "
            "(id bigint generated always as identity primary key, status text default 'q', payload jsonb);"
            "create index on bare (id) where status = 'q'"
        )

    def single(self, jobs: int) -> None:
        for _ in range(jobs):
            self.watching().execute("insert into bare (payload) values ('{}')")

    def bulk(self, jobs: int) -> None:
        self.watching().execute("insert into bare (payload) select '{}' from generate_series(1, %s)", [jobs])
        self.watching().execute("vacuum analyze bare")

    def run(self) -> None:
        pick = (
            f"select id from {self.table} where status = '{self.todo}' order by {self.order} limit {BATCH} "
            "for update skip locked"
        )
        mark = f"update {self.table} set status = '{self.done}' where id = any(%s)"
        connection = self.watching()
        while True:
            with connection.transaction():
                ids = [row[0] for row in connection.execute(pick)]  # type: ignore[arg-type]
                connection.execute(mark, [ids])  # type: ignore[arg-type]
            if not ids:
                return

    def left(self) -> int:
        return self.one(f"select exists (select from {self.table} where status = '{self.todo}')::int")


class BareLoopOnJobs(BareLoop):
    table, todo, done, order = "jobs", "queued", "completed", "run"

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self.url = urls["queue"]

    def clean(self) -> None:
        clean(self.urls)

    def single(self, jobs: int) -> None:
        for _ in range(jobs):
            self.watching().execute(
                "insert into jobs (queue_name, job_type, payload) values (%s, 'bench.noop', '{}')", [QUEUE]
            )

    def bulk(self, jobs: int) -> None:
        self.watching().execute(
            "insert into jobs (queue_name, job_type, payload) select %s, 'bench.noop', '{}' "
            "from generate_series(1, %s)",
            [QUEUE, jobs],
        )
        self.watching().execute("vacuum analyze jobs")


class Pgmq(Contender):
    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self._sql = importlib.resources.files("pgmq").joinpath("sql/pgmq.sql")

    def clean(self) -> None:
        self.watching().execute("drop schema if exists pgmq cascade")
        self.watching().execute(self._sql.read_text())  # type: ignore[arg-type]
        self.watching().execute("select pgmq.create('bench')")

    def single(self, jobs: int) -> None:
        for _ in range(jobs):
            self.watching().execute("select pgmq.send('bench', '{}'::jsonb)")

    def bulk(self, jobs: int) -> None:
        for start in range(0, jobs, 1_000):
            self.watching().execute(
                "select count(*) from pgmq.send_batch('bench', %s::jsonb[])", [["{}"] * min(1_000, jobs - start)]
            )

    def run(self) -> None:
        connection = self.watching()
        read, archive = "select msg_id from pgmq.read('bench', 60, %s)", "select pgmq.archive('bench', %s)"
        while ids := [row[0] for row in connection.execute(read, [BATCH])]:
            connection.execute(archive, [ids])

    def left(self) -> int:
        return self.one("select exists (select from pgmq.q_bench)::int")


class PgQueuer(Contender):
    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self.lib: Any = importlib.import_module("pgqueuer")
        self.asyncpg: Any = importlib.import_module("asyncpg")

    def _with_queries(self, use: Any) -> None:
        async def run() -> None:
            connection = await self.asyncpg.connect(self.url)
            await use(self.lib.Queries(self.lib.AsyncpgDriver(connection)))
            await connection.close()

        asyncio.run(run())

    def clean(self) -> None:
        async def use(queries: Any) -> None:
            with contextlib.suppress(self.asyncpg.PostgresError):
                await queries.uninstall()
            await queries.install()

        self._with_queries(use)

    def single(self, jobs: int) -> None:
        async def use(queries: Any) -> None:
            for _ in range(jobs):
                await queries.enqueue("noop", b"{}")

        self._with_queries(use)

    def bulk(self, jobs: int) -> None:
        async def use(queries: Any) -> None:
            for start in range(0, jobs, 1_000):
                n = min(1_000, jobs - start)
                await queries.enqueue(["noop"] * n, [b"{}"] * n, [0] * n)

        self._with_queries(use)

    def run(self) -> None:
        async def run() -> None:
            queue = self.lib.PgQueuer(self.lib.AsyncpgDriver(await self.asyncpg.connect(self.url)))

            @queue.entrypoint("noop")
            async def _(job: object) -> None:
                return None

            await queue.run(batch_size=BATCH)

        asyncio.run(run())

    def left(self) -> int:
        return self.one("select exists (select from pgqueuer)::int")


class Procrastinate(Contender):
    most = 1_000

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        lib: Any = importlib.import_module("procrastinate")
        self.app = lib.App(connector=lib.PsycopgConnector(conninfo=self.url))

        async def task(n: int) -> None:
            return None

        self.task = self.app.task(name="noop")(task)

    def _opened(self, use: Any) -> None:
        async def run() -> None:
            async with self.app.open_async():
                await use()

        asyncio.run(run())

    def clean(self) -> None:
        self.watching().execute("drop schema public cascade; create schema public")
        self._opened(self.app.schema_manager.apply_schema_async)

    def single(self, jobs: int) -> None:
        async def use() -> None:
            for n in range(jobs):
                await self.task.defer_async(n=n)

        self._opened(use)

    def bulk(self, jobs: int) -> None:
        async def use() -> None:
            for start in range(0, jobs, 1_000):
                await self.task.batch_defer_async(*({"n": n} for n in range(start, min(start + 1_000, jobs))))

        self._opened(use)

    def run(self) -> None:
        self._opened(
            lambda: self.app.run_worker_async(concurrency=10, install_signal_handlers=False, listen_notify=False)
        )

    def left(self) -> int:
        return self.one("select exists (select from procrastinate_jobs where status in ('todo', 'doing'))::int")


class Rq(Contender):
    most = 1_000

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self.lib: Any = importlib.import_module("rq")
        self.client = redis.Redis.from_url(urls["redis"])
        self.queue = self.lib.Queue(QUEUE, connection=self.client)

    def clean(self) -> None:
        self.client.flushdb()

    def single(self, jobs: int) -> None:
        for n in range(jobs):
            self.queue.enqueue("benchmarks.queue_noop.nothing", n)

    def bulk(self, jobs: int) -> None:
        for start in range(0, jobs, 1_000):
            numbers = range(start, min(start + 1_000, jobs))
            self.queue.enqueue_many([self.queue.prepare_data("benchmarks.queue_noop.nothing", (n,)) for n in numbers])

    def run(self) -> None:
        self.lib.SimpleWorker([self.queue], connection=self.client).work(logging_level="ERROR")

    def left(self) -> int:
        return self.queue.count + self.queue.started_job_registry.count

    def close(self) -> None:
        super().close()
        self.client.close()


class Arq(Contender):
    most = 5_000

    def __init__(self, urls: dict[str, str], slots: int) -> None:
        super().__init__(urls, slots)
        self.worker: Any = importlib.import_module("arq.worker")
        connections: Any = importlib.import_module("arq.connections")
        self._settings = connections.RedisSettings.from_dsn(urls["redis"])
        self._pool = connections.create_pool
        self.client = redis.Redis.from_url(urls["redis"])

    def clean(self) -> None:
        self.client.flushdb()

    def single(self, jobs: int) -> None:
        async def run() -> None:
            pool = await self._pool(self._settings)
            for n in range(jobs):
                await pool.enqueue_job("noop", n)
            await pool.aclose()

        asyncio.run(run())

    def bulk(self, jobs: int) -> None:
        async def run() -> None:
            pool = await self._pool(self._settings)
            for start in range(0, jobs, 100):
                await asyncio.gather(*(pool.enqueue_job("noop", n) for n in range(start, min(start + 100, jobs))))
            await pool.aclose()

        asyncio.run(run())

    def run(self) -> None:
        async def task(_: object, n: int) -> None:
            return None

        asyncio.set_event_loop(asyncio.new_event_loop())
        self.worker.Worker(
            functions=[self.worker.func(task, name="noop", keep_result=0)],
            redis_settings=self._settings, max_jobs=BATCH, poll_delay=0.01, handle_signals=False,
        ).run()  # fmt: skip

    def left(self) -> int:
        return int(self.client.zcard("arq:queue"))  # type: ignore[arg-type]

    def close(self) -> None:
        super().close()
        self.client.close()


CONTENDERS: dict[str, type[Contender]] = {
    "bare loop, own table": BareLoop,
    "bare loop, table jobs": BareLoopOnJobs,
    "ours": Ours,
    "pgqueuer": PgQueuer,
    "procrastinate": Procrastinate,
    "PGMQ": Pgmq,
    "arq": Arq,
    "rq": Rq,
}


def latency(urls: dict[str, str], jobs: int) -> None:
    """From the commit of an enqueue to the start of the handler, one job at a time on an idle worker of ours."""
    clean(urls)
    ours = worker(urls, 2)
    thread = threading.Thread(target=ours.run)
    thread.start()
    producer = Producer(urls["queue"], urls["redis"])
    committed: dict[Any, float] = {}
    done = "select status = 'completed' from jobs where id = %s"
    try:
        with db.connect(urls["queue"], "queue", autocommit=True) as connection:
            connection.execute("update job_queues set is_active = true where name = %s", [QUEUE])
            for n in range(jobs + 5):
                made = producer.enqueue(NewJob(QUEUE, "bench.noop", {}))
                if n >= 5:
                    committed[made.id] = time.time()
                while connection.execute(done, [made.id]).fetchone() != (True,):
                    time.sleep(0.002)
                time.sleep(0.01)
            started = dict(
                connection.execute("select job_id, extract(epoch from started)::float from job_logs").fetchall()
            )
    finally:
        ours.stop()
        thread.join()
        producer.close()
    waits = sorted(max(0.0, (started[id_] - at) * 1000) for id_, at in committed.items())
    print(f"\nPick-up of ours when idle, ms: p50 {waits[len(waits) // 2]:.1f}, p99 {waits[int(len(waits) * 0.99)]:.1f}")


@contextlib.contextmanager
def analytical_query(urls: dict[str, str]) -> Iterator[None]:
    """A transaction per database that keeps its snapshot, so that no dead row can be removed; one computes."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(psycopg.connect(urls[tier])) for tier in ("queue", "dagster")]
        for connection in held:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("select count(*) from pg_class")

        def compute() -> None:
            while not stop.is_set():
                held[0].execute("select count(*), max(md5(g::text)) from generate_series(1, 500000) as g")

        thread = threading.Thread(target=compute)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def clean(urls: dict[str, str]) -> None:
    """Empty tables of ours, no hints."""
    with db.connect(urls["queue"], "queue", autocommit=True) as connection:
        connection.execute("truncate jobs, job_logs, penguin.tombstones")
        connection.execute("vacuum analyze jobs")
    with redis.Redis.from_url(urls["redis"]) as client:
        client.flushdb()


def worker(urls: dict[str, str], slots: int) -> Worker:
    """A worker of ours with the no-op handler."""
    return Worker(urls, Options((QUEUE,), concurrency=slots, modules=("benchmarks.queue_noop",)))


if __name__ == "__main__":
    main()
