"""The local services: one Postgres with five databases, and one Valkey, for every URL that nobody gave.

Here is what others call: `up`, `down`, `running`, `endpoints`. The parts: programs (found), account (as whom Postgres
runs), postgres, valkey (one server each), state (the file that remembers ports and passwords), processes. What lies
inside the databases (schemas, roles, rights) belongs to the migrations; opening connections for work belongs to
`lib/db.py`.

Nothing half made survives: whatever takes time is made beside its place and renamed, and one `up` or `down`
at a time holds `up.lock`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.lib.services.account import Account, reachable, readable
from penguin_pipelines.lib.services.postgres import ANALYST, SUPERUSER, PostgresServer, connect, make_databases
from penguin_pipelines.lib.services.processes import (
    HOST,
    Report,
    ServiceState,
    choose_port,
    last_lines,
    listening,
    sweep,
    wait_until,
)
from penguin_pipelines.lib.services.programs import OLDEST_MAJOR, find_postgres, find_valkey
from penguin_pipelines.lib.services.state import State, one_at_a_time, prepare_home
from penguin_pipelines.lib.services.valkey import ValkeyServer
from penguin_pipelines.settings import DATABASES, Settings

__all__ = [
    "OLDEST_MAJOR",
    "Endpoints",
    "PostgresServer",
    "ServiceState",
    "down",
    "endpoints",
    "find_postgres",
    "find_valkey",
    "prepare_home",
    "running",
    "up",
]

_NOT_RUNNING = "The local services are not running; start them with: penguin up"


@dataclass(frozen=True)
class Endpoints:
    """Where everything is; the URLs hold passwords, so mask them before showing them."""

    urls: Mapping[str, str]
    """By `oltp`, `content`, `queue`, `olap`, `dagster` and `redis`."""
    analyst_url: str | None
    """An analyst's login on the local warehouse; None when the warehouse is not ours."""
    pseudonym_key: str

    def __repr__(self) -> str:
        return f"Endpoints({', '.join(self.urls)})"


def _quiet(_: str) -> None:
    """Reports nothing."""


def _local(settings: Settings) -> set[str]:
    """The databases for which no URL was given."""
    return {name for name in DATABASES if settings.url(name) is None}


def _compose(settings: Settings, state: State | None) -> Endpoints:
    urls: dict[str, str] = {}
    for name in (*DATABASES, "redis"):
        if given := settings.url(name):
            urls[name] = given
        elif state is not None and name == "redis":
            urls[name] = f"redis://:{state.redis_password}@{HOST}:{state.redis_port}/0"
        elif state is not None:
            server = f"{SUPERUSER}:{state.postgres_password}@{HOST}:{state.postgres_port}"
            urls[name] = f"postgresql://{server}/{DATABASES[name]}"
    analyst = None
    if state is not None and settings.url("olap") is None:
        server = f"{ANALYST}:{state.analyst_password}@{HOST}:{state.postgres_port}"
        analyst = f"postgresql://{server}/{DATABASES['olap']}"
    key = settings.pseudonym_key.get_secret_value() if settings.pseudonym_key else None
    if key is None and state is not None:
        key = state.pseudonym_key
    if key is None:
        raise ServiceError(_NOT_RUNNING)
    return Endpoints(urls, analyst, key)


def _nothing_local(settings: Settings) -> bool:
    return not _local(settings) and settings.redis_url is not None and settings.pseudonym_key is not None


def up(settings: Settings, report: Report = _quiet) -> Endpoints:
    """Starts what is needed and does not run yet. Given URLs replace local databases one by one."""
    if _nothing_local(settings):
        return _compose(settings, None)
    home = prepare_home(settings)
    with one_at_a_time(home, report):
        sweep(home)
        state = State.load(home)
        if state is None:
            for old in (*home.glob("postgres-*/PG_VERSION"), *home.glob("redis/valkey.conf")):
                raise ServiceError(
                    f"There are data in {old.parent} but no {home / 'services.json'} with their password; "
                    "restore that file, or run `penguin down` and delete the folder with the data."
                )
            state = State.new()
            state.save(home)
        if needed := _local(settings):
            _up_postgres(settings, home, state, needed, report)
        if settings.redis_url is None:
            _up_valkey(settings, home, state, report)
        return _compose(settings, state)


def _up_postgres(settings: Settings, home: Path, state: State, needed: set[str], report: Report) -> None:
    server = state.server(home)
    found = server.running() if server else None
    if server is None or found is None:
        server = _place_postgres(settings, home, state, report)

    def port() -> int:
        return choose_port("PENGUIN_POSTGRES_PORT", settings.postgres_port, state.postgres_port, report)

    for is_last in (False, True):
        running = server.ensure_started(lambda: find_postgres(settings), port)
        if running.port != state.postgres_port:
            state.postgres_port = running.port
            state.save(home)
        try:
            with connect(server, running.port, state.postgres_password) as connection:
                make_databases(connection, needed, state.analyst_password)
            break
        except ServiceError:
            # A server that was being killed when we found it is gone now; start it again, once.
            if is_last or server.running():
                raise
            found = None
    if found is None:
        report(f"Started Postgres on port {running.port}.")
    _note_other_port("Postgres", running.port, settings.postgres_port, report)


