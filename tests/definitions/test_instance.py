"""The instance as dagster.yaml describes it, on a real Postgres."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from servers import Databases

from penguin_pipelines.lib import db
from penguin_pipelines.storage import KeptConnections

CONFIGURATION = Path(__file__).parents[2] / "dagster.yaml"


def test_the_instance_keeps_its_connections_and_what_is_reported_to_it(
    tiers: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(CONFIGURATION, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PENGUIN_DAGSTER_STORAGE_URL", db.sqlalchemy_url(tiers["dagster"], "psycopg2"))
    key = dg.AssetKey(["oltp", "tenants"])
    with dg.DagsterInstance.get() as instance:
        storage = instance.get_ref().storage_data
        assert storage is not None and storage.class_name == KeptConnections.__name__
        instance.report_runless_asset_event(dg.AssetMaterialization(key))
        assert instance.get_latest_materialization_event(key) is not None
    with dg.DagsterInstance.get() as again:
        assert again.get_latest_materialization_event(key) is not None


def test_runs_that_meet_a_new_pool_together_find_one_limit(
    tiers: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(CONFIGURATION, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PENGUIN_DAGSTER_STORAGE_URL", db.sqlalchemy_url(tiers["dagster"], "psycopg2"))
    together = threading.Barrier(3)

    def meet(reference: InstanceRef) -> bool:
        with dg.DagsterInstance.from_ref(reference) as one:
            together.wait(30)
            return one.event_log_storage.initialize_concurrency_limit_to_default("dbt")

    with dg.DagsterInstance.get() as instance, ThreadPoolExecutor(3) as processes:
        assert list(processes.map(meet, [instance.get_ref()] * 3)) == [True] * 3
        info = instance.event_log_storage.get_concurrency_info("dbt")
        assert info.slot_count == 1 and info.limit == 1
