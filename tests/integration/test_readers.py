"""What readers see while dbt works: every mart and view, all the time, without waiting for a build.

Readers loop over everything as an analyst and as a tenant, with a lock timeout of half a second: to wait for a lock
that a build holds for long is an error. The long form: `python -m benchmarks.readers`.
Not here: what the figures are (test_build.py).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from test_build import NOTE, NOW, Warehouse

from benchmarks.readers import DbtKilled, filled, reading
from penguin_pipelines.errors import BuildFailed
from penguin_pipelines.lib import dbt

LEFTOVERS = (
    "create table intermediate.int_usage_windows__dbt_backup (id int)",
    "create table intermediate.gone_model__dbt_tmp (id int)",
    "create materialized view marts.campaign_performance_summary__dbt_tmp as select 1 as id",
    "create view tenant.old__dbt_backup as select 1 as id",
    "insert into ops.touched_slices (kind, cause, build_id) values ('all', 'a dead build', gen_random_uuid())",
)
LEFT = """
select n.nspname || '.' || c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('staging', 'intermediate', 'marts', 'tenant') and c.relname like '%\\_\\_dbt\\_%'
"""
# What belongs to the migrations and must outlive every rebuild.
POSSESSIONS = """
select c.relname, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text, c.relacl::text,
  (select count(*) from pg_inherits where inhparent = c.oid),
  (select array_agg(conname::text order by conname) from pg_constraint where conrelid = c.oid),
  (select array_agg(indexrelid::regclass::text order by 1) from pg_index where indrelid = c.oid),
  (select array_agg(polname::text order by polname) from pg_policy where polrelid = c.oid),
  (select array_agg(attname::text || attidentity::text order by attnum) from pg_attribute
   where attrelid = c.oid and attnum > 0)
