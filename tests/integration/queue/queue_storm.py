"""What must hold when things die, at full size; the suite has each of these in a short form, with the same helpers.

    python tests/integration/queue/queue_storm.py            # about ten minutes on an idle machine
    python tests/integration/queue/queue_storm.py --only fairness poison --scale 0.1

Starts servers of its own in a temporary folder and prints a line per scenario; ends with 1 when one did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import queue_support
from queue_support import QUEUE, OwnRedis, Tested, command, eventually, tenant
from test_queue_enqueue import ENQUEUER

from penguin_pipelines.errors import ConnectionFailed
from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import Settings
from penguin_pipelines.terminal import say

WORK = ("work", "--queue", QUEUE, "--handlers", "queue_handlers", "--concurrency", "2")
LEASE, RESTARTED_WITHIN, SERVED_WITHIN = 60, 90, 120


class Storm:
    """The scenarios; each begins with an empty queue and says what it saw."""

    def __init__(self, tested: Tested, own_redis: OwnRedis, home: Path, scale: float) -> None:
        self.tested, self.redis, self.scale = tested, own_redis, scale
        tiers = ("OLTP", "CONTENT", "OLAP", "DAGSTER", "QUEUE")
        urls = {f"PENGUIN_{name}_URL": tested.url for name in tiers}
        more = {"PENGUIN_HOME": str(home), "PENGUIN_PSEUDONYM_KEY": "a key that only the tests use"}
        self.env = {**urls, **more, "PENGUIN_REDIS_URL": own_redis.url, "PENGUIN_ENV": "local"}

    def sized(self, count: int) -> int:
        return max(1, int(count * self.scale))

    @contextlib.contextmanager
    def workers(self, count: int) -> Iterator[list[subprocess.Popen[str]]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.worker()) for _ in range(count)]

    @contextlib.contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        with command(*WORK, env=self.env, quiet=True) as process:
            yield process

    def all_ended(self, jobs: int) -> bool:
        return self.tested.one("select count(*) from jobs where status in ('completed', 'failed')") == jobs

    def once_each(self, jobs: int) -> None:
        seen = self.tested.one("select count(*), count(distinct job_id) from effects")
        assert seen == (jobs, jobs), f"{seen[0]} effects of {seen[1]} jobs, not one of each of {jobs}"
        logged = self.tested.one("select count(*), count(distinct job_id) from job_logs where status = 'success'")
        assert logged == (jobs, jobs), f"{logged} successes in the log"

    def erased(self) -> str:
        """Redis erased three times, then stopped while more is enqueued."""
        tested, first, more, outage = self.tested, self.sized(10_000), self.sized(1_000), 120 * self.scale
        slowest = 0.0
        with self.workers(4):
            for part in range(4):
                tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n}) for n in range(first // 4))
                if part < 3:
                    eventually(lambda part=part: tested.rows("select from effects limit 1") or part < 0, "work began")
                    self.redis.client.flushall()
            self.redis.stop()
            began = time.monotonic()
            for n in range(more):
                before = time.monotonic()
                tested.producer.enqueue(NewJob(QUEUE, "effect", {"n": n}))
                slowest = max(slowest, time.monotonic() - before)
                time.sleep(max(0.0, began + outage * (n + 1) / more - time.monotonic()))
            self.redis.start()
            back = datetime.now(UTC)
            jobs = 4 * (first // 4) + more
            eventually(lambda: self.all_ended(jobs), "all jobs ended")
        self.once_each(jobs)
        longest = "select extract(epoch from max(e.at - {}))::float from effects e join jobs j on j.id = job_id"
        after = tested.one(longest.format("greatest(j.run, %s)"), back)
        without = tested.one(longest.format("j.run"))
        assert after < SERVED_WITHIN, f"A job waited {after:.0f} s after Redis was back."
        return (
            f"{jobs:,} jobs, {jobs:,} effects; Redis erased 3 times, away {outage:.0f} s; "
            f"slowest enqueue {slowest:.2f} s; "
            f"longest wait after it was back {max(0, after):.1f} s, at all {without:.1f} s"
        )

    def enqueuer(self) -> str:
        """kill -9 around COMMIT."""
        tested, kills = self.tested, self.sized(200)
        chance, at_once = random.Random(4), 4
        tested.change(
            "create table if not exists marks (job_id uuid); grant insert on marks to pm_worker; truncate marks"
        )
        done = 0
        while done < kills:
            started = [
                subprocess.Popen([sys.executable, "-c", ENQUEUER, tested.url], stdout=subprocess.PIPE)
                for _ in range(min(at_once, kills - done))
            ]
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(b"ready ")
            for process in started:
                time.sleep(chance.random() * 0.05)
                process.kill()
                process.wait()
            done += len(started)
        session = (
            "select count(*) from pg_stat_activity where application_name = 'penguin queue' and xact_start is not null"
        )
        eventually(
            lambda: tested.one(f"{session} and pid <> pg_backend_pid()") == 0, "the sessions of the killed ended"
        )
        committed = tested.one("select count(*) from marks")
        enqueued = tested.one("select count(*) from jobs")
        assert committed == enqueued, f"{committed} commits, {enqueued} jobs"
        with self.workers(4):
            eventually(lambda: self.all_ended(committed), "all jobs ended")
        self.once_each(committed)
        assert not tested.rows("select job_id from marks except all select job_id from effects")
        return f"{done} kills; {committed:,} committed, {committed:,} ran"

    def killed(self) -> str:
        """kill -9 of a worker each second for a minute, and one that only seemed dead."""
        tested, jobs = self.tested, self.sized(3_000)
        tested.producer.enqueue_many(
            NewJob(QUEUE, "effect", {"n": n, "seconds": 0.2}, max_attempts=60) for n in range(jobs)
        )
        ended: dict[int, float] = {}
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(self.worker()) for _ in range(6)]
            eventually(lambda: tested.rows("select from effects limit 1"), "work began")
            busy = "select distinct split_part(worker_id, ':', 2)::int from jobs where status = 'processing'"
            for _ in range(self.sized(60)):
                begun = time.monotonic()
                held = {row[0] for row in tested.rows(busy)}
                victim = next((p for p in running if p.pid in held), running[0])
                victim.kill()
                victim.wait()
                ended[victim.pid] = time.time()
                running.remove(victim)
                running.append(stack.enter_context(self.worker()))
                time.sleep(max(0.0, begun + 1 - time.monotonic()))
            zombie = None
            while zombie is None:
                held = {row[0] for row in tested.rows(busy)}
                zombie = next((p for p in running if p.pid in held and p.pid not in ended), None)
            os.kill(zombie.pid, signal.SIGSTOP)
            stopped = f"select count(*) from job_logs where worker_id like '%%:{zombie.pid}:%%' and context ->> "
            mine = f"select count(*) from jobs where worker_id like '%%:{zombie.pid}:%%' and status = 'processing'"
            had = tested.one(mine)
            eventually(lambda: tested.one(f"{stopped} 'error_class' = 'LeaseLost'") >= had, "its leases ran out")
            eventually(lambda: tested.one(mine) == 0, "others have its jobs")
            os.kill(zombie.pid, signal.SIGCONT)
            if had:
                eventually(lambda: tested.one(f"{stopped} 'event' = 'refused'") > 0, "its result was refused")
            eventually(lambda: self.all_ended(jobs), "all jobs ended")
            refused = tested.one("select count(*) from job_logs where context ->> 'event' = 'refused'")
        assert tested.count("completed") == jobs
        won = tested.one("select count(*), count(distinct job_id) from job_logs where status = 'success'")
        assert won == (jobs, jobs), f"{won} successes of {jobs} jobs"
        lost = tested.rows(
            "select split_part(l.worker_id, ':', 2)::int, extract(epoch from n.started)::float from job_logs as l "
            "join job_logs as n on n.job_id = l.job_id and n.attempt_number = l.attempt_number + 1 "
            "and n.status is not null "
            "where l.context ->> 'error_class' = 'LeaseLost'"
        )
        waits = [started - ended[pid] for pid, started in lost if pid in ended]
        assert waits, "no worker held a job when it was killed"
        assert max(waits) < RESTARTED_WITHIN, f"An orphan restarted after {max(waits):.0f} s."
        return (
            f"{len(ended)} workers killed, {jobs:,} jobs ended once; {len(waits)} orphans restarted within "
            f"{max(waits):.0f} s; {refused} results of a worker that seemed dead refused"
        )

    def crashed(self) -> str:
        """Postgres itself dies while jobs run: claims of the last moment, which waited for no disk, are gone."""
        tested, jobs, chance = self.tested, self.sized(10_000), random.Random(5)
        tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n, "seconds": 0.01}) for n in range(jobs))
        crashes, slowest = 5, 0.0
        with self.workers(4) as running:
            for crash in range(crashes):
                done = jobs * crash // crashes
                eventually(lambda done=done: tested.one("select count(*) from effects") > done, "jobs end")
                time.sleep(chance.random() * 0.3)
                began = time.monotonic()
                os.kill(tested.one("select pid from pg_stat_activity where backend_type = 'walwriter'"), signal.SIGKILL)
                eventually(lambda: self.reconnected(), "Postgres recovered")
                before = tested.one("select count(*) from effects")
                eventually(lambda before=before: tested.one("select count(*) from effects") > before, "work goes on")
                slowest = max(slowest, time.monotonic() - began)
            eventually(lambda: self.all_ended(jobs), "all jobs ended")
            assert all(worker.poll() is None for worker in running), "A worker ended with the server."
        assert tested.count("completed") == jobs
        won = tested.one("select count(*), count(distinct job_id) from job_logs where status = 'success'")
        assert won == (jobs, jobs), f"{won} successes of {jobs} jobs"
        effects, of = tested.one("select count(*), count(distinct job_id) from effects")
        assert of == jobs, f"effects of {of} jobs"
        return (
            f"{crashes} crashes, {jobs:,} jobs completed once; {effects - jobs} crashed between effect and end and ran "
            f"again; work went on within {slowest:.1f} s"
        )

    def reconnected(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError, ConnectionFailed):
            self.tested.connection.close()
            self.tested.connection = db.open_connection(self.tested.url, "queue", autocommit=True)
            return True
        return False

    def poison(self) -> str:
        """Jobs that raise, exit and cannot be decoded, among good ones."""
        tested, good, bad = self.tested, self.sized(2_000), self.sized(20)
        tested.change("update job_queues set backoff_base_seconds = 0 where name = %s", QUEUE)
        with self.workers(4):
            took = []
            for poisoned in (False, True):
                if poisoned:
                    for _ in range(bad):
                        tested.add("raise", {"n": 5})
                        tested.add("exit")
                        tested.add("effect", {"n": "many"})
                began = time.monotonic()
                made = [j.id for j in tested.producer.enqueue_many(NewJob(QUEUE, "effect", {}) for _ in range(good))]
                ran = "select count(*) from jobs where id = any(%s) and status = 'completed'"
                eventually(lambda made=made, ran=ran: tested.one(ran, made) == good, "the good ones ended")
                took.append(time.monotonic() - began)
            eventually(lambda: tested.one("select count(*) from dead_letter_jobs") == 3 * bad, "the poison is buried")
        self.once_each(2 * good)
        reasons = dict(
            tested.rows("select split_part(failure_reason, ':', 1), count(*) from dead_letter_jobs group by 1")
        )
        assert reasons == {"RuntimeError": bad, "ProcessDied": bad, "UndecodablePayload": bad}, reasons
        tries = tested.one(
            "select count(*) from job_logs where context ->> 'error_class' in ('RuntimeError', 'ProcessDied')"
        )
        assert tries == 2 * bad * 3, f"{tries} attempts of {2 * bad} jobs with three each"
        return f"{good:,} good jobs took {took[0]:.1f} s alone, {took[1]:.1f} s behind {3 * bad} poisoned; {reasons}"

    def fairness(self) -> str:
        """A tenant with very many jobs, then one with ten."""
        tested, many, few = self.tested, tenant(), tenant()
        jobs = self.sized(50_000)
        tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"seconds": 0.005}, tenant_id=many) for _ in range(jobs))
        with self.workers(1):
            eventually(lambda: tested.rows("select from effects limit 1"), "the first tenant is served")
            began = time.monotonic()
            tested.producer.enqueue_many(NewJob(QUEUE, "effect", {}, tenant_id=few) for _ in range(10))
            mine = "select count(*) from jobs where tenant_id = %s and status = 'completed'"
            eventually(lambda: tested.one(mine, few) == 10, "the second tenant's jobs ended")
            took = time.monotonic() - began
            others = tested.one(mine, many)
        assert took < SERVED_WITHIN, f"The second tenant waited {took:.0f} s."
        assert others < jobs, "The first tenant had ended before, so nothing was shown."
        return f"tenant A {jobs:,} jobs ({others:,} had ended), tenant B's 10 ended {took:.1f} s after their enqueue"


def main() -> int:
    """Runs the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios = ("erased", "enqueuer", "killed", "crashed", "poison", "fairness")
    parser.add_argument("--only", nargs="*", choices=scenarios, default=list(scenarios))
    parser.add_argument("--scale", type=float, default=1.0, help="Part of the full size.")
    options = parser.parse_args()
    queue_support.PATIENCE = 900.0
    failed = False
    with tempfile.TemporaryDirectory(prefix="penguin-storm-") as folder:
        settings = Settings(home=Path(folder) / "home")  # type: ignore[call-arg]
        urls = dict(services.up(settings, lambda _: None).urls)
        own_redis = OwnRedis(Path(folder))
        try:
            runner.up(urls["queue"], "queue")
            own_redis.start()
            tested = Tested(urls["queue"], own_redis.url)
            storm = Storm(tested, own_redis, Path(folder) / "worker", options.scale)
            for name in options.only:
                tested.change("truncate jobs, job_logs, dead_letter_jobs, effects, penguin.tombstones")
                tested.change("update job_queues set backoff_base_seconds = 60 where name = %s", QUEUE)
                own_redis.client.flushall()
                began = time.monotonic()
                try:
                    seen = getattr(storm, name)()
                except AssertionError as e:
                    failed, seen = True, f"FAILED: {e}"
                say(f"{name}: {seen} ({time.monotonic() - began:.0f} s)")
        finally:
            own_redis.stop()
            services.down(settings, lambda _: None)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
