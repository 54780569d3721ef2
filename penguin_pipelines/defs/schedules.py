"""Every cron line of the project, and the one job over all assets that most of them start.

A slot of a schedule is one run: its run key and its tag are the schedule and the slot, whoever asks for it (the queue
may, analytics_jobs.py). Other jobs are defined beside what they do and named here. Times are UTC.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from penguin_pipelines.lib import dbt, reconcile, specs
from penguin_pipelines.lib.queue.etl import SLOT_TAG, slot_key
from penguin_pipelines.resources import runs_by_default

STATUS = dg.DefaultScheduleStatus.RUNNING if runs_by_default() else dg.DefaultScheduleStatus.STOPPED


def _schedule(
    name: str, cron: str, job: str, description: str, config: dict[str, Any] | None = None
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        cron_schedule=cron,
        job_name=job,
        execution_timezone="UTC",
        description=description,
        default_status=STATUS,
    )
    def slot(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        key = slot_key(name, context.scheduled_execution_time)
        runs = context.instance.get_runs(dg.RunsFilter(tags={SLOT_TAG: key}))
        if any(not run.is_failure_or_canceled for run in runs):
            return dg.SkipReason(f"Run {runs[0].run_id} is of this slot already; a job of the queue asked for it.")
        return dg.RunRequest(run_key=key, run_config=config or {}, tags={SLOT_TAG: key})

    return slot


def _recompute(days: int) -> dict[str, Any]:
    """Run configuration that touches the last days, so that they are built again although nothing changed."""
    return {"ops": {"dbt_warehouse": {"config": {"recompute_days": days}}}}


# Judges complete days, so once a day is enough; in the hourly run it would be skipped whenever nothing was built.
UNUSUAL = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(["marts", "campaign_analytics"]), "usual_results"))

# Prove the SQL on rows made up for it, whatever the data are: once a day shows what an upgrade or an edit broke.
RULES = dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(test.model), test.name) for test in dbt.unit_tests()))

# Reads sources a second time; daily what changed, weekly every row.
RECONCILED = dg.AssetSelection.checks(
    *(dg.AssetCheckKey(dg.AssetKey([t.source, t.name]), "reconciled") for t in specs.all_tables()),
    *(
        dg.AssetCheckKey(dg.AssetKey(path), "reconciled")
        for path in [["intermediate", "int_messages"], *(["marts", fact] for fact in reconcile.FACTS)]
    ),
)


@dg.definitions
def schedules() -> dg.Definitions:
    warehouse = dg.define_asset_job(
        "warehouse",
        selection=dg.AssetSelection.all() - UNUSUAL - RULES - RECONCILED,
        description="Reads every source, builds what the changes touch and checks the result.",
    )
    unusual = dg.define_asset_job(
        "unusual_results", selection=UNUSUAL, description="Looks for tenants whose last days are far from usual."
    )
    rules = dg.define_asset_job(
        "rules", selection=RULES, description="Runs the unit tests of the models; reads and writes no data."
    )
    reconciled = dg.define_asset_job(
        "reconcile",
        selection=RECONCILED,
        description="Compares every raw table with its source and the facts with raw; changes nothing.",
    )
    return dg.Definitions(jobs=[warehouse, unusual, rules, reconciled], schedules=list(_table()))


def _table() -> Iterator[dg.ScheduleDefinition]:
    yield _schedule("hourly_metrics", "5 * * * *", "warehouse", "Today and whatever changes touched.")
    yield _schedule(
        "daily_aggregate",
        "0 2 * * *",
        "warehouse",
        "The last 7 days again; they become final after that. Usage windows are part of it.",
        _recompute(7),
    )
    yield _schedule("unusual_results", "30 2 * * *", "unusual_results", "Volume, bounces and replies of the last days.")
    yield _schedule("rules", "0 4 * * *", "rules", "Unit tests of the models.")
    yield _schedule("weekly", "30 3 * * 0", "warehouse", "The last 90 days again.", _recompute(90))
    yield _schedule("partition_care", "0 1 * * *", "partition_care", "Partitions ahead of time.")
    yield _schedule("consistency_check", "0 5 * * 1-6", "reconcile", "What changed since each table was found equal.")
    yield _schedule(
        "weekly_reconcile",
        "0 5 * * 0",
        "reconcile",
        "Every row of every table.",
        {"ops": {f"reconcile_{source}": {"config": {"full": True}} for source in specs.SOURCES}},
    )
