"""A run is found lost only where its code server and its process are both gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from penguin_pipelines.lib.orchestrator import HOST_TAG
from penguin_pipelines.run_launcher import WatchedRunLauncher, fail_lost_runs


@pytest.mark.parametrize(
    ("process", "has_server_tag", "status"),
    [
        ("dead", True, WorkerStatus.NOT_FOUND),
        ("lives", True, WorkerStatus.RUNNING),
        ("none", True, WorkerStatus.NOT_FOUND),
        ("dead", False, WorkerStatus.RUNNING),
    ],
)
def test_a_run_is_lost_where_nothing_of_it_is_left(
    tmp_path: Path, process: str, has_server_tag: bool, status: WorkerStatus
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": str(tmp_path / "gone")})}
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = WatchedRunLauncher()
        launcher.register_instance(instance)
        run = create_run_for_test(instance, job_name="warehouse", tags=tags if has_server_tag else {})
        if process != "none":
            pid = ended.pid if process == "dead" else os.getpid()
            instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
        assert launcher.check_run_worker_health(run).status is status


@pytest.mark.parametrize(
    ("host", "process", "is_lost"),
    [
        ("here", "dead", True),
        ("here", "lives", False),
        ("here", "none", False),
        ("elsewhere", "dead", False),
    ],
)
def test_a_killed_command_gives_its_pools_back(tmp_path: Path, host: str, process: str, is_lost: bool) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    launcher = {"module": "penguin_pipelines.run_launcher", "class": "WatchedRunLauncher"}
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides={"run_launcher": launcher}) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("dbt", 1)
        name = socket.gethostname() if host == "here" else "elsewhere"
        run = create_run_for_test(
            instance, job_name="warehouse", tags={HOST_TAG: name}, status=dg.DagsterRunStatus.STARTED
        )
        storage.claim_concurrency_slot("dbt", run.run_id, "build")
        if process != "none":
            pid = ended.pid if process == "dead" else os.getpid()
            instance.report_engine_event("Executing steps.", run, EngineEventData.in_process(pid))

        fail_lost_runs(instance)

        after = instance.get_run_by_id(run.run_id)
        assert after and (after.status is dg.DagsterRunStatus.FAILURE) is is_lost
        assert storage.get_concurrency_info("dbt").active_slot_count == (0 if is_lost else 1)
