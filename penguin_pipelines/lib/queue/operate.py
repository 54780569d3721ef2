"""What people do with queues and jobs: look, pause, resume, bring forward, cancel, replay.

Each function is one transaction on a connection that may act for all tenants (pm_worker or pm_staff).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib.queue.model import new_id
from penguin_pipelines.lib.queue.producer import Enqueued
from penguin_pipelines.lib.sql import blocks


class UnknownJob(PenguinError):
    """There is no such job or dead letter, or it is past what was asked."""


def _ask(connection: psycopg.Connection, block: str, **values: Any) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(blocks("queue")[block], values).fetchall()


def _known(connection: psycopg.Connection, queue: str | None) -> None:
    (row,) = _ask(connection, "unknown_queues", queues=[queue] if queue else [])
    if row["unknown"]:
        raise UnknownName.of("queue", row["unknown"][0], row["known"])


def stats(connection: psycopg.Connection, queue: str | None = None) -> list[dict[str, Any]]:
    """State of every queue, or of one."""
    _known(connection, queue)
    return _ask(connection, "stats", queue=queue)


def set_active(connection: psycopg.Connection, queue: str, active: bool) -> None:
    """Resumes or pauses a queue. What runs goes on; nothing new is claimed."""
    _known(connection, queue)
    _ask(connection, "set_active", queue=queue, active=active)


def retry(connection: psycopg.Connection, job: UUID) -> Enqueued:
    """A waiting job becomes due now; a failed one is replayed."""
    found = _job(connection, job)
    if found["status"] == "failed":
        return replay(connection, job)
    moved = _ask(connection, "run_now", id=job)
    if not moved:
        raise UnknownJob(f"Job {job} is {found['status']}; only waiting and failed jobs can be retried.")
    return Enqueued(job, moved[0]["queue_name"], moved[0]["priority"], True, True)


def cancel(connection: psycopg.Connection, job: UUID) -> None:
    """Takes back a job that has not begun."""
    found = _job(connection, job)
    if not _ask(connection, "cancel", id=job):
        raise UnknownJob(f"Job {job} is {found['status']}; only jobs that wait can be cancelled.")


def _job(connection: psycopg.Connection, job: UUID) -> dict[str, Any]:
    found = _ask(connection, "job", id=job)
    if not found:
        raise UnknownJob(f"There is no job {job}; ended jobs are deleted after their retention.")
    return found[0]


def dead_letters(
    connection: psycopg.Connection, queue: str | None = None, *, resolved: bool = False, limit: int = 50
) -> list[dict[str, Any]]:
    """Dead letters, newest first; with `resolved` also those that somebody has dealt with."""
    _known(connection, queue)
    return _ask(connection, "dead_letters", queue=queue, all=resolved, limit=limit)


def replay(connection: psycopg.Connection, letter: UUID) -> Enqueued:
    """A new job for a dead letter, named by its own id or its job's. The same letter gives the same job again."""
    found = _ask(connection, "dead_letter", id=letter)
    if not found:
        raise UnknownJob(f"There is no dead letter {letter}; list them with: penguin queue dead list")
    if found[0]["replay_job_id"] is not None:
        made = _ask(connection, "job", id=found[0]["replay_job_id"])
        if not made:
            raise UnknownJob(
                f"Dead letter {letter} was replayed as job {found[0]['replay_job_id']}, which has been purged."
            )
        return Enqueued(made[0]["id"], made[0]["queue_name"], made[0]["priority"], False, made[0]["due"])
    (row,) = _ask(connection, "replay", id=found[0]["id"], job=new_id())
    return Enqueued(row["id"], row["queue_name"], row["priority"], True, True)
