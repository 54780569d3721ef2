"""Real servers for the tests: one Postgres per version for all workers, templates migrated once, a fresh copy per test.

Where the server comes from: PENGUIN_TEST_POSTGRES_URL (a superuser of a server that may be filled with databases), else
the packaged Postgres, or the one in the folder PENGUIN_POSTGRES_BIN, in a temporary home. Tests marked `every_postgres`
also run on a Postgres of the system when it is of another version. Not here: rows (factories.py).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from psycopg import sql
from servers import FAST, PSEUDONYM_KEY, Databases, Server, locked, place

from penguin_pipelines.lib import dbt, services
from penguin_pipelines.settings import DATABASES, Settings

GIVEN = os.environ.get("PENGUIN_TEST_POSTGRES_URL")
CHOSEN = os.environ.get("PENGUIN_POSTGRES_BIN")
VALKEY_DATABASES = 16
"""What a Valkey has unless it is told otherwise; more workers than that share."""


# -- servers ---------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_postgres: runs on each Postgres version that is at hand")
    config.addinivalue_line("markers", "alters: changes schemas and therefore needs databases of its own")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" in metafunc.fixturenames:
        everywhere = metafunc.definition.get_closest_marker("every_postgres")
        kinds = _kinds() if everywhere else _kinds()[:1]
        metafunc.parametrize("postgres", kinds, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that build run first: they are the longest, and at the end one worker would be left alone with one."""
    items.sort(key=lambda item: "dbt_home" not in getattr(item, "fixturenames", ()))


def _kinds() -> list[str]:
    if GIVEN:
        return ["given"]
    if CHOSEN:
        return ["chosen"]
    return ["packaged", *(["system"] if _system_folder() else [])]


def _system_folder() -> Path | None:
    """Programs of the oldest supported Postgres of the system, unless it is the version that is packaged."""
    packaged = services.find_postgres(_settings(Path("unused"))).major
    majors = {int(p.parent.name): p for p in Path("/usr/lib/postgresql").glob("[0-9]*/bin") if (p / "initdb").exists()}
    supported = sorted(m for m in majors if m >= services.OLDEST_MAJOR and m != packaged)
    return majors[supported[0]] if supported else None


def _settings(home: Path, folder: Path | None = None) -> Settings:
    """Settings of a local server, whatever the environment says; beside a given Postgres only Valkey is local."""
    urls = {"redis_url": None} | {f"{name}_url": GIVEN for name in DATABASES}
    values = {"env": "local", "postgres_port": None, "redis_port": None, "pseudonym_key": PSEUDONYM_KEY}
    return Settings(_env_file=None, home=home, postgres_bin=folder, **urls, **values)  # type: ignore[arg-type, call-arg]


def _shared_folder(config: pytest.Config) -> Path:
    """The temporary folder of the whole run; under xdist each worker has a folder of its own inside it."""
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return base.parent if hasattr(config, "workerinput") else base


def _start(kind: str, shared: Path) -> Server:
    home = place(shared) / "home"
    home.mkdir()
    try:
        return _started(kind, shared, home)
    except BaseException:
        _clear(home)
        raise


def _started(kind: str, shared: Path, home: Path) -> Server:
    token = secrets.token_hex(4)
    if GIVEN:
        return Server(kind, GIVEN, services.up(_settings(home)).urls["redis"], str(shared), token, str(home))
    folder = {"system": _system_folder(), "chosen": Path(CHOSEN) if CHOSEN else None}.get(kind)
    endpoints = services.up(_settings(home, folder))
    url = urlunsplit(urlsplit(endpoints.urls["oltp"])._replace(path="/postgres"))
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in FAST.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.SQL(value)))  # type: ignore[arg-type]
        connection.execute("select pg_reload_conf()")
    return Server(kind, url, endpoints.urls["redis"], str(shared), token, str(home))


def _stop(state: Path) -> None:
    server = Server(**json.loads(state.read_text()))
    if server.kind == "given":
        for made in Path(server.shared).glob("given-*.made"):
            label = made.stem.removeprefix("given-")
            server.execute("drop database if exists {} with (force)", f"penguin_template_{server.token}_{label}")
    _clear(Path(server.home))


