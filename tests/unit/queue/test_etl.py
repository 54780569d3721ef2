"""Which slot a job asks for, and that a slot has one run whatever is killed when. Nothing is read or written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penguin_pipelines.lib.queue import etl
from penguin_pipelines.lib.queue.etl import Act, Ended, Run, Slot, Turn
from penguin_pipelines.lib.queue.handlers import UnknownJobType
from penguin_pipelines.lib.queue.model import Leased

NOW = datetime(2026, 3, 1, 10, 7, tzinfo=UTC)
SLOT = Slot("hourly_metrics", datetime(2026, 3, 1, 10, 5, tzinfo=UTC))
OFF = Turn(is_on=False, passed=False)
MINUTE = timedelta(minutes=1)


def job(type_: str = "hourly_metrics", payload: str = "{}", attempt: int = 1) -> Leased:
    return Leased(uuid4(), etl.QUEUE, type_, payload, None, None, None, attempt, 3, 0, uuid4())


def at_five(_: str, until: datetime) -> datetime:
    hour = until.replace(minute=5, second=0, microsecond=0)
    return hour if hour <= until else hour - timedelta(hours=1)


def decide(
    *runs: Run, turn: Turn = OFF, now: datetime = NOW, held: datetime = NOW, since: datetime = NOW
) -> etl.Decision:
    return etl.decide(SLOT, held, runs, turn, since, now)


def test_a_job_asks_for_the_last_slot_before_it_was_due() -> None:
    assert etl.slot_of(job(), NOW, at_five).key == "hourly_metrics:2026-03-01T10:05+00:00"
    assert (
        etl.slot_of(job("campaign-aggregate"), NOW - 3 * MINUTE, at_five).key == "hourly_metrics:2026-03-01T09:05+00:00"
    )
    assert etl.parse_key(SLOT.key) == SLOT


def test_a_job_may_name_its_slot() -> None:
    named = job("weekly", '{"slot": "2026-02-22T04:30:10+01:00"}')
    assert etl.slot_of(named, NOW, at_five).key == "weekly:2026-02-22T03:30+00:00"


@pytest.mark.parametrize("given_slot", ['"soon"', "7", '"2026-02-22T03:30"'])
def test_a_slot_that_is_no_time_is_refused_for_good(given_slot: str) -> None:
    with pytest.raises(etl.BadSlot) as raised:
        etl.slot_of(job("weekly", f'{{"slot": {given_slot}}}'), NOW, at_five)
    failure = etl.refused(raised.value).failure
    assert failure is not None and failure.terminal


def test_a_type_without_a_schedule_is_refused_by_name() -> None:
    with pytest.raises(UnknownJobType, match="hourly_metrics, campaign-aggregate"):
        etl.slot_of(job("monthly"), NOW, at_five)


def test_a_slot_without_a_run_is_asked_for_by_its_key() -> None:
    decision = decide()
    assert (decision.act, decision.key) == (Act.REQUEST, SLOT.key)


def test_a_slot_that_ran_well_is_not_run_again() -> None:
    assert decide(Run("a", Ended.BADLY, NOW), Run("b", Ended.WELL, NOW - MINUTE)).act is Act.COMPLETE


def test_a_run_under_way_is_waited_for() -> None:
    assert decide(Run("a", None)).act is Act.WAIT
    assert decide(Run("a", Ended.BADLY, NOW + MINUTE, repeated=True)).act is Act.WAIT


def test_a_run_that_failed_while_the_job_was_held_fails_its_attempt() -> None:
    decision = decide(Run("a", Ended.BADLY, NOW + MINUTE))
    assert decision.act is Act.FAIL and decision.failure is not None
    assert (decision.failure.error_class, decision.failure.terminal) == ("RunFailed", False)
    assert "Run a of hourly_metrics:2026-03-01T10:05+00:00 failed." in decision.failure.message


def test_a_canceled_run_is_not_started_again() -> None:
    failure = decide(Run("a", Ended.CANCELED, NOW + MINUTE)).failure
    assert failure is not None and failure.terminal


def test_the_next_attempt_gets_a_run_of_its_own() -> None:
    decision = decide(Run("a", Ended.BADLY, NOW - MINUTE))
    assert (decision.act, decision.key) == (Act.REQUEST, f"{SLOT.key}#2")


def test_a_slot_that_has_not_come_waits_until_then() -> None:
    early = decide(now=SLOT.time - MINUTE)
    assert (early.act, early.until) == (Act.LATER, SLOT.time)


def test_a_schedule_that_is_on_goes_first_for_a_while() -> None:
    ahead = Turn(is_on=True, passed=False)
    assert decide(turn=ahead).act is Act.WAIT
    assert decide(turn=Turn(is_on=True, passed=True)).act is Act.REQUEST
    assert decide(turn=ahead, now=NOW + 14 * MINUTE).act is Act.WAIT
    assert decide(turn=ahead, now=NOW + 16 * MINUTE).act is Act.REQUEST


def test_after_a_gap_the_schedule_gets_its_time_again() -> None:
    since, cursor = etl.looking_since(None, NOW)
    assert since == NOW
    since, cursor = etl.looking_since(cursor, NOW + MINUTE)
    assert since == NOW
    since, cursor = etl.looking_since(cursor, NOW + 30 * MINUTE)
    assert since == NOW + 30 * MINUTE
    late = NOW + 30 * MINUTE
    assert decide(turn=Turn(is_on=True, passed=False), now=late, since=since).act is Act.WAIT


EVENTS = st.lists(
    st.sampled_from(["tick", "killed after claim", "killed before run", "lease ends", "schedule", "well", "badly"]),
    max_size=25,
)


@settings(max_examples=300)
@given(EVENTS, st.booleans())
def test_whatever_is_killed_when_a_slot_runs_well_once_and_no_job_is_forgotten(
    events: list[str], schedule_on: bool
) -> None:
    """A model of daemon, runs and job; at the end everything goes on undisturbed and the job must come to its end."""
    model = Model(schedule_on)
    for event in events:
        model.now += MINUTE
        model.do(event)
    for _ in range(80):
        model.now += MINUTE
        model.do("tick")
        model.do("well")
    assert model.status == "completed"
    assert sum(r.ended is Ended.WELL for r in model.runs) == 1


class Model:
    """One job, its slot's runs and its schedule. Attempts are without number, so that it can always go on."""

    def __init__(self, schedule_on: bool) -> None:
        self.now = NOW
        self.schedule_on, self.schedule_passed = schedule_on, False
        self.runs: list[Run] = []
        self.keys: set[str] = set()
        self.status = "queued"
        self.held_since = NOW
        self.cursor: str | None = None

    def do(self, event: str) -> None:
        if event in ("tick", "killed after claim", "killed before run"):
            self.tick(event)
        elif event == "lease ends" and self.status == "held":
            self.status = "queued"
        elif event == "schedule" and self.schedule_on and not self.schedule_passed:
            self.schedule_passed = True
            if all(r.ended not in (None, Ended.WELL) for r in self.runs):
                self.start(SLOT.key + " by schedule")
        elif event in ("well", "badly"):
            ended = Ended.WELL if event == "well" else Ended.BADLY
            self.runs = [Run(r.id, ended, self.now) if r.ended is None else r for r in self.runs]

    def start(self, key: str) -> None:
        if key not in self.keys:  # what Dagster does with a run key
            self.keys.add(key)
            self.runs.append(Run(f"run {len(self.runs)}", None))
        assert sum(r.ended in (None, Ended.WELL) for r in self.runs) == 1, "Two runs of one slot."

    def tick(self, how: str) -> None:
        since, cursor = etl.looking_since(self.cursor, self.now)
        if self.status == "queued":
            self.status, self.held_since = "held", self.now
        if how == "killed after claim" or self.status != "held":
            return
        turn = Turn(self.schedule_on, self.schedule_passed)
        decision = etl.decide(SLOT, self.held_since, self.runs, turn, since, self.now)
        if decision.act is Act.COMPLETE:
            self.status = "completed"
        elif decision.act is Act.FAIL:
            self.status = "queued"
        if how == "killed before run":
            return
        self.cursor = cursor
        if decision.act is Act.REQUEST:
            self.start(decision.key)
            if self.schedule_on and not self.schedule_passed:
                assert self.now - SLOT.time >= etl.GRACE
