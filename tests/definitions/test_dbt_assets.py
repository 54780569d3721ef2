"""How nodes of dbt look to Dagster."""

from __future__ import annotations

from typing import Any

import dagster as dg


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
