"""Processes, ports, logs and files of local services: told apart, waited for, stopped, written whole.

Nobody else's process is stopped: one is ours when its own command line says so. Not here: what each server needs
(postgres, valkey).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penguin_pipelines.errors import ServiceError

Report = Callable[[str], None]

HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds; recovery after a crash of a big database takes a while
_PORTS = range(21_000, 31_000)  # below the ports that systems hand to outgoing connections


@dataclass(frozen=True)
class ServiceState:
    """A local service that runs."""

    name: str
    pid: int
    port: int


def command_line(pid: int) -> str:
    """The command line of a living process; empty for a dead one or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True)
    return shown.stdout.strip()


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def stop_process(pid: Callable[[], int | None], polite: signal.Signals, rough: signal.Signals) -> bool:
    """Signals what `pid` says until it says None. `pid` is asked every time, so no recycled number is hit."""
    for sign, seconds in ((polite, 60.0), (rough, 30.0)):
        if (number := pid()) is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, sign)
        if wait_until(lambda: pid() is None, seconds):
            return True
    return False


def listening(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_port(variable: str, fixed: int | None, remembered: int | None, report: Report) -> int:
    """The port that the user fixed, else the one of last time, else a free one."""
    if fixed is not None:
        if not _free(fixed):
            raise ServiceError(
                f"Port {fixed} ({variable}) is taken by another program; stop that one or set another port."
            )
        return fixed
    if remembered is not None:
        if _free(remembered):
            return remembered
        report(f"Port {remembered} has been taken by another program; choosing another one.")
    for _ in range(200):
        if _free(port := secrets.choice(_PORTS)):
            return port
    raise ServiceError(f"No port from {_PORTS.start} to {_PORTS.stop} is free; set {variable} to a free one.")


def log_since(log: Path, offset: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(offset)
        return file.read()[-4000:].decode(errors="replace")
    return ""


def last_lines(text: str, count: int = 4) -> str:
    return " | ".join(text.strip().splitlines()[-count:]) or "nothing was logged"


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def write_atomically(path: Path, text: str) -> None:
    """Readable by its owner alone from the first byte on."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.new-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Removes what killed calls were making; orphans of theirs may still be writing, hence every time."""
    for stale in folder.glob("*.new-*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)
