"""The entry point of Dagster: loads every module of defs/ and applies what holds for the whole project.

No asset, job or schedule is listed here; they are found by their place in defs/.
"""

import logging
from pathlib import Path

import dagster as dg

# `dagster ... -m` names the location after this module; its advice to rename the project comes a dozen times.
logging.getLogger("dagster.components.core.component_tree").setLevel(logging.ERROR)

# A value, not a function: one run of `dagster job execute` asks for it five times.
defs = dg.Definitions.merge(
    dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
    # Starting a process per step costs seconds, the steps themselves milliseconds; pools keep runs apart.
    dg.Definitions(executor=dg.in_process_executor),
)
