"""Upkeep of the databases that no asset stands for: partitions ahead of time, tombstones that were read.

When each job runs stands in schedules.py; what a partition is, in the migrations.
"""

import dagster as dg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import specs, tombstones
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.resources import TierResource, failure


@dg.op(
    description="Makes the partitions that the coming days, months and years need, in every tier with some.",
    pool="partition_care",
)
def extend_partitions(
    context: dg.OpExecutionContext, content: TierResource, queue: TierResource, olap: TierResource
) -> None:
    made: dict[str, int] = {}
    try:
        for tier in (content, queue, olap):
            with tier.connect(role="pm_etl") as connection:
                row = connection.execute(blocks("maintenance")["extend_partitions"]).fetchone()
            made[tier.tier] = row[0] if row else 0
    except PenguinError as error:
        raise failure([error]) from error
    context.add_output_metadata(made)


@dg.op(
    description="Deletes tombstones that the bookmark of their table has passed and that are a week old.",
    pool="partition_care",
)
def prune_tombstones(
    context: dg.OpExecutionContext,
    oltp: TierResource,
    content: TierResource,
    queue: TierResource,
    olap: TierResource,
) -> None:
    gone: dict[str, int] = {}
    tiers = {"oltp": oltp, "content": content, "queue": queue}
    try:
        for source in specs.SOURCES:
            with tiers[source].connect(role="pm_owner") as origin, olap.connect(role="pm_loader") as warehouse:
                gone[source] = tombstones.prune(origin, warehouse, source)
    except PenguinError as error:
        raise failure([error]) from error
    context.add_output_metadata(gone)


@dg.job(description="Partitions ahead: seven days, three months or three years by unit; read tombstones removed.")
def partition_care() -> None:
    extend_partitions()
    prune_tombstones()
