"""Handlers that the workers of these tests load: effects that can be counted, and every way to go wrong."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.lib.queue.model import TerminalError


class Anything(BaseModel):
    n: int = 0
    seconds: float = 0.0


@handler("noop", Anything)
def noop(payload: Anything, job: Context) -> Result:
    return None


@handler("effect", Anything)
def effect(payload: Anything, job: Context) -> Result:
    """Leaves a row, so that a test sees who ran how often and in which tenant's context."""
    time.sleep(payload.seconds)
    with job.transaction("queue") as connection:
        connection.execute(
            "insert into effects (job_id, n, attempt, tenant) "
            "values (%s, %s, %s, current_setting('app.current_tenant_id', true))",
            [job.id, payload.n, job.attempt],
        )
    return {"n": payload.n}


@handler("raise", Anything)
def raising(payload: Anything, job: Context) -> Result:
    raise RuntimeError(f"poison {payload.n}")


@handler("raise.terminal", Anything)
def raising_for_good(payload: Anything, job: Context) -> Result:
    raise TerminalError("the recipient is suppressed")


@handler("raise.ours", Anything)
def raising_ours(payload: Anything, job: Context) -> Result:
    raise PenguinError("a terminal error of the platform")


@handler("exit", Anything)
def exiting(payload: Anything, job: Context) -> Result:
    os._exit(3)


@handler("result.nul", Anything)
def storing_what_postgres_does_not(payload: Anything, job: Context) -> Result:
    return {"text": "a\0b"}


@handler("sleep", Anything)
def sleeping(payload: Anything, job: Context) -> Result:
    job.progress(40, "asleep")
    time.sleep(payload.seconds)
    return None
