"""Binds the resources to the names under which assets, checks and sensors ask for them."""

import sys
from pathlib import Path

import dagster as dg

from penguin_pipelines.lib import dbt
from penguin_pipelines.resources import DbtResource, TierResource
from penguin_pipelines.settings import TIERS


@dg.definitions
def resources() -> dg.Definitions:
    dbt_cli = DbtResource(
        project_dir=str(dbt.PROJECT),
        profiles_dir=str(dbt.PROJECT),
        # PATH may know another dbt, or none.
        dbt_executable=str(Path(sys.executable).with_name("dbt")),
        global_config_flags=["--no-version-check", "--no-use-colors"],
    )
    tiers = {tier: TierResource(tier=tier) for tier in TIERS}
    return dg.Definitions(resources={**tiers, "dbt_cli": dbt_cli})
