"""Queue-driven ETL: due analytics jobs of the queue become runs of their slots, and the ends of runs end the jobs.

The sensor holds jobs as a worker does, looks at the runs of each job's slot and asks for one where none is. What to
do is decided in lib/queue/etl.py from what is stored, never from memory, so a tick may be killed anywhere and the next
one goes on. Which schedule a slot belongs to, and what its run does, stays in schedules.py.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import ScheduleInstigatorData, TickStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._utils.schedules import reverse_cron_string_iterator

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib.queue import etl
from penguin_pipelines.lib.queue.etl import QUEUE, SLOT_TAG, WORKER, Act, Decision, Ended, Run, Slot, Turn
from penguin_pipelines.lib.queue.hints import Hints
from penguin_pipelines.lib.queue.model import Leased, Outcome, utc_now
from penguin_pipelines.lib.queue.store import Store
from penguin_pipelines.lib.queue.store import Turn as Fairness
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.resources import TierResource, runs_by_default

STATUS = dg.DefaultSensorStatus.RUNNING if runs_by_default() else dg.DefaultSensorStatus.STOPPED
LEASE_SECONDS = 60.0
ROUNDS = 20
ENDS = {
    dg.DagsterRunStatus.SUCCESS: Ended.WELL,
    dg.DagsterRunStatus.FAILURE: Ended.BADLY,
    dg.DagsterRunStatus.CANCELED: Ended.CANCELED,
}
Held = tuple[Leased, datetime, datetime]
"""A job, since when it is held, and when it was due."""


@dg.sensor(
    name="analytics_jobs",
    job_name="warehouse",
    description="Turns due jobs of queue analytics-processing into runs, one a slot, and ends them with their runs.",
    minimum_interval_seconds=15,
    default_status=STATUS,
)
def analytics_jobs(context: dg.SensorEvaluationContext, queue: TierResource) -> dg.SensorResult:
    now = utc_now()
    since, cursor = etl.looking_since(context.cursor, now)
    requests: dict[str, dg.RunRequest] = {}
    said: list[str] = []
    with contextlib.closing(Store(queue.url, WORKER)) as store, contextlib.closing(Hints(queue.redis_url)) as hints:
        held = _held(queue)
        store.beat([job for job, _, _ in held], {})  # before the sweep, which takes jobs of silent workers away
        swept = store.sweep(LEASE_SECONDS, LEASE_SECONDS)
        if swept:
            hints.push(swept.due)
        turn = Fairness()
        for _ in range(ROUNDS):
            for one in held:
                job, held_since, _ = one
                decision = _decided(context, one, since, now)
                said.append(f"{job.type} {str(job.id)[:8]}: {decision.why}")
                _act(context.instance, store, job, held_since, decision)
                if decision.act is Act.REQUEST:
                    _ask(context, requests, job, decision)
            claimed = {job.id for job in store.claim(QUEUE, 10, turn)}
            if not claimed:
                break
            held = _held(queue, claimed)
        hints.alive(WORKER, [QUEUE], len(said))
    return dg.SensorResult(
        run_requests=list(requests.values()),
        skip_reason=None if requests else "; ".join(said[:20]) or "No job is due.",
        cursor=cursor,
    )


def _held(queue: TierResource, ids: set[UUID] | None = None) -> list[Held]:
    """The jobs that are held under our name; their tokens are in the database, so any tick may go on with them."""
    with queue.connect(role="pm_worker") as connection:
        values = {"queue": QUEUE, "worker": WORKER, "ids": None if ids is None else list(ids)}
        rows = connection.execute(blocks("watch")["held_jobs"], values).fetchall()
    return [(Leased(*row[:9], timeout=0, token=row[9]), row[10], row[11]) for row in rows]


def _decided(context: dg.SensorEvaluationContext, held: Held, since: datetime, now: datetime) -> Decision:
    job, held_since, due = held
    try:
        slot = _earlier_slot(context.instance, job) or etl.slot_of(job, due, lambda n, t: _latest(context, n, t))
    except PenguinError as error:
        return etl.refused(error)
    return etl.decide(slot, held_since, _runs(context.instance, slot.key), _turn(context, slot), since, now)


def _latest(context: dg.SensorEvaluationContext, schedule: str, until: datetime) -> datetime:
    """The last moment of a schedule that is not after `until`."""
    assert context.repository_def is not None
    cron = str(context.repository_def.get_schedule_def(schedule).cron_schedule)
    return next(reverse_cron_string_iterator(until.timestamp(), cron, "UTC")).astimezone(UTC)


def _job_tag(job: UUID) -> str:
    return f"penguin/job-{job}"


def _earlier_slot(instance: dg.DagsterInstance, job: Leased) -> Slot | None:
    """The slot of an earlier attempt: a retry moves the time at which a job is due, and may not move its slot."""
    if job.attempt == 1:
        return None
    runs = instance.get_runs(dg.RunsFilter(tags={_job_tag(job.id): "held"}), limit=1)
    return etl.parse_key(runs[0].tags[SLOT_TAG]) if runs else None


def _runs(instance: dg.DagsterInstance, key: str) -> list[Run]:
    """Every run of a slot, whoever asked for it."""
    found = []
    for record in instance.get_run_records(dg.RunsFilter(tags={SLOT_TAG: key})):
        run = record.dagster_run
        ended = ENDS.get(run.status)
        finished = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
        repeated = run.tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_ID_TAG not in run.tags
        found.append(
            Run(
                run.run_id,
                ended,
                datetime.fromtimestamp(finished, UTC) if ended else None,
                ended is Ended.BADLY and repeated,
                frozenset(run.tags),
            )
        )
    return found


def _turn(context: dg.SensorEvaluationContext, slot: Slot) -> Turn:
    """How far the schedule is. It asks for its slots in their order: what is behind its last tick it never asks for."""
    instance = context.instance
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    state = next((s for s in states if s.instigator_name == slot.schedule), None)
    if state is None or not state.is_running or _latest(context, slot.schedule, slot.time) != slot.time:
        return Turn(is_on=False, passed=False)
    moment, data = slot.time.timestamp(), state.instigator_data
    if isinstance(data, ScheduleInstigatorData):
        reached = max(data.start_timestamp or 0.0, data.last_iteration_timestamp or 0.0)
        if reached > moment:
            return Turn(is_on=True, passed=True)
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    passed = any(t.timestamp > moment or (t.timestamp == moment and t.status is not TickStatus.STARTED) for t in ticks)
    return Turn(is_on=True, passed=passed)


def _act(instance: dg.DagsterInstance, store: Store, job: Leased, held_since: datetime, decision: Decision) -> None:
    """Does to the job what was decided. Every statement names the token of the lease: repeated, it changes nothing."""
    if decision.run is not None and _job_tag(job.id) not in decision.run.tags:
        instance.add_run_tags(decision.run.id, {_job_tag(job.id): "held"})
    began, ended = held_since.timestamp(), utc_now().timestamp()
    if decision.act is Act.COMPLETE and decision.run is not None:
        store.complete([Outcome(job, began, ended, result=json.dumps({"run_id": decision.run.id}))])
    elif decision.act is Act.FAIL:
        store.fail([Outcome(job, began, ended, failure=decision.failure)])
    elif decision.act is Act.LATER:
        store.release([job], [decision.until])
    else:
        store.beat([job], {job.id: (0, decision.why)})


def _ask(
    context: dg.SensorEvaluationContext, requests: dict[str, dg.RunRequest], job: Leased, decision: Decision
) -> None:
    """The run that the schedule itself would ask for, with the jobs that wait for it as tags."""
    assert context.repository_def is not None
    key = decision.key
    if key not in requests:
        slot = etl.parse_key(key.partition("#")[0])
        schedule = context.repository_def.get_schedule_def(slot.schedule)
        with dg.build_schedule_context(instance=context.instance, scheduled_execution_time=slot.time) as moment:
            asked = schedule.evaluate_tick(moment).run_requests or []
        if not asked:
            return  # a run of the slot has appeared in this moment; the next tick finds it
        requests[key] = dg.RunRequest(
            run_key=key, job_name=schedule.job_name, run_config=asked[0].run_config, tags={SLOT_TAG: slot.key}
        )
    request = requests[key]
    requests[key] = request._replace(tags={**request.tags, _job_tag(job.id): "held"})


def _on_end(name: str, status: dg.DagsterRunStatus) -> dg.RunStatusSensorDefinition:
    """Ends the jobs of a run at once; without it they would end with the next tick of the sensor above."""

    @dg.run_status_sensor(
        name=name,
        run_status=status,
        description=f"Ends the jobs of the queue that wait for a run, when it ends with {status.value}.",
        minimum_interval_seconds=15,
        default_status=STATUS,
    )
    def end(context: dg.RunStatusSensorContext, queue: TierResource) -> Iterator[dg.SkipReason]:
        prefix = _job_tag(UUID(int=0))[:-36]
        waiting = {UUID(tag.removeprefix(prefix)) for tag in context.dagster_run.tags if tag.startswith(prefix)}
        if not waiting:
            yield dg.SkipReason("No job of the queue waits for this run.")
            return
        ended = _end_jobs(context.instance, queue, context.dagster_run, waiting)
        yield dg.SkipReason(f"Ended {len(ended)} of {len(waiting)} jobs that waited for this run.")

    return end


def _end_jobs(
    instance: dg.DagsterInstance, queue: TierResource, run: dg.DagsterRun, waiting: set[UUID]
) -> Sequence[Leased]:
    slot = etl.parse_key(run.tags[SLOT_TAG])
    ended = []
    with contextlib.closing(Store(queue.url, WORKER)) as store:
        runs, now = _runs(instance, slot.key), utc_now()
        for job, held_since, _ in _held(queue, waiting):
            decision = etl.decide(slot, held_since, runs, Turn(is_on=True, passed=False), now, now)
            if decision.act in (Act.COMPLETE, Act.FAIL):
                _act(instance, store, job, held_since, decision)
                ended.append(job)
    return ended


analytics_run_succeeded = _on_end("analytics_run_succeeded", dg.DagsterRunStatus.SUCCESS)
analytics_run_failed = _on_end("analytics_run_failed", dg.DagsterRunStatus.FAILURE)
analytics_run_canceled = _on_end("analytics_run_canceled", dg.DagsterRunStatus.CANCELED)
