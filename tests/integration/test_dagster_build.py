"""A run of the warehouse in Dagster, on real servers: what it builds, and what it says of every asset."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
from test_build import Warehouse

from penguin_pipelines.lib import build, dbt
from penguin_pipelines.resources import TierResource


class Here(TierResource):
    """The warehouse of a test."""

    address: str
    folder: str

    @property
    def url(self) -> str:
        return self.address

    @property
    def home(self) -> Path:
        return Path(self.folder)


def test_a_run_builds_what_holds_rows_and_says_of_every_view_that_it_stands(built: Warehouse) -> None:
    target = build.target_folder(built.home, built.url)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(dbt.ensure_manifest(), target / "manifest.json")  # as a build leaves it; `built` is a copy of one
    from penguin_pipelines.definitions import defs

    resources = {"olap": Here(tier="olap", address=built.url, folder=str(built.home))}
    resources["dbt_cli"] = defs.resources["dbt_cli"]  # type: ignore[index]
    assets = next(a for a in defs.assets or [] if getattr(a, "op", None) and a.op.name == "dbt_warehouse")  # type: ignore[union-attr]
    oids = _oids(built)
    result = dg.materialize(
        [assets],  # type: ignore[list-item]
        resources=resources,
        run_config={"ops": {"dbt_warehouse": {"config": {"recompute_days": 3}}}},
    )
    assert result.success
    standing = {k for k, spec in assets.specs_by_key.items() if spec.kinds & {"view", "seed"}}  # type: ignore[union-attr]
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    seen = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    # Tests of several models are observations of them, which is something else.
    observed = {o.asset_key for o in seen if (o.description or "").startswith("Stands as it was built")}
    assert dg.AssetKey(["marts", "campaign_performance"]) in standing
    assert observed == standing
    assert made == set(assets.keys) - standing  # type: ignore[union-attr]
    evaluated = {e.asset_check_key for e in result.get_asset_check_evaluations()}
    assert evaluated == set(assets.check_keys)  # type: ignore[union-attr]
    assert _oids(built) == oids


def _oids(built: Warehouse) -> dict[str, int]:
    """Version of the definition of every view: replacing one writes it anew."""
    query = "select ev_class::regclass::text, r.xmin::text::bigint from pg_rewrite as r where ev_class >= 16384"
    return {str(name): int(version) for name, version in built.rows(query)}
