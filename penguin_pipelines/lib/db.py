"""Connections to the tiers: one way to open them, with the role, session settings and errors of the platform.

Not here: which URL a tier has (settings, services), and any query (sql/).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from penguin_pipelines.errors import ConnectionFailed, mask

# Both ends of a copy must read and write the same text for dates and numbers, whatever their role settings say.
PINNED: dict[LiteralString, str] = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    # The default begins with a schema named like the login, and there is one named penguin.
    "search_path": "public",
}


def sqlalchemy_url(url: str, driver: str = "psycopg") -> str:
    """The same URL for SQLAlchemy with an explicit driver; Dagster's storage needs `psycopg2`."""
    return f"postgresql+{driver}://" + url.split("://", 1)[1]


def open_connection(url: str, tier: str, *, role: str | None = None, autocommit: bool = False) -> psycopg.Connection:
    """An open connection with pinned session settings, acting as `role`. Raises ConnectionFailed with a remedy."""
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10, application_name=f"penguin {tier}")
    except psycopg.OperationalError as e:
        reason = " ".join(mask(str(e)).split()).rstrip(".?")
        raise ConnectionFailed(
            f"Tier '{tier}' cannot be reached: {reason}. Check PENGUIN_{tier.upper()}_URL, or run: penguin doctor"
        ) from None
    for name, value in PINNED.items():
        connection.execute("select set_config(%s, %s, false)", [name, value])
    if role is not None:
        try:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        except psycopg.errors.Error as e:
            connection.close()
            raise ConnectionFailed(
                f"The login of tier '{tier}' may not act as {role} ({e.diag.message_primary}). "
                f"Grant it, or create the roles with: penguin migrate up --tier {tier}"
            ) from None
    connection.autocommit = autocommit
    return connection


@contextlib.contextmanager
def connect(url: str, tier: str, *, role: str | None = None, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """`open_connection` that commits at the end, rolls back on an error and always closes."""
    connection = open_connection(url, tier, role=role, autocommit=autocommit)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def check(url: str, tier: str) -> None:
    """Raises ConnectionFailed unless the tier answers."""
    open_connection(url, tier).close()
