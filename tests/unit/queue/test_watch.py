"""What the dead-letter sensor concludes from a state, a cursor and the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from penguin_pipelines.lib.queue.watch import DeadLetters, decide_dead_letters

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letters(hours: float, queue: str = "email-sending", open: int = 1, newest: str = "n1") -> DeadLetters:
    return DeadLetters(queue, open, NOW - timedelta(hours=hours), newest, "SmtpError")


def test_an_empty_queue_is_skipped_and_passes() -> None:
    decision = decide_dead_letters([], None, NOW)
    assert (decision.report, decision.passed, decision.reason) == (False, True, "no open dead letters")


def test_young_dead_letters_are_skipped_with_number_age_and_limit() -> None:
    decision = decide_dead_letters([letters(5, open=3)], None, NOW)
    assert (decision.report, decision.passed) == (False, True)
    assert decision.reason == "3 open dead letters, oldest 5 h, below 24 h"


def test_an_overdue_dead_letter_is_reported_once() -> None:
    state = [letters(24), letters(1, "warmup:process")]
    first = decide_dead_letters(state, None, NOW)
    again = decide_dead_letters(state, first.cursor, NOW)
    assert (first.report, first.passed) == (True, False)
    assert first.reason == "2 open dead letters, oldest 24 h, at or above 24 h"
    assert (again.report, again.passed, again.cursor) == (False, False, first.cursor)
    assert again.reason.endswith("unchanged")


def test_another_dead_letter_in_an_overdue_queue_is_reported() -> None:
    cursor = decide_dead_letters([letters(30)], None, NOW).cursor
    assert decide_dead_letters([letters(30, open=2, newest="n2")], cursor, NOW).report
    assert decide_dead_letters([letters(30, newest="n2")], cursor, NOW).report


def test_the_end_of_the_last_overdue_one_is_reported() -> None:
    cursor = decide_dead_letters([letters(30)], None, NOW).cursor
    decision = decide_dead_letters([letters(2)], cursor, NOW)
    assert (decision.report, decision.passed) == (True, True)
    assert decision.reason == "1 open dead letter, oldest 2 h, none older than 24 h any more"
    assert not decide_dead_letters([letters(2)], decision.cursor, NOW).report


def test_the_order_of_the_queues_means_nothing() -> None:
    a, b = letters(30, "a"), letters(40, "b")
    cursor = decide_dead_letters([a, b], None, NOW).cursor
    assert not decide_dead_letters([b, a], cursor, NOW).report
