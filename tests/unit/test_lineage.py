"""What columns are made of, as read from the text of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penguin_pipelines.lib import lineage


def _lineage(**models: str) -> tuple[lineage.Lineage, dict[str, str]]:
    """Of models that read each other in the order given; `raw.sends` has the columns that a source declares."""
    before: list[str] = ["source.p.raw.sends"]
    nodes: dict[str, Any] = {}
    for name, code in models.items():
        above = {"nodes": list(before)}
        place = {"schema": "marts", "alias": name, "name": name, "unique_id": f"model.{name}", "columns": {}}
        nodes[f"model.{name}"] = {"resource_type": "model", "raw_code": code, "depends_on": above, **place}
        before.append(f"model.{name}")
    source = {
        "unique_id": "source.p.raw.sends",
        "resource_type": "source",
        "source_name": "raw",
        "name": "sends",
        "schema": "raw",
        "columns": dict.fromkeys(["id", "sent", "opened"]),
    }
    macros = {"one": "{% macro twice(x) %}{{ return(x ~ ' + ' ~ x) }}{% endmacro %}"}
    written = {n: {"name": "twice", "package_name": "penguin", "macro_sql": text} for n, text in macros.items()}
    manifest = {"nodes": nodes, "sources": {source["unique_id"]: source}, "macros": written}
    return lineage.lineage(manifest, Path(), {})


RAW = "source.p.raw.sends"


def test_columns_are_followed_through_stars_unions_and_subqueries_of_several_models() -> None:
    found, unknown = _lineage(
        base="select * from {{ source('raw', 'sends') }}",
        both="select id, opened as seen from {{ ref('base') }} union all select id, sent from {{ ref('base') }}",
        last="""
            with s as (select {{ twice('id') }} as doubled, seen from {{ ref('both') }} where seen is not null)
            select s.*, (select max(b.sent) from {{ ref('base') }} as b where b.id = s.doubled) as latest, 1 as one
            from s
        """,
    )
    assert unknown == {}
    assert list(found["model.base"]) == ["id", "sent", "opened"]
    assert found["model.both"]["seen"] == [("model.base", "opened"), ("model.base", "sent")]
    assert found["model.last"] == {
        "doubled": [("model.both", "id")],
        "seen": [("model.both", "seen")],
        "latest": [("model.base", "id"), ("model.base", "sent"), ("model.both", "id")],
        "one": [],
    }
    assert lineage.origins(found)("model.last", "seen") == {(RAW, "opened"), (RAW, "sent")}


def test_a_model_that_cannot_be_read_is_named_and_takes_no_other_with_it() -> None:
    found, unknown = _lineage(bad="select from where (", good="select id from {{ source('raw', 'sends') }}")
    assert list(unknown) == ["model.bad"]
    assert found == {"model.good": {"id": [(RAW, "id")]}}
