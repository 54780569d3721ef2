"""The process that runs handlers, one job at a time. It can be killed at any moment: the worker holds all state.

Reads tasks from a datagram socket that it shares with its siblings, so that a slow job holds only itself up, and
writes frames to a pipe of its own: what it took, how it ended. Standard input brings the configuration; when it ends,
the worker is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

READY, TOOK, ENDED, PROGRESS, BROKEN = range(5)
HEAD = struct.Struct("<IBQ")
"""Length of the body, kind of the frame, number of the task."""
LARGEST_TASK = 200_000
_PR_SET_PDEATHSIG = 1


def frame(kind: int, number: int, body: Any = None) -> bytes:
    """One message to the worker."""
    data = b"" if body is None else pickle.dumps(body, protocol=5)
    return HEAD.pack(len(data), kind, number) + data


def main() -> None:
    """Loads the handlers and runs tasks until the worker is gone."""
    tasks = socket.socket(fileno=int(sys.argv[1]))
    out = int(sys.argv[2])
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # when to stop is for the worker to say
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    config = pickle.load(sys.stdin.buffer)
    sys.path[:] = config["path"]
    try:
        work = _prepare(config)
    except BaseException as e:  # noqa: BLE001  # whatever stops a module from loading, the worker has to say it
        _write(out, frame(BROKEN, 0, str(e) or type(e).__name__))
        sys.exit(1)
    _write(out, frame(READY, 0))
    with contextlib.suppress(BrokenPipeError):
        while (task := _next(tasks)) is not None:
            work(out, *task)


def _prepare(config: dict[str, Any]) -> Callable[..., None]:
    from penguin_pipelines.lib.queue import handlers
    from penguin_pipelines.lib.queue.model import failure_of, utc_now

    handlers.load(config["modules"])
    connections = handlers.Connections(config["urls"])

    def work(out: int, number: int, job: Any, payload: str) -> None:
        _write(out, HEAD.pack(0, TOOK, number))
        started = utc_now()

        def report(percentage: int, message: str | None) -> None:
            _write(out, frame(PROGRESS, number, (percentage, message)))

        context = handlers.Context(**job, connections=connections, report=report)
        result = failure = None
        try:
            result = handlers.call(context.type, payload, context)
        except BaseException as e:  # noqa: BLE001  # SystemExit of a handler is a failure of its job like any other
            failure = failure_of(e)
        _write(out, frame(ENDED, number, (started, utc_now(), result, failure)))

    return work


def _next(tasks: socket.socket) -> Any:
    """The next task; None when the worker is gone."""
    while True:
        try:
            return pickle.loads(tasks.recv(LARGEST_TASK + 10_000, socket.MSG_DONTWAIT))
        except BlockingIOError:
            readable, _, _ = select.select([tasks, sys.stdin], [], [])
            if sys.stdin in readable:
                return None


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


if __name__ == "__main__":
    main()
