"""Assets of the raw layer: every stanza of tables/ is one, every source is one step.

A step reads its tables from one snapshot. A table that fails lets the others through and fails the step at
the end, so nothing is built on half a source. Not here: what a load does (lib/ingest), dbt (warehouse.py).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import dbt, ingest, specs
from penguin_pipelines.lib.extract import Holder
from penguin_pipelines.lib.ingest import Failed
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.specs import Table
from penguin_pipelines.resources import OWNERS, TierResource, failure

# The hourly run starts at :05 and takes minutes; two missed in a row are a fault.
FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(minutes=90), fail_window=timedelta(hours=2, minutes=30))
HELD_BACK_SECONDS = 600
"""A transaction that writes for longer keeps everything newer than itself out of the warehouse."""


@dg.definitions
def sources() -> dg.Definitions:
    return dg.Definitions(assets=[_source(name) for name in specs.SOURCES])


def _source(source: str) -> dg.AssetsDefinition:
    tables = {dg.AssetKey([source, t.name]): t for t in specs.tables(source)}
    first = next(iter(tables))
    # Checks of a whole source stand on its first table: one per table would double the events of a run.
    held_back = dg.AssetCheckSpec(
        "held_back",
        asset=first,
        description=f"Fails when an open transaction keeps changes of {source} waiting for "
        f"{HELD_BACK_SECONDS // 60} minutes or more.",
    )
    undeclared = dg.AssetCheckSpec(
        "undeclared_columns",
        asset=first,
        description=f"Fails when tables of {source} have columns that no stanza lists; they are not read.",
    )

    @dg.multi_asset(
        name=f"ingest_{source}",
        specs=[_spec(key, table) for key, table in tables.items()],
        check_specs=[held_back, undeclared],
        can_subset=True,
        pool=f"source_{source}",
        required_resource_keys={source, "olap"},
    )
    def read(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        origin: TierResource = getattr(context.resources, source)
        olap: TierResource = context.resources.olap
        wanted = [tables[key] for key in tables if key in context.selected_asset_keys]
        failed: list[PenguinError] = []
        unlisted: list[str] = []
        try:
            urls = {source: origin.url, "olap": olap.url}
            results = ingest.ingest(
                urls,
                wanted,
                pseudonym_key=origin.pseudonym_key,
                foreign=origin.foreign,
                limits=origin.limits,
                progressed=lambda progress: context.log.info(str(progress)),
            )
            holder: Holder | None = None
            for result in results:
                if isinstance(result, Failed):
                    context.log.error(str(result.error))
                    failed.append(result.error)
                else:
                    unlisted += [f"{result.table}.{column}" for column in result.unlisted]
                    holder = result.holder
                    yield _materialized(result)
            if held_back.key in context.selected_asset_check_keys:
                yield _held_back(held_back.key, holder)
            if undeclared.key in context.selected_asset_check_keys:
                yield _undeclared(undeclared.key, unlisted)
        except PenguinError as error:
            failed.append(error)
        if failed:
            raise failure(failed)

    return read


def _spec(key: dg.AssetKey, table: Table) -> dg.AssetSpec:
    reads = "an exact window on change_xid" if table.mode == "xid8" else "rows by xmin"
    meanings = dbt.meanings(table)
    grain = f"One row per {', '.join(table.raw_key)}, read as {reads}."
    return dg.AssetSpec(
        key,
        description=f"{table.description.rstrip('.')}. {grain}",
        group_name=table.source,
        kinds={"postgres"},
        owners=OWNERS,
        tags={
            "penguin/mode": table.mode,
            "penguin/tenant": table.tenant or "",
            "penguin/plain": str(len(table.columns.plain)),
            "penguin/pseudonym": str(len(table.columns.pseudonym)),
            "penguin/never": str(len(table.columns.never)),
        },
        metadata={
            "dagster/table_name": f"{table.raw_schema}.{table.name}",
            "dagster/column_schema": dg.TableSchema(
                [
                    dg.TableColumn(c.name, type=c.type, description=meanings[c.name], tags={"class": c.how})
                    for c in table.raw_columns
                ]
            ),
        },
        freshness_policy=FRESH,
    )


def _materialized(loaded: Loaded) -> dg.MaterializeResult:
    metadata: dict[str, Any] = {
        "dagster/row_count": loaded.row_count,
        "mode": loaded.mode,
        "rows delivered": loaded.delivered,
        "rows written": loaded.written,
        "rows deleted": loaded.deleted,
        "slices touched": loaded.slices,
        "bookmark": loaded.horizon,
    }
    if loaded.holder:
        metadata["held back"] = str(loaded.holder)
    if loaded.unlisted:
        metadata["columns not listed"] = list(loaded.unlisted)
    return dg.MaterializeResult(asset_key=dg.AssetKey(loaded.table.split(".")), metadata=metadata)


def _undeclared(check: dg.AssetCheckKey, columns: list[str]) -> dg.AssetCheckResult:
    remedy = "List each in tables/ as plain, pseudonym or never."
    return dg.AssetCheckResult(
        passed=not columns,
        asset_key=check.asset_key,
        check_name=check.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Nobody declared {', '.join(columns)}. {remedy}" if columns else None,
    )


def _held_back(check: dg.AssetCheckKey, holder: Holder | None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=holder is None or holder.seconds < HELD_BACK_SECONDS,
        asset_key=check.asset_key,
        check_name=check.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=str(holder) if holder else None,
    )
