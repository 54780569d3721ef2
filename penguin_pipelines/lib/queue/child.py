"""The process that runs handlers, one job at a time. It can be killed at any moment: the worker holds all state.

Reads chunks of tasks from a datagram socket that it shares with its siblings, so that a slow job holds only itself
up, and writes frames to a pipe of its own: what it took, how it ended, what it gives back. All of them are forks of
one nursery, which loads the handlers and runs none: a process in place of one that died costs milliseconds. Standard
input brings the nursery its configuration; when it ends, the worker is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import marshal
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

READY, TOOK, ENDED, PROGRESS, BROKEN, RETURNED, BEGAN, GONE = range(8)
HEAD = struct.Struct("<IBQ")
"""Length of the body, kind of the frame, number of the task."""
REQUEST = struct.Struct("<Q")
"""To the nursery: 0, with the pipe of a child to begin, or the number of a process whose end is awaited."""
LARGEST_TASK = 200_000
_PR_SET_PDEATHSIG = 1
_SLOW = 0.02
"""Seconds after which a job is too slow for others to wait behind it."""


def frame(kind: int, number: int, body: Any = None) -> bytes:
    """One message to the worker; the body is of the simple types that marshal writes."""
    data = b"" if body is None else marshal.dumps(body)
    return HEAD.pack(len(data), kind, number) + data


def main() -> None:
    """The nursery: loads the handlers, begins children and takes leave of them until the worker is gone."""
    tasks, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # when to stop is for the worker to say
    _die_with_parent()
    config = pickle.load(sys.stdin.buffer)
    sys.path[:] = config["path"]
    try:
        from penguin_pipelines.lib.queue import handlers

        handlers.load(config["modules"])
    except BaseException as e:  # noqa: BLE001  # whatever stops a module from loading, the worker has to say it
        control.sendall(frame(BROKEN, 0, str(e) or type(e).__name__))
        sys.exit(1)
    if threading.active_count() > 1:
        warnings.warn("A module with handlers starts threads when it is imported; jobs lack them.", stacklevel=1)
    gc.freeze()
    control.sendall(frame(READY, 0))
    while True:
        asked, given, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if len(asked) < REQUEST.size:
            return
        (number,) = REQUEST.unpack(asked)
        if number:
            _, status = os.waitpid(number, 0)
            control.sendall(frame(GONE, number, os.waitstatus_to_exitcode(status)))
            continue
        (pipe,) = given
        child = os.fork()
        if child == 0:
            control.close()
            _live(tasks, pipe, config)
        os.close(pipe)
        control.sendall(frame(BEGAN, child))


def _live(tasks: socket.socket, pipe: int, config: dict[str, Any]) -> None:
    """The life of a child; it never returns into the loop of the nursery."""
    code = 1
    try:
        os.setpgid(0, 0)  # a handler that signals its group reaches its own job alone
        _die_with_parent()
        _run(tasks, _Pipe(pipe), config)
        code = 0
    except BaseException:  # noqa: BLE001  # said here, because nobody is above
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(tasks: socket.socket, pipe: _Pipe, config: dict[str, Any]) -> None:
    """Runs tasks until the worker is gone."""
    work = _prepare(config, pipe)
    pipe.write(frame(READY, 0))
    hand = _Hand(pipe)
    with contextlib.suppress(BrokenPipeError):
        while (chunk := _next(tasks)) is not None:
            said = b""
            for task in hand.deal(chunk):
                # How the last one ended goes with what comes next, in one write, before anything of it runs.
                pipe.write(said + HEAD.pack(0, TOOK, task[0]))
                said = work(*task)
            pipe.write(said)


class _Pipe:
    """The way to the worker; frames of two threads do not mix."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class _Hand:
    """The tasks of a chunk. Each is either run or, when the one before it turns out slow, given back."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._todo: deque[Any] = deque()
        self._begun = 0
        self._several = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def deal(self, chunk: list[Any]) -> Any:
        self._todo.extend(chunk)
        if len(chunk) > 1:
            self._several.set()
        with contextlib.suppress(IndexError):  # another thread may take the rest at any moment
            while True:
                task = self._todo.popleft()
                self._begun += 1
                yield task

    def _watch(self) -> None:
        while self._several.wait():
            seen = self._begun
            time.sleep(_SLOW)
            if seen == self._begun and self._todo:
                back = []
                with contextlib.suppress(IndexError):
                    while True:
                        back.append(self._todo.popleft()[0])
                with contextlib.suppress(BrokenPipeError):
                    self._pipe.write(frame(RETURNED, 0, back))
            if not self._todo:
                self._several.clear()
                if self._todo:
                    self._several.set()


def _prepare(config: dict[str, Any], pipe: _Pipe) -> Callable[..., bytes]:
    from penguin_pipelines.lib.queue import handlers
    from penguin_pipelines.lib.queue.model import failure_of

    connections = handlers.Connections(config["urls"])

    def work(number: int, payload: str, id_: bytes, tenant: bytes | None, user: bytes | None, *about: Any) -> bytes:
        started = time.time()

        def report(percentage: int, message: str | None) -> None:
            pipe.write(frame(PROGRESS, number, (int(percentage), None if message is None else f"{message}")))

        queue, type_, correlation_id, attempt, most = about
        context = handlers.Context(
            UUID(bytes=id_), queue, type_, UUID(bytes=tenant) if tenant else None, UUID(bytes=user) if user else None,
            correlation_id, attempt, most, connections, report,
        )  # fmt: skip
        result = failure = None
        try:
            result = handlers.call(type_, payload, context)
        except BaseException as e:  # noqa: BLE001  # SystemExit of a handler is a failure of its job like any other
            failed = failure_of(e)
            failure = (failed.error_class, failed.message, failed.terminal, dict(failed.details))
        return frame(ENDED, number, (started, time.time(), result, failure))

    return work


def _next(tasks: socket.socket) -> Any:
    """The next chunk of tasks; None when the worker is gone."""
    while True:
        try:
            return marshal.loads(tasks.recv(LARGEST_TASK + 10_000, socket.MSG_DONTWAIT))
        except BlockingIOError:
            readable, _, _ = select.select([tasks, sys.stdin], [], [])
            if sys.stdin in readable:
                return None


if __name__ == "__main__":
    main()
