"""Upkeep of the databases that no asset stands for: partitions ahead of time.

When each job runs stands in schedules.py; what a partition is, in the migrations.
"""

import dagster as dg

from penguin_pipelines.errors import PenguinError
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


@dg.job(description="Partitions ahead: seven days, three months or three years, by the unit of each table.")
def partition_care() -> None:
    extend_partitions()
