"""The local services: started once, found again, mended after a crash, stopped alone.

Not here: what lies inside the databases (tests/migrations).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.lib import services
from penguin_pipelines.settings import DATABASES, Settings


def local(home: Path, port: int | None = None) -> Settings:
    """Settings under which everything is local, whatever the environment says."""
    urls = {f"{name}_url": None for name in (*DATABASES, "redis")}
    rest = {"env": "local", "postgres_port": port, "redis_port": None, "pseudonym_key": None}
    return Settings(_env_file=None, home=home, **urls, **rest)  # type: ignore[arg-type, call-arg]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = local(tmp_path_factory.mktemp("home"))
    try:
        yield settings
    finally:
        services.down(settings)


def answer(settings: Settings) -> None:
    """Both servers answer where `endpoints` says."""
    urls = services.endpoints(settings).urls
    for name, database in DATABASES.items():
        with psycopg.connect(urls[name]) as connection:
            assert connection.info.dbname == database
    with closing(redis.Redis.from_url(urls["redis"])) as client:
        assert client.ping()


def test_up_starts_both_servers_and_a_second_up_finds_them(settings: Settings) -> None:
    said: list[str] = []
    services.up(settings, said.append)
    answer(settings)
    first, again = services.running(settings), []
    services.up(settings, again.append)
    assert services.running(settings) == first
    assert any(line.startswith("Started Postgres") for line in said)
    assert again == []


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_killed_server_is_started_again_with_its_data(settings: Settings, name: str) -> None:
    urls = services.up(settings).urls
    with psycopg.connect(urls["queue"]) as connection:
        connection.execute("create table if not exists kept (n integer)")
    before = services.running(settings)
    os.kill(before[name].pid, signal.SIGKILL)
    services.up(settings)
    answer(settings)
    after = services.running(settings)
    assert after[name].pid != before[name].pid
    assert after[name].port == before[name].port
    with psycopg.connect(urls["queue"]) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)


def test_a_fixed_port_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        elsewhere = local(tmp_path / "home", port)
        with pytest.raises(ServiceError, match=rf"Port {port} \(PENGUIN_POSTGRES_PORT\) is taken"):
            services.up(elsewhere)
    assert services.running(elsewhere) == {}


def test_data_without_their_password_are_not_touched(settings: Settings, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "postgres-18").mkdir(parents=True)
    (home / "postgres-18" / "PG_VERSION").write_text("18\n")
    with pytest.raises(ServiceError, match=r"no .*services\.json with their password"):
        services.up(local(home))
    assert sorted(p.name for p in (home / "postgres-18").iterdir()) == ["PG_VERSION"]


def test_down_stops_what_up_started_and_nothing_is_said_to_run(settings: Settings) -> None:
    services.up(settings)
    said: list[str] = []
    services.down(settings, said.append)
    assert [line.split(" (")[0] for line in said] == ["Stopped Postgres", "Stopped Valkey"]
    assert services.running(settings) == {}
    with pytest.raises(ServiceError, match="not running; start them with: penguin up"):
        services.endpoints(settings)
