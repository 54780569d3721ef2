"""Claims jobs in a thread of its own, so that children are fed while the database works; knows which queue to ask when.

One round at a time: the worker asks for as many jobs as it has room for and fetches them when it is woken. Not here:
the statement (store), how much room there is (worker).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

from penguin_pipelines.lib.queue.hints import Hints
from penguin_pipelines.lib.queue.model import Leased, utc_now
from penguin_pipelines.lib.queue.store import Store, Turn

_STALE = 1_000


class Claimer:
    """Rounds of claims over some queues."""

    def __init__(
        self, store: Store, hints: Hints, queues: Sequence[str], *, poll: float, per_minute: int | None, few: int
    ) -> None:
        self._store = store
        self._queues = deque(queues)
        self._poll = poll
        self._per_minute = per_minute
        self._few = few
        self._rates = _Rates(hints)
        self._turns = {queue: Turn() for queue in queues}
        self._asked = dict.fromkeys(queues, 0.0)
        self._hinted: deque[str] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="claims")
        self._round: Future[list[Leased]] | None = None
        self._forced = False
        self.hints_to_take = few
        self.found_nothing = False
        """Whether a round over every queue, made for that purpose, came back empty."""

    def hint(self, queue: str) -> None:
        """Ask this queue in the next round."""
        if queue in self._turns:
            self._hinted.append(queue)

    @property
    def busy(self) -> bool:
        """Whether a round is under way or waits to be fetched."""
        return self._round is not None

    def next_poll(self) -> float:
        """When some queue is due to be asked, on the monotonic clock."""
        return 0.0 if self._hinted else min(self._asked.values()) + self._poll

    def ask(self, room: int, done: Callable[[], None], *, force: bool = False) -> None:
        """Begins a round if none is under way and some queue is due, or all of them with `force`."""
        if self._round is None and room > 0 and (force or time.monotonic() >= self.next_poll()):
            self._forced = force
            self._round = self._thread.submit(self._claim, room, force)
            self._round.add_done_callback(lambda _: done())

    def fetch(self) -> list[Leased]:
        """What the round brought, if it has ended. Raises what it raised."""
        if self._round is None or not self._round.done():
            return []
        ended, self._round = self._round, None
        jobs = ended.result()
        self.found_nothing = self._forced and not jobs
        return jobs

    def close(self) -> list[Leased]:
        """Waits for the round under way; gives its jobs."""
        self._thread.shutdown(wait=True)
        self._store.close()
        return self.fetch()

    def _claim(self, room: int, force: bool) -> list[Leased]:
        """From queues that a hint named, that had more last time, or whose poll is due."""
        found: list[Leased] = []
        while self._hinted:
            self._asked[self._hinted.popleft()] = 0.0
        now = time.monotonic()
        for queue in list(self._queues):
            if len(found) >= room:
                break
            if force or now >= self._asked[queue] + self._poll:
                jobs = self._store.claim(queue, room - len(found), self._turns[queue])
                self._asked[queue] = 0.0 if jobs else now
                # Hints of jobs that others or a poll have found are many after a bulk: take them away faster.
                self.hints_to_take = self._few if jobs else _STALE
                found += self._within_rate(queue, jobs)
        # The first queue asked is the first served: the next round begins with another one.
        self._queues.rotate(-1)
        return found

    def _within_rate(self, queue: str, jobs: list[Leased]) -> list[Leased]:
        """Gives jobs over their tenant's rate back until the next minute, without counting an attempt."""
        if self._per_minute is None or not jobs:
            return jobs
        turn, now = self._turns[queue], utc_now()
        kept, over = self._rates.split(queue, jobs, self._per_minute, now)
        until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        turn.barred = {t: u for t, u in turn.barred.items() if u > now}
        turn.barred |= {j.tenant_id: until for j in over if j.tenant_id}
        self._store.release(over, [until] * len(over))
        return kept


class _Rates:
    """Jobs per tenant and minute, counted in Redis for all workers, and here when Redis does not answer."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._own: dict[tuple[UUID, str, int], int] = {}

    def split(self, queue: str, jobs: Sequence[Leased], limit: int, now: datetime) -> tuple[list[Leased], list[Leased]]:
        """Jobs within the limit, and those over it. The platform's own jobs have none."""
        window = int(now.timestamp() // 60)
        self._own = {key: count for key, count in self._own.items() if key[2] == window}
        kept = [job for job in jobs if job.tenant_id is None]
        over: list[Leased] = []
        by_tenant: dict[UUID, list[Leased]] = {}
        for job in jobs:
            if job.tenant_id is not None:
                by_tenant.setdefault(job.tenant_id, []).append(job)
        for tenant, theirs in by_tenant.items():
            own = self._own[tenant, queue, window] = self._own.get((tenant, queue, window), 0) + len(theirs)
            total = self._hints.count(tenant, queue, window, len(theirs), 60)
            free = max(0, len(theirs) - max(0, (own if total is None else total) - limit))
            kept += theirs[:free]
            over += theirs[free:]
        return kept, over
