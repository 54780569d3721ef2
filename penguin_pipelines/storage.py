"""Dagster's own storage with connections that are kept. Named in dagster.yaml.

Stock storage opens a connection for every event, a third of the time of a run that finds nothing to do; only
the web server keeps some. Here every process does. What is stored, and its tables, are Dagster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

_STATEMENT_MILLISECONDS = 10 * 60 * 1000
_RECYCLE_SECONDS = 3600
_OVERFLOW = 10


class KeptConnections(DagsterPostgresStorage):
    """One open connection for each of the three storages of a process, more while threads ask at once."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> KeptConnections:
        storage = cls(
            postgres_url=pg_url_from_config(config_value),  # pyright: ignore[reportArgumentType]
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
        for part in (storage._run_storage, storage._event_log_storage, storage._schedule_storage):
            part.optimize_for_webserver(_STATEMENT_MILLISECONDS, _RECYCLE_SECONDS, _OVERFLOW)
        return storage
