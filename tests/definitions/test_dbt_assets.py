"""How nodes of dbt look to Dagster."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg

from penguin_pipelines.lib import dbt


def node(kind: str, name: str, folder: str = "", **more: Any) -> dict[str, Any]:
    where = {"fqn": ["penguin", folder, name], "schema": "intermediate"}
    return {"resource_type": kind, "name": name, **where, **more}


def test_a_source_and_the_asset_that_fills_it_are_one_key(graph: dg.AssetGraph) -> None:
    from penguin_pipelines.defs.warehouse import Translator

    key = Translator().get_asset_key(node("source", "campaigns", source_name="oltp"))
    assert key == dg.AssetKey(["oltp", "campaigns"])
    assert key in graph.executable_asset_keys
    assert key in graph.get(dg.AssetKey(["staging", "stg_oltp__campaigns"])).parent_keys


def test_a_model_is_its_layer_and_name(definitions: dg.Definitions) -> None:
    from penguin_pipelines.defs.warehouse import Translator

    translator = Translator()
    model, seed = node("model", "campaign_analytics", "marts"), node("seed", "known_agents")
    assert translator.get_asset_key(model).path == ["marts", "campaign_analytics"]
    assert translator.get_asset_key(seed).path == ["intermediate", "known_agents"]


def test_the_group_is_the_one_that_dbt_names_else_the_layer(definitions: dg.Definitions) -> None:
    from penguin_pipelines.defs.warehouse import Translator

    translator = Translator()
    meta = {"dagster": {"group": "campaigns"}}
    assert translator.get_group_name(node("model", "x", "marts", meta=meta, config={})) == "campaigns"
    assert translator.get_group_name(node("model", "x", "staging", meta={}, config={})) == "staging"
    assert translator.get_group_name(node("model", "x", "tenant", meta={}, config={})) == "operations"


def test_materialized_views_are_marked(graph: dg.AssetGraph) -> None:
    node = graph.get(dg.AssetKey(["marts", "campaign_performance_summary"]))
    assert {"dbt", "postgres", "matview"} <= set(node.kinds)


def test_models_do_not_wait_for_the_slices_that_steer_them(graph: dg.AssetGraph) -> None:
    assert not [key for key in graph.get_all_asset_keys() if key.path[0] == "ops"]


def test_columns_are_followed_from_the_views_for_readers_to_the_raw_tables(graph: dg.AssetGraph) -> None:
    assert json.loads(dbt.LINEAGE.read_text())["unknown"] == {}
    found: set[tuple[str, str]] = set()
    waiting = [(dg.AssetKey(["tenant", "campaign_performance_summary"]), "replied")]
    while waiting:
        key, column = waiting.pop()
        if (key.to_user_string(), column) in found:
            continue
        found.add((key.to_user_string(), column))
        made_of = graph.get(key).metadata.get("dagster/column_lineage")
        if made_of:
            waiting += [(dep.asset_key, dep.column_name) for dep in made_of.deps_by_column[column]]
    assert found >= {
        ("marts/campaign_performance_summary", "replied"),
        ("marts/campaign_analytics", "replied"),
        ("intermediate/int_messages", "replied"),
        ("staging/stg_content__email_replies", "replied"),
        ("content/email_replies", "replied"),
        ("content/email_messages", "replied"),
    }
    assert not [name for name, _ in found if name.startswith("oltp/")]


def test_unit_tests_are_checks_of_their_model_with_a_job_of_their_own(definitions: dg.Definitions) -> None:
    tests = {(*test.model, test.name) for test in dbt.unit_tests()}
    assert ("marts", "warmup_analytics", "warmup_plan_and_health") in tests

    def checks(job: str) -> set[tuple[str, ...]]:
        keys = definitions.resolve_job_def(job).asset_layer.asset_graph.asset_check_keys
        return {(*key.asset_key.path, key.name) for key in keys}

    assert checks("rules") == tests
    assert not checks("warehouse") & tests
    assert not definitions.resolve_job_def("rules").asset_layer.executable_asset_keys
