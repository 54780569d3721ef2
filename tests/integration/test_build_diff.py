"""A dry run of the build: it shows exactly the figures that a changed rule would move, and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest
from test_build import Warehouse

from penguin_pipelines.lib import dbt
from penguin_pipelines.lib.build_diff import diff

SUMS = "select sum(sent), sum(delivered) from marts.campaign_analytics"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the dbt project that may be edited."""
    copy = tmp_path / "dbt_project"
    shutil.copytree(dbt.PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt, "PROJECT", copy)
    return copy


def test_a_changed_threshold_moves_the_figures_that_it_should_and_nothing_else(
    built: Warehouse, dbt_home: Path, project: Path
) -> None:
    warehouse = built
    with psycopg.connect(warehouse.url) as connection:
        # The roles of a migrated database have it; a copy of a template has no grants of its own.
        connection.execute(f"grant create on database {connection.info.dbname} to pm_etl")  # type: ignore[call-overload]
        connection.execute("set role pm_etl")
        connection.execute("create schema diff_abcdef_marts")  # left by a dry run that was killed
    same = diff(warehouse.url, home=dbt_home)
    assert (same.changed_models, same.compared, same.tables) == ([], [], [])
    assert _scratch(warehouse) == []

    rules = project / "dbt_project.yml"
    rules.write_text(rules.read_text().replace("silence_hours: 72", "silence_hours: 7200"))
    before = warehouse.facts()
    found = diff(warehouse.url, home=dbt_home)
    assert found.changed_models == ["int_messages"]
    assert not found.new and not found.gone and found.slices_waiting == 0
    assert {"campaign_analytics", "mailbox_analytics", "campaign_performance_summary", "billing_usage"} <= set(
        found.compared
    )
    tables = {table.name: table for table in found.tables}
    assert "billing_analytics" not in tables and "billing_corrections" not in tables
    campaigns = tables["campaign_analytics"]
    assert (campaigns.added, campaigns.removed) == (0, 0)
    (delivered,) = campaigns.columns
    assert delivered.name == "delivered" and delivered.rows == campaigns.changed > 0
    ((_, now),) = warehouse.rows(SUMS)
    ((by_silence,),) = warehouse.rows(
        "select count(*) from intermediate.int_messages "
        "where delivery_basis = 'implied_by_silence' and campaign_id is not null and not is_warmup"
    )
    assert (delivered.before, delivered.after) == (now, now - by_silence) and by_silence > 0
    assert delivered.movers[0]["before"] > delivered.movers[0]["after"]
    assert set(delivered.movers[0]["key"]) == {"tenant_id", "campaign_id", "activity_date"}

    assert warehouse.facts() == before
    assert _scratch(warehouse) == []


def _scratch(warehouse: Warehouse) -> list[tuple[str]]:
    return warehouse.rows("select nspname from pg_namespace where nspname like 'diff%'")  # type: ignore[return-value]
