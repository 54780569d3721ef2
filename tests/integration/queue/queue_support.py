"""What tests of the queue tier share: a queue of their own, workers in threads and processes, patience."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import Enqueued, Producer
from penguin_pipelines.lib.queue.store import Store
from penguin_pipelines.lib.queue.worker import Options, Worker

QUEUE = "tests"
MODULES = ("penguin_pipelines.lib.queue.builtin", "queue_handlers")
PATIENCE = 40.0


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """The first true answer of a condition; fails with a sentence when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"Not within {PATIENCE:.0f} s: {what}."
        time.sleep(0.02)


class Tested:
    """A queue that exists for one test, and its tier."""

    __test__ = False

    def __init__(self, url: str, redis_url: str | None) -> None:
        self.url = url
        self.redis_url = redis_url
        self.producer = Producer(url, redis_url)
        self.connection = db.open_connection(url, "queue", autocommit=True)
        self.setup()

    def setup(self) -> None:
        self.connection.execute(
            "insert into job_queues (name, max_concurrent_jobs, timeout_seconds, retry_attempts, backoff_base_seconds) "
            "values (%s, 10000, 30, 3, 60)",
            [QUEUE],
        )
        self.connection.execute(
            "create table effects (job_id uuid, n integer, attempt integer, tenant text, at timestamptz default now());"
            "grant select, insert on effects to pm_worker"
        )

    @property
    def urls(self) -> dict[str, str]:
        return {"queue": self.url, **({"redis": self.redis_url} if self.redis_url else {})}

    def add(self, type_: str = "noop", payload: dict[str, Any] | None = None, **more: Any) -> UUID:
        return self.enqueued(type_, payload, **more).id

    def enqueued(self, type_: str = "noop", payload: dict[str, Any] | None = None, **more: Any) -> Enqueued:
        return self.producer.enqueue(NewJob(more.pop("queue", QUEUE), type_, payload or {}, **more))

    def rows(self, query: str, *values: Any) -> list[Any]:
        return self.connection.execute(query, values or None).fetchall()  # type: ignore[arg-type]

    def one(self, query: str, *values: Any) -> Any:
        (row,) = self.rows(query, *values)
        return row[0] if len(row) == 1 else row

    def change(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement, values or None)  # type: ignore[arg-type]

    def status(self, job: UUID) -> str:
        return self.one("select status from jobs where id = %s", job)

    def count(self, status: str) -> int:
        return self.one("select count(*) from jobs where status = %s", status)

    def store(self, name: str = "a worker") -> Store:
        return Store(self.url, name)

    @contextlib.contextmanager
    def working(self, **options: Any) -> Iterator[Worker]:
        """A worker in a thread of this process, stopped at the end."""
        given = {"queues": (QUEUE,), "concurrency": 2, "modules": MODULES, "poll": 0.2, "grace": 10.0} | options
        worker = Worker(self.urls, Options(**given))
        failed: list[BaseException] = []

        def run() -> None:
            try:
                worker.run()
            except BaseException as e:  # noqa: BLE001  # shown by the thread that started us
                failed.append(e)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(PATIENCE)
        assert not thread.is_alive(), "The worker did not stop."
        if failed:
            raise failed[0]

    def work(self, **options: Any) -> Worker:
        """Works until nothing is due."""
        with self.working(until_empty=True, **options) as worker:
            eventually(
                lambda: (
                    not self.rows(
                        "select from jobs where status = 'processing' or status = 'queued' and run <= now() limit 1"
                    )
                ),
                "all due jobs ended",
            )
        return worker


@pytest.fixture(name="tested")
def tested_fixture(tiers: Any, redis_url: str) -> Iterator[Tested]:
    """A queue with Redis."""
    made = Tested(tiers["queue"], redis_url)
    yield made
    made.producer.close()
    made.connection.close()


@contextlib.contextmanager
def command(*arguments: str, env: dict[str, str], quiet: bool = False) -> Iterator[subprocess.Popen[str]]:
    """`penguin queue ...` in a process of its own; killed at the end if it still runs."""
    code = "from penguin_pipelines.cli_queue import queue_app; queue_app()"
    here = str(Path(__file__).parent)
    full = {**os.environ, **env, "PYTHONPATH": here}
    to = subprocess.DEVNULL if quiet else subprocess.PIPE
    pipes: dict[str, Any] = {"stdout": to, "stderr": to, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=full, start_new_session=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(arguments: Sequence[str], env: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    with command(*arguments, env=env) as process:
        output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, output, errors


class OwnRedis:
    """A Valkey that a test may stop, start and erase."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--save", "", "--bind", "127.0.0.1", "--dir", str(self._folder)]
        self._process = subprocess.Popen([services.find_valkey(), *arguments], stdout=subprocess.DEVNULL)
        eventually(self._answers, "the own Valkey answers")

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(name="own_redis")
def own_redis_fixture(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Valkey of this test alone."""
    made = OwnRedis(tmp_path)
    made.start()
    yield made
    made.client.close()
    made.stop()


def tenant() -> UUID:
    return UUID(bytes=secrets.token_bytes(16))


def attempts(connection: psycopg.Connection, job: UUID) -> list[Any]:
    """What the log says of each attempt of a job."""
    return connection.execute(
        "select attempt_number, status, context ->> 'error_class', duration_ms from job_logs "
        "where job_id = %s and status is not null order by attempt_number",
        [job],
    ).fetchall()
