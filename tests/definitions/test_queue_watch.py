"""The sensor that watches and its checks, on a real queue; what they conclude is tested without Dagster."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from servers import Databases

from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.watch import NAMES
from penguin_pipelines.resources import TierResource

JOBS = dg.AssetKey(["queue", "jobs"])
STANDING = (
    "insert into jobs (queue_name, job_type, payload, run) "
    "values ('email-sending', 'x', '{}', now() - interval '1 hour')"
)


@pytest.fixture
def queue(settings_env: dict[str, str], tiers: Databases) -> Any:
    with db.connect(tiers["queue"], "queue", autocommit=True) as connection:
        yield connection


@pytest.fixture
def tick(definitions: dg.Definitions, queue: Any) -> Callable[..., Any]:
    from penguin_pipelines.defs.queue_watch import queue_watch

    def run(cursor: str | None = None) -> Any:
        resources: Any = {"queue": TierResource(tier="queue")}
        with dg.build_sensor_context(cursor=cursor, definitions=definitions, resources=resources) as context:
            return queue_watch.evaluate_tick(context)

    return run


def failed(result: Any) -> dict[str, Any]:
    return {e.check_name: e for e in result.asset_events if not e.passed}


def test_the_first_tick_evaluates_every_rule_and_the_next_ones_what_changed(
    tick: Callable[..., Any], queue: Any
) -> None:
    first = tick()
    assert {e.check_name for e in first.asset_events} == set(NAMES) and not failed(first)
    assert first.skip_message == "0 due jobs, 0 alerts open" and first.cursor == "{}"
    assert tick(first.cursor).asset_events == []
    queue.execute(STANDING)
    standing = tick(first.cursor)
    assert "standing_still" in failed(standing) and failed(standing)["standing_still"].asset_key == JOBS
    assert "opened email-sending standing_still (page): 1 job due" in standing.skip_message
    assert tick(standing.cursor).asset_events == []
    queue.execute("update jobs set status = 'cancelled'")
    over = tick(standing.cursor)
    assert "closed email-sending standing_still" in over.skip_message
    assert {e.check_name: e.passed for e in over.asset_events}["standing_still"]


def test_a_tick_that_the_daemon_did_not_store_tells_the_ui_again_and_opens_nothing_again(
    tick: Callable[..., Any], queue: Any
) -> None:
    cursor = tick().cursor
    queue.execute(STANDING)
    assert set(failed(tick(cursor))) == set(failed(tick(cursor)))
    assert queue.execute("select count(*) from queue_alerts where rule = 'standing_still'").fetchone() == (1,)


def test_a_failed_look_is_a_failed_tick(tick: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENGUIN_QUEUE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Exception) as raised:
        tick()
    assert "cannot be reached" in str(raised.value.__cause__ or raised.value)


def test_the_checks_are_the_rules_and_need_no_sensor(definitions: dg.Definitions, queue: Any) -> None:
    from penguin_pipelines.defs.queue_watch import queue_rules

    known = {key for key in definitions.get_repository_def().asset_graph.asset_check_keys if key.name in NAMES}
    assert {key.name for key in known} == set(NAMES)
    queue.execute(STANDING)
    job = dg.Definitions(
        asset_checks=[queue_rules],
        jobs=[dg.define_asset_job("rules", selection=dg.AssetSelection.checks(queue_rules))],
        resources={"queue": TierResource(tier="queue")},
        executor=dg.in_process_executor,
    ).resolve_job_def("rules")
    result = job.execute_in_process()
    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(evaluations) == set(NAMES)
    assert not evaluations["standing_still"].passed and evaluations["orphans"].passed
    assert evaluations["standing_still"].severity == dg.AssetCheckSeverity.ERROR
    assert queue.execute("select count(*) from queue_alerts").fetchone() == (0,)


def test_notifications_say_when_there_is_nowhere_to_send_them(definitions: dg.Definitions, queue: Any) -> None:
    from penguin_pipelines.defs.alert_notifications import alert_notifications

    with dg.build_sensor_context(definitions=definitions, resources={"queue": TierResource(tier="queue")}) as context:
        assert "No channel is configured" in (alert_notifications.evaluate_tick(context).skip_message or "")


def test_a_receiver_that_is_away_fails_no_tick_and_its_secret_is_kept(
    definitions: dg.Definitions, tick: Callable[..., Any], queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penguin_pipelines.defs.alert_notifications import alert_notifications

    monkeypatch.setenv("PENGUIN_ALERT_WEBHOOK_URL", "http://127.0.0.1:1/hooks/very-secret")
    queue.execute(STANDING)
    tick()
    with dg.build_sensor_context(definitions=definitions, resources={"queue": TierResource(tier="queue")}) as context:
        said = alert_notifications.evaluate_tick(context).skip_message or ""
    assert "webhook: 0 delivered" in said and "cannot be reached" in said and "secret" not in json.dumps(said)
