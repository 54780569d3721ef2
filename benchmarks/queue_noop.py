"""What the contenders of `benchmarks.queue` run: nothing. In a module of its own because workers import it by name."""

from __future__ import annotations

from pydantic import BaseModel

from penguin_pipelines.lib.queue.handlers import Context, Result, handler


class Nothing(BaseModel):
    n: int = 0


@handler("bench.noop", Nothing)
def noop(payload: Nothing, job: Context) -> Result:
    """For our workers."""
    return None


def nothing(n: int) -> None:
    """For workers of rq."""
