"""Analytics jobs of the queue as runs: a real queue and a Dagster instance with its storage in Postgres.

What a daemon does with requests is done here by `launch`: one run for each run key.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from servers import PSEUDONYM_KEY, Databases, Server

from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue import etl
from penguin_pipelines.lib.queue.etl import QUEUE, SLOT_TAG, WORKER
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import Producer
from penguin_pipelines.lib.queue.store import Store, Turn
from penguin_pipelines.resources import TierResource
from penguin_pipelines.settings import DATABASES

CONFIGURATION = Path(__file__).parents[2] / "dagster.yaml"
SLOT = datetime(2026, 3, 1, 10, 5, tzinfo=UTC)
KEY = "hourly_metrics:2026-03-01T10:05+00:00"


class Daemon:
    """The sensors on one instance, tick by tick."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions, url: str, redis_url: str) -> None:
        self.instance = instance
        self._definitions = definitions
        self.url = url
        self.producer = Producer(url, redis_url)
        self.connection = db.open_connection(url, "queue", autocommit=True)
        self.cursor: str | None = None

    def add(self, type_: str = "hourly_metrics", **more: Any) -> UUID:
        given = {"payload": {}, "run": SLOT + timedelta(minutes=1)} | more
        return self.producer.enqueue(NewJob(QUEUE, type_, **given)).id

    def tick(self) -> dg.SensorResult:
        from penguin_pipelines.defs.analytics_jobs import analytics_jobs

        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=self._definitions,
            resources={"queue": TierResource(tier="queue")},
        ) as context:
            result: Any = analytics_jobs.evaluate_tick(context)
        self.cursor = result.cursor
        return result

    def launch(self, result: Any) -> list[dg.DagsterRun]:
        made = []
        for request in result.run_requests or []:
            tags = {**request.tags, "dagster/run_key": request.run_key}
            if not self.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": request.run_key})):
                made.append(self.run("STARTED", tags, request.job_name, request.run_config))
        return made

    def run(
        self, status: str, tags: dict[str, str], job: str = "warehouse", config: dict[str, Any] | None = None
    ) -> dg.DagsterRun:
        made = create_run_for_test(self.instance, job_name=job, tags=tags, run_config=config)
        if status != "NOT_STARTED":
            self.report(made, status)
        return made

    def report(self, run: dg.DagsterRun, status: str, *, process_lost: bool = False) -> None:
        """Ends or starts a run; a step that failed is the usual reason of a failure."""
        kind = {"STARTED": "PIPELINE_START", "SUCCESS": "PIPELINE_SUCCESS", "FAILURE": "PIPELINE_FAILURE"}.get(status)
        kind = kind or "PIPELINE_CANCELED"
        data = None
        if status == "FAILURE" and not process_lost:
            data = JobFailureData(error=None, failure_reason=RunFailureReason.STEP_FAILURE)
        event = dg.DagsterEvent(event_type_value=kind, job_name=run.job_name, event_specific_data=data)
        self.instance.report_dagster_event(event, run.run_id)

    def hear(self, run: dg.DagsterRun, status: str) -> None:
        """The run-status sensor of a status, for a run that has ended so."""
        from penguin_pipelines.defs import analytics_jobs

        sensor = {
            "SUCCESS": analytics_jobs.analytics_run_succeeded,
            "FAILURE": analytics_jobs.analytics_run_failed,
            "CANCELED": analytics_jobs.analytics_run_canceled,
        }[status]
        ended = self.instance.get_run_by_id(run.run_id)
        assert ended is not None
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=dg.DagsterEvent(event_type_value="PIPELINE_" + status, job_name=run.job_name),
            dagster_instance=self.instance,
            dagster_run=ended,
            resources={"queue": TierResource(tier="queue")},
        )
        list(sensor(context))  # type: ignore[call-overload]

    def job(self, id_: UUID) -> dict[str, Any]:
        from psycopg.rows import dict_row

        row = self.connection.cursor(row_factory=dict_row).execute("select * from jobs where id = %s", [id_]).fetchone()
        assert row is not None
        return row

    def change(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement, values)  # type: ignore[arg-type]

    def runs(self, key: str = KEY) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(tags={SLOT_TAG: key})))


