"""Jobs as they are asked for, how failures count, and the registry of handlers."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from penguin_pipelines.errors import ConnectionFailed, PenguinError, UnknownName
from penguin_pipelines.lib.queue import handlers, simulated
from penguin_pipelines.lib.queue.hints import keys
from penguin_pipelines.lib.queue.model import (
    NewJob,
    TerminalError,
    TransientError,
    checked,
    clean,
    failure_of,
    lane,
    new_id,
)


class Payload(BaseModel):
    n: int


def context(type_: str = "x", **more: Any) -> handlers.Context:
    given: dict[str, Any] = {"id": uuid4(), "queue": "q", "type": type_, "tenant_id": None, "user_id": None}
    given |= {"correlation_id": None, "attempt": 1, "max_attempts": 3, "connections": handlers.Connections({})}
    return handlers.Context(**given | {"report": lambda *_: None} | more)


@pytest.mark.parametrize(("priority", "number"), [(1, 1), (50, 1), (51, 2), (150, 2), (151, 3), (1000, 3)])
def test_lanes_are_cut_at_50_and_150(priority: int, number: int) -> None:
    assert lane(priority) == number


def test_hint_lists_are_named_as_the_dictionary_says() -> None:
    assert keys("bounce:process") == ["queue:bounce:process:high", "queue:bounce:process", "queue:bounce:process:low"]


def test_ids_are_version_7_and_grow_with_time() -> None:
    first = new_id()
    time.sleep(0.002)
    second = new_id()
    assert (first.version, first.variant) == (7, uuid4().variant)
    assert first < second
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_keys_of_tenants_are_their_own() -> None:
    tenant = UUID(int=7)
    assert NewJob("q", "t", {}, key="k").stored_key == "k"
    assert NewJob("q", "t", {}, key="k", tenant_id=tenant).stored_key == f"{tenant}:k"
    assert NewJob("q", "t", {}, tenant_id=tenant).stored_key is None


def test_a_payload_may_hold_ids() -> None:
    assert json.loads(checked(NewJob("q", "t", {"id": UUID(int=1)}))) == {"id": str(UUID(int=1))}


@pytest.mark.parametrize(
    ("error", "class_", "terminal"),
    [
        (TerminalError("no"), "TerminalError", True),
        (TransientError("later"), "TransientError", False),
        (ConnectionFailed("gone"), "ConnectionFailed", False),
        (UnknownName("what"), "UnknownName", True),
        (RuntimeError("odd"), "RuntimeError", False),
        (SystemExit(3), "SystemExit", False),
        (MemoryError(), "MemoryError", False),
    ],
)
def test_terminal_and_transient_errors_are_told_apart(error: BaseException, class_: str, terminal: bool) -> None:
    failure = failure_of(error)
    assert (failure.error_class, failure.terminal) == (class_, terminal)
    assert failure.message


@given(st.text())
def test_messages_are_made_fit_for_the_table(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned
    assert len(cleaned) <= 2_000
    cleaned.encode()


def test_a_handler_gets_its_payload_typed_and_gives_json() -> None:
    @handlers.handler("unit.typed", Payload)
    def typed(payload: Payload, job: handlers.Context) -> handlers.Result:
        return {"n": payload.n + 1}

    assert handlers.call("unit.typed", '{"n": 1}', context()) == '{"n": 2}'
    with pytest.raises(handlers.UnknownJobType, match="--handlers"):
        handlers.call("unit.unknown", "{}", context())
    with pytest.raises(ValidationError) as wrong:
        handlers.call("unit.typed", '{"n": "secret text"}', context())
    assert failure_of(wrong.value).terminal
    assert "secret" not in failure_of(wrong.value).message


def test_a_job_type_has_one_handler() -> None:
    def first(payload: Payload, job: handlers.Context) -> handlers.Result: ...

    def second(payload: Payload, job: handlers.Context) -> handlers.Result: ...

    handlers.handler("unit.once", Payload)(first)
    handlers.handler("unit.once", Payload)(first)
    with pytest.raises(PenguinError, match="two handlers"):
        handlers.handler("unit.once", Payload)(second)


def test_a_result_that_is_not_json_is_terminal() -> None:
    @handlers.handler("unit.result", Payload)
    def result(payload: Payload, job: handlers.Context) -> handlers.Result:
        return {"n": float("inf")}

    with pytest.raises(TerminalError, match="not JSON"):
        handlers.call("unit.result", '{"n": 1}', context())


def test_the_simulated_sender_accepts_defers_and_bounces_the_same_way_each_time() -> None:
    def fate(message: int, **chances: float) -> str:
        try:
            simulated.send(simulated.Send(message_id=str(message), **chances), context())  # type: ignore[arg-type]
        except PenguinError as e:
            return type(e).__name__
        return "accepted"

    fates = [fate(n, defer_percent=30, bounce_percent=30) for n in range(200)]
    assert fates == [fate(n, defer_percent=30, bounce_percent=30) for n in range(200)]
    assert set(fates) == {"accepted", "TransientError", "TerminalError"}
    assert {fate(n, defer_percent=0, bounce_percent=0) for n in range(50)} == {"accepted"}
