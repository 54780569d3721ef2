"""Dagster's own storage with connections that are kept, and limits of pools that are made once. Named in dagster.yaml.

Stock storage opens a connection for every event, a third of the time of a run that finds nothing to do; only
the web server keeps some. Here every process does. What is stored, and its tables, are Dagster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

_STATEMENT_MILLISECONDS = 10 * 60 * 1000
_RECYCLE_SECONDS = 3600
_OVERFLOW = 10
_LIMITS_LOCK = 7_201_121


class _LimitsOnce(PostgresEventLogStorage):
    """Events, and a limit for each pool that the first of several runs makes and the others find.

    Stock storage inserts the limit and, where it exists, goes on in the same transaction, which Postgres has ended by
    then: of two runs that meet a new pool together, one died of the other's row.
    """

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        with self.index_transaction() as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LIMITS_LOCK)))
            key = ConcurrencyLimitsTable.c.concurrency_key
            known = connection.execute(sqlalchemy.select(key).where(key == concurrency_key)).first()
            return known is not None or super().initialize_concurrency_limit_to_default(concurrency_key)


class KeptConnections(DagsterPostgresStorage):
    """One open connection for each of the three storages of a process, more while threads ask at once."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> KeptConnections:
        storage = cls(
            postgres_url=pg_url_from_config(config_value),  # pyright: ignore[reportArgumentType]
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
        storage._event_log_storage = _LimitsOnce(storage.postgres_url, should_autocreate_tables=False)
        for part in (storage._run_storage, storage._event_log_storage, storage._schedule_storage):
            part.optimize_for_webserver(_STATEMENT_MILLISECONDS, _RECYCLE_SECONDS, _OVERFLOW)
        return storage
