"""Servers and databases of the tests as objects, and waiting for a horizon. Fixtures are in conftest.py."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import DATABASES, TIERS

PSEUDONYM_KEY = "a key that only the tests use"
# A test server may lose everything with its machine. Analysis in the background would take transaction ids.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "512",
}
_PATIENCE = 60.0
_MEMORY = Path("/dev/shm")
_ROOM = 8 * 1024**3


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def place(shared: Path) -> Path:
    """A new folder for the home of a server, in memory where there is plenty.

    A database that is copied and dropped is a thousand files made and removed, and there are file systems that make
    files slowly for a minute after many were removed.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
        may_run = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
        if may_run and min(free, shutil.disk_usage(_MEMORY).free) >= _ROOM:
            folder = Path(tempfile.mkdtemp(prefix="penguin-tests-", dir=_MEMORY))
            folder.chmod(0o711)  # the account that runs Postgres has to enter
            return folder
    return Path(tempfile.mkdtemp(prefix="servers-", dir=shared))


@dataclass(frozen=True)
class Server:
    """A running Postgres, and the Valkey that was started with it."""

    kind: str
    url: str
    redis_url: str
    shared: str
    token: str
    home: str = ""
    """Where it was started; empty for one that is not ours."""

    def database_url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def execute(self, statement: str, *names: str) -> None:
        """One statement in the maintenance database; `{}` are names."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def template(self, tier: str) -> str:
        """The migrated database of a tier that copies are made of; made by whoever needs it first."""
        name = f"penguin_template_{self.token}_{tier}"
        made = Path(self.shared) / f"{self.kind}-{tier}.made"
        with locked(Path(self.shared) / f"{self.kind}.lock"):
            if not made.exists():
                self.execute("drop database if exists {} with (force)", name)  # half made by a worker that failed
                self.execute("create database {}", name)
                runner.up(self.database_url(name), tier)
                made.touch()
        return name

    def kept(self, label: str, make: Callable[[], str]) -> str:
        """A template that takes long to make: a copy of the database that `make` names, made by whoever needs it first.

        The source is left alone and nobody may be connected to it.
        """
        name = f"penguin_template_{self.token}_{label}"
        made = Path(self.shared) / f"{self.kind}-{label}.made"
        with locked(Path(self.shared) / f"{self.kind}-{label}.lock"):
            if not made.exists():
                source = make()
                self.execute("drop database if exists {} with (force)", name)
                self.execute("create database {} template {} strategy wal_log", name, source)
                made.touch()
        return name


class Databases(Mapping[str, str]):
    """URL by tier. A database is made when its URL is first asked for: most tests need two of the four."""

    def __init__(self, server: Server, templates: Mapping[str, str] | None = None, label: str | None = None) -> None:
        self._server = server
        self._templates = templates or {}
        self._label = label
        self._made: dict[str, str] = {}

    def __getitem__(self, tier: str) -> str:
        if tier not in self._made:
            if tier not in DATABASES:
                raise KeyError(tier)
            name = f"penguin_test_{self._label or secrets.token_hex(6)}_{tier}"
            if self._label:
                self._server.execute("drop database if exists {} with (force)", name)
            if tier in TIERS:
                template = self._templates.get(tier) or self._server.template(tier)
                # Written through the log: copying files would force a checkpoint each time.
                self._server.execute("create database {} template {} strategy wal_log", name, template)
            else:
                self._server.execute("create database {}", name)
            self._made[tier] = name
        return self._server.database_url(self._made[tier])

    def __iter__(self) -> Iterator[str]:
        return iter(TIERS)

    def __len__(self) -> int:
        return len(TIERS)

    def copy(self, *tiers: str, label: str | None = None) -> Databases:
        """Databases that begin with what these tiers hold when they are asked for; nobody may be connected then."""
        return Databases(self._server, {tier: self.name(tier) for tier in tiers}, label)

    def use(self, tier: str, template: str) -> None:
        """Makes the tier's database anew, as a copy of a template, when it is next asked for."""
        if made := self._made.pop(tier, None):
            self._server.execute("drop database {} with (force)", made)
        self._templates = {**self._templates, tier: template}

    def name(self, tier: str) -> str:
        """The name of the database of a tier."""
        return urlsplit(self[tier]).path.lstrip("/")

    def drop(self) -> None:
        for name in self._made.values():
            self._server.execute("drop database {} with (force)", name)
        self._made.clear()


def settle(url: str) -> None:
    """Waits until everything committed so far lies below the horizon of that server.

    Transactions of other workers' tests on the same server hold the horizon back, as those of other databases would.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select pg_current_xact_id()::text").fetchone()
        assert row is not None
        deadline = time.monotonic() + _PATIENCE
        while connection.execute("select pg_snapshot_xmin(pg_current_snapshot()) > %s::xid8", [row[0]]).fetchone() != (
            True,
        ):
            assert time.monotonic() < deadline, "A writing transaction has been open for a minute."
            time.sleep(0.02)
