"""The worker: claims jobs, has its children run them, ends them in batches, renews leases and sweeps.

One thread feeds and hears the children; others claim, write how attempts ended and wait for hints. Everything that
must not be lost is in Postgres: this process may be killed at any moment. Not here: statements (store), processes
(pool), lists of Redis (hints).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from penguin_pipelines.errors import ConnectionFailed, PenguinError, UnknownName
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue.claimer import Claimer
from penguin_pipelines.lib.queue.hints import Hints
from penguin_pipelines.lib.queue.model import Leased, Outcome
from penguin_pipelines.lib.queue.pool import Pool
from penguin_pipelines.lib.queue.store import Store
from penguin_pipelines.lib.sql import blocks

log = logging.getLogger(__name__)

_COLLECT_EVERY = 50_000
_MANY = 100
_LINGER = 0.01
_LOST = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout, ConnectionFailed)


@dataclass(frozen=True)
class Options:
    """How a worker works; the defaults are the platform's."""

    queues: Sequence[str]
    concurrency: int = 4
    modules: Sequence[str] = ("penguin_pipelines.lib.queue.builtin",)
    batch: int = 1000
    lease: float = 60.0
    poll: float = 1.0
    sweep: float = 10.0
    grace: float = 30.0
    jobs_per_tenant_minute: int | None = None
    until_empty: bool = False
    """Return when nothing is due any more, instead of waiting for more."""


@dataclass
class _Pace:
    """Jobs a second lately: quick jobs are claimed ahead, slow ones only when a child is free for them."""

    ended: int = 0
    rate: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def add(self, ended: int) -> None:
        self.ended += ended
        elapsed = time.monotonic() - self.since
        if elapsed >= 0.1:
            self.rate, self.ended, self.since = self.ended / elapsed, 0, time.monotonic()


