"""The instance as dagster.yaml describes it, on a real Postgres."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
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
