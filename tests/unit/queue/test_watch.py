"""Rules of watching: from a state to findings, from findings to openings and closings. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penguin_pipelines.errors import SettingsError
from penguin_pipelines.lib.queue.alerts import Alert, plan
from penguin_pipelines.lib.queue.watch import (
    NAMES,
    Finding,
    QueueState,
    TableState,
    TierState,
    health_of,
    judge_all,
    load_rules,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = load_rules()
HOUR = 3600.0
BUSY = QueueState("email-sending", normal=50, oldest_seconds=20, mean_seconds=9, running=10, alive=10,
                  attempts=900, failed=4, ended=896, workers=2)  # fmt: skip
"""A queue that is as it should be."""


def findings(state: QueueState | TierState) -> dict[str, Finding]:
    tier = state if isinstance(state, TierState) else TierState([state])
    return {f.rule: f for f in judge_all(tier, RULES)}


def rules_of(**changes: object) -> set[str]:
    return set(findings(replace(BUSY, **changes)))  # type: ignore[arg-type]


def test_a_busy_queue_raises_nothing() -> None:
    assert findings(BUSY) == {}


def test_a_queue_that_stands_still_pages_however_short_it_is() -> None:
    standing = QueueState("email-sending", normal=3, oldest_seconds=301, mean_seconds=200, workers=1)
    found = findings(standing)
    assert set(found) == {"standing_still"}
    assert found["standing_still"].level == "page"
    assert found["standing_still"].message == "3 jobs due, the oldest for 5 min, none ended in 5 minutes"


def test_jobs_scheduled_for_tomorrow_raise_nothing() -> None:
    assert findings(QueueState("email-sending", delayed=20_000, workers=0)) == {}


def test_a_queue_whose_jobs_end_does_not_stand_still() -> None:
    assert "standing_still" not in rules_of(oldest_seconds=9_000, ended=1)


def test_long_jobs_that_are_alive_are_no_standstill() -> None:
    working = QueueState("email-sending", normal=3, oldest_seconds=900, running=2, alive=2, workers=1)
    assert "standing_still" not in findings(working)
    assert "standing_still" in findings(replace(working, alive=0))


def test_a_paused_queue_is_reported_as_paused_and_not_as_standing() -> None:
    stopped = QueueState("email-sending", is_active=False, normal=3, oldest_seconds=901, mean_seconds=901, workers=0)
    assert set(findings(stopped)) == {"paused"}
    assert findings(replace(stopped, oldest_seconds=899)) == {}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"normal": 1_001}, "high_pending_jobs"),
        ({"high": 101}, "high_pending_jobs"),
        ({"normal": 10_001}, "queue_backlog"),
        ({"normal": 1_500, "least_before": 1_200, "before_seconds": 600.0, "samples_before": 9}, "queue_backlog"),
        ({"mean_seconds": 301.0}, "slow_processing"),
        ({"failed": 50}, "high_error_rate"),
        ({"silent_workers": ["a"], "lost": 1}, "worker_offline"),
        ({"lost": 1}, "orphans"),
        ({"spent": 1}, "orphans"),
        ({"dead_open": 1, "dead_seconds": 24 * HOUR + 1}, "dead_letters"),
        ({"low": 1, "low_seconds": 4 * HOUR + 1}, "starvation"),
        ({"first_tenant": "t", "first_tenant_seconds": 901.0}, "tenant_starving"),
        ({"stranded": 1}, "redis_drift"),
        ({"hints": 9_999}, "redis_drift"),
    ],
)
def test_each_rule_is_broken_by_its_own_figure(changes: dict[str, object], rule: str) -> None:
    assert rule in rules_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"normal": 950, "high": 50},
        {"normal": 1_000, "least_before": 1_200, "before_seconds": 600.0, "samples_before": 9},
        {"mean_seconds": 300.0},
        {"attempts": 19, "failed": 19},
        {"attempts": 100, "failed": 5, "ended": 95},
        {"dead_open": 500, "dead_seconds": 24 * HOUR},
        {"low": 1, "low_seconds": 4 * HOUR},
        {"first_tenant": "t", "first_tenant_seconds": 9_000.0, "first_tenant_ended": 1},
        {"first_tenant": "t", "first_tenant_seconds": 9_000.0, "ended": 19},
        {"hints": 1_500},
    ],
)
def test_at_the_limit_nothing_is_reported(changes: dict[str, object]) -> None:
    assert rules_of(**changes) == set()


def test_a_backlog_that_was_shorter_a_moment_ago_is_no_lasting_one() -> None:
    young = {"normal": 1_500, "least_before": 400, "before_seconds": 600.0, "samples_before": 9}
    assert rules_of(**young) == {"high_pending_jobs"}
    assert rules_of(**young | {"least_before": 1_400, "before_seconds": 120.0}) == {"high_pending_jobs"}


def test_half_of_the_attempts_failing_pages() -> None:
    levels = {f.level for f in judge_all(TierState([replace(BUSY, failed=600)]), RULES)}
    assert levels == {"high", "page"}


def test_nobody_working_a_queue_with_due_jobs_is_reported_only_where_redis_can_say_so() -> None:
    waiting = QueueState("email-sending", normal=1, oldest_seconds=150, mean_seconds=150, workers=0)
    assert set(findings(waiting)) == {"worker_offline"}
    assert findings(replace(waiting, workers=None)) == {}
    assert findings(replace(waiting, normal=0, oldest_seconds=0)) == {}


def test_what_all_queues_share_belongs_to_none() -> None:
    tables = [TableState("jobs", 10_000, 90_000), TableState("job_logs", 900_000, 60_000)]
    found = findings(TierState([BUSY], tables, 901, "process 7 (report)", "Connection refused"))
    assert set(found) == {"dead_rows", "old_snapshot", "redis_drift"}
    assert {f.queue for f in found.values()} == {None}
    assert "table jobs has 90,000 dead rows" in found["dead_rows"].message
    assert "process 7 (report)" in found["old_snapshot"].message


def test_a_queue_may_have_limits_of_its_own() -> None:
    slow = replace(BUSY, queue="analytics-processing", mean_seconds=3_000)
    assert findings(slow) == {}
    assert set(findings(replace(slow, queue="email-sending"))) == {"slow_processing"}


def test_an_open_alert_stays_until_its_figure_is_well_below_the_limit() -> None:
    key = ("email-sending", "high_pending_jobs", "warning")
    falling = TierState([replace(BUSY, normal=900)])
    assert judge_all(falling, RULES) == []
    assert [f.key for f in judge_all(falling, RULES, frozenset([key]))] == [key]
    assert judge_all(TierState([replace(BUSY, normal=800)]), RULES, frozenset([key])) == []


def test_the_health_of_a_queue_is_its_worst_finding() -> None:
    found = judge_all(TierState([replace(BUSY, normal=10_001), replace(BUSY, queue="b", normal=1_001)]), RULES)
    assert [health_of(found, q) for q in ("email-sending", "b", "c")] == ["critical", "degraded", "healthy"]


# -- rules.yml -------------------------------------------------------------------------------------


def test_another_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text("every_queue: {pending: 5}\nqueues: {billing-sync: {pending: 7}}\n")
    changed = load_rules(path)
    assert changed.of("email-sending").pending == 5
    assert changed.of("warmup:process").pending == 5 and changed.of("warmup:process").mean_age_seconds == 900
    assert changed.of("billing-sync").pending == 7
    assert changed.of("email-sending").backlog == RULES.every_queue.backlog


@pytest.mark.parametrize(
    "text", ["every_queue: {pendin: 5}", "queues: {a: {pending: -1}}", "- 5", "{", "nothing: {a: 1}"]
)
def test_a_file_with_a_mistake_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{abs(hash(text))}.yml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=path.name):
        load_rules(path)


def test_every_rule_is_in_the_runbook() -> None:
    runbook = (Path(__file__).parents[3] / "docs/runbooks/queue-alerts.md").read_text()
    missing = [name for name in NAMES if f"## {name}\n" not in runbook]
    assert missing == []


# -- openings and closings -------------------------------------------------------------------------


def alert_of(finding: Finding, opened: datetime, told: datetime | None = None) -> Alert:
    return Alert(
        uuid4(), finding.queue, finding.rule, finding.level, finding.observed, finding.threshold, "", opened, told
    )


def finding(queue: str | None = "a", rule: str = "paused", level: str = "warning") -> Finding:
    return Finding(queue, rule, level, 2, 1, "")  # type: ignore[arg-type]


REPEAT = timedelta(hours=1)


def test_an_alert_opens_once_is_repeated_by_the_hour_and_closes() -> None:
    assert plan([], [finding()], NOW, REPEAT).opens == [finding()]
    young = alert_of(finding(), NOW - timedelta(minutes=59))
    assert plan([young], [finding()], NOW, REPEAT) == plan([], [], NOW, REPEAT)
    old = alert_of(finding(), NOW - timedelta(hours=5), NOW - timedelta(hours=1))
    assert plan([old], [finding()], NOW, REPEAT).reminds == [old]
    assert plan([old], [], NOW, REPEAT).closes == [old]


FINDINGS = st.lists(
    st.builds(
        finding,
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["paused", "orphans"]),
        st.sampled_from(["high", "page"]),
    ),
    unique_by=lambda f: f.key,
)


@given(st.lists(FINDINGS, max_size=8))
def test_after_every_look_exactly_what_was_found_is_open(looks: Iterable[list[Finding]]) -> None:
    is_open: list[Alert] = []
    now = NOW
    told = 0
    for found in looks:
        now += timedelta(seconds=30)
        todo = plan(is_open, found, now, REPEAT)
        told += len(todo.opens) + len(todo.reminds)
        assert not todo.reminds
        is_open = [a for a in is_open if a not in todo.closes] + [alert_of(f, now) for f in todo.opens]
        assert sorted(map(str, (a.key for a in is_open))) == sorted(map(str, (f.key for f in found)))
        again = plan(is_open, found, now, REPEAT)
        assert not (again.opens or again.closes or again.reminds)
