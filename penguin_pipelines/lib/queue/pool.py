"""The children of a worker: starts them, hands them tasks, hears from them, kills those that take too long.

All tasks go into one socket that idle children read from, quick ones several at a time; who took what is known from
the frames they write. A child that dies costs the job that it was at and nothing else, and the next one is forked
from a nursery that has loaded the handlers. Postgres is not known here; what becomes of a job is for the worker to say.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import marshal
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib.queue import child as protocol
from penguin_pipelines.lib.queue.model import Failure, Leased, Outcome

_READ = 262_144
_STARTS_IN = 60.0
_ANSWERS_IN = 10.0
_CHUNK = 32
_CHUNK_SECONDS = 0.005
"""A chunk holds what usually runs within this time."""
_CHUNK_TEXT = 16_384
_VANISHED_AFTER = 10.0
_QUICK = 0.001


class _Nursery:
    """The process that has loaded the handlers and of which children are forks. Without it no child lives on."""

    def __init__(self, outlet: socket.socket, config: bytes) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.settimeout(_ANSWERS_IN)
        files = (outlet.fileno(), theirs.fileno())
        command = [sys.executable, "-m", "penguin_pipelines.lib.queue.child", *map(str, files)]
        # A group of its own: a signal to the worker's group is for the worker, who decides what becomes of us.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=files, process_group=0)
        theirs.close()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(config)
            self._process.stdin.flush()
        self.ready = False
        self.since = time.monotonic()

    def fileno(self) -> int:
        return self._control.fileno()

    def hear(self) -> bool:
        """Reads what it says of itself; False when it is gone. Raises PenguinError where handlers cannot be loaded."""
        said = self._read()
        if said is None:
            return False
        if said[0] == protocol.BROKEN:
            raise PenguinError(f"The handlers cannot be loaded: {said[2]}")
        self.ready = True
        return True

    def begin(self, pipe: int) -> int | None:
        """A child that writes to this pipe; None when the nursery is gone."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [protocol.REQUEST.pack(0)], [pipe])
        said = self._read()
        return None if said is None else said[1]

    def kill(self, pid: int) -> None:
        """Kills a child. Its number is its own until its end has been awaited, unless the nursery is gone."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait(self, pid: int) -> int:
        """Exit code of a child that has died; that of a kill when the nursery died with it."""
        with contextlib.suppress(OSError):
            self._control.send(protocol.REQUEST.pack(pid))
        said = self._read()
        return -signal.SIGKILL if said is None else said[2]

    def _read(self) -> tuple[int, int, Any] | None:
        """Kind, number and body of a frame; None when the nursery is gone or does not answer, which ends it."""
        head = self._bytes(protocol.HEAD.size)
        if not head:
            return None
        length, kind, number = protocol.HEAD.unpack(head)
        body = self._bytes(length) if length else b""
        return kind, number, marshal.loads(body) if body else None

    def _bytes(self, size: int) -> bytes:
        with contextlib.suppress(OSError):
            data = self._control.recv(size, socket.MSG_WAITALL)
            if len(data) == size:
                return data
        self._process.kill()
        return b""

    def end(self) -> int:
        """Kills it; gives its exit code."""
        self._process.kill()
        code = self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._control.close()
        return code


@dataclass
class _Child:
    nursery: _Nursery
    pid: int
    pipe: int
    buffer: bytearray = field(default_factory=bytearray)
    ready: bool = False
    job: int | None = None
    behind: list[int] = field(default_factory=list)
    """Tasks of its chunk that it has not begun."""
    since: float = field(default_factory=time.monotonic)
    killed: Failure | None = None

    def kill(self) -> None:
        self.nursery.kill(self.pid)


def _task(number: int, job: Leased) -> tuple[Any, ...]:
    tenant, user = job.tenant_id, job.user_id
    ids = (job.id.bytes, tenant and tenant.bytes, user and user.bytes)
    return (number, job.payload, *ids, job.queue, job.type, job.correlation_id, job.attempt, job.max_attempts)


class Pool:
    """`size` processes that run handlers."""

    def __init__(self, size: int, modules: Sequence[str], urls: Mapping[str, str]) -> None:
        self._config = pickle.dumps({"modules": list(modules), "urls": dict(urls), "path": sys.path})
        self._size = size
        self._inlet, self._outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inlet.setblocking(False)
        for side, option in ((self._inlet, socket.SO_SNDBUF), (self._outlet, socket.SO_RCVBUF)):
            side.setsockopt(socket.SOL_SOCKET, option, 4 * protocol.LARGEST_TASK)
        self.selector = selectors.DefaultSelector()
        self._nursery: _Nursery | None = None
        self._children: list[_Child] = []
        self._jobs: dict[int, Leased] = {}
        self._taken: dict[int, float] = {}
        self._waiting: deque[int] = deque()
        self._sent: dict[int, list[int]] = {}
        """Chunks that no child is known to have taken, by the number of their first task, in the order of sending."""
        self._usual = 1.0
        self._suspects: set[int] = set()
        self._suspected = 0.0
        self._waits_to_send = False
        self._closing = False
        self._next = 0
        self.progress: dict[Any, tuple[int, str | None]] = {}
        self._early: list[Outcome] = []

    def start(self) -> None:
        """Starts what is missing: the nursery and, once it has loaded the handlers, children."""
        if self._nursery is None:
            self._nursery = _Nursery(self._outlet, self._config)
            self.selector.register(self._nursery, selectors.EVENT_READ, self._nursery)
        while self._nursery.ready and len(self._children) < self._size:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            pid = self._nursery.begin(writer)
            os.close(writer)
            if pid is None:
                os.close(reader)
                return  # the selector tells that the nursery is gone
            begun = _Child(self._nursery, pid, reader)
            self._children.append(begun)
            self.selector.register(reader, selectors.EVENT_READ, begun)

    def _hear_nursery(self) -> None:
        """It is ready, or it is gone: then another one is started, and its children are heard to be gone too."""
        assert self._nursery is not None
        if not self._nursery.hear():
            was_ready = self._nursery.ready
            self.selector.unregister(self._nursery)
            code = self._nursery.end()
            self._nursery = None
            if not was_ready:
                raise PenguinError(
                    f"The process that loads the handlers ended with code {code} before it was ready; see its output."
                )
        self.start()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def ready(self) -> bool:
        """Whether a child has loaded the handlers."""
        return any(child.ready for child in self._children)

    @property
    def jobs(self) -> list[Leased]:
        """Every job that was given and has not ended."""
        return list(self._jobs.values())

    def give(self, jobs: Sequence[Leased]) -> None:
        """Jobs to run as soon as a child is free."""
        for job in jobs:
            self._next += 1
            self._jobs[self._next] = job
            self._waiting.append(self._next)
        self._send()

    def _send(self) -> None:
        while self._waiting and not self._closing:
            chunk = self._chunk()
            tasks = [_task(number, self._jobs[number]) for number in chunk]
            try:
                self._inlet.send(marshal.dumps(tasks))
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno == errno.ENOBUFS:
                    break
                if e.errno != errno.EMSGSIZE:
                    raise
                size = len(self._jobs[chunk[0]].payload)
                message = f"The payload has {size:,} bytes; at most {protocol.LARGEST_TASK:,} reach a handler."
                self._waiting.popleft()
                self._early.append(self._outcome(chunk[0], None, Failure("UndecodablePayload", message, True, {})))
                continue
            for _ in chunk:
                self._waiting.popleft()
            self._sent[chunk[0]] = chunk
        wanted = bool(self._waiting) and not self._closing
        if wanted != self._waits_to_send:
            self._waits_to_send = wanted
            if wanted:
                self.selector.register(self._inlet, selectors.EVENT_WRITE, None)
            else:
                self.selector.unregister(self._inlet)

    def _chunk(self) -> list[int]:
        """The next tasks for one child: as many quick ones as are over in a moment, not more than its share."""
        share = -(-len(self._waiting) // self._size)
        most = min(_CHUNK, share, max(1, int(_CHUNK_SECONDS / self._usual)))
        chunk: list[int] = []
        size = 0
        for number in itertools.islice(self._waiting, most):
            size += len(self._jobs[number].payload)
            if chunk and size > _CHUNK_TEXT:
                break
            chunk.append(number)
        return chunk

    def _outcome(self, number: int, told: tuple[Any, ...] | None, failure: Failure | None = None) -> Outcome:
        job = self._jobs.pop(number)
        self.progress.pop(job.id, None)
        began = self._taken.pop(number, None)
        if told is not None:
            started, finished, result, failed = told
            self._usual += 0.1 * (finished - started - self._usual) + 1e-6
            return Outcome(job, started, finished, result, failed and Failure(*failed))
        finished = time.time()
        return Outcome(job, finished if began is None else began, finished, failure=failure)

    def poll(self, seconds: float) -> list[Outcome]:
        """What ended, within `seconds`. Other files of the selector wake it too."""
        if len(self._jobs) > 2 * self._size and self._usual < _QUICK:
            # Children have enough to do: hearing of many ends at once costs less than being woken for each.
            time.sleep(_QUICK)
        ready = [] if self._early else self.selector.select(seconds)
        ended, self._early = self._early, []
        for key, _ in ready:
            if isinstance(key.data, _Child):
                ended.extend(self._hear(key.data))
            elif isinstance(key.data, _Nursery):
                self._hear_nursery()
        self._kill_overdue()
        if self._suspects:
            self._find_vanished()
        self._send()
        return ended

    def _hear(self, child: _Child) -> Iterator[Outcome]:
        data = b"."
        while data:
            try:
                data = os.read(child.pipe, _READ)
            except BlockingIOError:
                break
            child.buffer += data
            yield from self._understand(child)
            if len(data) < _READ and data:
                break
        if not data:
            yield from self._bury(child)

    def _understand(self, child: _Child) -> Iterator[Outcome]:
        head, at, size = protocol.HEAD, 0, len(child.buffer)
        while size - at >= head.size:
            length, kind, number = head.unpack_from(child.buffer, at)
            if size - at < head.size + length:
                break
            body = marshal.loads(memoryview(child.buffer)[at + head.size : at + head.size + length]) if length else None
            at += head.size + length
            if kind == protocol.TOOK:
                if number in self._sent:
                    child.behind = self._sent.pop(number)
                child.behind.remove(number)
                child.job, child.since = number, time.monotonic()
                self._taken[number] = time.time()
            elif kind == protocol.RETURNED:
                self._take_back(child, cast("list[int]", body))
            elif kind == protocol.ENDED:
                child.job = None
                yield self._outcome(number, body)
            elif kind == protocol.PROGRESS and number in self._jobs:
                self.progress[self._jobs[number].id] = cast("tuple[int, str | None]", body)
            elif kind == protocol.READY:
                child.ready = True
        del child.buffer[:at]

    def _take_back(self, child: _Child, numbers: Sequence[int]) -> None:
        """Tasks that a child will not begin; others get them first."""
        back = set(numbers)
        # The frame may come before the one that says who has the chunk.
        for chunk in (child.behind, *self._sent.values()):
            if not back.isdisjoint(chunk):
                chunk[:] = [number for number in chunk if number not in back]
        self._waiting.extendleft(reversed([number for number in numbers if number in self._jobs]))

    def _recall(self) -> list[int]:
        """Takes tasks back that no child has received."""
        back: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                tasks = marshal.loads(self._outlet.recv(protocol.LARGEST_TASK + 10_000, socket.MSG_DONTWAIT))
                self._sent.pop(tasks[0][0])
                back += [task[0] for task in tasks]
        return back

    def _suspect(self) -> None:
        """After a child died between jobs: it may have received a chunk and not have said so. What the others received
        they say at once, so a chunk that is neither in the socket nor taken some seconds later went with the dead."""
        self._waiting.extendleft(reversed(self._recall()))
        self._suspects, self._suspected = set(self._sent), time.monotonic()

    def _find_vanished(self) -> None:
        if time.monotonic() - self._suspected > _VANISHED_AFTER:
            for first in self._suspects & self._sent.keys():
                self._waiting.extendleft(reversed(self._sent.pop(first)))
            self._suspects.clear()

    def _bury(self, child: _Child) -> Iterator[Outcome]:
        """Takes leave of a dead child, says what it died of, and starts another."""
        self.selector.unregister(child.pipe)
        os.close(child.pipe)
        child.kill()  # it may have closed its pipe and live on
        code = child.nursery.wait(child.pid)
        self._children.remove(child)
        if child.job is not None:
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
            message = f"The process that ran the job ended with {died}."
            yield self._outcome(child.job, None, child.killed or Failure("ProcessDied", message, False, {"code": code}))
        else:
            self._suspect()
        self._waiting.extendleft(reversed(child.behind))
        self.start()

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.job is not None and child.killed is None:
                limit = self._jobs[child.job].timeout
                if now - child.since > limit:
                    child.killed = Failure("Timeout", f"The job ran longer than the {limit} s of its queue.", False, {})
                    child.kill()
        if self._nursery is not None and not self._nursery.ready and now - self._nursery.since > _STARTS_IN:
            self._nursery.end()

    def next_deadline(self) -> float:
        """Seconds until a running job is overdue."""
        now = time.monotonic()
        limits = [c.since + self._jobs[c.job].timeout - now for c in self._children if c.job is not None]
        return max(0.0, min(limits, default=3600.0))

    def drop(self, lost: set[Any]) -> None:
        """Stops work on jobs whose lease was lost: their results would be refused."""
        reason = Failure("LeaseLost", "The lease was lost while the job ran.", False, {}, at_once=True)
        for child in self._children:
            if child.job is not None and self._jobs[child.job].id in lost and child.killed is None:
                child.killed = reason
                child.kill()
        for number in [n for n in self._waiting if self._jobs[n].id in lost]:
            self._waiting.remove(number)
            self._jobs.pop(number)

    def retract(self) -> list[Leased]:
        """Takes back every job that no child has taken, for good: nothing more is given to children."""
        back = [*self._waiting, *self._recall()]
        self._waiting.clear()
        self._closing = True
        self._send()
        return [self._jobs.pop(number) for number in back if number in self._jobs]

    def stop(self) -> list[Leased]:
        """Kills the children; gives the jobs that they were at."""
        for child in self._children:
            child.kill()
        for child in self._children:
            child.nursery.wait(child.pid)
            self.selector.unregister(child.pipe)
            os.close(child.pipe)
        self._children.clear()
        if self._nursery is not None:
            self.selector.unregister(self._nursery)
            self._nursery.end()
            self._nursery = None
        left = self.jobs
        self._jobs.clear()
        self._inlet.close()
        self._outlet.close()
        return left
