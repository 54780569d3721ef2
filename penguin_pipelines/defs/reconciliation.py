"""Reconciliation as asset checks: every raw table against its source, the facts against raw.

The checks of a source are one step in the pool of that source, so they never read beside its ingestion. They block
nothing and are not part of the hourly run. Not here: comparing (lib/reconcile), when it runs (schedules.py), mending
(`penguin reconcile --fix`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from penguin_pipelines.lib import reconcile, specs
from penguin_pipelines.lib.reconcile import Compared
from penguin_pipelines.resources import TierResource

NAME = "reconciled"
SEVERITY = {"different": dg.AssetCheckSeverity.ERROR, "failed": dg.AssetCheckSeverity.ERROR}
MARTS = [["intermediate", "int_messages"], *(["marts", fact] for fact in reconcile.FACTS)]


class Comparison(dg.Config):
    """How much is compared."""

    full: bool = False


@dg.definitions
def reconciliation() -> dg.Definitions:
    return dg.Definitions(asset_checks=[*(_source(name) for name in specs.SOURCES), _marts()])


def _source(source: str) -> dg.AssetChecksDefinition:
    tables = {dg.AssetKey([source, t.name]): t for t in specs.tables(source)}
    checks = [
        dg.AssetCheckSpec(
            NAME,
            asset=key,
            description=f"Fails when raw rows of {table.full_name} differ from the source, up to the mark.",
        )
        for key, table in tables.items()
    ]

    @dg.multi_asset_check(
        name=f"reconcile_{source}",
        specs=checks,
        can_subset=True,
        pool=f"source_{source}",
        required_resource_keys={source, "olap"},
    )
    def compare(context: dg.AssetCheckExecutionContext, config: Comparison) -> Iterator[dg.AssetCheckResult]:
        origin: TierResource = getattr(context.resources, source)
        olap: TierResource = context.resources.olap
        wanted = [tables[key] for key in tables if dg.AssetCheckKey(key, NAME) in context.selected_asset_check_keys]
        urls = {source: origin.url, "olap": olap.url}
        found = reconcile.reconcile(
            urls, wanted, pseudonym_key=origin.pseudonym_key, foreign=origin.foreign, full=config.full, marts=False
        )
        for result in found:
            yield _judged(result)

    return compare


def _marts() -> dg.AssetChecksDefinition:
    checks = [
        dg.AssetCheckSpec(
            NAME,
            asset=dg.AssetKey(path),
            description="Fails when counters of a tenant and month are not the sums of what lies below.",
        )
        for path in MARTS
    ]

    @dg.multi_asset_check(name="reconcile_marts", specs=checks, can_subset=True, pool="dbt")
    def compare(context: dg.AssetCheckExecutionContext, olap: TierResource) -> Iterator[dg.AssetCheckResult]:
        for result in reconcile.reconcile({"olap": olap.url}, [], pseudonym_key=olap.pseudonym_key):
            if dg.AssetCheckKey(dg.AssetKey(result.subject.split(".")), NAME) in context.selected_asset_check_keys:
                yield _judged(result)

    return compare


def _judged(result: Compared) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {
        "state": result.state,
        "mode": result.mode,
        "buckets": result.buckets,
        "unequal buckets": result.unequal_buckets,
        "source rows": result.source_rows,
        "raw rows": result.raw_rows,
        "rows compared": result.compared_rows,
        "missing": result.missing,
        "stale": result.stale,
        "ghost": result.ghost,
        "waiting": result.waiting,
        **{
            key: value if isinstance(value, str) else dg.MetadataValue.json(value)
            for key, value in result.details.items()
        },
    }
    if result.verified_through is not None:
        metadata["verified through"] = result.verified_through
    passed = result.state in ("equal", "waiting", "never_read")
    sentence = {
        "different": f"{result.missing} missing, {result.stale} stale, {result.ghost} ghost rows. "
        "Mend them with: penguin reconcile --fix",
        "failed": str(result.details.get("error", "")),
        "waiting": "What differs waits to be read or built.",
        "never_read": "Not read yet.",
    }.get(result.state)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(result.subject.split(".")),
        check_name=NAME,
        passed=passed,
        severity=SEVERITY.get(result.state, dg.AssetCheckSeverity.WARN),
        description=sentence,
        metadata=metadata,
    )
