"""Writers in threads, the extractor that follows them, and the comparison of raw with source.

Transactions are short, long or stragglers; they write first or wait first, or take their transaction id and write much
later; savepoints are rolled back, keys deleted and inserted again, changed, moved between tenants and partitions, and
a table truncated. Not here: what is wrong with an algorithm (mutants), how long (test_storm.py, __main__).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from factories import make, now
from psycopg import sql
from servers import PSEUDONYM_KEY, settle

from penguin_pipelines.errors import TableRewritten
from penguin_pipelines.lib import db, ingest, load, specs
from penguin_pipelines.lib.ingest import Failed
from penguin_pipelines.lib.specs import Table

MESSAGES, OPENS, NOTIFICATIONS = (
    specs.find(f"content.{name}") for name in ("email_messages", "email_opens", "notifications")
)
TENANTS = specs.find("oltp.tenants")
TABLES = (TENANTS, MESSAGES, OPENS, NOTIFICATIONS)
CONFLICTS = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,  # the row moved to another partition meanwhile
)
OWNERS = [UUID(int=7), UUID(int=8)]
FAULTS = ("missing", "stale", "ghost")

Action = Callable[["Dice", psycopg.Connection], None]
Rows = dict[tuple[Any, ...], tuple[Any, ...]]


class Killed(BaseException):
    """Stands for a process that ended in the middle of a load."""


@dataclass(frozen=True)
class Weather:
    """How the storm blows. Shares are of all transactions, times in seconds; no processes means threads of this."""

    seconds: float
    writers: int = 8
    processes: int = 0
    keys: int = 40
    straggler: float = 0.6
    stragglers: float = 0.02
    long: float = 0.05
    rollbacks: float = 0.1
    truncates: float = 0.004


@dataclass
class Outcome:
    """What was left when the wind was gone, and how much had blown."""

    faults: dict[str, dict[str, int]]
    rounds: int = 0
    storm_rounds: int = 0
    longest_round: float = 0.0
    busy: float = 0.0
    transactions: int = 0
    kills: int = 0
    rewritten: int = 0
    rows: int = 0

    @property
    def wrong(self) -> int:
        """Rows that differ, of all tables."""
        return sum(found[name] for found in self.faults.values() for name in FAULTS)

    def total(self, name: str) -> int:
        """Rows with one kind of fault, of all tables."""
        return sum(found[name] for found in self.faults.values())


class Dice(random.Random):
    """A writer's own source of chance, and the keys that all writers share."""

    def __init__(self, seed: int, keys: int) -> None:
        super().__init__(seed)
        self.keys = keys

    def message(self) -> str:
        return f"message {self.randrange(self.keys)}"

    def tenant(self) -> UUID:
        return UUID(int=1000 + self.randrange(self.keys))

    def notification(self) -> UUID:
        return UUID(int=5000 + self.randrange(self.keys))


@dataclass
class Storm:
    """One storm over the databases of the tiers oltp, content and olap."""

    urls: Mapping[str, str]
    seed: int
    weather: Weather
    outcome: Outcome = field(default_factory=lambda: Outcome({}))

    def run(self) -> Outcome:
        """Writes and extracts for a while, stops the writers, reads twice more and compares."""
        wind, stop, begun = self.weather, threading.Event(), threading.Event()
        numbers = [list(range(n, wind.writers, wind.processes or 1)) for n in range(wind.processes or 1)]
        with contextlib.ExitStack() as stack:
            if wind.processes:
                # Away from the extractor's interpreter lock. Spawned: this process may have threads.
                several = multiprocessing.get_context("spawn")
                stop, begun = several.Event(), several.Event()  # type: ignore[assignment]
                pool: Executor = ProcessPoolExecutor(
                    wind.processes, mp_context=several, initializer=_know, initargs=(stop, begun)
                )
            else:
                _know(stop, begun)
                pool = ThreadPoolExecutor(1)
            stack.enter_context(pool)
            stack.callback(stop.set)
            blowing = [pool.submit(blow, dict(self.urls), self.seed, wind, some) for some in numbers]
            assert begun.wait(60), [work.exception() for work in blowing if work.done()]
            deadline = time.monotonic() + wind.seconds
            while time.monotonic() < deadline and not any(work.done() for work in blowing):
                before = time.monotonic()
                self._round()
                self.outcome.longest_round = max(self.outcome.longest_round, time.monotonic() - before)
                self.outcome.busy += time.monotonic() - before
            self.outcome.storm_rounds = self.outcome.rounds
            stop.set()
            self.outcome.transactions = sum(work.result() for work in blowing)
        for _ in range(2):
            settle(self.urls["content"])
            self._round()
        self.outcome.faults = compare(self.urls, TABLES)
        self.outcome.rows = sum(found["rows"] for found in self.outcome.faults.values())
        return self.outcome

    def _round(self) -> None:
        try:
            failed = extract_once(self.urls, TABLES)
            assert all(isinstance(f.error, TableRewritten) for f in failed), failed
            self.outcome.rewritten += len(failed)
        except Killed:
            self.outcome.kills += 1
        self.outcome.rounds += 1


