"""Redis lists that wake workers. Every call may fail or forget: a hint is worth the time until the next poll, no more.

Lists `queue:<queue>:high`, `queue:<queue>` and `queue:<queue>:low` hold ids of jobs, pushed left after commit and
popped right. `rate:<tenant>:<queue>:<window>` counts jobs for the rate limit. Which jobs run is decided in Postgres
alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from penguin_pipelines.lib.queue.model import HIGH, LOW, NORMAL, lane

log = logging.getLogger(__name__)

LONGEST_LIST = 10_000
"""More hints than this wake nobody sooner; a list that no worker empties must not fill the memory. It is cut to this
when it is a thousand over."""
_SUFFIX = {HIGH: ":high", NORMAL: "", LOW: ":low"}
_PAUSE = 1.0
_AT_ONCE = 1_000


class Hint(NamedTuple):
    """That a job is due."""

    queue: str
    priority: int
    id: UUID


def keys(queue: str) -> list[str]:
    """Lists of a queue, high lane first."""
    return [f"queue:{queue}{_SUFFIX[number]}" for number in (HIGH, NORMAL, LOW)]


class Hints:
    """The hint lists of one Redis. After a failure nothing is tried for a second, so that enqueueing stays quick."""

    def __init__(self, url: str | None) -> None:
        self._client = None
        self._resume = 0.0
        if url is not None:
            self._client = redis.Redis.from_url(
                url, socket_timeout=5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
            )

    @property
    def usable(self) -> bool:
        return self._client is not None and time.monotonic() >= self._resume

    def _failed(self, error: redis.RedisError) -> None:
        if self._resume == 0.0 or time.monotonic() > self._resume + 60:
            log.warning("Redis does not answer (%s); workers find jobs by polling.", error)
        self._resume = time.monotonic() + _PAUSE

    def push(self, hints: Iterable[Hint]) -> bool:
        """Tells workers of due jobs; False when Redis did not take it."""
        lists: dict[str, list[str]] = {}
        for queue, priority, id_ in hints:
            ids = lists.setdefault(f"queue:{queue}{_SUFFIX[lane(priority)]}", [])
            if len(ids) < _AT_ONCE:
                ids.append(str(id_))
        if not lists:
            return True
        if not self.usable or self._client is None:
            return False
        try:
            for key, ids in lists.items():
                if cast("int", self._client.lpush(key, *ids)) > LONGEST_LIST + _AT_ONCE:
                    self._client.ltrim(key, 0, LONGEST_LIST - 1)
        except redis.RedisError as e:
            self._failed(e)
            return False
        return True

    def wait(self, queues: Sequence[str], seconds: float, at_most: int) -> str | None:
        """Waits for a hint and gives its queue; takes up to `at_most` hints of that list, the rest wake others."""
        if not self.usable or self._client is None:
            return None
        lanes = zip(*(keys(queue) for queue in queues), strict=True)
        try:
            popped = cast("Any", self._client.brpop([key for of_lane in lanes for key in of_lane], timeout=seconds))
            if popped is None:
                return None
            key = popped[0].decode()
            if at_most > 1:
                self._client.rpop(key, at_most - 1)
        except redis.RedisError as e:
            self._failed(e)
            return None
        name = key.removeprefix("queue:")
        return name if name in queues else name.rsplit(":", 1)[0]

    def count(self, tenant: UUID, queue: str, window: int, jobs: int, seconds: int) -> int | None:
        """Adds jobs to a tenant's counter of a window and gives its value; None when Redis does not answer."""
        if not self.usable or self._client is None:
            return None
        try:
            key = f"rate:{tenant}:{queue}:{window}"
            with self._client.pipeline() as pipe:
                pipe.incrby(key, jobs)
                pipe.expire(key, 2 * seconds)
                return cast("int", pipe.execute()[0])
        except redis.RedisError as e:
            self._failed(e)
            return None

    def alive(self, worker: str, queues: Sequence[str], held: int) -> None:
        """Shows that a worker lives: `worker:<id>` for two minutes, with its queues and how many jobs it holds."""
        if not self.usable or self._client is None:
            return
        try:
            with self._client.pipeline() as pipe:
                pipe.hset(
                    f"worker:{worker}", mapping={"queues": ",".join(queues), "held": held, "seen": int(time.time())}
                )
                pipe.expire(f"worker:{worker}", 120)
                pipe.execute()
        except redis.RedisError as e:
            self._failed(e)

    def depth(self, queue: str) -> int | None:
        """Hints that wait in the lists of a queue; None when Redis does not answer."""
        if not self.usable or self._client is None:
            return None
        try:
            return sum(cast("int", self._client.llen(key)) for key in keys(queue))
        except redis.RedisError as e:
            self._failed(e)
            return None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
