"""Keys of facts, and what counts as a change of a model."""

from __future__ import annotations

from typing import Any

import pytest

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib import dbt, explain


def test_a_key_names_every_column_of_its_fact_and_no_other() -> None:
    given = explain.parse_key("campaign_analytics", "tenant_id=a, campaign_id=b,activity_date=2026-01-01")
    assert given == {"tenant_id": "a", "campaign_id": "b", "activity_date": "2026-01-01"}
    for wrong in ("tenant_id=a", "tenant_id=a,campaign_id=b,activity_date=c,step_id=d", "nothing"):
        with pytest.raises(PenguinError, match="is named by tenant_id, campaign_id, activity_date; write --key"):
            explain.parse_key("campaign_analytics", wrong)
    with pytest.raises(UnknownName, match="did you mean 'campaign_analytics'"):
        explain.parse_key("campaign_analytic", "tenant_id=a")


def test_only_where_a_row_may_have_no_tenant_does_none_mean_that() -> None:
    row = "smtp_ip_address_id=b,activity_date=2026-01-01"
    assert explain.parse_key("infrastructure_analytics", f"tenant_id=none,{row}")["tenant_id"] is None
    assert explain.parse_key("infrastructure_analytics", f"tenant_id=a,{row}")["tenant_id"] == "a"
    assert (
        explain.parse_key("campaign_analytics", "tenant_id=none,campaign_id=b,activity_date=c")["tenant_id"] == "none"
    )


def test_every_fact_of_the_marts_can_be_explained_and_is_looked_up_within_its_tenant() -> None:
    kept = [f for f in (dbt.PROJECT / "models" / "marts").rglob("*.sql") if "'incremental'" in f.read_text()]
    no_facts = {"suppression", "billing_corrections"}  # a list, and the ledger that explanations quote
    assert set(explain.facts()) == {f.stem for f in kept if not f.stem.startswith("dim_")} - no_facts
    assert all(key[0] == "tenant_id" for key in explain.facts().values())


def _manifest(code: str, macro: str = "1", config: str = "view", description: str = "") -> dict[str, Any]:
    def macro_of(name: str, text: str) -> dict[str, str]:
        return {"name": name, "package_name": "penguin", "macro_sql": text}

    model = {
        "name": "a",
        "resource_type": "model",
        "raw_code": code,
        "config": {"materialized": config},
        "description": description,
    }
    macros = [macro_of("outer", "{{ inner() }}"), macro_of("inner", macro), macro_of("other", macro * 2)]
    return {"nodes": {"model.a": model}, "macros": {m["name"]: m for m in macros}}


def test_a_model_has_changed_with_its_query_its_macros_or_how_it_is_kept_and_nothing_else() -> None:
    code = "select {{ outer() }}"
    same = dbt.model_fingerprints(_manifest(code))
    assert dbt.model_fingerprints(_manifest(code, description="another")) == same
    assert dbt.model_fingerprints(_manifest(code + " ")) != same
    assert dbt.model_fingerprints(_manifest(code, macro="2")) != same
    assert dbt.model_fingerprints(_manifest(code, config="table")) != same
    alone = dbt.model_fingerprints(_manifest("select 1"))
    assert dbt.model_fingerprints(_manifest("select 1", macro="2")) == alone


def test_a_variable_changes_the_models_that_use_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "dbt_project.yml").write_text("vars: {hours: 72, days: 8}")
    monkeypatch.setattr(dbt, "PROJECT", tmp_path)
    uses, ignores = _manifest("{{ outer() }}", macro="{{ var('hours') }}"), _manifest("select 1")
    before = dbt.model_fingerprints(uses), dbt.model_fingerprints(ignores)
    (tmp_path / "dbt_project.yml").write_text("vars: {hours: 48, days: 8}")
    assert dbt.model_fingerprints(uses) != before[0]
    assert dbt.model_fingerprints(ignores) == before[1]
