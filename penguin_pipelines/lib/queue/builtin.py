"""Handlers of the platform's own work: upkeep of the queue, reputation and servers, expiry of content.

The application brings its own (docs/queue.md). Not here: what only somebody outside can tell (probes), and analytics
jobs, which become Dagster runs or are run by analytics_worker.py.
"""

from __future__ import annotations

from statistics import fmean
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from penguin_pipelines.lib import dbt
from penguin_pipelines.lib.queue import probes
from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.lib.sql import blocks

_AT_ONCE = 5_000


class Cleanup(BaseModel):
    """Retention of ended jobs and of their log lines; failed jobs stay for a year."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(7, ge=1)
    log_days: int = Field(30, ge=1)
    error_log_days: int = Field(90, ge=1)


class Partitions(BaseModel):
    """Tiers whose partitions are extended."""

    model_config = ConfigDict(extra="forbid")

    tiers: list[Literal["oltp", "content", "queue", "olap"]] = ["queue"]


@handler("maintenance.cleanup", Cleanup)
def cleanup(payload: Cleanup, job: Context) -> Result:
    """Deletes what is past its retention, in transactions short enough to hold nobody up."""
    limits = {"days": payload.days, "limit": _AT_ONCE}
    log_limits = {"days": payload.log_days, "error_days": payload.error_log_days, "limit": _AT_ONCE}
    jobs = _purge("purge_jobs", limits, job)
    job.progress(50, f"{jobs} jobs deleted")
    return {"jobs": jobs, "logs": _purge("purge_logs", log_limits, job)}


def _purge(block: str, limits: dict[str, int], job: Context) -> int:
    total = 0
    while True:
        with job.transaction("queue") as connection:
            gone = len(connection.execute(blocks("queue")[block], limits).fetchall())
        total += gone
        if gone < limits["limit"]:
            return total


@handler("maintenance.partitions", Partitions)
def partitions(payload: Partitions, job: Context) -> Result:
    """Makes the partitions of the days to come."""
    made = {}
    for tier in payload.tiers:
        with job.transaction(tier, role="pm_etl") as connection:
            row = connection.execute(blocks("queue")["extend_partitions"]).fetchone()
            made[tier] = row[0] if row else 0
    return {"made": made}


class Nothing(BaseModel):
    """A job about everything."""

    model_config = ConfigDict(extra="forbid")


class Expiry(BaseModel):
    """How much content one job may archive or delete. A job with a tenant is about that tenant alone."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    """Only count, and touch nothing."""
    most: int = Field(100_000, ge=1)
    batch: int = Field(1_000, ge=1, le=10_000)


@handler("ip.reputation", Nothing)
def reputation(payload: Nothing, job: Context) -> Result:
    """Score and state of every sending address by what the lists say, and by providers where a probe answers."""
    probe = probes.current()
    scores: dict[UUID, float] = {}
    if probe is not None:
        for id_, address in _watched("watched_addresses", job):
            if found := probe.scores(address):
                scores[id_] = fmean(found)
    values = {"ids": list(scores), "scores": list(scores.values()), "major": dbt.variables()["major_blacklists"]}
    with job.transaction("oltp", role="pm_staff") as connection:
        changed = connection.execute(blocks("upkeep")["judge_addresses"], values).fetchall()
    return {"addresses": len(changed), "critical": sum(state == "critical" for _, state in changed)}


@handler("blacklist", Nothing)
def blacklist(payload: Nothing, job: Context) -> Result:
    """Looks every sending address up and notes where its state in a list changed; `ip.reputation` judges by it."""
    probe = probes.required()
    addresses, noted = _watched("watched_addresses", job), 0
    for done, (id_, address) in enumerate(addresses, 1):
        found = probe.listings(address)
        values = {"id": id_, "address": address, "names": list(found), "reasons": list(found.values())}
        with job.transaction("oltp", role="pm_staff") as connection:
            noted += len(connection.execute(blocks("upkeep")["note_listings"], values).fetchall())
        job.progress(100 * done // len(addresses))
    return {"addresses": len(addresses), "changes": noted}


@handler("vps.sync", Nothing)
def servers(payload: Nothing, job: Context) -> Result:
    """Brings state and cost of servers up to what their provider says. One that it does not know is left as it is."""
    probe = probes.required()
    changed, unknown = 0, []
    for id_, instance in _watched("watched_servers", job):
        server = probe.server(instance)
        if server is None:
            unknown.append(instance)
            continue
        values = {"id": id_, "status": server.status, "cost": server.monthly_cost}
        with job.transaction("oltp", role="pm_staff") as connection:
            changed += len(connection.execute(blocks("upkeep")["sync_server"], values).fetchall())
    return {"changed": changed, "unknown": unknown}


def _watched(block: str, job: Context) -> list[tuple[UUID, str]]:
    with job.transaction("oltp", role="pm_staff") as connection:
        return connection.execute(blocks("upkeep")[block]).fetchall()


@handler("archive", Expiry)
def archive(payload: Expiry, job: Context) -> Result:
    """Archives content past its retention where the policy says so; what a policy holds stays as it is."""
    return _expire(payload, job, "archive_content")


@handler("cleanup", Expiry)
def delete_expired(payload: Expiry, job: Context) -> Result:
    """Deletes content past its retention where the policy says so, with bodies and attachments; a legal hold wins."""
    return _expire(payload, job, "delete_content")


def _expire(payload: Expiry, job: Context, what: str) -> Result:
    objects = size = 0
    role = "pm_worker" if job.tenant_id else "pm_staff"
    values = {"tenant": job.tenant_id, "archive": what == "archive_content"}
    while (left := payload.most - objects) > 0:
        limit = left if payload.dry_run else min(payload.batch, left)
        with job.transaction("content", role=role) as connection:
            found = connection.execute(blocks("upkeep")["expired_content"], values | {"limit": limit}).fetchall()
            if found and not payload.dry_run:
                connection.execute(blocks("upkeep")[what], {"keys": [key for key, _ in found]})
        objects += len(found)
        size += sum(bytes_ for _, bytes_ in found)
        job.progress(100 * objects // payload.most, f"{objects} objects")
        if payload.dry_run or len(found) < limit:
            break
    return {"objects": objects, "bytes": size, "dry_run": payload.dry_run}
