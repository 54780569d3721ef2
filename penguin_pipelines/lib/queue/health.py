"""One bounded look at the queue tier: what every rule is judged by, and what is kept as the sample of a minute.

Three statements under one time limit, and a few counters of Redis. Not here: judging (watch), recording alerts
(alerts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import psycopg
import redis
from psycopg.rows import class_row, dict_row
from redis.backoff import NoBackoff
from redis.retry import Retry

from penguin_pipelines.errors import mask
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue import hints
from penguin_pipelines.lib.queue.watch import MOST, Finding, Rules, TableState, TierState, as_state, health_of
from penguin_pipelines.lib.sql import blocks

_WORKERS = 1_000
"""Keys of workers that one look reads at most."""


def look(url: str, redis_url: str | None, rules: Rules) -> TierState:
    """The state of the tier now, read as pm_loader. An unreadable tier raises: it must not look like an empty one."""
    silence = min(limits.silent_worker_seconds for limits in (rules.every_queue, *rules.queues.values()))
    with db.connect(url, "queue", role="pm_loader") as connection:
        connection.execute(blocks("watch")["bound"])
        values = {"most": MOST, "silence": silence}
        rows = connection.cursor(row_factory=dict_row).execute(blocks("watch")["sample"], values).fetchall()
        tables = connection.cursor(row_factory=class_row(TableState)).execute(blocks("watch")["tables"], {}).fetchall()
        held = connection.execute(blocks("watch")["horizon"], {}).fetchone()
    names = [row["queue"] for row in rows]
    depths, workers, trouble = _redis(redis_url, names)
    queues = [as_state(row, depths.get(row["queue"]), workers.get(row["queue"])) for row in rows]
    seconds, who = held or (0.0, "")
    return TierState(queues, tables, seconds, who, trouble)


def _redis(url: str | None, queues: Sequence[str]) -> tuple[dict[str, int], dict[str, int], str | None]:
    """Hints and known workers by queue, and why Redis does not answer; empty without Redis."""
    if url is None:
        return {}, {}, None
    client = redis.Redis.from_url(
        url, socket_timeout=3, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), decode_responses=True
    )
    try:
        with client.pipeline(transaction=False) as pipe:
            for queue in queues:
                for key in hints.keys(queue):
                    pipe.llen(key)
            lengths = cast("list[int]", pipe.execute())
        lanes = len(hints.keys(""))
        depths = {queue: sum(lengths[at * lanes : (at + 1) * lanes]) for at, queue in enumerate(queues)}
        keys = [key for _, key in zip(range(_WORKERS), client.scan_iter("worker:*", count=1_000), strict=False)]
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "queues")
            works = [set((names or "").split(",")) for names in cast("list[str | None]", pipe.execute())]
        return depths, {queue: sum(queue in names for names in works) for queue in queues}, None
    except redis.RedisError as e:
        return {}, {}, mask(str(e))
    finally:
        client.close()


def record(connection: psycopg.Connection, state: TierState, findings: Sequence[Finding]) -> int:
    """Keeps the sample of this minute in the caller's transaction; gives how many queues had none yet."""
    queues = state.queues
    values = {
        "queues": [q.queue for q in queues],
        "waiting": [q.waiting for q in queues],
        "hints": [q.hints or 0 for q in queues],
        "running": [q.running for q in queues],
        "failed": [q.failed_24h for q in queues],
        "dead": [q.dead_open for q in queues],
        "oldest": [min(int(q.oldest_seconds), 2**31 - 1) for q in queues],
        "health": [health_of(findings, q.queue) for q in queues],
        "alerts": [sum(f.queue == q.queue for f in findings) for q in queues],
        "details": [json.dumps(_details(q)) for q in queues],
    }
    made = len(connection.execute(blocks("watch")["record_sample"], values).fetchall())
    if made:
        connection.execute(blocks("watch")["purge_samples"])
    return made


def _details(q: Any) -> Mapping[str, Any]:
    return {
        "lanes": {"high": q.high, "normal": q.normal, "low": q.low},
        "delayed": q.delayed,
        "attempts_5m": q.attempts,
        "failed_5m": q.failed,
        "ended_5m": q.ended,
        "workers": q.workers,
    }