# -- writers ---------------------------------------------------------------------------------------

_stop, _begun = threading.Event(), threading.Event()


def _know(stop: threading.Event, begun: threading.Event) -> None:
    """Tells the writers of this process which event ends them; events of processes cannot be given with work."""
    global _stop, _begun
    _stop, _begun = stop, begun


def blow(urls: Mapping[str, str], seed: int, wind: Weather, numbers: list[int]) -> int:
    """Some of the writers, a thread each, until the storm is over. Gives how many transactions they tried."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        _begun.set()
        writers = [Writer(urls, Dice(seed * 1000 + n, wind.keys), wind, _stop) for n in numbers]
        return sum(pool.map(Writer.write, writers))


@dataclass
class Writer:
    """One that writes transaction after transaction."""

    urls: Mapping[str, str]
    dice: Dice
    weather: Weather
    stop: threading.Event

    def write(self) -> int:
        """Writes until stopped."""
        dice, count = self.dice, 0
        with (
            psycopg.connect(self.urls["content"], autocommit=True) as content,
            psycopg.connect(self.urls["oltp"], autocommit=True) as oltp,
        ):
            for connection in (content, oltp):
                connection.execute("set lock_timeout = '1s'")
            while not self.stop.is_set():
                identity = dice.random() < 0.25
                with contextlib.suppress(*CONFLICTS):
                    self._transaction(dice, oltp if identity else content, IDENTITY if identity else ORDINARY)
                count += 1
        return count

    def _transaction(self, dice: Dice, connection: psycopg.Connection, actions: list[Action]) -> None:
        wind = self.weather
        chance, pause = dice.random(), 0.0
        if chance < wind.stragglers:
            pause = wind.straggler
        elif chance < wind.stragglers + wind.long:
            pause = dice.uniform(0.2, 1.0) * min(wind.straggler, 1.0)
        if not pause and actions is ORDINARY and dice.random() < wind.truncates:
            with connection.transaction():
                _empty_notifications(dice, connection)
            return
        with connection.transaction() as whole:
            connection.execute("select 1")  # now() stands still from here, the id comes with the first write
            order = dice.choice(["writes, waits", "waits, writes", "takes its id, waits, writes"]) if pause else ""
            if order.startswith("takes"):
                connection.execute("select pg_current_xact_id()")
            if order.endswith("waits, writes"):
                self.stop.wait(pause)
            for _ in range(dice.randint(1, 4)):
                if dice.random() < 0.3:
                    with connection.transaction() as inner:
                        dice.choice(actions)(dice, connection)
                        if dice.random() < 0.3:
                            raise psycopg.Rollback(inner)
                else:
                    dice.choice(actions)(dice, connection)
            if order == "writes, waits":
                self.stop.wait(pause)
            if dice.random() < wind.rollbacks:
                raise psycopg.Rollback(whole)


# -- reading and comparing -------------------------------------------------------------------------


def extract_once(urls: Mapping[str, str], tables: tuple[Table, ...] = TABLES) -> list[Failed]:
    """One run of ingestion; gives the tables that failed."""
    results = ingest.ingest(urls, tables, pseudonym_key=PSEUDONYM_KEY)
    return [result for result in results if isinstance(result, Failed)]


def compare(urls: Mapping[str, str], tables: tuple[Table, ...] = TABLES) -> dict[str, dict[str, int]]:
    """Rows by table that raw lacks, holds in an old version, or holds although they are gone."""
    faults = {}
    for table in tables:
        truth = _rows(urls[table.source], table, sql.Identifier("public", table.name), sql.SQL("true"))
        live = sql.SQL("_deleted is null")
        mirror = _rows(urls["olap"], table, sql.Identifier(table.raw_schema, table.name), live)
        with db.connect(urls["olap"], "olap") as connection:
            counted = load.bookmarks(connection, table.source)[table.name].row_count
        faults[table.full_name] = {
            "rows": len(truth),
            "missing": len(truth.keys() - mirror.keys()),
            "stale": sum(truth[k] != mirror[k] for k in truth.keys() & mirror.keys()),
            "ghost": len(mirror.keys() - truth.keys()),
            "miscounted": abs(counted - len(mirror)),
        }
    return faults


def _rows(url: str, table: Table, relation: sql.Composable, condition: sql.Composable) -> Rows:
    """Plain columns as text by raw key."""
    names = list(table.columns.plain)
    plain = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(n)) for n in names)
    with db.connect(url, "any") as connection:
        found = connection.execute(sql.SQL("select {} from {} where {}").format(plain, relation, condition)).fetchall()
    return {tuple(row[names.index(k)] for k in table.raw_key): row for row in found}


# -- what writers do -------------------------------------------------------------------------------


def _insert_message(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, open_count) "
        "values (%s, %s, 'outbound', 'a@b.c', 'd@e.f', %s) on conflict do nothing",
        [dice.message(), dice.choice(OWNERS), dice.randrange(1000)],
    )


def _update_message(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "update email_messages set click_count = %s where storage_key = %s", [dice.randrange(1000), dice.message()]
    )


def _delete_message(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute("delete from email_messages where storage_key = %s", [dice.message()])


def _replace_message(dice: Dice, connection: psycopg.Connection) -> None:
    key = dice.message()
    found = connection.execute("delete from email_messages where storage_key = %s returning tenant_id", [key])
    row = found.fetchone()
    make(connection, "email_messages", storage_key=key, tenant_id=row[0] if row else OWNERS[0])


def _rename_message(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "update email_messages set storage_key = %s where storage_key = %s "
        "and not exists (select from email_messages where storage_key = %s)",
        [key := dice.message(), dice.message(), key],
    )


def _give_message(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "update email_messages set tenant_id = %s where storage_key = %s", [dice.choice(OWNERS), dice.message()]
    )


def _insert_open(dice: Dice, connection: psycopg.Connection) -> None:
    make(connection, "email_opens", tenant_id=OWNERS[0], storage_key=dice.message())


def _change_open(dice: Dice, connection: psycopg.Connection) -> None:
    """Moves it to the partition of another month, or deletes it, or deletes it and brings it back."""
    found = connection.execute("select id, event_key from email_opens order by random() limit 1").fetchone()
    if found is None:
        return
    day = now() - timedelta(days=dice.choice([0, 35, 70]), seconds=dice.randrange(1000))
    chance = dice.random()
    if chance < 0.6:
        connection.execute("update email_opens set opened = %s where id = %s", [day, found[0]])
        return
    gone = connection.execute("delete from email_opens where id = %s", [found[0]]).rowcount
    if gone and chance < 0.8:
        connection.execute(
            "insert into email_opens (id, tenant_id, storage_key, event_key, opened) overriding system value "
            "values (%s, %s, %s, %s, %s)",
            [found[0], OWNERS[0], dice.message(), found[1], day],
        )


def _put_notification(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into notifications (id, tenant_id, type, title, message) values (%s, %s, 'NEW_MESSAGE', '', '') "
        "on conflict (id) do update set is_read = not notifications.is_read",
        [dice.notification(), OWNERS[0]],
    )


def _empty_notifications(_: Dice, connection: psycopg.Connection) -> None:
    connection.execute("truncate notifications")


def _insert_tenant(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into tenants (id, name) values (%s, %s) on conflict do nothing", [dice.tenant(), str(uuid4())]
    )


def _change_tenant(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute("update tenants set name = %s where id = %s", [str(uuid4()), dice.tenant()])


def _delete_tenant(dice: Dice, connection: psycopg.Connection) -> None:
    connection.execute("delete from tenants where id = %s", [dice.tenant()])


def _replace_tenant(dice: Dice, connection: psycopg.Connection) -> None:
    key = dice.tenant()
    connection.execute("delete from tenants where id = %s", [key])
    connection.execute("insert into tenants (id, name) values (%s, %s)", [key, str(uuid4())])


ORDINARY: list[Action] = [
    _insert_message,
    _insert_message,
    _update_message,
    _update_message,
    _delete_message,
    _replace_message,
    _rename_message,
    _give_message,
    _insert_open,
    _change_open,
    _put_notification,
]
IDENTITY: list[Action] = [_insert_tenant, _insert_tenant, _change_tenant, _delete_tenant, _replace_tenant]
