"""Starts runs as Dagster does and notices, as its own launcher does not, that one lost its process. In dagster.yaml.

The stock launcher has no check of health: when a run and its code server die together (the machine, the container, a
`penguin serve` that is killed), the run stays STARTED for ever, keeps its pools from every later run, and the jobs of
the queue that wait for it never end. Not here: what follows, which run_monitoring and run_retries of dagster.yaml say.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

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
            return CheckRunHealthResult(WorkerStatus.RUNNING, "It was not started by a code server.")
        address: dict[str, Any] = json.loads(tag)
        held = _server_has(address, run.run_id)
        if held or self._process_lives(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        what = "the code server that started it is gone" if held is None else "its code server does not have it"
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"The process of the run is gone and {what}.")

    def _process_lives(self, run_id: str) -> bool:
        """Whether the process that noted its number in the run's events is still that process."""
        for record in self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            event = record.dagster_event
            metadata = event.engine_event_data.metadata if event and event.event_specific_data else {}
            with contextlib.suppress(KeyError, ValueError, ProcessLookupError):
                # A number that was given anew belongs to a process that began after the event.
                if _began(int(str(metadata["pid"].value))) <= record.timestamp + 1:
                    return True
        return False


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