def _clear(home: Path) -> None:
    """Stops what runs in a home and removes it with its data."""
    elsewhere = None
    if (home / "services.json").exists():
        services.down(_settings(home))
        elsewhere = json.loads((home / "services.json").read_text())["postgres_data"]
    shutil.rmtree(home.parent)
    if elsewhere and Path(elsewhere).is_absolute():
        shutil.rmtree(Path(elsewhere).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stops the servers when the last test of all workers is over: this process outlives its workers."""
    if hasattr(session.config, "workerinput"):
        return
    for state in _shared_folder(session.config).glob("server-*.json"):
        _stop(state)
        state.unlink()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Server:
    """One Postgres server for all workers, started by whichever needs it first."""
    shared = _shared_folder(request.config)
    state = shared / f"server-{request.param}.json"
    with locked(shared / f"{request.param}.start.lock"):
        if not state.exists():
            state.write_text(json.dumps(asdict(_start(request.param, shared))))
    return Server(**json.loads(state.read_text()))


# -- what tests ask for ----------------------------------------------------------------------------


@pytest.fixture
def tiers(postgres: Server, database_label: str) -> Iterator[Databases]:
    """Fresh migrated databases, one per tier, for this test alone; their names are those of the test before."""
    databases = Databases(postgres, label=database_label)
    yield databases
    databases.drop()


@pytest.fixture
def database_label(postgres: Server) -> str:
    """What dbt has parsed holds for one name of a database, so the tests of a worker use one after the other."""
    return f"{postgres.token}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@pytest.fixture(scope="session")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for working files of dbt, shared by the tests of this worker: nothing is parsed twice."""
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture(scope="session")
def dbt_server(dbt_folder: Path) -> Iterator[list[str]]:
    """A dbt that this worker has loaded (forked.py), as the command that has it do something."""
    script = str(Path(__file__).with_name("forked.py"))
    with tempfile.TemporaryDirectory(prefix="penguin-forked-") as folder:
        path = Path(folder) / "socket"
        with (
            # Nothing here is named like a dbt: who kills those of this process means a build.
            (dbt_folder / "server.log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, script, "serve", str(path)], stdin=subprocess.PIPE, stdout=log, stderr=log
            ) as server,
        ):
            while not path.exists():
                assert server.poll() is None, (dbt_folder / "server.log").read_text()
                time.sleep(0.05)
            yield [sys.executable, "-I", "-S", script, "call", str(path)]
            assert server.stdin is not None
            server.stdin.close()


@pytest.fixture(scope="session")
def dbt_program() -> Callable[[Sequence[str]], list[str]]:
    """dbt as a user's build runs it, for a test that wants it in place of the one that is loaded."""
    return dbt.build_command


@pytest.fixture
def dbt_home(
    dbt_folder: Path,
    dbt_server: list[str],
    dbt_program: Callable[[Sequence[str]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Folder for working files of dbt, with a dbt that is loaded and has parsed the project already."""
    monkeypatch.setattr(dbt, "build_command", lambda arguments: [*dbt_server, *dbt.dbt_command(arguments)[1:]])
    return dbt_folder


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> Iterator[Databases]:
    """Migrated databases shared by the tests of this worker: for looking at, not for writing."""
    databases = Databases(postgres)
    yield databases
    databases.drop()


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """URL of a database that nobody has migrated."""
    name = f"penguin_test_{secrets.token_hex(6)}_empty"
    postgres.execute("create database {}", name)
    yield postgres.database_url(name)
    postgres.execute("drop database {} with (force)", name)


@pytest.fixture
def redis_url(postgres: Server) -> str:
    """An empty database of the Valkey that all workers share: hints of another test must not wake or alarm this one."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % VALKEY_DATABASES
    url = urlunsplit(urlsplit(postgres.redis_url)._replace(path=f"/{number}"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def pseudonym_key() -> str:
    """The key of pseudonyms in tests."""
    return PSEUDONYM_KEY


@pytest.fixture
def settings_env(tiers: Databases, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process whose tiers are the fresh databases of this test; gives what it has set."""
    for name in list(os.environ):
        if name.startswith("PENGUIN_"):
            monkeypatch.delenv(name)
    values = {f"PENGUIN_{name.upper()}_URL": tiers[name] for name in DATABASES}
    values |= {
        "PENGUIN_ENV": "local",
        "PENGUIN_HOME": str(tmp_path / "home"),
        "PENGUIN_PSEUDONYM_KEY": PSEUDONYM_KEY,
        "PENGUIN_REDIS_URL": redis_url,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values
