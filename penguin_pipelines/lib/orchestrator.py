"""Starts Dagster as a program: its home, its environment, one job, or the whole UI with daemon and code server.

Dagster is never imported here; its definitions live in defs/. Not here: which jobs there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg

from penguin_pipelines.errors import PenguinError, ServiceError
from penguin_pipelines.lib import db
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.settings import Settings, child_environment

PROJECT = Path(__file__).parents[2]
READY_SECONDS = 180
STOP_SECONDS = 20
HOST_TAG = "penguin/host"
"""Tag of a run that no code server started: the machine on which its process can be looked for."""


def environment(settings: Settings, urls: Mapping[str, str]) -> dict[str, str]:
    """Environment in which any `dagster` command finds its instance; the instance's home is made when missing."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return child_environment(
        DAGSTER_HOME=str(home),
        PENGUIN_DAGSTER_STORAGE_URL=db.sqlalchemy_url(urls["dagster"], "psycopg2"),
        PYTHONUNBUFFERED="1",
        # Advice to its developers (use another command line) is none to people who run this.
        PYTHONWARNINGS="ignore::FutureWarning",
    )


def command(*arguments: str) -> list[str]:
    """A dagster command line that uses the program beside this interpreter."""
    return [str(Path(sys.executable).with_name("dagster")), *arguments]


def call(settings: Settings, urls: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Runs any dagster command in the foreground and returns its exit code."""
    return subprocess.run(
        command(*arguments), env=environment(settings, urls), cwd=settings.home / "dagster", check=False
    ).returncode


def execute_job(settings: Settings, urls: Mapping[str, str], job: str, report: Callable[[str], None]) -> None:
    """Executes a job in a process of its own, recorded in the instance so that the UI shows the run."""
    log = settings.home / "logs" / f"{job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    release_lost_runs(settings, urls)
    tags = json.dumps({HOST_TAG: socket.gethostname()})
    arguments = ("job", "execute", "-m", "penguin_pipelines.definitions", "-j", job, "--tags", tags)
    with log.open("w") as out:
        process = subprocess.Popen(
            command(*arguments),
            env=environment(settings, urls),
            cwd=settings.home / "dagster",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            if " STEP_START " in line or " RUN_FAILURE " in line or " STEP_FAILURE " in line:
                report(line.split(" - ")[-1].strip())
        code = process.wait()
    if code:
        raise PenguinError(f"Job '{job}' failed; its log is {log}.")


def release_lost_runs(settings: Settings, urls: Mapping[str, str]) -> None:
    """Fails the runs of killed commands of this machine, whose pools the next run would wait for without end.

    A daemon does it by itself; a command may have none. Dagster is started only where such a run is called in progress.
    """
    values = {"key": HOST_TAG, "host": socket.gethostname()}
    in_progress = False
    with contextlib.suppress(psycopg.errors.UndefinedTable), db.connect(urls["dagster"], "dagster") as connection:
        [(in_progress,)] = connection.execute(blocks("orchestrator")["runs_of_host"], values)
    if in_progress:
        program = [sys.executable, "-m", "penguin_pipelines.run_launcher"]
        subprocess.run(program, env=environment(settings, urls), stdout=subprocess.DEVNULL, check=True)


def serve(settings: Settings, urls: Mapping[str, str], ready: Callable[[str, Path], None]) -> None:
    """Serves the UI, the daemon and the code location until interrupted.

    `ready(url, log)` is called once the UI answers. What Dagster says goes to the log: every event of every run would
    bury the address.
    """
    port = settings.ui_port
    log = settings.home / "logs" / "dagster.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if _taken(port):
        raise ServiceError(f"Port {port} is in use; stop what holds it, or choose another with PENGUIN_UI_PORT.")
    with log.open("w") as out:
        process = subprocess.Popen(
            command(
                *("dev", "-h", "127.0.0.1", "-p", str(port), "-w", str(PROJECT / "workspace.yaml")),
                *("--log-level", "warning"),
            ),
            env=environment(settings, urls),
            cwd=settings.home / "dagster",
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
    url = f"http://127.0.0.1:{port}"
    stop = _Stop()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not stop.asked and process.poll() is None and not _answers(url):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"The Dagster UI does not answer on port {port} after {READY_SECONDS} s; its log is {log}."
                )
            time.sleep(0.5)
        if process.poll() is None and not stop.asked:
            ready(url, log)
        while not stop.asked and process.poll() is None:
            time.sleep(0.5)
    finally:
        _end(process)
    if not stop.asked:
        raise ServiceError(f"Dagster ended by itself (exit code {process.returncode}); its log is {log}.")


class _Stop:
    """Notes SIGINT and SIGTERM, so that the children are ended in order instead of being orphaned."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True


def _default_signals() -> None:
    """A child of a background shell inherits ignored signals and could not be stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # The daemon and the code server share the group; none may outlive the UI.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2):
            return True
    except OSError:
        return False