def _place_postgres(settings: Settings, home: Path, state: State, report: Report) -> PostgresServer:
    """The data folder of the installed version, made when it does not exist."""
    tools = find_postgres(settings)
    account = Account.choose(tools.bin / "postgres")
    base, name = home, f"postgres-{tools.major}"
    if state.postgres_data and Path(state.postgres_data).is_absolute():
        base = Path(state.postgres_data).parent
    elif account.is_other:
        if reachable(home.parent):
            home.chmod(home.stat().st_mode | 0o011)  # a way through, no look inside
        else:
            base = Path(tempfile.mkdtemp(dir="/var/lib", prefix="penguin-"))
            base.chmod(0o711)
            report(f"Postgres may not run as root and nobody else may enter {home}; its data are in {base}.")
    if base != home:
        sweep(base)
    data = base / name
    relative = name if base == home else str(data)
    if state.postgres_data not in (None, relative):
        report(f"The data in {home / (state.postgres_data or '')} are of another version and stay unused.")
    if state.postgres_data != relative:
        state.postgres_data = relative
        state.save(home)
    server = PostgresServer(data, home / "logs" / "postgres.log")
    if not (data / "PG_VERSION").exists():
        report(f"Making the data folder of Postgres {tools.major}.")
        server.initialise(readable(tools, account, base), account, state.postgres_password)
    return server


def _up_valkey(settings: Settings, home: Path, state: State, report: Report) -> None:
    server = ValkeyServer(home)
    failure = ""
    for _ in range(5):
        if server.running() and wait_until(lambda: server.answers(state.redis_password), 5):
            running = server.running()
            break
        server.stop(state.redis_password)
        port = choose_port("PENGUIN_REDIS_PORT", settings.redis_port, state.redis_port, report)
        failure = server.start(port, state.redis_password)
        if not failure:
            running = server.running()
            report(f"Started Valkey on port {port}.")
            break
        if "Failed listening" not in failure:
            running = None
            break
    else:
        running = None
    if running is None:
        raise ServiceError(f"Valkey does not start: {last_lines(failure)}. The whole log is {server.log}.")
    if running.port != state.redis_port:
        state.redis_port = running.port
        state.save(home)
    _note_other_port("Valkey", running.port, settings.redis_port, report)


def _note_other_port(name: str, port: int, wanted: int | None, report: Report) -> None:
    if wanted not in (None, port):
        report(f"{name} runs on port {port}, not {wanted}; `penguin down` and `penguin up` move it.")


def running(settings: Settings) -> dict[str, ServiceState]:
    """The local services that run, by `postgres` and `redis`; also those that given URLs make unnecessary."""
    try:
        state = State.load(settings.home)
    except ServiceError:
        state = None
    server = state.server(settings.home) if state else None
    found = (server.running() if server else None, ValkeyServer(settings.home).running())
    return {service.name: service for service in found if service}


def endpoints(settings: Settings) -> Endpoints:
    """Where everything is, without starting anything; ServiceError when a needed local service is down."""
    if _nothing_local(settings):
        return _compose(settings, None)
    state = State.load(settings.home)
    alive = running(settings)
    needed = (["postgres"] if _local(settings) else []) + (["redis"] if settings.redis_url is None else [])
    if state is None or not all(name in alive and listening(alive[name].port) for name in needed):
        raise ServiceError(_NOT_RUNNING)
    state.postgres_port = alive["postgres"].port if "postgres" in alive else state.postgres_port
    state.redis_port = alive["redis"].port if "redis" in alive else state.redis_port
    return _compose(settings, state)


def down(settings: Settings, report: Report = _quiet) -> None:
    """Stops what `up` started, and nothing else."""
    home = settings.home
    if not home.is_dir() or not (home / "up.lock").exists():
        report("No local service is running.")
        return
    prepare_home(settings)  # says so when it is another user's
    with one_at_a_time(home, report):
        try:
            state = State.load(home)
        except ServiceError:
            state = None
        log = home / "logs" / "postgres.log"
        # Also a server of another version, or one whose services.json was lost.
        folders = {home / path.parent for path in home.glob("postgres-*/postmaster.pid")}
        if state and state.postgres_data:
            folders.add(home / state.postgres_data)
        stopped = [PostgresServer(folder, log).stop() for folder in sorted(folders)]
        stopped.append(ValkeyServer(home).stop(state.redis_password if state else None))
        for service in filter(None, stopped):
            report(f"Stopped {'Postgres' if service.name == 'postgres' else 'Valkey'} (port {service.port}).")
        if not any(stopped):
            report("No local service is running.")
