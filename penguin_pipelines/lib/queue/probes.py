"""What only somebody outside can tell of our servers and addresses, as an interface that the installation fills.

    class Ours(Probe): ...

    use(Ours())

in a module that the worker loads with `--handlers`. Not here: what is done with the answers (builtin), and the probe
of demonstrations (simulated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from penguin_pipelines.lib.queue.model import TerminalError


@dataclass(frozen=True)
class Server:
    """What the provider says of a server; the cost is in dollars a month."""

    status: Literal["provisioning", "active", "scheduled_decommission", "decommissioned"]
    monthly_cost: Decimal


class Probe(Protocol):
    """Questions to providers and lists. Any exception is a failed attempt, which is tried again."""

    def scores(self, address: str) -> Sequence[float]:
        """Reputation of a sending address by each provider that knows it, from 0 to 100."""
        ...

    def listings(self, address: str) -> Mapping[str, str | None]:
        """Blacklists that name an address now, each with its reason."""
        ...

    def server(self, instance: str) -> Server | None:
        """A server by the provider's id of it; None when the provider does not know it."""
        ...


_used: Probe | None = None


def use(probe: Probe | None) -> None:
    """The probe of this process from now on."""
    global _used
    _used = probe


def current() -> Probe | None:
    """The probe that is used, if any."""
    return _used


def required() -> Probe:
    """The same for jobs that are nothing without one. Raises TerminalError."""
    if _used is None:
        raise TerminalError(
            "No probe answers for addresses and servers; load a module that calls probes.use(...) with --handlers."
        )
    return _used
