"""Who gets which job and when, and what becomes of attempts; by the statements alone, without processes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from queue_support import QUEUE, Tested, attempts, eventually, tenant, tested_fixture  # noqa: F401

from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue import operate
from penguin_pipelines.lib.queue import store as queue_store
from penguin_pipelines.lib.queue.model import Failure, Leased, NewJob, Outcome
from penguin_pipelines.lib.queue.store import Store, Swept, Turn

pytestmark = pytest.mark.every_postgres


def ended(jobs: Sequence[Leased], failure: Failure | None = None) -> list[Outcome]:
    return [Outcome(job, time.time(), time.time(), None, failure) for job in jobs]


def claim(tested: Tested, batch: int = 100) -> list[Leased]:
    store = tested.store()
    jobs = store.claim(QUEUE, batch, Turn())
    store.close()
    return jobs


def order(tested: Tested) -> list[UUID]:
    """Ids one after the other, as single claims get them."""
    store, turn, found = tested.store(), Turn(), []
    while jobs := store.claim(QUEUE, 1, turn):
        found.append(jobs[0].id)
    store.close()
    return found


def fail(tested: Tested, message: str = "no", *, terminal: bool = False) -> Leased:
    """Claims the only job and fails it."""
    store = tested.store()
    (job,) = store.claim(QUEUE, 1, Turn())
    assert store.fail(ended([job], Failure("Oops", message, terminal, {}))) == []
    store.close()
    return job


def ago(**elapsed: float) -> datetime:
    return datetime.now(UTC) - timedelta(**elapsed)


def test_lanes_come_before_priorities_and_priorities_before_time(tested: Tested) -> None:
    low = tested.add(priority=200, run=ago(minutes=3))
    normal = tested.add(priority=150, run=ago(minutes=2))
    sooner = tested.add(priority=51)
    high = tested.add(priority=50)
    critical = tested.add(priority=1)
    second = tested.add(priority=51)
    assert order(tested) == [critical, high, sooner, second, normal, low]


def test_ten_minutes_of_waiting_count_as_one_step_of_priority(tested: Tested) -> None:
    fresh = tested.add(priority=90)
    waited = tested.add(priority=100, run=ago(minutes=101))
    shortly = tested.add(priority=100, run=ago(minutes=99))
    assert order(tested) == [waited, fresh, shortly]


def test_waiting_does_not_lift_a_job_into_the_high_lane(tested: Tested) -> None:
    waited = tested.add(priority=60, run=ago(hours=100))
    high = tested.add(priority=50)
    assert order(tested) == [high, waited]


def test_a_low_job_that_has_waited_long_gets_its_share_beside_normal_ones(tested: Tested) -> None:
    aged = {tested.add(priority=900, run=ago(hours=4, minutes=1)), tested.add(priority=155, run=ago(minutes=51))}
    young = tested.add(priority=155, run=ago(minutes=49))
    tested.producer.enqueue_many([NewJob(QUEUE, "noop", {})] * 200)
    first = {job.id for job in claim(tested, 40)}
    assert aged <= first
    assert young not in first


def test_a_tenant_with_many_jobs_does_not_hold_up_one_with_few(tested: Tested) -> None:
    many, few = tenant(), tenant()
    tested.producer.enqueue_many(NewJob(QUEUE, "noop", {}, tenant_id=many) for _ in range(2_000))
    theirs = {tested.add(tenant_id=few) for _ in range(10)}
    store, turn, seen = tested.store(), Turn(), []
    for _ in range(4):
        seen += store.claim(QUEUE, 20, turn)
    store.close()
    assert theirs <= {job.id for job in seen}
    assert len(seen) > 40


def test_single_slots_go_round_the_tenants(tested: Tested) -> None:
    tenants = [tenant() for _ in range(5)]
    for theirs in tenants:
        tested.producer.enqueue_many([NewJob(QUEUE, "noop", {}, tenant_id=theirs)] * 30)
    store, turn = tested.store(), Turn()
    rounds = [[store.claim(QUEUE, 1, turn)[0].tenant_id for _ in tenants] for _ in range(3)]
    store.close()
    assert all(set(one) == set(tenants) for one in rounds)


def test_tenants_whose_jobs_lie_in_the_future_do_not_hide_due_ones(tested: Tested) -> None:
    later = datetime.now(UTC) + timedelta(minutes=30)
    tested.producer.enqueue_many(NewJob(QUEUE, "noop", {}, run=later, tenant_id=tenant()) for _ in range(500))
    due = tested.add(tenant_id=tenant())
    assert [job.id for job in claim(tested)] == [due]


def test_barred_tenants_wait(tested: Tested) -> None:
    barred, free = tenant(), tenant()
    tested.add(tenant_id=barred)
    tested.add(tenant_id=barred, priority=10)
    mine = tested.add(tenant_id=free)
    store = tested.store()
    jobs = store.claim(QUEUE, 10, Turn(barred={barred: datetime.now(UTC) + timedelta(minutes=1)}))
    assert [job.id for job in jobs] == [mine]
    assert len(store.claim(QUEUE, 10, Turn(barred={barred: ago(seconds=1)}))) == 2
    store.close()


def test_scheduled_and_expired_jobs_are_not_claimed(tested: Tested) -> None:
    tested.add(run=datetime.now(UTC) + timedelta(minutes=5))
    expired = tested.add(expires=ago(seconds=1))
    assert claim(tested) == []
    store = tested.store()
    swept = store.sweep(60, 20)
    store.close()
    assert swept is not None
    assert swept.expired == 1
    assert tested.status(expired) == "expired"


def test_a_paused_queue_gives_nothing_until_it_is_resumed(tested: Tested) -> None:
    tested.add()
    operate.set_active(tested.connection, QUEUE, False)
    assert claim(tested) == []
    operate.set_active(tested.connection, QUEUE, True)
    assert len(claim(tested)) == 1


def test_the_limit_of_a_queue_holds_over_all_workers(tested: Tested) -> None:
    tested.change("update job_queues set max_concurrent_jobs = 3 where name = %s", QUEUE)
    tested.producer.enqueue_many([NewJob(QUEUE, "noop", {})] * 10)
    one, two = tested.store("one"), tested.store("two")
    first, second = one.claim(QUEUE, 2, Turn()), two.claim(QUEUE, 10, Turn())
    assert (len(first), len(second)) == (2, 1)
    assert one.complete(ended(first)) == []
    assert len(two.claim(QUEUE, 10, Turn())) == 2
    one.close()
    two.close()


def test_a_failed_attempt_waits_longer_each_time_and_ends_as_a_dead_letter(tested: Tested) -> None:
    id_ = tested.add(tenant_id=tenant(), correlation_id="flow-1", payload={"n": 7})
    for attempt, expected in ((1, 60), (2, 120)):
        fail(tested, f"no {attempt}")
        status, wait = tested.one("select status, extract(epoch from run - now())::float from jobs where id = %s", id_)
        assert status == "queued"
        assert expected * 0.74 < wait <= expected * 1.25
        tested.change("update jobs set run = now()")
    fail(tested, "no 3")
    assert tested.status(id_) == "failed"
    said = "select failure_reason, final_attempt, payload, error_details ->> 'class' from dead_letter_jobs"
    assert tested.one(said) == ("Oops: no 3", 3, {"n": 7}, "Oops")
    logged = [(row[0], row[1], row[2]) for row in attempts(tested.connection, id_)]
    assert logged == [(1, "retry", "Oops"), (2, "retry", "Oops"), (3, "failed", "Oops")]
    assert tested.one("select count(*) from job_logs where context ->> 'correlation_id' = 'flow-1'") == 3


def test_the_wait_is_capped(tested: Tested) -> None:
    id_ = tested.add(max_attempts=99)
    tested.change("update jobs set attempt_count = 90")
    fail(tested)
    assert tested.one("select extract(epoch from run - now()) between 2690 and 4510 from jobs where id = %s", id_)


def test_a_terminal_error_is_not_tried_again(tested: Tested) -> None:
    job = fail(tested, terminal=True) if tested.add() else None
    assert job is not None
    assert tested.status(job.id) == "failed"
    assert tested.one("select final_attempt from dead_letter_jobs") == 1


def test_a_zombies_result_is_refused_and_logged(tested: Tested, caplog: pytest.LogCaptureFixture) -> None:
    id_ = tested.add()
    zombie, other = tested.store("zombie"), tested.store("other")
    stale = zombie.claim(QUEUE, 1, Turn())
    tested.change("update jobs set heartbeat = now() - interval '61 seconds'")
    swept = other.sweep(60, 20)
    assert swept is not None
    assert (swept.restarted, swept.buried) == (1, 0)
    fresh = other.claim(QUEUE, 1, Turn())
    assert (fresh[0].id, fresh[0].attempt) == (id_, 2)
    with caplog.at_level(logging.WARNING):
        assert len(zombie.complete(ended(stale))) == 1
        assert len(zombie.fail(ended(stale, Failure("Late", "late", True, {})))) == 1
    assert "Refused" in caplog.text
    assert zombie.beat(stale, {}) == {id_}
    assert zombie.release(stale) == 0
    assert tested.status(id_) == "processing"
    assert other.complete(ended(fresh)) == []
    assert tested.status(id_) == "completed"
    assert [row[:3] for row in attempts(tested.connection, id_)] == [(1, "retry", "LeaseLost"), (2, "success", None)]
    assert tested.one("select count(*) from job_logs where context ->> 'event' = 'refused'") == 2
    zombie.close()
    other.close()


def test_a_renewed_lease_is_not_swept(tested: Tested) -> None:
    id_ = tested.add()
    store = tested.store()
    jobs = store.claim(QUEUE, 1, Turn())
    tested.change("update jobs set heartbeat = now() - interval '61 seconds'")
    assert store.beat(jobs, {id_: (40, "nearly half")}) == set()
    swept = store.sweep(60, 20)
    assert swept is not None
    assert swept.restarted == 0
    assert tested.one("select progress_percentage, progress_message from jobs") == (40, "nearly half")
    store.close()


def test_the_last_lost_lease_makes_a_dead_letter(tested: Tested) -> None:
    tested.add(max_attempts=1)
    store = tested.store("the dead worker")
    store.claim(QUEUE, 1, Turn())
    tested.change("update jobs set heartbeat = now() - interval '61 seconds'")
    swept = store.sweep(60, 20)
    store.close()
    assert swept is not None
    assert swept.buried == 1
    assert tested.one("select failure_reason from dead_letter_jobs").startswith("LeaseLost: Worker the dead worker")


def test_jobs_that_older_programs_left_in_redis_come_back(tested: Tested) -> None:
    id_ = tested.add()
    tested.change("update jobs set status = 'migrated_to_redis', processed = now() - interval '6 minutes'")
    store = tested.store()
    swept = store.sweep(60, 20)
    store.close()
    assert swept is not None
    assert swept.reclaimed == 1
    assert tested.status(id_) == "queued"


def test_a_waiting_job_without_an_attempt_left_is_buried_rather_than_forgotten(tested: Tested) -> None:
    id_ = tested.add()
    tested.change("update jobs set attempt_count = max_attempts")
    assert claim(tested) == []
    store = tested.store()
    store.sweep(60, 20)
    store.close()
    assert tested.status(id_) == "failed"


def test_a_released_job_keeps_its_attempts(tested: Tested) -> None:
    id_ = tested.add(max_attempts=1)
    store = tested.store()
    assert store.release(store.claim(QUEUE, 1, Turn())) == 1
    assert tested.one("select status, attempt_count, lease_token from jobs where id = %s", id_) == ("queued", 0, None)
    assert len(store.claim(QUEUE, 1, Turn())) == 1
    store.close()


def test_one_sweeper_at_a_time(tested: Tested) -> None:
    with db.connect(tested.url, "queue", role="pm_worker") as other:
        other.execute("select pg_advisory_xact_lock(7201119)")
        store = tested.store()
        assert store.sweep(60, 20) is None
        store.close()


def test_a_job_whose_worker_died_goes_ahead_of_those_enqueued_with_it(tested: Tested) -> None:
    tested.producer.enqueue_many([NewJob(QUEUE, "noop", {})] * 50)
    (first,) = claim(tested, 1)
    tested.change("update jobs set heartbeat = now() - interval '61 seconds' where status = 'processing'")
    store = tested.store()
    store.sweep(60, 20)
    store.close()
    assert claim(tested, 1)[0].id == first.id


def test_a_sweeper_that_freezes_does_not_keep_its_turn(tested: Tested, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_store, "_FROZEN", "1s")
    frozen, other = tested.store(), tested.store()
    assert other.sweep(60, 20) is not None  # connected, so that its next try takes no time
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout), frozen._connection.transaction():
        assert frozen._turn_to_sweep()
        assert other.sweep(60, 20) is None
        eventually(lambda: other.sweep(60, 20), "the other one sweeps")
        frozen._connection.execute("select 1")
    frozen.close()
    other.close()


def test_two_sweeps_at_once_restart_a_job_once(tested: Tested) -> None:
    id_ = tested.add()
    claim(tested)
    tested.change("update jobs set heartbeat = now() - interval '61 seconds'")
    found: list[Swept | None] = []

    def sweep() -> None:
        store = tested.store()
        found.append(store.sweep(60, 20))
        store.close()

    threads = [threading.Thread(target=sweep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(swept.restarted for swept in found if swept) == 1
    assert [row[:3] for row in attempts(tested.connection, id_)] == [(1, "retry", "LeaseLost")]


def test_replay_makes_one_new_job_however_often(tested: Tested) -> None:
    id_ = tested.add(payload={"n": 1}, tenant_id=tenant(), correlation_id="c", priority=60)
    fail(tested, terminal=True)
    letter = tested.one("select id from dead_letter_jobs")
    first, again, by_job = (operate.replay(tested.connection, x) for x in (letter, letter, id_))
    assert first.id == again.id == by_job.id != id_
    assert (first.is_new, again.is_new) == (True, False)
    old, new = (
        tested.one(
            "select queue_name, job_type, payload, tenant_id, correlation_id, priority from jobs where id = %s", i
        )
        for i in (id_, first.id)
    )
    assert old == new
    assert tested.one("select is_resolved, retry_count, replay_job_id from dead_letter_jobs") == (True, 1, first.id)
    assert operate.dead_letters(tested.connection) == []
    assert len(operate.dead_letters(tested.connection, resolved=True)) == 1


def test_replay_survives_the_purge_of_the_job(tested: Tested) -> None:
    id_ = tested.add(payload={"n": 3})
    fail(tested, terminal=True)
    tested.change("delete from jobs")
    made = operate.replay(tested.connection, id_)
    assert tested.one("select payload from jobs where id = %s", made.id) == {"n": 3}


def test_only_waiting_jobs_can_be_cancelled_and_only_once(tested: Tested) -> None:
    waiting = tested.add(run=datetime.now(UTC) + timedelta(hours=1))
    operate.cancel(tested.connection, waiting)
    assert tested.status(waiting) == "cancelled"
    with pytest.raises(operate.UnknownJob, match="is cancelled"):
        operate.cancel(tested.connection, waiting)
    running = tested.add()
    claim(tested)
    with pytest.raises(operate.UnknownJob, match="is processing"):
        operate.cancel(tested.connection, running)


def test_retry_brings_a_waiting_job_forward_and_replays_a_failed_one(tested: Tested) -> None:
    id_ = tested.add()
    fail(tested)
    assert operate.retry(tested.connection, id_).id == id_
    fail(tested, terminal=True)
    assert operate.retry(tested.connection, id_).id != id_


def test_stats_tell_lanes_apart_and_do_not_count_tomorrow_as_waiting(tested: Tested) -> None:
    for priority in (10, 100, 100, 400):
        tested.add(priority=priority)
    tested.add(run=datetime.now(UTC) + timedelta(days=1))
    (row,) = operate.stats(tested.connection, QUEUE)
    assert [row[k] for k in ("high", "normal", "low", "waiting", "delayed", "running")] == [1, 2, 1, 4, 1, 0]


def test_a_result_that_cannot_be_stored_fails_its_job_alone(tested: Tested) -> None:
    good, bad = tested.add(), tested.add()
    store: Store = tested.store()
    jobs = {job.id: job for job in store.claim(QUEUE, 2, Turn())}
    now = time.time()
    store.complete([Outcome(jobs[good], now, now, "{}"), Outcome(jobs[bad], now, now, '{"text": "a\\u0000"}')])
    store.close()
    assert (tested.status(good), tested.status(bad)) == ("completed", "failed")
    assert tested.one("select failure_reason from dead_letter_jobs").startswith("ResultRefused")


def test_every_change_of_a_job_bears_the_mark_of_its_transaction(tested: Tested) -> None:
    """Extraction reads by it. Claims and ends write it themselves; what another statement writes there is mended."""
    id_ = tested.add("effect")
    marked = "select change_xid::text::bigint, updated from jobs where id = %s"
    with contextlib.closing(tested.store()) as store:

        def changes(do: Any) -> Any:
            before, (low, since) = tested.one("select pg_current_xact_id()::text::bigint"), tested.one(marked, id_)
            answer = do()
            mark, when = tested.one(marked, id_)
            assert low < before < mark < tested.one("select pg_current_xact_id()::text::bigint") and when > since
            return answer

        (job,) = changes(lambda: store.claim(QUEUE, 1, Turn()))
        changes(lambda: store.beat([job], {}))
        changes(lambda: store.complete([Outcome(job, 1.0, 2.0)]))
    with db.connect(tested.url, "queue", role="pm_worker") as connection:
        forged = "update jobs set change_xid = '3', updated = '2000-01-01', priority = priority + 1 where id = %s"
        kept = "select change_xid = pg_current_xact_id(), updated = now() from jobs where id = %s"
        for _ in range(2):
            connection.execute(forged, [id_])
            assert connection.execute(kept, [id_]).fetchone() == (True, True)
