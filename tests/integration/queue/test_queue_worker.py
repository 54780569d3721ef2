"""Workers run every job once, whatever dies meanwhile: the job's process, the worker, Redis."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from queue_support import (
    QUEUE,
    OwnRedis,
    Tested,
    attempts,
    command,
    eventually,
    own_redis_fixture,  # noqa: F401
    tenant,
    tested_fixture,  # noqa: F401
    told,
)
from typer.testing import CliRunner

from penguin_pipelines.cli_queue import queue_app
from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib.queue import child as protocol
from penguin_pipelines.lib.queue import pool
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import Producer, enqueue
from penguin_pipelines.lib.queue.worker import Options, Worker

MODULE = ("--handlers", "queue_handlers")


@pytest.fixture
def env(tested: Tested, tmp_path: Path) -> dict[str, str]:
    """The environment of `penguin queue` commands."""
    names = ("OLTP", "CONTENT", "OLAP", "DAGSTER", "QUEUE")
    urls = {f"PENGUIN_{name}_URL": tested.url for name in names}
    more = {"PENGUIN_HOME": str(tmp_path / "home"), "PENGUIN_PSEUDONYM_KEY": "a key that only the tests use"}
    return {**urls, **more, "PENGUIN_REDIS_URL": tested.redis_url or "", "PENGUIN_ENV": "local"}


def effects(tested: Tested) -> list[int]:
    return [row[0] for row in tested.rows("select n from effects order by n")]


def test_each_job_has_one_effect_in_its_tenants_context_and_one_line_in_the_log(tested: Tested) -> None:
    theirs = [tenant(), tenant(), None]
    ids = {tested.add("effect", {"n": n}, tenant_id=theirs[n % 3], correlation_id=f"c{n}"): n for n in range(30)}
    tested.work()
    assert effects(tested) == list(range(30))
    seen = dict(tested.rows("select job_id, nullif(tenant, '') from effects"))
    wanted = {id_: theirs[n % 3] for id_, n in ids.items()}
    assert seen == {id_: str(t) if t else None for id_, t in wanted.items()}
    logged = tested.rows("select job_id, status, context ->> 'correlation_id', attempt_number, tenant_id from job_logs")
    assert sorted(logged, key=str) == sorted(
        [(id_, "success", f"c{n}", 1, wanted[id_]) for id_, n in ids.items()], key=str
    )
    said = "select status, result, progress_percentage, lease_token, attempt_count from jobs where id = %s"
    assert tested.one(said, next(iter(ids))) == ("completed", {"n": 0}, 100, None, 1)


def test_poison_ends_in_dead_letters_with_its_error_and_holds_nobody_up(tested: Tested) -> None:
    tested.change("update job_queues set backoff_base_seconds = 0 where name = %s", QUEUE)
    raising = tested.add("raise", {"n": 5}, max_attempts=2)
    exiting = tested.add("exit", max_attempts=2)
    unknown = tested.add("no.such.type")
    undecodable = tested.add("effect", {"n": "many"})
    unstorable = tested.add("result.nul")
    terminal, ours = tested.add("raise.terminal"), tested.add("raise.ours")
    tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n}) for n in range(50))
    tested.work()
    reasons = dict(tested.rows("select original_job_id, failure_reason from dead_letter_jobs"))
    assert set(reasons) == {raising, exiting, unknown, undecodable, unstorable, terminal, ours}
    assert reasons[raising] == "RuntimeError: poison 5"
    assert reasons[exiting] == "ProcessDied: The process that ran the job ended with exit code 3."
    assert reasons[unknown].startswith("UnknownJobType: No handler is registered for job type 'no.such.type'")
    assert reasons[undecodable].startswith("UndecodablePayload: n: Input should be a valid integer")
    assert "many" not in reasons[undecodable], "values do not belong into the log"
    assert reasons[unstorable].startswith("ResultRefused")
    assert reasons[terminal] == "TerminalError: the recipient is suppressed"
    assert effects(tested) == list(range(50))
    tries = {id_: [row[1] for row in attempts(tested.connection, id_)] for id_ in reasons}
    assert tries[raising] == tries[exiting] == ["retry", "failed"]
    assert all(tries[id_] == ["failed"] for id_ in (unknown, undecodable, unstorable, terminal, ours))


def test_a_job_over_its_time_is_killed_while_others_go_on(tested: Tested) -> None:
    tested.change("update job_queues set timeout_seconds = 1, backoff_base_seconds = 0 where name = %s", QUEUE)
    slow = tested.add("sleep", {"seconds": 60}, max_attempts=1)
    tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n}) for n in range(20))
    tested.work()
    assert tested.one("select failure_reason from dead_letter_jobs where original_job_id = %s", slow).startswith(
        "Timeout"
    )
    assert effects(tested) == list(range(20))


def test_a_slow_job_does_not_hold_up_the_quick_ones_behind_it(tested: Tested) -> None:
    with tested.working(concurrency=2, grace=0):
        tested.producer.enqueue_many(NewJob(QUEUE, "noop", {}) for _ in range(300))
        eventually(lambda: tested.count("completed") == 300, "the pace is known to be quick")
        slow = tested.add("sleep", {"seconds": 600})
        eventually(lambda: tested.status(slow) == "processing", "the slow job runs")
        tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n}) for n in range(100))
        eventually(lambda: len(effects(tested)) == 100, "the quick jobs passed it")
        assert tested.status(slow) == "processing"


def test_a_job_that_turns_out_slow_gives_back_those_that_came_with_it(tested: Tested) -> None:
    with tested.working(concurrency=2, grace=0):
        tested.producer.enqueue_many(NewJob(QUEUE, "noop", {}) for _ in range(300))
        eventually(lambda: tested.count("completed") == 300, "quick jobs are handed out several at a time")
        jobs = [NewJob(QUEUE, "effect", {"n": n}) for n in range(60)]
        tested.producer.enqueue_many([*jobs[:20], NewJob(QUEUE, "sleep", {"seconds": 600}, key="slow"), *jobs[20:]])
        eventually(lambda: len(effects(tested)) == 60, "the other process ran what lay behind the slow one")
        assert tested.one("select status from jobs where idempotency_key = 'slow'") == "processing"
        eventually(lambda: tested.count("completed") == 360, "and each ended")
    assert effects(tested) == list(range(60))
    assert tested.count("queued") == 1, "the slow one was given back"


def test_a_job_that_exits_costs_none_of_those_that_came_with_it(tested: Tested) -> None:
    tested.change("update job_queues set backoff_base_seconds = 0 where name = %s", QUEUE)
    with tested.working(concurrency=1):
        tested.producer.enqueue_many(NewJob(QUEUE, "noop", {}) for _ in range(300))
        eventually(lambda: tested.count("completed") == 300, "quick jobs are handed out several at a time")
        jobs = [NewJob(QUEUE, "effect", {"n": n}) for n in range(40)]
        tested.producer.enqueue_many([*jobs[:10], NewJob(QUEUE, "exit", {}, max_attempts=2), *jobs[10:]])
        eventually(lambda: tested.count("completed") == 340 and tested.count("failed") == 1, "all ended")
    assert effects(tested) == list(range(40))
    tries = "select context ->> 'error_class', count(*) from job_logs where status <> 'success' group by 1"
    assert tested.rows(tries) == [("ProcessDied", 2)]


def test_what_a_process_had_received_when_it_died_is_given_out_again(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_VANISHED_AFTER", 0.3)
    with tested.working(concurrency=1) as worker:
        children = worker._pool
        eventually(lambda: children.ready, "the process is ready")
        (child,) = children._children
        os.kill(child.pid, signal.SIGSTOP)
        tested.add("effect", {"n": 1})
        # What a process does that dies between receiving a job and saying so.
        eventually(lambda: select.select([children._outlet], [], [], 0)[0], "the job is on its way")
        children._outlet.recv(protocol.LARGEST_TASK)
        child.kill()
        eventually(lambda: tested.count("completed") == 1, "the next process ran it")
    assert effects(tested) == [1]
    assert [row[1] for row in tested.rows("select attempt_number, status from job_logs")] == ["success"]


def test_the_death_of_the_nursery_costs_what_ran_and_nothing_else(tested: Tested) -> None:
    """Its children go with it; another one and other children take their place."""
    running = tested.add("sleep", {"seconds": 600}, max_attempts=1)
    with tested.working(concurrency=2) as worker:
        eventually(lambda: any(c.job is not None for c in worker._pool._children), "a process has begun it")
        nursery = worker._pool._nursery
        assert nursery is not None
        os.kill(nursery._process.pid, signal.SIGKILL)
        eventually(lambda: tested.status(running) == "failed", "its process died too")
        for n in range(5):
            tested.add("effect", {"n": n})
        eventually(lambda: tested.count("completed") == 5, "others run in new processes")
    assert [row[2] for row in attempts(tested.connection, running)] == ["ProcessDied"]
    assert effects(tested) == list(range(5))


def test_progress_and_heartbeat_are_written_while_a_job_runs(tested: Tested) -> None:
    id_ = tested.add("sleep", {"seconds": 3})
    with tested.working(lease=2.0, sweep=0.5):
        eventually(lambda: tested.one("select progress_percentage from jobs") == 40, "progress arrived")
        eventually(lambda: tested.status(id_) == "completed", "the job outlived its lease and ended")
    assert [row[1] for row in attempts(tested.connection, id_)] == ["success"]


def test_redis_erased_and_stopped_while_jobs_run_costs_nothing(tested: Tested, own_redis: OwnRedis) -> None:
    tested.redis_url = own_redis.url
    producer = Producer(tested.url, own_redis.url)
    with tested.working(), tested.working():
        for part in range(5):
            producer.enqueue_many(NewJob(QUEUE, "effect", {"n": part * 100 + n}) for n in range(100))
            if part == 3:
                own_redis.stop()
            elif part < 3:
                own_redis.client.flushall()
        for n in range(500, 520):
            producer.enqueue(NewJob(QUEUE, "effect", {"n": n}))
        eventually(lambda: tested.count("completed") == 520, "all ended without Redis")
        own_redis.start()
        producer.enqueue(NewJob(QUEUE, "effect", {"n": 520}))
        eventually(lambda: tested.count("completed") == 521, "and with it again")
    producer.close()
    assert effects(tested) == list(range(521))


def test_jobs_without_a_hint_are_found_by_polling(tested: Tested) -> None:
    with tested.working():
        eventually(lambda: tested.producer.hints.wait([QUEUE], 1, 1000) is None, "no hint is left")
        with tested.producer.transaction() as connection:
            enqueue(connection, [NewJob(QUEUE, "effect", {"n": 1})])
        eventually(lambda: tested.count("completed") == 1, "a poll found it")
    assert effects(tested) == [1]


def test_a_hint_without_a_job_wakes_nobody_for_long(tested: Tested) -> None:
    with contextlib.suppress(KeyError), tested.producer.transaction() as connection:
        made = enqueue(connection, [NewJob(QUEUE, "effect", {"n": 1})])
        tested.producer.announce(made * 50)
        raise KeyError("the caller's transaction is rolled back")
    with tested.working():
        eventually(lambda: tested.producer.hints.depth(QUEUE) == 0, "the hints were taken")
        after = tested.add("effect", {"n": 2})
        eventually(lambda: tested.status(after) == "completed", "what came later ran")
    assert effects(tested) == [2]
    assert tested.one("select count(*) from job_logs") == 1


def test_a_hint_that_was_popped_by_a_worker_that_died_is_not_missed(tested: Tested) -> None:
    job = tested.add("effect", {"n": 1})
    tested.producer.hints.wait([QUEUE], 1, 1000)
    with tested.working():
        eventually(lambda: tested.status(job) == "completed", "another worker ran it")
    assert effects(tested) == [1]


def test_a_killed_workers_jobs_restart_and_each_ends(tested: Tested, env: dict[str, str]) -> None:
    tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n, "seconds": 0.02}, max_attempts=9) for n in range(80))
    work = ("work", "--queue", QUEUE, *MODULE, "--lease", "2", "--concurrency", "2")
    for done in (5, 20):
        with command(*work, env=env) as process:
            eventually(lambda done=done: len(effects(tested)) >= done, "it works")
            eventually(lambda: tested.count("processing") > 0, "it holds jobs")
            process.kill()
            process.wait()
        eventually(
            lambda: not tested.rows("select from pg_stat_activity where application_name = 'penguin queue' and "
                                    "query like '%%effects%%' and pid <> pg_backend_pid() and state <> 'idle'"),
            "the children died with their worker",
        )  # fmt: skip
    with tested.working(lease=2.0, sweep=0.2):
        eventually(lambda: tested.count("completed") == 80, "another worker ended all")
    assert set(effects(tested)) == set(range(80))
    assert tested.one("select count(*) from job_logs where context ->> 'error_class' = 'LeaseLost'") > 0
    ended = "select count(*), count(distinct job_id) from job_logs where status = 'success'"
    assert tested.one(ended) == (80, 80)
    doubled = "select count(*) from (select job_id from effects group by job_id having count(*) > 1) as d"
    again = "select count(distinct job_id) from job_logs where context ->> 'error_class' = 'LeaseLost'"
    assert tested.one(doubled) <= tested.one(again), "only a job whose worker was killed may run again"


def test_a_worker_whose_lease_was_taken_stops_that_job(tested: Tested) -> None:
    id_ = tested.add("sleep", {"seconds": 600})
    with tested.working(lease=2.0, sweep=0.3, concurrency=1):
        eventually(lambda: tested.status(id_) == "processing", "it runs")
        tested.change("update jobs set status = 'cancelled', lease_token = null where id = %s", id_)
        after = tested.add("effect", {"n": 1})
        eventually(lambda: tested.status(after) == "completed", "the only process is free again")
    assert tested.status(id_) == "cancelled"


def test_sigterm_lets_running_jobs_finish_and_gives_the_others_back(tested: Tested, env: dict[str, str]) -> None:
    tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n, "seconds": 0.5}) for n in range(10))
    with command("work", "--queue", QUEUE, *MODULE, "--concurrency", "2", env=env) as process:
        # A claim alone is not enough: what no process has begun is given back.
        eventually(lambda: effects(tested) and tested.count("processing") == 2, "one has run and two run")
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "stopped after" in errors
    ended = tested.count("completed")
    assert ended >= 1
    assert tested.count("queued") == 10 - ended
    assert len(effects(tested)) == ended
    assert tested.one("select count(*) from jobs where status = 'queued' and attempt_count > 0") == 0


def test_sigterm_gives_back_what_outlasts_the_grace(tested: Tested, env: dict[str, str]) -> None:
    id_ = tested.add("sleep", {"seconds": 600}, max_attempts=1)
    with command("work", "--queue", QUEUE, *MODULE, "--grace", "0.2", env=env) as process:
        eventually(lambda: tested.status(id_) == "processing", "it runs")
        process.terminate()
        process.communicate(timeout=30)
    assert tested.one("select status, attempt_count from jobs") == ("queued", 0)


def test_the_rate_of_a_tenant_is_kept_without_using_attempts_up(tested: Tested) -> None:
    busy, calm = tenant(), tenant()
    tested.producer.enqueue_many(NewJob(QUEUE, "effect", {"n": n}, tenant_id=busy) for n in range(40))
    mine = tested.add("effect", {"n": 99}, tenant_id=calm)
    with tested.working(jobs_per_tenant_minute=5):
        eventually(lambda: tested.status(mine) == "completed", "the calm tenant is served")
        eventually(
            lambda: tested.one("select count(*) from jobs where tenant_id = %s and status = 'completed'", busy) >= 5,
            "the busy tenant gets its share",
        )
    ran = tested.one("select count(*) from effects where tenant = %s", str(busy))
    assert ran in (5, 10), "ten when a minute ended meanwhile"
    assert tested.one("select max(attempt_count) from jobs where status = 'queued'") == 0


def test_a_worker_that_cannot_load_its_handlers_says_so(tested: Tested) -> None:
    tested.add()
    with pytest.raises(PenguinError, match="no_such_module"):
        Worker(tested.urls, Options(queues=(QUEUE,), modules=("no_such_module",))).run()
    assert tested.count("queued") == 1


def test_a_worker_of_an_unknown_queue_says_so(tested: Tested) -> None:
    with pytest.raises(UnknownName, match="'nowhere'"):
        Worker(tested.urls, Options(queues=("nowhere",))).run()


def test_cleanup_deletes_what_is_past_its_retention_and_nothing_else(tested: Tested) -> None:
    old = datetime.now(UTC) - timedelta(days=8)
    gone = {tested.add() for _ in range(3)}
    tested.change("update jobs set status = 'completed', completed = %s where id = any(%s)", old, list(gone))
    kept = tested.add()
    tested.change("update jobs set status = 'failed', failed = %s where id = %s", old, kept)
    waiting = tested.add(run=datetime.now(UTC) + timedelta(days=9))
    job = tested.add("maintenance.cleanup")
    tested.work()
    assert tested.one("select result from jobs where id = %s", job) == {"jobs": 3, "logs": 0}
    assert {row[0] for row in tested.rows("select id from jobs")} == {kept, waiting, job}


def test_partitions_are_made_ahead(tested: Tested) -> None:
    made = "select array_agg(inhrelid::regclass::text) from pg_inherits where inhparent = 'job_logs'::regclass"
    last = max(tested.one(made))
    tested.change("set role pm_owner")
    tested.change(f"drop table {last}")
    tested.change("reset role")
    before = set(tested.one(made))
    job = tested.add("maintenance.partitions")
    tested.work()
    after = set(tested.one(made))
    # More than one where midnight has passed since the schema was made.
    assert tested.one("select result from jobs where id = %s", job) == {"made": {"queue": len(after - before)}}
    assert last in after > before


def test_the_commands_work_together(tested: Tested, env: dict[str, str]) -> None:
    def said(*arguments: str) -> str:
        answer = CliRunner().invoke(queue_app, arguments, env=env)
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    made = json.loads(said("enqueue", QUEUE, "raise.terminal", '{"n": 1}', "--json"))
    assert told(["work", "--queue", QUEUE, *MODULE, "--until-empty"], env)[0] == 0
    (letter,) = json.loads(said("dead", "list", "--json"))
    assert letter["original_job_id"] == made["id"]
    first, again = (said("dead", "replay", letter["id"]).strip() for _ in range(2))
    assert first == again != made["id"]
    said("cancel", first)
    said("pause", QUEUE)
    (row,) = json.loads(said("stats", QUEUE, "--json"))
    assert (row["is_active"], row["waiting"], row["dead_letters"]) == (False, 0, 0)
    said("resume", QUEUE)
    assert tested.one("select is_active from job_queues where name = %s", QUEUE)
