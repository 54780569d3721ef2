"""Applies, reverts and verifies the migrations of the tiers with Alembic.

Each tier is an Alembic environment of its own with its own version table (`penguin.alembic_version`). Revisions are not
Python files: they are built from the SQL pairs on disk, so a migration is exactly two files. Not here: what is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import LiteralString, cast

import psycopg
import sqlalchemy
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionMap

from penguin_pipelines.errors import Busy, SchemaError
from penguin_pipelines.lib import db
from penguin_pipelines.lib.sql import blocks

HERE = Path(__file__).parent
MIGRATOR_LOCK = 7_201_117
Report = Callable[[str], None]


@dataclass(frozen=True)
class Revision:
    """One numbered pair of SQL files of a tier."""

    tier: str
    number: str
    name: str
    folder: Path

    def statements(self, direction: str) -> str:
        """SQL text of `up` or `down`, with the tier's name filled in."""
        return (self.folder / f"{self.name}.{direction}.sql").read_text().replace("{{tier}}", self.tier)

    @property
    def why(self) -> str:
        """First comment line of the up file."""
        return self.statements("up").splitlines()[0].removeprefix("-- ")


def revisions(tier: str) -> list[Revision]:
    """Every revision of a tier in order, the shared foundation first."""
    found = [
        Revision(tier, path.name[:4], path.name.removesuffix(".up.sql"), path.parent)
        for folder in (HERE / "common", HERE / tier)
        for path in folder.glob("[0-9][0-9][0-9][0-9]_*.up.sql")
    ]
    return sorted(found, key=lambda r: r.number)


class _SqlScripts(ScriptDirectory):
    """Alembic's view of the SQL pairs: modules are made in memory."""

    def __init__(self, tier: str) -> None:
        super().__init__(str(HERE / tier), version_locations=[str(HERE / tier)])
        self.revision_map = RevisionMap(lambda: self._scripts(tier))

    def _scripts(self, tier: str) -> Iterator[Script]:
        previous = None
        for revision in revisions(tier):
            module = ModuleType(revision.name)
            module.__doc__ = revision.why
            module.__dict__.update(
                revision=revision.number,
                down_revision=previous,
                upgrade=_runs(revision, "up"),
                downgrade=_runs(revision, "down"),
            )
            previous = revision.number
            yield Script(module, revision.number, str(revision.folder / f"{revision.name}.up.sql"))


def _runs(revision: Revision, direction: str) -> Callable[[], None]:
    def run() -> None:
        driver = _driver(op.get_bind())
        driver.execute("set local role pm_owner")
        driver.execute("set local lock_timeout = '5s'")
        driver.execute("set local search_path = public")
        driver.execute(cast("LiteralString", revision.statements(direction)))
        driver.execute("reset role")

    return run


def _driver(connection: sqlalchemy.Connection) -> psycopg.Connection:
    return cast("psycopg.Connection", connection.connection.driver_connection)


