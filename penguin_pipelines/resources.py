"""Resource classes: one tier each, and dbt; and how our errors and defaults look to Dagster.

Addresses are looked up when a run uses them, so definitions load without any service. Which resource has
which name is bound in defs/resources.py; connections themselves are made by lib/db.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path

import dagster as dg
import psycopg
from dagster_dbt import DbtCliResource
from packaging.version import Version

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.baseline import Limits
from penguin_pipelines.settings import load_settings

OWNERS = ["team:data-platform"]


class TierResource(dg.ConfigurableResource):
    """One of the four database tiers."""

    tier: str

    @property
    def url(self) -> str:
        """Where the tier is, with its password."""
        return services.endpoints(load_settings()).urls[self.tier]

    @property
    def redis_url(self) -> str:
        """Where the Redis of the queue is."""
        return services.endpoints(load_settings()).urls["redis"]

    @property
    def pseudonym_key(self) -> str:
        """Key of the hashes that stand for addresses."""
        return services.endpoints(load_settings()).pseudonym_key

    @property
    def foreign(self) -> frozenset[str]:
        """Sources that were not made by our migrations."""
        return load_settings().foreign

    @property
    def home(self) -> Path:
        """Folder for working files."""
        return load_settings().home

    @property
    def limits(self) -> Limits:
        """What one look at the tier may cost it."""
        return Limits.of(load_settings())

    def connect(self, role: str) -> AbstractContextManager[psycopg.Connection]:
        """A connection that acts as `role`, commits at the end and is closed."""
        return db.connect(self.url, self.tier, role=role)


def failure(errors: Sequence[PenguinError]) -> dg.Failure | dg.RetryRequested:
    """Our sentences as what a step raises: a retry when every cause may pass by itself, else a failure.

    A retry policy would also repeat what is a mistake of ours and stays one.
    """
    sentences = dg.Failure(" ".join(map(str, errors)), allow_retries=False)
    if not all(e.transient for e in errors):
        return sentences
    retry = dg.RetryRequested(max_retries=2, seconds_to_wait=15)
    retry.__cause__ = sentences
    return retry


class DbtResource(DbtCliResource):
    """dbt as dagster-dbt calls it, without asking the program for its version: that alone takes a second."""

    @property
    def _cli_version(self) -> Version:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Version(metadata.version("dbt-core"))


def runs_by_default() -> bool:
    """Whether schedules and sensors start by themselves: locally yes, elsewhere somebody decides."""
    return load_settings().env == "local"
