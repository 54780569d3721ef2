"""Dagster's real processes killed with -9 while they turn jobs of the queue into runs: each slot runs well once.

    python tests/integration/queue/daemon_kills.py               # about a quarter of an hour, every round
    python tests/integration/queue/daemon_kills.py --only going-daemon going-run

Starts servers, data and a daemon of its own in a temporary folder, with dagster.yaml as it is shipped. Each round has a
slot of its own and two jobs that ask for it; something is killed at a moment of the round, and the daemon starts again.
At the end every slot has one run that succeeded and both jobs ended with it, one line of success each in their log; a
run that was lost is counted and never doubled. The suite has the same decisions against a daemon that is played
(tests/definitions/test_analytics_jobs.py). Ends with 1 when a round did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from penguin_pipelines.lib import orchestrator, services
from penguin_pipelines.lib.queue.etl import QUEUE, slot_key
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.producer import Producer
from penguin_pipelines.settings import DATABASES, Settings, variable
from penguin_pipelines.terminal import say

PATIENCE = 600.0
RUNS = """
select r.run_id, r.status from runs as r join run_tags as t on t.run_id = r.run_id
where t.key = 'penguin/slot' and t.value = %s order by r.id
"""
JOBS = "select status, result ->> 'run_id', last_error_message from jobs where id = any(%s)"
SUCCESSES = "select count(*) from job_logs where job_id = any(%s) and status = 'success'"
ATTEMPTS = "select count(*) from job_logs where job_id = any(%s) and status is not null"


@dataclass(frozen=True)
class Round:
    """When something is killed, and what."""

    moment: str
    victim: str
    lost: int = 0
    """Runs that cannot end by themselves after this."""
    attempts: int | None = None
    """How often the jobs may be tried; the queue's number when None."""

    @property
    def name(self) -> str:
        return f"{self.moment}-{self.victim}"


ROUNDS = (
    Round("claimed", "daemon"),
    Round("requested", "daemon"),
    Round("going", "daemon"),
    Round("ended", "daemon"),
    Round("going", "run", lost=1),
    Round("requested", "all", lost=1),
    Round("going", "all", lost=1),
    Round("ended", "all"),
    # The daemon of `penguin serve`, which then ends and takes everything along.
    Round("going", "serve", lost=1),
    # Also the run that Dagster itself puts in its place: the job's only attempt fails, with the error.
    Round("going", "both", lost=2, attempts=1),
)


