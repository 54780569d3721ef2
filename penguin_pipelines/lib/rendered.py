"""Files that derive from others, as text by path. `make generate` writes them, `make check` finds stale ones.

Not here: the catalog snapshots, which need a database (`penguin migrate snapshot`).
"""

from __future__ import annotations

from pathlib import Path

from penguin_pipelines.lib import dbt
from penguin_pipelines.settings import render_env_example

PROJECT = Path(__file__).parents[2]


def files() -> dict[Path, str]:
    """Every derived file with the text it should hold."""
    return {PROJECT / ".env.example": render_env_example(), **dbt.render_sources()}
