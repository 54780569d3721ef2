"""Analytics jobs run by a worker itself, for an installation without Dagster: `penguin queue work --with-analytics`.

The same work as the runs of the schedules: read the sources, build what was touched. Where Dagster runs, its sensor
takes these jobs (lib/queue/etl.py, defs/analytics_jobs.py); both at once do no harm, because leases, slices and the
build lock are shared. Loaded by name in the worker's children, hence beside the command line, which reads settings.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import build, dbt, services, specs
from penguin_pipelines.lib.baseline import Limits
from penguin_pipelines.lib.ingest import Failed, ingest
from penguin_pipelines.lib.queue.etl import SCHEDULES
from penguin_pipelines.lib.queue.handlers import Context, Result, handler
from penguin_pipelines.settings import load_settings

RECOMPUTE_DAYS = {"hourly_metrics": 0, "daily_aggregate": 7, "weekly": 90}
"""Days that are computed again although nothing changed, by schedule."""
_PATIENCE = 240


class AttemptFailed(PenguinError):
    """Reading or building failed. The next attempt begins anew, as a new run of Dagster would, whatever it was."""

    transient = True


class Slot(BaseModel):
    """The slot of a job says which run Dagster would share; what is done here is always as of now."""

    model_config = ConfigDict(extra="ignore")

    slot: str | None = None


def run(payload: Slot, job: Context) -> Result:
    """Reads every source and builds what waits, with the days that the job's schedule computes again."""
    try:
        return _run(job)
    except PenguinError as e:
        raise AttemptFailed(f"{type(e).__name__}: {e}") from e


def _run(job: Context) -> Result:
    settings = load_settings()
    endpoints = services.endpoints(settings)
    dbt.ensure_manifest()
    results = list(
        ingest(
            endpoints.urls,
            specs.all_tables(),
            pseudonym_key=endpoints.pseudonym_key,
            foreign=settings.foreign,
            limits=Limits.of(settings),
        )
    )
    failed = [f for f in results if isinstance(f, Failed)]
    job.progress(30, f"{len(results) - len(failed)} tables read")
    done = build.run(
        endpoints.urls["olap"],
        home=settings.home,
        recompute_days=RECOMPUTE_DAYS[SCHEDULES[job.type]],
        wait_seconds=_PATIENCE,
    )
    if failed:
        # What could be read is built; the attempt fails all the same, so that somebody hears of it.
        raise PenguinError(f"{len(failed)} tables were not read, first {failed[0].table}: {failed[0].error}")
    return {"tables": len(results), "slices": done.claimed, "models": done.models}


for _type in SCHEDULES:
    handler(_type, Slot)(run)
