"""What a reader of a figure can see beside it: whether it is final or as of when it holds, and who reads it."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from penguin_pipelines.lib import dbt


@pytest.fixture(scope="module")
def manifest(definitions: dg.Definitions) -> dict[str, Any]:
    return json.loads(dbt.MANIFEST.read_text())


def _marts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [n for n in manifest["nodes"].values() if n["resource_type"] == "model" and n["fqn"][1] == "marts"]


def test_every_mart_says_whether_it_is_final_or_as_of_when_it_holds(manifest: dict[str, Any]) -> None:
    """In a column of its own, or in mart_freshness, which names whatever is computed from a source."""
    silent = []
    for mart in _marts(manifest):
        own = {"is_final", "data_as_of"} & set(mart["columns"])
        if not own and not _sources(manifest, mart["unique_id"]):
            silent.append(mart["name"])
    assert silent == [], "Give them is_final or data_as_of, or compute them from a source."


def test_every_view_of_the_marts_says_both_in_its_rows(manifest: dict[str, Any]) -> None:
    """Those about freshness itself hold nothing else, and late events of the queue change no day."""
    views = [m for m in _marts(manifest) if "view" in m["config"]["materialized"] and m["fqn"][2] != "operations"]
    assert len(views) > 25
    assert [m["name"] for m in views if "data_as_of" not in m["columns"]] == []
    lasting = {"mrr_periods"}
    silent = {m["name"] for m in views if m["fqn"][2] != "queue" and "is_final" not in m["columns"]}
    assert silent == lasting, "A price from when to when is no day; everything else says whether it is final."


def test_every_daily_fact_says_whether_its_day_is_final(manifest: dict[str, Any]) -> None:
    daily = [m for m in _marts(manifest) if "activity_date" in (m["config"].get("unique_key") or [])]
    assert len(daily) >= 3
    assert [m["name"] for m in daily if "is_final" not in m["columns"]] == []


def test_every_test_of_dbt_is_a_check_of_an_asset_and_blocks_unless_it_warns(
    manifest: dict[str, Any], definitions: dg.Definitions
) -> None:
    tests = {n["name"]: n for n in manifest["nodes"].values() if n["resource_type"] == "test"}
    own = {path.stem for path in (dbt.PROJECT / "tests").glob("*.sql")}
    assert len(own) > 10 and own <= tests.keys()
    specs = {
        spec.name: spec
        for assets in definitions.resolve_asset_graph().assets_defs
        for spec in assets.check_specs
        if spec.name in tests
    }
    assert specs.keys() == tests.keys(), "Name the asset of a test that reads several: config(meta=...)."
    for name, spec in specs.items():
        assert spec.blocking == (tests[name]["config"]["severity"].lower() == "error"), name
        assert str(spec.description).startswith("Fails if" if spec.blocking else "Warns if"), name


def test_who_reads_the_marts_is_in_the_graph(manifest: dict[str, Any], graph: dg.AssetGraph) -> None:
    assert manifest["exposures"]
    for exposure in manifest["exposures"].values():
        node = graph.get(dg.AssetKey(["exposures", exposure["name"]]))
        assert node.description and not node.is_executable
        assert len(node.parent_keys) == len(exposure["depends_on"]["nodes"])
        assert node.parent_keys <= graph.executable_asset_keys


def _sources(manifest: dict[str, Any], unique_id: str) -> set[str]:
    """Sources that a node is computed from, however far up; the platform's own notes are none."""
    waiting, seen = [unique_id], set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += manifest["parent_map"].get(node, [])
    return {s for s in seen if s.startswith("source.") and not s.startswith("source.penguin.ops.")}
