"""The dead-letter sensor on an ephemeral instance; the queue is a stub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from penguin_pipelines.defs.dead_letters import CHECK, dead_letters
from penguin_pipelines.errors import ConnectionFailed
from penguin_pipelines.lib.queue.watch import DeadLetters
from penguin_pipelines.resources import TierResource

STATE: list[DeadLetters] = []


class Cursor:
    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, query: str) -> Cursor:
        return self

    def fetchall(self) -> list[DeadLetters]:
        return list(STATE)


class Connection:
    def cursor(self, **_: Any) -> Cursor:
        return Cursor()


class Queue(TierResource):
    """A queue tier whose state the test sets."""

    tier: str = "queue"
    fails: bool = False

    @contextlib.contextmanager
    def connect(self, role: str) -> Iterator[Any]:
        if self.fails:
            raise ConnectionFailed("Tier 'queue' cannot be reached.")
        yield Connection()


@pytest.fixture
def tick(definitions: dg.Definitions) -> Iterator[Callable[..., dg.SensorResult]]:
    with dg.DagsterInstance.ephemeral() as instance:

        def run(cursor: str | None = None, fails: bool = False) -> Any:
            context = dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                definitions=definitions,
                resources={"queue": Queue(fails=fails)},
            )
            return dead_letters.evaluate_tick(context)

        yield run
    STATE.clear()


def overdue(newest: str = "n1") -> DeadLetters:
    return DeadLetters("email-sending", 2, datetime.now(UTC) - timedelta(hours=30), newest, "SmtpError")


def test_an_overdue_dead_letter_is_observed_and_fails_the_check(tick: Callable[..., Any]) -> None:
    STATE[:] = [overdue()]
    result = tick()
    assert result.skip_message == "2 open dead letters, oldest 30 h, at or above 24 h"
    observation, evaluation = result.asset_events
    assert observation.asset_key == dg.AssetKey(["queue", "dead_letter_jobs"])
    (record,) = observation.metadata["dead letters"].records
    assert record.data["queue"] == "email-sending" and record.data["last error"] == "SmtpError"
    assert (evaluation.check_name, evaluation.passed) == (CHECK, False)
    assert evaluation.severity == dg.AssetCheckSeverity.WARN


def test_an_unchanged_state_is_skipped_and_keeps_the_cursor(tick: Callable[..., Any]) -> None:
    STATE[:] = [overdue()]
    cursor = tick().cursor
    again = tick(cursor)
    assert not again.asset_events and again.cursor == cursor
    assert again.skip_message == "2 open dead letters, oldest 30 h, unchanged"


def test_an_empty_queue_is_skipped_with_its_reason(tick: Callable[..., Any]) -> None:
    assert tick().skip_message == "no open dead letters"


def test_a_failed_read_is_a_failed_tick_and_not_an_empty_queue(tick: Callable[..., Any]) -> None:
    with pytest.raises(Exception) as raised:
        tick(fails=True)
    assert "cannot be reached" in str(raised.value.__cause__ or raised.value)


def test_the_check_that_the_sensor_evaluates_exists(graph: dg.AssetGraph) -> None:
    assert dg.AssetCheckKey(dg.AssetKey(["queue", "dead_letter_jobs"]), CHECK) in graph.asset_check_keys
