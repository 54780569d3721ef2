"""Warehouses with the raw rows of test_build.py, waiting to be built or built; the build is done once for all tests."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from servers import Databases, Server
from test_build import Warehouse

from penguin_pipelines.lib.build import BuildResult


@pytest.fixture
def warehouse(tiers: Databases, dbt_home: Path) -> Warehouse:
    """Rows that wait to be built."""
    made = Warehouse(tiers["olap"], dbt_home)
    made.fill()
    return made


@pytest.fixture
def built(postgres: Server, tiers: Databases, dbt_home: Path) -> Warehouse:
    """The same rows, built; all tests begin with copies of one build, whose result is `first_build`."""
    told = Path(postgres.shared) / f"{postgres.kind}-built.json"

    def make() -> str:
        made = Warehouse(tiers["olap"], dbt_home)
        made.fill()
        told.write_text(json.dumps(asdict(made.build())))
        return tiers.name("olap")

    template = postgres.kept("built", make)
    tiers.use("olap", template)
    return Warehouse(tiers["olap"], dbt_home)


@pytest.fixture
def first_build(postgres: Server, built: Warehouse) -> BuildResult:
    """What the build said that `built` is a copy of."""
    del built
    return BuildResult(**json.loads((Path(postgres.shared) / f"{postgres.kind}-built.json").read_text()))