class Worker:
    """Works some queues until it is told to stop."""

    def __init__(self, urls: Mapping[str, str], options: Options) -> None:
        self.id = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(3)}"
        self._options = options
        self._store = Store(urls["queue"], self.id)
        self._pool = Pool(options.concurrency, options.modules, {t: u for t, u in urls.items() if t != "redis"})
        self._writer = _Writer(Store(urls["queue"], self.id), self._wake, options.batch)
        self._hints = Hints(urls.get("redis"))
        self._url = urls["queue"]
        self._claimer = Claimer(
            Store(urls["queue"], self.id),
            self._hints,
            options.queues,
            poll=options.poll,
            per_minute=options.jobs_per_tenant_minute,
            few=options.concurrency,
        )
        self._pace = _Pace()
        self._hungry = threading.Event()
        self._stopping = threading.Event()
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)
        self._pool.selector.register(self._woken, selectors.EVENT_READ, None)
        self._beaten = self._swept = 0.0
        self._reopen = 0.0
        self.ended = 0

    def stop(self) -> None:
        """Stop claiming, finish what runs, return; safe from a signal handler and from any thread."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b".")

    def run(self) -> None:
        """Works until stopped; every job that it still holds then is given back."""
        self._check_queues()
        # A job is a few objects that live for a moment and form no circles; a tenth of the work was looking for some.
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY)
        self._pool.start()
        threads = [threading.Thread(target=t, daemon=True) for t in (self._listen, self._writer.run)]
        for thread in threads:
            thread.start()
        try:
            while not (self._stopping.is_set() or self._pool.ready):
                self._settle(self._pool.poll(1.0))  # nothing is claimed while it may turn out that nothing can be run
            while not self._stopping.is_set() and self._step():
                pass
            self._finish()
        finally:
            self._stopping.set()
            left = self._pool.stop()
            with contextlib.suppress(*_LOST):
                left += self._claimer.close()
            self._writer.close(timeout=10)
            with contextlib.suppress(*_LOST):
                self._store.release(left)
            for thread in threads:
                thread.join(timeout=5)
            self._store.close()
            self._hints.close()
            os.close(self._woken)
            waker, self._waker = self._waker, -1
            os.close(waker)

    def _check_queues(self) -> None:
        with db.connect(self._url, "queue", role="pm_worker") as connection:
            row = connection.execute(
                blocks("queue")["unknown_queues"], {"queues": list(self._options.queues)}
            ).fetchone()
        if row and row[0]:
            raise UnknownName.of("queue", row[0][0], row[1])

    def _step(self) -> bool:
        """One round; False when there is nothing left to wait for."""
        try:
            if time.monotonic() >= self._reopen:
                self._look_after()
                self._pool.give(self._claimer.fetch())
        except _LOST as e:
            # Children go on; what they finish waits in the writer, and the lease says whether it still counts.
            log.warning("The queue's database does not answer (%s); trying again.", e)
            self._reopen = time.monotonic() + self._options.poll
        idle = not (len(self._pool) or self._writer.pending or self._claimer.busy)
        if idle and self._options.until_empty and self._claimer.found_nothing:
            return False
        if time.monotonic() >= self._reopen:
            self._claimer.ask(room := self._room(), self._wake, force=idle and self._options.until_empty)
            if room and not self._claimer.busy:
                self._hungry.set()
        self._settle(self._pool.poll(self._patience()))
        return True

    def _patience(self) -> float:
        now = time.monotonic()
        due = min(self._beaten + self._options.lease / 4, self._swept + self._options.sweep)
        if not self._claimer.busy and self._room():
            due = min(due, self._claimer.next_poll())
        if now < self._reopen:
            due = max(due, self._reopen)
        return max(0.0, min(due - now, self._pool.next_deadline(), 1.0))

    def _settle(self, ended: Sequence[Outcome]) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 65_536)
        if ended:
            self._writer.add(ended)
            self.ended += len(ended)
        self._pace.add(len(ended))

    def _room(self) -> int:
        """How many jobs to claim now: enough for the children for a moment, in batches worth a statement."""
        ahead = min(2 * self._options.batch, int(self._pace.rate * 0.4))
        wanted = max(self._options.concurrency, ahead)
        room = wanted - len(self._pool)
        if self._writer.pending > 4 * self._options.batch or (
            ahead > self._options.concurrency and room < min(wanted / 2, self._options.batch)
        ):
            return 0
        return max(0, min(room, self._options.batch))

    def _look_after(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= self._options.lease / 4:
            lost = self._store.beat(self._pool.jobs, dict(self._pool.progress))
            if lost:
                log.warning("Lost the lease of %d jobs.", len(lost))
                self._pool.drop(lost)
            self._hints.alive(self.id, self._options.queues, len(self._pool))
            self._beaten = now
        if now - self._swept >= self._options.sweep:
            swept = self._store.sweep(self._options.lease, 2 * self._options.sweep)
            self._swept = now
            if swept is not None:
                if swept.restarted or swept.buried:
                    log.warning("Restarted %d jobs of dead workers, buried %d.", swept.restarted, swept.buried)
                self._hints.push(swept.due)

    def _finish(self) -> None:
        """Gives back what no child has taken and waits for the rest, for as long as it may."""
        claimed: Sequence[Leased] = ()
        with contextlib.suppress(*_LOST):
            claimed = self._claimer.close()
        deadline = time.monotonic() + self._options.grace
        while True:
            with contextlib.suppress(*_LOST):
                self._store.release([*claimed, *self._pool.retract()])
                claimed = ()
                self._look_after()
            if not len(self._pool) or time.monotonic() >= deadline:
                break
            self._settle(self._pool.poll(0.2))

    def _listen(self) -> None:
        """Waits for hints while there is room for what they promise."""
        hints = self._hints
        while not self._stopping.is_set():
            if not self._hungry.wait(timeout=0.5):
                continue
            if not hints.usable:
                self._stopping.wait(0.2)
                continue
            queue = hints.wait(self._options.queues, 1, self._claimer.hints_to_take)
            if queue is not None:
                self._claimer.hint(queue)
                self._hungry.clear()
                self._wake()


class _Writer:
    """Writes how attempts ended, in batches and on its own connection; keeps them while the database is away."""

    def __init__(self, store: Store, wrote: Callable[[], None], most: int) -> None:
        self._store = store
        self._wrote = wrote
        self._most = most
        self._last = 0
        self._queue: deque[Outcome] = deque()
        self._some = threading.Condition()
        self._closing = False
        self.pending = 0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        with self._some:
            self._queue.extend(outcomes)
            self.pending += len(outcomes)
            self._some.notify()

    def run(self) -> None:
        while batch := self._batch():
            self._write(batch)
            with self._some:
                self.pending -= len(batch)
            self._wrote()
        self._store.close()

    def _batch(self) -> list[Outcome]:
        with self._some:
            self._some.wait_for(lambda: self._queue or self._closing)
            if self._last >= _MANY:
                # Where many end, more are about to: one statement and one commit for all of them.
                self._some.wait_for(lambda: len(self._queue) >= self._most or self._closing, timeout=_LINGER)
            self._last = min(len(self._queue), self._most)
            return [self._queue.popleft() for _ in range(self._last)]

    def _write(self, batch: list[Outcome]) -> None:
        good = [o for o in batch if o.failure is None]
        bad = [o for o in batch if o.failure is not None]
        for write, outcomes in ((self._store.complete, good), (self._store.fail, bad)):
            while True:
                try:
                    write(outcomes)
                    break
                except _LOST:
                    # The statement may have taken effect: repeated, it finds no lease and changes nothing.
                    if self._closing:
                        break
                    time.sleep(0.5)
                except (psycopg.Error, PenguinError):
                    log.exception("The ends of %d jobs could not be written; their leases will run out.", len(outcomes))
                    break

    def close(self, timeout: float) -> None:
        """Waits until all is written, if the database answers."""
        deadline = time.monotonic() + timeout
        while self.pending and time.monotonic() < deadline:
            time.sleep(0.01)
        with self._some:
            self._closing = True
            self._some.notify()


@contextlib.contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """SIGTERM and SIGINT stop the worker gently; the second one at once."""

    def stop(number: int, _: object) -> None:
        worker.stop()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