class Kills:
    """The rounds, one after the other, on one home."""

    def __init__(self, settings: Settings, urls: Mapping[str, str]) -> None:
        self.settings, self.urls = settings, urls
        self.env = orchestrator.environment(settings, urls) | {variable("home"): str(settings.home)}
        self.queue = psycopg.connect(urls["queue"], autocommit=True)
        self.dagster = psycopg.connect(urls["dagster"], autocommit=True)
        self.log = settings.home / "dagster.log"

    def run(self, number: int, given: Round) -> str:
        """One round; says what was seen. Raises AssertionError where it did not hold."""
        slot = datetime.now(UTC).replace(minute=5, second=0, microsecond=0) - timedelta(hours=number + 2)
        key = slot_key("hourly_metrics", slot)
        began = time.monotonic()
        with self._dagster(given.victim) as process:
            jobs = self._enqueue(slot, given)
            self._await(given, key, jobs)
            killed = [self._kill(given.victim, process, set())]
            if given.victim == "both":
                self._until(lambda: len(self._of(RUNS, key)) == 2, "the lost run is repeated", process)
                self._until(lambda: self._of(RUNS, key)[1][1] == "STARTED", "the repeated run goes", process)
                killed.append(self._kill("run", process, set(killed)))
                self._until(lambda: self._ended(jobs), "both jobs ended", process)
            with contextlib.nullcontext() if given.victim in ("run", "both") else self._again(process) as now:
                self._until(lambda: self._ended(jobs), "both jobs ended", now or process)
        return self._judge(given, key, jobs) + f" ({time.monotonic() - began:.0f} s)"

    def _judge(self, given: Round, key: str, jobs: list[UUID]) -> str:
        runs = self._of(RUNS, key)
        well = [run for run, status in runs if status == "SUCCESS"]
        failed = [run for run, status in runs if status == "FAILURE"]
        told = self._rows(self.queue, JOBS, [jobs])
        seen = f"runs {[status for _, status in runs]}, jobs {[job[0] for job in told]}"
        assert len(runs) == len(well) + len(failed), f"{key}: a run has not ended: {seen}"
        if given.attempts == 1:
            assert not well and {job[0] for job in told} == {"failed"}, f"{key}: {seen}"
            assert all(failed[-1] in job[2] for job in told), f"{key}: the error does not name the run: {told}"
            return f"{seen}, each with the error of its run"
        assert len(well) == 1, f"{key} ran {len(well)} times: {seen}"
        assert len(failed) <= given.lost, f"{key} lost {len(failed)} runs: {seen}"
        assert {job[:2] for job in told} == {("completed", well[0])}, f"{key}: {told}"
        successes = self._rows(self.queue, SUCCESSES, [jobs])[0][0]
        assert successes == len(jobs), f"{key}: {successes} successes in the log of {len(jobs)} jobs"
        tried = self._rows(self.queue, ATTEMPTS, [jobs])[0][0]
        return f"{seen}, {tried} attempts"

    # -- moments -----------------------------------------------------------------------------------

    def _enqueue(self, slot: datetime, given: Round) -> list[UUID]:
        with contextlib.closing(Producer(self.urls["queue"], self.urls["redis"])) as producer:
            payload = {"slot": slot.isoformat()}
            types = ("hourly_metrics", "campaign-aggregate")
            return [producer.enqueue(NewJob(QUEUE, t, payload, max_attempts=given.attempts)).id for t in types]

    def _await(self, given: Round, key: str, jobs: list[UUID]) -> None:
        """Until the moment of the round has come."""
        moments: Mapping[str, Callable[[], bool]] = {
            "claimed": lambda: any(job[0] == "processing" for job in self._rows(self.queue, JOBS, [jobs])),
            "requested": lambda: bool(self._of(RUNS, key)),
            "going": lambda: [status for _, status in self._of(RUNS, key)][:1] == ["STARTED"],
            "ended": lambda: [status for _, status in self._of(RUNS, key)][:1] == ["SUCCESS"],
        }
        self._until(moments[given.moment], f"the moment '{given.moment}'")

    def _ended(self, jobs: list[UUID]) -> bool:
        return {job[0] for job in self._rows(self.queue, JOBS, [jobs])} <= {"completed", "failed"}

    def _until(self, condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"Not within {PATIENCE:.0f} s: {what}; see {self.log}."
            assert process is None or process.poll() is None, f"The daemon ended by itself; see {self.log}."
            time.sleep(0.01)

    # -- processes ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _dagster(self, victim: str) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon with its code server, or all that `penguin serve` starts, in a session of its own."""
        folder = Path(sys.executable).parent
        workspace = str(orchestrator.PROJECT / "workspace.yaml")
        command = [str(folder / "dagster-daemon"), "run", "-w", workspace]
        env = dict(self.env)
        if victim == "serve":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                env[variable("ui_port")] = str(probe.getsockname()[1])
            command = [str(folder / "penguin"), "serve"]
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                command, env=env, cwd=self.settings.home, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield process
        finally:
            _kill_family(process.pid)
            process.wait()

    @contextlib.contextmanager
    def _again(self, before: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        """A daemon after the one that was killed; what that one left behind is left alone."""
        before.wait()
        with self._dagster("daemon") as process:
            yield process

    def _kill(self, victim: str, process: subprocess.Popen[bytes], already: set[int]) -> int:
        if victim == "daemon":
            process.kill()
        elif victim == "all":
            _kill_family(process.pid)
        elif victim == "serve":
            daemon = next(pid for pid, line in _family(process.pid) if "dagster._daemon" in line)
            os.kill(daemon, signal.SIGKILL)
        else:
            # The process of a run is the child of a code server; a step is a child of that one.
            lines = dict(_family(process.pid))
            workers = [
                pid
                for pid, line in lines.items()
                if "--multiprocessing-fork" in line
                and " api grpc " in lines.get(_parent(pid), "")
                and pid not in already
            ]
            os.kill(workers[-1], signal.SIGKILL)
            return workers[-1]
        return process.pid

    # -- databases ---------------------------------------------------------------------------------

    def _of(self, query: str, key: str) -> list[Any]:
        try:
            return self._rows(self.dagster, query, [key])
        except psycopg.errors.UndefinedTable:
            return []  # the first daemon has not made its tables yet

    def _rows(self, connection: psycopg.Connection, query: str, values: Sequence[Any]) -> list[Any]:
        return connection.execute(query, values).fetchall()  # type: ignore[arg-type]


def _stat(pid: int) -> list[str]:
    """Fields of a process from its state on: state, parent, group, session."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["", "0", "0", "0"]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _family(session: int) -> list[tuple[int, str]]:
    """Living processes of a session, and of sessions that its members began, with their command lines."""
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    about = {pid: _stat(pid) for pid in pids}
    found = {pid for pid, stat in about.items() if int(stat[3]) == session}
    while more := {pid for pid, stat in about.items() if pid not in found and int(stat[1]) in found}:
        found |= more
    lines = []
    for pid in sorted(found):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines.append((pid, line))
    return lines


def _kill_family(session: int) -> None:
    for pid, _ in _family(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Runs the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rounds = {given.name: given for given in ROUNDS}
    parser.add_argument("--only", nargs="*", choices=list(rounds), default=list(rounds), help="In this order.")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="penguin-kills-") as folder:
        settings = Settings(_env_file=None, home=Path(folder) / "home", **_local())  # type: ignore[call-arg, arg-type]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENGUIN_")}
        environment[variable("home")] = str(settings.home)
        os.environ.clear()
        os.environ.update(environment)
        try:
            urls = dict(services.up(settings, say).urls)
            penguin = str(Path(sys.executable).with_name("penguin"))
            for words in (
                ["manifest"],
                ["migrate", "up"],
                ["generate", "--tenants", "2", "--messages", "300"],
                ["run"],
            ):
                say(f"penguin {' '.join(words)}")
                subprocess.run([penguin, *words], check=True, stdout=subprocess.DEVNULL)
            # What the generator left due there would be run as well.
            with psycopg.connect(urls["queue"]) as connection:
                connection.execute("delete from jobs where queue_name = %s", [QUEUE])
            kills = Kills(settings, urls)
            for number, given in enumerate(rounds[name] for name in options.only):
                try:
                    seen = kills.run(number, given)
                except AssertionError as e:
                    failed, seen = True, f"FAILED: {e}"
                say(f"{given.name}: {seen}")
        finally:
            services.down(settings, say)
    return int(failed)


def _local() -> dict[str, Any]:
    return {"env": "local"} | {f"{name}_url": None for name in (*DATABASES, "redis")}


if __name__ == "__main__":
    sys.exit(main())
