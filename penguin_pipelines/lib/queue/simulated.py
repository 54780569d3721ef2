"""A sender for demonstrations and tests: `email.send` that sends nothing and fails now and then, as providers do.

It also answers for addresses and servers, as a probe. Load it with `--handlers penguin_pipelines.lib.queue.simulated`;
the application's own handlers and probe take its place.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from penguin_pipelines.lib.queue import probes
from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.lib.queue.model import TerminalError, TransientError


class Send(BaseModel):
    """References to what is sent; the text itself is in Content."""

    model_config = ConfigDict(extra="ignore")

    message_id: UUID | str = Field(min_length=1)
    milliseconds: int = Field(0, ge=0, le=60_000)
    """How long the provider takes to answer."""
    defer_percent: float = Field(2, ge=0, le=100)
    bounce_percent: float = Field(0.5, ge=0, le=100)


@handler("email.send", Send)
def send(payload: Send, job: Context) -> Result:
    """Accepts, defers or bounces; the same message and attempt always meet the same fate."""
    time.sleep(payload.milliseconds / 1000)
    if _chance(f"{payload.message_id}") < payload.bounce_percent:
        raise TerminalError("The simulated provider refused the recipient for good (550).")
    if _chance(f"{payload.message_id}/{job.attempt}") < payload.defer_percent:
        raise TransientError("The simulated provider asks to try later (451).")
    return {"provider": "simulated", "provider_message_id": hashlib.sha256(str(job.id).encode()).hexdigest()[:24]}


def _chance(of: str) -> float:
    """A number from 0 to 100 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(of.encode()).digest()[:4]) / 2**32 * 100


class Answers:
    """A probe whose answers depend on the question alone: most addresses are well, one in eight is on a list."""

    def scores(self, address: str) -> Sequence[float]:
        return [60.0 + _number(address) % 40, 70.0 + _number(address) % 30]

    def listings(self, address: str) -> Mapping[str, str | None]:
        return {"dnsbl.sorbs.net": "simulated"} if _number(address) % 8 == 0 else {}

    def server(self, instance: str) -> probes.Server | None:
        return probes.Server("active", Decimal(8 + _number(instance) % 20))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


probes.use(Answers())
