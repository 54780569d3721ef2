"""The definitions as Dagster loads them; no database is needed, dbt parses when its project has changed."""

from __future__ import annotations

import dagster as dg
import pytest

from penguin_pipelines.lib import dbt


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    dbt.ensure_manifest()
    from penguin_pipelines.definitions import defs  # reads the manifest, so not before it is there

    return defs


@pytest.fixture(scope="session")
def graph(definitions: dg.Definitions) -> dg.AssetGraph:
    return definitions.get_repository_def().asset_graph
