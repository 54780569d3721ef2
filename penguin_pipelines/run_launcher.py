"""Starts runs as Dagster does and notices, as its own launcher does not, that one lost its process. In dagster.yaml.

The stock launcher has no check of health: when a run and its code server die together (the machine, the container, a
`penguin serve` that is killed), the run stays STARTED for ever, keeps its pools from every later run, and the jobs of
the queue that wait for it never end. Not here: what follows, which run_monitoring and run_retries of dagster.yaml say;
as a program (`python -m penguin_pipelines.run_launcher`) it fails lost runs itself, where no daemon may be running.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from penguin_pipelines.lib.orchestrator import HOST_TAG

_SECONDS = 10
_GONE = (ConnectionRefusedError, FileNotFoundError)


class WatchedRunLauncher(DefaultRunLauncher):
    """The stock launcher with a check of health that says NOT_FOUND only where it is sure."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that started the run still has it, or its process lives on without the server."""
        tag = run.tags.get(GRPC_INFO_TAG)
        if tag is None:
            return self._check_command(run)
        address: dict[str, Any] = json.loads(tag)
        held = _server_has(address, run.run_id)
        if held or self._process_lives(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        what = "the code server that started it is gone" if held is None else "its code server does not have it"
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"The process of the run is gone and {what}.")

    def _check_command(self, run: DagsterRun) -> CheckRunHealthResult:
        """Of a run that a command executes itself: only its machine can tell, once its process has noted a number."""
        if run.tags.get(HOST_TAG) == socket.gethostname() and self._process_lives(run.run_id) is False:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The command that executed the run was killed.")
        return CheckRunHealthResult(WorkerStatus.RUNNING, "It was not started by a code server.")

    def _process_lives(self, run_id: str) -> bool | None:
        """Whether the process that noted its number in the run's events is still that process; None before it has."""
        lives = None
        for record in self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            event = record.dagster_event
            metadata = event.engine_event_data.metadata if event and event.event_specific_data else {}
            if "pid" not in metadata:
                continue
            lives = False
            with contextlib.suppress(ValueError, ProcessLookupError):
                # A number that was given anew belongs to a process that began after the event.
                if _began(int(str(metadata["pid"].value))) <= record.timestamp + 1:
                    return True
        return lives


def fail_lost_runs(instance: DagsterInstance) -> None:
    """Fails every run that is lost for sure and frees its pools, as the daemon does where one is running."""
    in_progress = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    for run in instance.get_runs(RunsFilter(statuses=in_progress)):
        health = instance.run_launcher.check_run_worker_health(run)
        if health.status is WorkerStatus.NOT_FOUND:
            instance.report_run_failed(run, health.msg)
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _server_has(address: dict[str, Any], run_id: str) -> bool | None:
    """Whether the code server at an address runs this; None when no server is there. One that is slow has it."""
    kind = socket.AF_UNIX if address.get("socket") else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.settimeout(_SECONDS)
        try:
            probe.connect(address["socket"] if address.get("socket") else (address["host"], address["port"]))
        except _GONE:
            return None
        except OSError:
            return True
    client = DagsterGrpcClient(
        port=address.get("port"),
        socket=address.get("socket"),
        host=address["host"],
        use_ssl=bool(address.get("use_ssl")),
    )
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=_SECONDS)
    except DagsterUserCodeUnreachableError:
        return True
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel


def _began(pid: int) -> float:
    """When a process of this machine began, in seconds since 1970; 0 where the system does not say.

    Raises ProcessLookupError where there is none.
    """
    with contextlib.suppress(PermissionError):
        os.kill(pid, 0)
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except FileNotFoundError:
        return 0
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    with DagsterInstance.get() as this:
        fail_lost_runs(this)
