"""dbt, loaded once for all builds of a worker: a server imports it and parses our project, and forks for each call.

A call is a process like any other: its own environment, its output to whoever called, killed when its caller is killed.
What a forked dbt does not do again is to load its libraries and to parse the project while nothing in it changed,
which is most of what a small build costs. The server parses: the threads of dbt's parser do not outlive a fork, and a
forked one waits for them for ever. What it cannot parse runs lib/dbt_program.py as a user's build does; the fixture
`dbt_program` gives that back for tests about it.

    python -I -S forked.py call SOCKET ARGUMENT...    what the tests run in the place of lib/dbt_program.py
    python forked.py serve SOCKET                     until its standard input closes

Here: the server, the call and who starts them. Not here: which folder dbt works in (the fixture `dbt_home`).
"""

import array
import contextlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_DECIDING = ("HOST", "PORT", "USER", "DATABASE", "SCRATCH")
"""What of the environment stands in a parsed project."""


# -- the call: few imports, for it starts each time ------------------------------------------------


def call(path: str, arguments: list[str]) -> int:
    """Has the server run dbt with our environment and our standard streams; gives its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(path)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        asked = json.dumps(
            {"arguments": arguments, "environment": dict(os.environ), "folder": os.path.realpath(".")}
        ).encode()
        streams = array.array("i", [0, 1, 2])
        server.sendmsg([len(asked).to_bytes(8)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        server.sendall(asked)
        answer = server.recv(4)
    return int.from_bytes(answer, signed=True) if answer else 1


# -- the server ------------------------------------------------------------------------------------


class _Calls:
    """Processes that run, by the connection of their caller."""

    def __init__(self) -> None:
        self.parsed = {}
        self.running = {}

    def start(self, caller: socket.socket) -> None:
        asked, streams = _received(caller)
        parsed = self._parsed(asked)
        pid = os.fork()
        if pid == 0:
            _run(asked, streams, parsed)
        for stream in streams:
            os.close(stream)
        self.running[caller] = (pid, os.pidfd_open(pid))

    def _parsed(self, asked: dict) -> tuple[object, bytes] | None:
        """The manifest for a call, as dbt holds and as it writes it, parsed at the first; None if it does not parse."""
        from pathlib import Path

        from penguin_pipelines.lib import dbt

        arguments, environment = asked["arguments"], asked["environment"]
        dbt.PROJECT = Path(_value(arguments, "--project-dir"))
        place = tuple(environment.get(f"PENGUIN_DBT_{name}") for name in _DECIDING)
        key = (place, _value(arguments, "--target-path"), dbt.PROJECT, dbt.fingerprint())
        if key not in self.parsed:
            os.environ.clear()
            os.environ.update(environment)
            names = ("--target-path", "--log-path", "--project-dir", "--profiles-dir")
            where = [part for name in names for part in (name, _value(arguments, name))]
            done = _runner()(manifest=None).invoke(["--quiet", "--log-level-file", "none", "parse", *where])
            self.parsed = dict([*self.parsed.items()][-2:])
            written = Path(_value(arguments, "--target-path")) / "manifest.json"
            self.parsed[key] = (_compiled(done.result), written.read_bytes()) if done.success else None
        return self.parsed[key]

    def ended(self, caller: socket.socket) -> None:
        """Tells the caller how its process ended."""
        pid, handle = self.running.pop(caller)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(handle)
        with contextlib.suppress(OSError), caller:
            caller.sendall(code.to_bytes(4, signed=True))

    def kill(self, caller: socket.socket) -> None:
        """Kills the process of a caller that is gone."""
        os.kill(self.running[caller][0], signal.SIGKILL)
        self.ended(caller)


def _value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def _runner() -> type:
    from dbt.cli.main import dbtRunner

    return dbtRunner


def _compiled(manifest: "Manifest") -> "Manifest":
    """The manifest, with its macros compiled so that no call does it again."""
    from dbt_common.clients.jinja import template_cache

    for macro in manifest.macros.values():
        template_cache.get_node_template(macro)
    return manifest


def _received(caller: socket.socket) -> tuple[dict, list[int]]:
    size, extra, _, _ = caller.recvmsg(8, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    for _, _, content in extra:
        streams.frombytes(content)
    length, text = int.from_bytes(size), b""
    while len(text) < length and (part := caller.recv(length - len(text))):
        text += part
    return json.loads(text), list(streams)


def _end_with_parent() -> None:
    """Has the kernel kill this process when the one that started it ends, in the midst of parsing too."""
    import ctypes

    death_signal = 1
    ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


def _run(asked: dict, streams: list[int], parsed: tuple[object, bytes] | None) -> None:
    """dbt in the forked process; never returns."""
    from pathlib import Path

    from penguin_pipelines.lib import dbt_program

    code = 1
    try:
        _end_with_parent()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(asked["folder"])
        if parsed is None:
            program = [sys.executable, "-P", "-m", dbt_program.__name__, *asked["arguments"]]
            os.execve(sys.executable, program, asked["environment"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        manifest, text = parsed
        written = Path(_value(asked["arguments"], "--target-path")) / "manifest.json"
        if not written.exists() or written.read_bytes() != text:
            written.write_bytes(text)
        code = dbt_program.run(asked["arguments"], manifest)
    finally:
        os._exit(code)


def serve(path: str) -> None:
    """Takes calls until standard input closes, which it does when the process that started us ends in whatever way."""
    from pathlib import Path
    from select import select

    from penguin_pipelines.lib import dbt_program  # noqa: F401  loads dbt

    _end_with_parent()
    calls = _Calls()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"{path}.new")
        listening.listen()
        Path(f"{path}.new").rename(path)  # whoever sees it can call
        while True:
            handles = {handle: caller for caller, (_, handle) in calls.running.items()}
            ready, _, _ = select([0, listening, *handles, *calls.running], [], [])
            if 0 in ready:
                break
            for one in ready:
                if one is listening:
                    calls.start(listening.accept()[0])
                elif one in handles:
                    calls.ended(handles[one])
                elif one in calls.running and not set(handles) & set(ready):
                    calls.kill(one)
    for caller in list(calls.running):
        calls.kill(caller)


if __name__ == "__main__":
    if sys.argv[1] == "call":
        sys.exit(call(sys.argv[2], sys.argv[3:]))
    serve(sys.argv[2])
