"""Jobs get into the queue exactly as often as their transactions commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from random import Random
from textwrap import indent
from typing import Any

import pytest
from queue_support import QUEUE, Tested, eventually, tenant, tested_fixture  # noqa: F401

from penguin_pipelines.errors import UnknownName
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.model import JobRefused, NewJob
from penguin_pipelines.lib.queue.producer import Producer, enqueue, enqueue_many, set_tenant

LOADED = """
import os, sys
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import enqueue
"""
FOR_EVER = """
connection = db.open_connection(sys.argv[1], "queue", role="pm_worker")
print("ready", os.getpid(), flush=True)
n = 0
while True:
    n += 1
    (job,) = enqueue(connection, [NewJob("tests", "effect", {"n": n})])
    connection.execute("insert into marks (job_id) values (%s)", [job.id])
    connection.commit()
"""
ENQUEUER = LOADED + FOR_EVER
ONE_AFTER_THE_OTHER = f"""{LOADED}
for _ in sys.stdin:
    if child := os.fork():
        os.waitpid(child, 0)
        continue
{indent(FOR_EVER, "    ")}"""
"""A process for each line of its input, once the one before is dead: what they import is loaded once."""


def test_a_job_shares_the_fate_of_the_callers_transaction(tested: Tested) -> None:
    connection = db.open_connection(tested.url, "queue", role="pm_worker")
    enqueue(connection, [NewJob(QUEUE, "noop", {})])
    connection.rollback()
    assert tested.one("select count(*) from jobs") == 0
    (job,) = enqueue(connection, [NewJob(QUEUE, "noop", {})])
    connection.commit()
    connection.close()
    assert tested.status(job.id) == "queued"


def test_what_is_not_said_comes_from_the_queue(tested: Tested) -> None:
    made = tested.add(queue="webhook:process")
    high = tested.add(queue="notification-delivery")
    said = "select priority, max_attempts, status, run <= now() from jobs where id = %s"
    assert tested.one(said, made) == (100, 5, "queued", True)
    assert tested.one(said, high) == (50, 5, "queued", True), "the high lane has five attempts"


def test_the_application_enqueues_for_its_tenant_only(tested: Tested) -> None:
    mine, other = tenant(), tenant()
    with db.connect(tested.url, "queue", role="pm_app") as connection:
        set_tenant(connection, mine)
        (job,) = enqueue(connection, [NewJob(QUEUE, "noop", {}, tenant_id=mine)])
    assert tested.one("select tenant_id from jobs where id = %s", job.id) == mine
    with (
        pytest.raises(JobRefused, match="not the tenant"),
        db.connect(tested.url, "queue", role="pm_app") as connection,
    ):
        set_tenant(connection, mine)
        enqueue(connection, [NewJob(QUEUE, "noop", {}, tenant_id=other)])


def test_a_producer_of_the_application_sets_the_tenant_itself(tested: Tested) -> None:
    producer = Producer(tested.url, tested.redis_url, role="pm_app")
    theirs = [tenant(), tenant()]
    made = [producer.enqueue(NewJob(QUEUE, "noop", {}, tenant_id=t)) for t in theirs]
    many = producer.enqueue_many([NewJob(QUEUE, "noop", {}, tenant_id=theirs[0])] * 3, tenant=theirs[0])
    producer.close()
    assert [tested.one("select tenant_id from jobs where id = %s", job.id) for job in made] == theirs
    assert len(many) == 3


def test_very_many_arrive_by_copy_without_those_whose_key_is_open(tested: Tested) -> None:
    first = tested.add(key="k7")
    with db.connect(tested.url, "queue", role="pm_worker") as connection:
        made = enqueue_many(connection, (NewJob(QUEUE, "noop", {"n": n}, key=f"k{n}") for n in range(1_000)))
    assert len(made) == 999
    assert first not in {job.id for job in made}
    assert tested.one("select count(distinct payload), count(distinct idempotency_key) from jobs") == (1_000, 1_000)


def test_an_unknown_queue_is_named_with_its_neighbour(tested: Tested) -> None:
    with pytest.raises(UnknownName, match="did you mean 'email-sending'"):
        tested.add(queue="email-sendin")
    with pytest.raises(UnknownName, match="'nowhere'"):
        tested.producer.enqueue_many([NewJob("nowhere", "noop", {})])


def test_a_key_makes_one_open_job(tested: Tested) -> None:
    first, again = tested.enqueued(key="once"), tested.enqueued(key="once")
    assert (first.id, first.is_new, again.is_new) == (again.id, True, False)
    tested.change("update jobs set status = 'completed'")
    assert tested.enqueued(key="once").id != first.id


def test_two_tenants_may_use_the_same_key(tested: Tested) -> None:
    assert tested.add(key="once", tenant_id=tenant()) != tested.add(key="once", tenant_id=tenant())


def test_many_enqueuers_of_one_key_agree_on_one_job(tested: Tested) -> None:
    found: list[object] = []

    def add() -> None:
        producer = Producer(tested.url, None)
        found.append(producer.enqueue(NewJob(QUEUE, "noop", {}, key="race")).id)
        producer.close()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == tested.one("select count(*) from jobs") == 1


def test_hints_lie_in_the_lane_of_their_priority_and_not_for_later_jobs(tested: Tested) -> None:
    tested.producer.hints.push([])
    before = tested.producer.hints.depth(QUEUE)
    tested.add(priority=10)
    tested.add(run=datetime.now(UTC) + timedelta(hours=1))
    assert before is not None
    assert tested.producer.hints.depth(QUEUE) == before + 1


def test_enqueueing_works_while_redis_does_not(tested: Tested) -> None:
    producer = Producer(tested.url, "redis://127.0.0.1:1/0")
    made = [producer.enqueue(NewJob(QUEUE, "noop", {})).id for _ in range(3)]
    producer.close()
    assert [tested.status(id_) for id_ in made] == ["queued"] * 3


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (NewJob(QUEUE, "x", {}, priority=0), "from 1"),
        (NewJob(QUEUE, "x", {}, priority=1001), "to 1000"),
        (NewJob(QUEUE, "x", {"text": "a" * 70_000}), "pass its id"),
        (NewJob(QUEUE, "x", {"n": float("nan")}), "not JSON"),
        (NewJob(QUEUE, "x", {"text": "a\0"}), "NUL"),
        (NewJob(QUEUE, "x" * 101, {}), "100 characters"),
    ],
)
def test_a_job_that_cannot_be_kept_is_refused_with_a_sentence(tested: Tested, job: NewJob, said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        tested.producer.enqueue(job)


def test_an_enqueuer_killed_around_commit_leaves_whole_transactions(tested: Tested) -> None:
    tested.change("create table marks (job_id uuid); grant insert on marks to pm_worker")
    random = Random(4)
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", ONE_AFTER_THE_OTHER, tested.url], **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(20):
            before = tested.one("select count(*) from marks")
            process.stdin.write(b"\n")
            process.stdin.flush()
            ready, pid = process.stdout.readline().split()
            assert ready == b"ready"
            wanted = before + random.randrange(8)
            eventually(lambda least=wanted: tested.one("select count(*) from marks") >= least, "it enqueued something")
            os.kill(int(pid), signal.SIGKILL)
        process.stdin.close()
    eventually(
        lambda: tested.one("select count(*) from pg_stat_activity where application_name = 'penguin queue'") <= 2,
        "the sessions of the killed ended",
    )
    assert tested.one("select count(*) from marks") > 20
    assert not tested.rows("select job_id from marks except select id from jobs")
    assert not tested.rows("select id from jobs except select job_id from marks")
    tested.work()
    assert not tested.rows("select job_id from marks except all select job_id from effects")
    assert not tested.rows("select job_id from effects except all select job_id from marks")