from pg_class as c where c.relnamespace = 'marts'::regnamespace and c.relkind in ('r', 'p') order by c.relname
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the dbt project that a test may edit."""
    copy = tmp_path / "dbt_project"
    shutil.copytree(dbt.PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt, "PROJECT", copy)
    return copy


def test_readers_miss_nothing_while_dbt_works_and_dies(
    warehouse: Warehouse,
    project: Path,
    dbt_program: Callable[[Sequence[str]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    month = NOW.strftime("%Y%m")
    with psycopg.connect(warehouse.url) as owner:
        owner.execute(f"drop table marts.infrastructure_analytics_{month}")  # type: ignore[call-overload]
    warehouse.build()
    possessions = warehouse.rows(POSSESSIONS)
    assert f"infrastructure_analytics_{month}" in {name for name, *_ in possessions}, "The partition was not made."
    (tenant,) = warehouse.rows("select min(tenant_id::text) from marts.campaign_analytics")[0]

    with reading(warehouse.url, tenant, readers=1) as seen:
        _touch(warehouse)
        # Somebody reads everything in one long transaction meanwhile: no build may wait for that.
        with psycopg.connect(warehouse.url) as long:
            long.execute(f"set app.current_tenant_id = '{tenant}'")  # type: ignore[call-overload]
            assert len(filled(long)) > 30
            death = DbtKilled("sequence_step_analytics")
            with monkeypatch.context() as installed, pytest.raises(BuildFailed, match="SIGKILL"):
                installed.setattr(dbt, "build_command", dbt_program)
                warehouse.build(report=death)
            assert death.killed
            with warehouse.connect("pm_etl") as connection:
                for leftover in LEFTOVERS:
                    connection.execute(leftover)  # type: ignore[call-overload]
            assert warehouse.build().started_dbt
            assert warehouse.rows(LEFT) == []
            assert warehouse.rows("select count(*) from ops.touched_slices") == [(0,)]
        _edit(project)
        assert warehouse.build(full_refresh=True).claimed == 1
    assert seen.errors == []
    assert seen.empty == {}
    assert len(seen.reads) > 30 and min(seen.reads.values()) > 3
    assert warehouse.rows(POSSESSIONS) == possessions
    assert warehouse.rows("select distinct seven, eight from marts.campaign_performance_summary") == [(7, 8)]
    # The column is there for the tenant too, and without a tenant nothing is seen.
    assert warehouse.rows("select eight from tenant.mailbox_performance", "pm_tenant") == []


def _touch(warehouse: Warehouse) -> None:
    with warehouse.connect("pm_loader") as connection:
        connection.execute("update raw_content.email_messages set _deleted = now() where storage_key = 'm50'")
        connection.execute(NOTE, {"keys": [f"m{n}" for n in range(1, 90)]})


def _edit(project: Path) -> None:
    """Other columns in a materialized view, and in a view that others stand on and whose contracts say so."""
    models = project / "models"
    summary = models / "marts" / "campaigns" / "campaign_performance_summary.sql"
    _insert(summary, "    totals.updated,\n", "    7 as seven, 8 as eight,\n")
    _insert(models / "marts" / "mailboxes" / "mailbox_performance.sql", "    f.activity_date,\n", "    8 as eight,\n")
    eight = "      - {name: eight, data_type: integer}\n"
    seven = eight.replace("eight", "seven")
    for contract, name, columns in (
        (models / "marts" / "mailboxes" / "_mailboxes__models.yml", "mailbox_performance", eight),
        (models / "tenant" / "_tenant__models.yml", "tenant_mailbox_performance", eight),
        (models / "tenant" / "_tenant__models.yml", "tenant_campaign_performance_summary", seven + eight),
    ):
        before = re.search(rf"  - name: {name}\n(?:    .*\n)*?    columns:\n", contract.read_text())
        assert before
        _insert(contract, before[0], columns)


def _insert(path: Path, after: str, text: str) -> None:
    assert after in path.read_text()
    path.write_text(path.read_text().replace(after, after + text, 1))


def test_an_index_that_is_added_does_not_skip_the_refresh_and_a_view_that_is_the_same_is_not_touched(
    built: Warehouse, project: Path
) -> None:
    warehouse = built
    versions = "select relname, xmin::text from pg_class where relkind = 'v' and relnamespace = 'tenant'::regnamespace"
    before = warehouse.rows(versions)
    with warehouse.connect("pm_etl") as connection:
        connection.execute("update marts.dim_campaigns set name = 'Renamed by hand'")
    model = project / "models" / "marts" / "campaigns" / "campaign_performance_summary.sql"
    one = "indexes=[{'columns': ['tenant_id', 'campaign_id'], 'unique': true}"
    text = model.read_text()
    assert one in text
    model.write_text(text.replace(one, one + ", {'columns': ['campaign_name']}"))
    warehouse.build(select="campaign_performance_summary tenant_campaign_performance_summary")
    assert warehouse.rows("select distinct campaign_name from marts.campaign_performance_summary") == [
        ("Renamed by hand",)
    ]
    indexes = warehouse.rows("select indexdef from pg_indexes where tablename = 'campaign_performance_summary'")
    assert len(indexes) == 2
    assert warehouse.rows(versions) == before


def test_partitions_are_made_three_months_ahead(warehouse: Warehouse) -> None:
    cut: list[Any] = warehouse.rows(
        "select table_name from penguin.partition_rules where unit = 'monthly' and table_name like 'marts.%'"
    )
    warehouse.rows("select penguin.extend_partitions()")
    ahead = "(select to_char(current_date + interval '3 months', 'YYYYMM'))"
    with psycopg.connect(warehouse.url) as owner:
        for (table,) in cut:
            owner.execute(f"do $$ begin execute format('drop table %s_%s', '{table}', {ahead}); end $$")  # type: ignore[call-overload]
    assert len(cut) >= 5
    assert warehouse.rows("select penguin.extend_partitions()") == [(len(cut),)]
    assert warehouse.rows("select penguin.extend_partitions()") == [(0,)]
