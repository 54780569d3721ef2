"""What Dagster sees: that it loads, that every asset says what it is, that cron and keys are as agreed."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml

from penguin_pipelines.lib import specs

SNAPSHOT = Path(__file__).with_name("asset_keys.txt")
ROOT = Path(__file__).parents[2]

# metrics, section 11, as far as the jobs exist; billing-calculate is a part of the daily run.
CRON = {
    "hourly_metrics": ("5 * * * *", "warehouse"),
    "daily_aggregate": ("0 2 * * *", "warehouse"),
    "unusual_results": ("30 2 * * *", "unusual_results"),
    "weekly": ("30 3 * * 0", "warehouse"),
    "rules": ("0 4 * * *", "rules"),
    "partition_care": ("0 1 * * *", "partition_care"),
    "consistency_check": ("0 5 * * 1-6", "reconcile"),
    "weekly_reconcile": ("0 5 * * 0", "reconcile"),
}
AREAS = {"staging", "intermediate", "campaigns", "mailboxes", "billing", "infrastructure", "queue", "operations"}
GROUPS = AREAS | set(specs.SOURCES)


def executable(graph: dg.AssetGraph) -> list[dg.AssetKey]:
    return sorted(graph.executable_asset_keys)


def test_definitions_load_and_are_valid(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_the_set_of_asset_keys_is_the_snapshot(graph: dg.AssetGraph) -> None:
    found = [key.to_user_string() for key in executable(graph)]
    known = SNAPSHOT.read_text().split()
    assert found == known, (
        f"new: {sorted(set(found) - set(known))}, gone: {sorted(set(known) - set(found))}. If that is "
        f"meant, write the keys anew with: python tests/definitions/refresh_asset_keys.py"
    )


def test_every_asset_says_what_it_is_and_whose(graph: dg.AssetGraph) -> None:
    for key in executable(graph):
        node = graph.get(key)
        assert node.group_name in GROUPS, f"{key.to_user_string()} is in group {node.group_name!r}"
        assert node.owners, f"{key.to_user_string()} has no owner"
        assert node.kinds, f"{key.to_user_string()} has no kind"
        assert node.description, f"{key.to_user_string()} has no description; a model has it from its yml"


def test_nothing_is_upstream_that_no_asset_makes(graph: dg.AssetGraph) -> None:
    loose = [k.to_user_string() for k in graph.external_asset_keys if k.path[0] != "exposures"]
    assert not loose, f"{loose} are read by models and filled by no asset; is a stanza missing in tables/?"


def test_every_stanza_is_an_asset_with_its_columns(graph: dg.AssetGraph) -> None:
    for table in specs.all_tables():
        node = graph.get(dg.AssetKey([table.source, table.name]))
        assert node.group_name == table.source
        schema = node.metadata["dagster/column_schema"]
        assert [c.name for c in schema.columns] == [c.name for c in table.raw_columns]
        assert all(c.description for c in schema.columns)
        assert node.freshness_policy is not None


def test_a_raw_column_says_what_the_migration_of_its_source_says(graph: dg.AssetGraph) -> None:
    columns = graph.get(dg.AssetKey(["content", "warmup_interactions"])).metadata["dagster/column_schema"].columns
    (created,) = (c for c in columns if c.name == "created")
    assert created.description == "row creation time, UTC"


def test_schedules_follow_the_table(definitions: dg.Definitions) -> None:
    found = {s.name: (s.cron_schedule, s.job_name) for s in definitions.get_repository_def().schedule_defs}
    assert found == CRON


def test_a_slot_is_one_run_and_its_configuration_fits_the_job(definitions: dg.Definitions, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    repository = definitions.get_repository_def()
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    for schedule in repository.schedule_defs:
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 3, 1, 2, tzinfo=UTC),
            repository_def=repository,
        ) as context:
            (request,) = schedule.evaluate_tick(context).run_requests or []
        assert request.run_key == f"{schedule.name}:2026-03-01T02:00+00:00"
        assert request.tags["penguin/slot"] == request.run_key
        job = repository.get_job(schedule.job_name)
        assert dg.validate_run_config(job, request.run_config) is not None


def test_everything_runs_in_one_process_and_one_source_once_at_a_time(
    definitions: dg.Definitions, graph: dg.AssetGraph
) -> None:
    job = definitions.resolve_job_def("warehouse")
    assert job.executor_def.name == "in_process"
    pools = {node.definition.pool for node in job.nodes_in_topological_order if node.definition.pool}  # type: ignore[union-attr]
    assert pools == {"source_oltp", "source_content", "source_queue", "dbt"}
    assert yaml.safe_load((ROOT / "dagster.yaml").read_text())["concurrency"]["pools"]["default_limit"] == 1


def _checks(job: dg.JobDefinition) -> set[dg.AssetCheckKey]:
    return set(job.asset_layer.asset_graph.asset_check_keys)


def test_every_raw_table_and_fact_is_reconciled_apart_from_the_hourly_run(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("reconcile")
    checked = {key.asset_key.to_user_string() for key in _checks(job)}
    facts = {"sequence_step_analytics", "campaign_analytics", "mailbox_analytics"}
    wanted = {f"{t.source}/{t.name}" for t in specs.all_tables()} | {f"marts/{fact}" for fact in facts}
    assert checked == wanted | {"intermediate/int_messages"}
    pools = {node.definition.pool for node in job.nodes_in_topological_order}  # type: ignore[union-attr]
    assert pools == {"source_oltp", "source_content", "source_queue", "dbt"}
    hourly = definitions.resolve_job_def("warehouse")
    assert not {key for key in _checks(hourly) if key.name == "reconciled"}


def test_the_entry_point_lists_nothing() -> None:
    text = (ROOT / "penguin_pipelines" / "definitions.py").read_text()
    assert len(text.splitlines()) < 40 and "penguin_pipelines" not in text.replace('"""', "")


def test_the_code_location_has_the_agreed_name() -> None:
    (location,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert location["python_module"] == {
        "module_name": "penguin_pipelines.definitions",
        "location_name": "penguin_pipelines",
    }
