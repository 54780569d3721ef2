"""The local Valkey: started, asked and stopped in a folder of its own.

Not here: what lies in it (lib/queue).
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.lib.services.processes import (
    HOST,
    PATIENCE,
    ServiceState,
    command_line,
    log_since,
    size,
    stop_process,
    wait_until,
    write_atomically,
)
from penguin_pipelines.lib.services.programs import find_valkey

_VALKEY_CONF = """\
# Rewritten at every start.
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize yes
dir "{folder}"
pidfile "{folder}/valkey.pid"
logfile "{log}"
"""


class ValkeyServer:
    def __init__(self, home: Path) -> None:
        self.folder = home / "redis"
        self.log = home / "logs" / "valkey.log"

    def running(self) -> ServiceState | None:
        """The server whose pid file and configuration lie in our folder, and whose title names our port."""
        try:
            pid = int((self.folder / "valkey.pid").read_text())
            conf = dict(line.split(" ", 1) for line in self._conf().splitlines() if not line.startswith("#"))
            port = int(conf["port"])
        except (OSError, ValueError, KeyError):
            return None
        command = command_line(pid)
        named = "valkey" in command or "redis" in command
        # Between fork and listening the title is still the command as we gave it.
        ours = f":{port}" in command or str(self.folder) in command
        return ServiceState("redis", pid, port) if named and ours else None

    def _conf(self) -> str:
        return (self.folder / "valkey.conf").read_text()

    def start(self, port: int, password: str) -> str:
        """Starts the server and waits for its answer; gives the log of a failed start, or nothing."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "valkey.pid").unlink(missing_ok=True)  # so that the old number means nothing
        conf = _VALKEY_CONF.format(port=port, password=password, folder=self.folder, log=self.log)
        write_atomically(self.folder / "valkey.conf", conf)
        offset = size(self.log)
        started = subprocess.run(
            [find_valkey(), self.folder / "valkey.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        if started.returncode:
            return started.stdout
        begun = time.monotonic()

        def answered_or_dead() -> bool:
            dead = self.running() is None and time.monotonic() - begun > 2
            return dead or "Failed listening" in log_since(self.log, offset) or self.answers(password)

        wait_until(answered_or_dead, PATIENCE)
        return "" if self.answers(password) else log_since(self.log, offset) or "no answer"

    def answers(self, password: str) -> bool:
        """Whether the server knows our password and has loaded its data."""
        state = self.running()
        try:
            return state is not None and self._info(state.port, password) == state.pid
        except redis.RedisError:
            return False

    @staticmethod
    def _info(port: int, password: str) -> int:
        with redis.Redis(host=HOST, port=port, password=password, socket_timeout=5) as client:
            info: Any = client.info("server")
            return int(info["process_id"])

    def stop(self, password: str | None) -> ServiceState | None:
        state = self.running()
        if state is None:
            return None
        if password is not None:
            # Same port, same number, another password: somebody else's server after ours had died.
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                try:
                    self._info(state.port, password)
                except redis.AuthenticationError:
                    return None
        if not stop_process(lambda: s.pid if (s := self.running()) else None, signal.SIGTERM, signal.SIGKILL):
            raise ServiceError(f"Valkey (pid {state.pid}) does not stop; its log is {self.log}.")
        return state