@pytest.fixture(scope="module")
def shared(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Databases, dg.DagsterInstance]]:
    """One queue and one instance: to make Dagster's tables takes longer than any test here."""
    databases, home = Databases(postgres), tmp_path_factory.mktemp("dagster")
    shutil.copyfile(CONFIGURATION, home / "dagster.yaml")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", str(home))
        environment.setenv("PENGUIN_DAGSTER_STORAGE_URL", db.sqlalchemy_url(databases["dagster"], "psycopg2"))
        with dg.DagsterInstance.get() as instance:
            yield databases, instance
    databases.drop()


@pytest.fixture
def daemon(
    definitions: dg.Definitions,
    shared: tuple[Databases, dg.DagsterInstance],
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Daemon]:
    """The sensors on an instance without runs and a queue without jobs."""
    databases, instance = shared
    for name in [n for n in os.environ if n.startswith("PENGUIN_") and n != "PENGUIN_DAGSTER_STORAGE_URL"]:
        monkeypatch.delenv(name)
    environment = {f"PENGUIN_{name.upper()}_URL": databases[name] for name in DATABASES} | {
        "PENGUIN_ENV": "local",
        "PENGUIN_HOME": str(tmp_path),
        "PENGUIN_REDIS_URL": redis_url,
        "PENGUIN_PSEUDONYM_KEY": PSEUDONYM_KEY,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Daemon(instance, definitions, databases["queue"], redis_url)
    with contextlib.closing(made.connection), contextlib.closing(made.producer):
        yield made
        with psycopg.connect(databases["queue"]) as connection:
            connection.execute("truncate jobs, job_logs, dead_letter_jobs")
    instance.wipe()
    instance.schedule_storage.wipe()  # type: ignore[union-attr]


def test_a_due_job_becomes_the_run_that_its_schedule_would_ask_for(daemon: Daemon) -> None:
    id_ = daemon.add("daily-aggregate")
    (request,) = daemon.tick().run_requests or []
    assert request.run_key == "daily_aggregate:2026-03-01T02:00+00:00"
    assert request.run_config == {"ops": {"dbt_warehouse": {"config": {"recompute_days": 7}}}}
    assert request.job_name == "warehouse"
    held = daemon.job(id_)
    assert (held["status"], held["worker_id"]) == ("processing", WORKER)


def test_jobs_of_one_slot_share_a_run_and_end_with_it(daemon: Daemon) -> None:
    jobs = [daemon.add(t) for t in ("hourly_metrics", "campaign-aggregate", "hourly_metrics", "hourly_metrics")]
    (run,) = daemon.launch(daemon.tick())  # the queue lets three run at a time, so the fourth waits
    daemon.report(run, "SUCCESS")
    daemon.tick()
    assert {daemon.job(j)["status"] for j in jobs} == {"completed"}
    assert daemon.job(jobs[0])["result"] == {"run_id": run.run_id}
    assert len(daemon.runs()) == 1


def test_a_slot_that_the_schedule_ran_is_not_run_for_a_job(daemon: Daemon) -> None:
    daemon.run("SUCCESS", {SLOT_TAG: KEY})
    id_ = daemon.add()
    assert not daemon.tick().run_requests
    assert daemon.job(id_)["status"] == "completed"


def test_a_schedule_skips_the_slot_that_a_job_asked_for(daemon: Daemon, definitions: dg.Definitions) -> None:
    daemon.add()
    daemon.launch(daemon.tick())
    schedule = definitions.get_repository_def().get_schedule_def("hourly_metrics")
    with dg.build_schedule_context(instance=daemon.instance, scheduled_execution_time=SLOT) as context:
        result = schedule.evaluate_tick(context)
    assert not result.run_requests and "asked for it" in (result.skip_message or "")


def test_a_job_that_was_claimed_before_a_crash_gets_its_run_with_the_next_tick(daemon: Daemon) -> None:
    id_ = daemon.add()
    with contextlib.closing(Store(daemon.url, WORKER)) as store:  # what is there when a tick dies after its claim
        assert len(store.claim(QUEUE, 10, Turn())) == 1
    (request,) = daemon.tick().run_requests or []
    assert request.run_key == KEY
    assert daemon.job(id_)["attempt_count"] == 1


def test_a_request_that_a_crash_swallowed_is_made_again_under_the_same_key(daemon: Daemon) -> None:
    daemon.add()
    lost, again = daemon.tick(), daemon.tick()
    assert [r.run_key for r in lost.run_requests or []] == [r.run_key for r in again.run_requests or []] == [KEY]
    daemon.launch(lost)
    daemon.launch(again)
    assert len(daemon.runs()) == 1


@pytest.mark.parametrize(("away", "meanwhile"), [("2 minutes", "processing"), ("2 hours", "queued")])
def test_a_daemon_that_was_away_costs_its_jobs_no_attempt(daemon: Daemon, away: str, meanwhile: str) -> None:
    """Workers of other queues sweep meanwhile. After an hour somebody else may take the job."""
    id_ = daemon.add()
    (run,) = daemon.launch(daemon.tick())
    daemon.change("update jobs set heartbeat = now() - %s::interval where id = %s", away, id_)
    with contextlib.closing(Store(daemon.url, "another worker")) as store:
        swept = store.sweep(60, 60)
    assert swept is not None and swept.restarted == swept.buried == 0
    assert daemon.job(id_)["status"] == meanwhile
    assert not daemon.tick().run_requests
    assert (daemon.job(id_)["status"], daemon.job(id_)["attempt_count"]) == ("processing", 1)
    daemon.report(run, "SUCCESS")
    daemon.tick()
    assert daemon.job(id_)["status"] == "completed"
    assert len(daemon.runs()) == 1


def test_a_run_that_ended_while_the_daemon_was_away_ends_the_job_with_the_next_tick(daemon: Daemon) -> None:
    id_ = daemon.add()
    (run,) = daemon.launch(daemon.tick())
    daemon.report(run, "SUCCESS")
    daemon.change("update jobs set heartbeat = now() - interval '1 hour' where id = %s", id_)
    daemon.tick()
    assert daemon.job(id_)["status"] == "completed"
    assert not daemon.tick().run_requests


def test_a_tick_renews_the_lease_of_what_it_holds(daemon: Daemon) -> None:
    id_ = daemon.add()
    daemon.launch(daemon.tick())
    daemon.change("update jobs set heartbeat = now() - interval '50 seconds' where id = %s", id_)
    daemon.tick()
    assert daemon.job(id_)["heartbeat"] > datetime.now(UTC) - timedelta(seconds=20)
    assert "is under way" in daemon.job(id_)["progress_message"]


def test_a_failed_run_fails_the_attempt_and_the_next_one_runs_again(daemon: Daemon) -> None:
    id_ = daemon.add()
    (first,) = daemon.launch(daemon.tick())
    daemon.report(first, "FAILURE")
    daemon.tick()
    waiting = daemon.job(id_)
    assert waiting["status"] == "queued" and waiting["run"] > datetime.now(UTC) + timedelta(seconds=30)
    assert first.run_id in waiting["last_error_message"]
    assert waiting["error_details"]["class"] == "RunFailed"
    assert not daemon.tick().run_requests  # it waits for its time
    daemon.change("update jobs set run = now() where id = %s", id_)
    (second,) = daemon.launch(daemon.tick())
    assert second.tags["dagster/run_key"] == f"{KEY}#2"
    assert second.tags[SLOT_TAG] == KEY  # though it became due in a later slot
    daemon.report(second, "SUCCESS")
    daemon.tick()
    assert daemon.job(id_)["status"] == "completed"


def test_a_run_that_lost_its_process_is_left_to_dagster_which_repeats_it(daemon: Daemon) -> None:
    id_ = daemon.add()
    (run,) = daemon.launch(daemon.tick())
    daemon.report(run, "FAILURE", process_lost=True)
    assert not daemon.tick().run_requests
    assert daemon.job(id_)["status"] == "processing"
    daemon.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": "the next one"})
    daemon.run("SUCCESS", {SLOT_TAG: KEY})
    daemon.tick()
    assert daemon.job(id_)["status"] == "completed"


def test_after_its_attempts_a_job_is_a_dead_letter_with_the_last_error(daemon: Daemon) -> None:
    id_ = daemon.add(max_attempts=2)
    for _ in range(2):
        daemon.change("update jobs set run = now() where id = %s and attempt_count > 0", id_)
        (run,) = daemon.launch(daemon.tick())
        daemon.report(run, "FAILURE")
        daemon.tick()
    assert daemon.job(id_)["status"] == "failed"
    letter = daemon.connection.execute("select failure_reason from dead_letter_jobs").fetchall()
    assert letter == [(f"RunFailed: Run {run.run_id} of {KEY} failed.",)]


@pytest.mark.parametrize(("status", "ends"), [("SUCCESS", "completed"), ("FAILURE", "queued"), ("CANCELED", "failed")])
def test_a_run_status_sensor_ends_the_job_at_once_and_once(daemon: Daemon, status: str, ends: str) -> None:
    id_ = daemon.add()
    (run,) = daemon.launch(daemon.tick())
    daemon.report(run, status)
    daemon.hear(run, status)
    before = daemon.job(id_)
    assert before["status"] == ends
    daemon.hear(run, status)  # the daemon died before it had noted that it told us
    assert daemon.job(id_) == before
    lines = daemon.connection.execute("select count(*) from job_logs where job_id = %s", [id_]).fetchone()
    assert lines == (1,)


def test_a_run_that_is_no_job_s_is_nobody_s_business(daemon: Daemon) -> None:
    run = daemon.run("SUCCESS", {SLOT_TAG: KEY})
    daemon.hear(run, "SUCCESS")


@pytest.mark.parametrize(
    ("type_", "payload", "said"),
    [("monthly", {}, "no schedule for job type 'monthly'"), ("weekly", {"slot": "soon"}, "Slot 'soon' is no time")],
)
def test_what_no_attempt_can_mend_is_a_dead_letter_at_once(
    daemon: Daemon, type_: str, payload: dict[str, Any], said: str
) -> None:
    id_, other = daemon.add(type_, payload=payload), daemon.add()
    assert len(daemon.tick().run_requests or []) == 1
    assert daemon.job(id_)["status"] == "failed" and said in daemon.job(id_)["last_error_message"]
    assert daemon.job(other)["status"] == "processing"


def test_a_job_for_a_slot_to_come_goes_back_until_then_and_uses_no_attempt(daemon: Daemon) -> None:
    slot = (datetime.now(UTC) + timedelta(hours=3)).replace(second=0, microsecond=0)
    id_ = daemon.add(payload={"slot": slot.isoformat()})
    assert not daemon.tick().run_requests
    waiting = daemon.job(id_)
    assert (waiting["status"], waiting["attempt_count"], waiting["run"]) == ("queued", 0, slot)


def test_a_tick_on_an_unreachable_queue_fails_and_says_so(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENGUIN_QUEUE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(Exception) as raised:
        daemon.tick()
    said = str(raised.value.__cause__ or raised.value)
    assert "cannot be reached" in said and "secret" not in said


def test_a_schedule_that_is_on_and_has_the_slot_before_it_goes_first(daemon: Daemon) -> None:
    """The daemon's own record of the schedule says so: it began before the slot and has not ticked yet."""
    now = datetime.now(UTC)
    slot = now.replace(minute=5, second=0, microsecond=0)
    slot = slot if slot <= now else slot - timedelta(hours=1)
    tag = etl.slot_key("hourly_metrics", slot)
    _turn_on(daemon.instance, (slot - timedelta(minutes=30)).timestamp())
    id_ = daemon.add(run=now)
    waits = daemon.tick()
    assert not waits.run_requests and "has " + tag + " before it" in str(waits.skip_message)
    daemon.run("STARTED", {SLOT_TAG: tag})
    assert not daemon.tick().run_requests
    assert "is under way" in daemon.job(id_)["progress_message"]


def test_a_schedule_that_was_turned_on_after_the_slot_leaves_it_to_the_job(daemon: Daemon) -> None:
    _turn_on(daemon.instance, time.time())
    daemon.add()
    assert len(daemon.tick().run_requests or []) == 1


def _turn_on(instance: dg.DagsterInstance, since: float) -> None:
    """What the daemon keeps of a schedule that has been on since a moment and has not ticked."""
    target = LoadableTargetOrigin(executable_path="python", module_name="penguin_pipelines.definitions")
    location = InProcessCodeLocationOrigin(target, location_name="penguin_pipelines")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "hourly_metrics")
    data = ScheduleInstigatorData("5 * * * *", start_timestamp=since)
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data))