@contextmanager
def _migrating(url: str, tier: str) -> Iterator[sqlalchemy.Connection]:
    """A connection that holds the one migrator lock of its database, taken by polling: a blocking wait can deadlock
    with CREATE INDEX CONCURRENTLY of the migrator that holds it."""
    db.check(url, tier)
    engine = sqlalchemy.create_engine(db.sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        driver = _driver(connection)
        deadline = time.monotonic() + 60
        while not driver.execute("select pg_try_advisory_lock(%s)", [MIGRATOR_LOCK]).fetchone()[0]:  # type: ignore[index]
            driver.rollback()
            if time.monotonic() > deadline:
                raise Busy(
                    f"Another migration of tier '{tier}' has been running for over a minute; wait for it and try again."
                )
            time.sleep(0.2)
        driver.commit()
        try:
            yield connection
        finally:
            driver.rollback()
            driver.execute("select pg_advisory_unlock(%s)", [MIGRATOR_LOCK])
            driver.commit()
    engine.dispose()


def _bootstrap(connection: sqlalchemy.Connection, tier: str) -> None:
    """Roles of the cluster, and the schema that holds the version table."""
    driver = _driver(connection)
    try:
        with driver.transaction():
            driver.execute(cast("LiteralString", (HERE / "roles.sql").read_text()))
            driver.execute("create schema if not exists penguin authorization pm_owner")
    except psycopg.errors.InsufficientPrivilege as e:
        raise SchemaError(
            f"The login of tier '{tier}' may not create the roles ({e.diag.message_primary}). "
            "Have a superuser run penguin_pipelines/migrations/roles.sql in this database once, then migrate again."
        ) from None


def _walk(connection: sqlalchemy.Connection, tier: str, fn: Callable[..., list[MigrationStep]], report: Report) -> None:
    script = _SqlScripts(tier)

    def reporting(rev: object, _: MigrationContext) -> list[MigrationStep]:
        steps = fn(script, rev)
        for step in steps:
            report(f"{tier}: {step}")
        return steps

    environment = EnvironmentContext(Config(), script)
    environment.configure(
        connection=connection, fn=reporting, version_table_schema="penguin", transaction_per_migration=True
    )
    with environment.begin_transaction():
        environment.run_migrations()
    connection.commit()


def up(url: str, tier: str, *, to: str = "head", report: Report = lambda _: None) -> None:
    """Brings a tier to revision `to`. Safe to repeat and to run from several machines at once."""
    _known(tier, to)
    with _migrating(url, tier) as connection:
        _bootstrap(connection, tier)
        _walk(connection, tier, lambda script, rev: script._upgrade_revs(to, rev), report)


def down(url: str, tier: str, *, to: str = "base", report: Report = lambda _: None) -> None:
    """Takes a tier back to revision `to`. Roles stay: they belong to the cluster."""
    _known(tier, to)
    with _migrating(url, tier) as connection:
        _bootstrap(connection, tier)
        _walk(connection, tier, lambda script, rev: script._downgrade_revs(to, rev), report)


def _known(tier: str, to: str) -> None:
    valid = [r.number for r in revisions(tier)]
    if to not in ("head", "base", *valid):
        raise SchemaError(f"Tier '{tier}' has no revision '{to}'; it has {', '.join(valid)}.")


def head(tier: str) -> str:
    """Newest revision that this release brings."""
    return revisions(tier)[-1].number


def current(connection: psycopg.Connection) -> str | None:
    """Revision that a database is at; None without our schema."""
    if connection.execute("select to_regclass('penguin.alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("select version_num from penguin.alembic_version").fetchone()
    return row[0] if row else None


def require_head(connection: psycopg.Connection, tier: str) -> None:
    """Stops a run against a schema that is missing, older or newer than this release."""
    have, want = current(connection), head(tier)
    if have == want:
        return
    if have is None:
        raise SchemaError(f"Tier '{tier}' has no schema yet; make it with: penguin migrate up --tier {tier}")
    if have > want:
        raise SchemaError(
            f"Tier '{tier}' is at revision {have}, newer than this release ({want}); install the newer release."
        )
    raise SchemaError(
        f"Tier '{tier}' is at revision {have}, behind {want}; bring it up with: penguin migrate up --tier {tier}"
    )


def catalog(connection: psycopg.Connection) -> list[str]:
    """One line per column, constraint, index, trigger, policy, grant and function of our schemas, partitions left out.
    The order and the words are the same on Postgres 15 to 18."""
    with connection.transaction(force_rollback=True):
        connection.execute("set local search_path = pg_catalog")  # else names are shortened by whoever asks
        return [row[0] for row in connection.execute(blocks("catalog")["catalog"])]


def snapshot_path(tier: str) -> Path:
    """Where the catalog after all migrations of a tier is kept."""
    return HERE / tier / "schema.txt"


def verify(url: str, tier: str) -> list[str]:
    """Differences between the live catalog and the kept one; empty when equal."""
    with db.connect(url, tier) as connection:
        require_head(connection, tier)
        live = set(catalog(connection))
    kept = set(snapshot_path(tier).read_text().splitlines())
    return [f"missing: {x}" for x in sorted(kept - live)] + [f"unknown: {x}" for x in sorted(live - kept)]


def plan(url: str, tier: str) -> list[Revision]:
    """Revisions that `up` would apply."""
    with db.connect(url, tier) as connection:
        have = current(connection)
    return [r for r in revisions(tier) if have is None or r.number > have]
