"""Extraction while eight writers write: afterwards raw equals the source, with nothing missing, stale or invented.

Short and long transactions whose first write comes late, savepoints, rollbacks, deletes, deletes and inserts of the
same key, key changes, moves between partitions, tables with and without change_xid. Two mutants show that the storm
finds what it looks for: one episode of each kind that they lose is staged, so that they lose it for certain.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import make, now
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.lib import db, extract, ingest, load, specs
from penguin_pipelines.lib.ingest import Failed
from penguin_pipelines.lib.sql import blocks

MESSAGES, OPENS, TENANTS = (specs.find(n) for n in ("content.email_messages", "content.email_opens", "oltp.tenants"))
TABLES = (TENANTS, MESSAGES, OPENS)
WRITERS = 8
SECONDS = 6.0
KEYS = 40  # few, so that writers meet on the same rows
OWNER = UUID(int=7)
CONFLICTS = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,  # the row moved to another partition meanwhile
)


class Storm:
    """Writers in threads, and the extractor that follows them."""

    def __init__(self, tiers: Databases, seed: int) -> None:
        self.tiers = {tier: tiers[tier] for tier in ("oltp", "content", "olap")}
        self.seed = seed
        self.stop = threading.Event()
        self.rounds = 0
        self.failures: list[BaseException] = []

    def run(self, seconds: float) -> dict[str, dict[str, int]]:
        """Writes and extracts for a while, stops the writers, reads twice more and compares."""
        threads = [threading.Thread(target=self._guard, args=(self._writer, n)) for n in range(WRITERS)]
        threads.append(threading.Thread(target=self._guard, args=(self._episodes, 0)))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        # The staged episodes wait for rounds of extraction: the storm lasts until they are over.
        while time.monotonic() < deadline or threads[-1].is_alive():
            self.extract()
        self.stop.set()
        for thread in threads:
            thread.join()
        assert not self.failures, self.failures
        for _ in range(2):
            settle(self.tiers["content"])
            self.extract()
        return self.compare()

    def extract(self) -> None:
        for result in ingest.ingest(self.tiers, TABLES, pseudonym_key=PSEUDONYM_KEY):
            assert not isinstance(result, Failed), result.error
        self.rounds += 1

    def compare(self) -> dict[str, dict[str, int]]:
        """Rows by table that raw lacks, holds in an old version, or holds although they are gone."""
        faults = {}
        for table in TABLES:
            truth = self._rows(table, table.source, sql.Identifier(table.name), sql.SQL("true"))
            mirror = self._rows(
                table, "olap", sql.Identifier(table.raw_schema, table.name), sql.SQL("_deleted is null")
            )
            assert len(truth) > 1
            faults[table.name] = {
                "missing": len(truth.keys() - mirror.keys()),
                "stale": sum(truth[k] != mirror[k] for k in truth.keys() & mirror.keys()),
                "ghost": len(mirror.keys() - truth.keys()),
            }
            faults[table.name]["miscounted"] = abs(self._kept(table) - len(mirror))
        return faults

    def _kept(self, table: specs.Table) -> int:
        with db.connect(self.tiers["olap"], "olap") as connection:
            return load.bookmarks(connection, table.source)[table.name].row_count

    def _rows(
        self, table: specs.Table, tier: str, relation: sql.Composable, live: sql.Composable
    ) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        plain = sql.SQL(", ").join(map(sql.Identifier, table.columns.plain))
        with db.connect(self.tiers[tier], tier) as connection:
            rows = connection.execute(sql.SQL("select {} from {} where {}").format(plain, relation, live)).fetchall()
        names = list(table.columns.plain)
        return {tuple(row[names.index(k)] for k in table.raw_key): row for row in rows}

    def _guard(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  a thread's failure must reach the test
            self.failures.append(error)
            self.stop.set()

    # -- what writers do ---------------------------------------------------------------------------

    def _writer(self, number: int) -> None:
        dice = random.Random(self.seed * 100 + number)
        with (
            psycopg.connect(self.tiers["content"], autocommit=True) as content,
            psycopg.connect(self.tiers["oltp"], autocommit=True) as oltp,
        ):
            while not self.stop.is_set():
                connection, actions = (oltp, ORDINARY_TENANT) if dice.random() < 0.25 else (content, ORDINARY)
                with contextlib.suppress(*CONFLICTS):
                    self._transaction(dice, connection, actions)

    def _transaction(self, dice: random.Random, connection: psycopg.Connection, actions: list[Any]) -> None:
        long = dice.random() < 0.05
        with connection.transaction() as whole:
            connection.execute("select 1")  # now() stands still from here, the id comes with the first write
            if long:
                self.stop.wait(dice.uniform(0, 0.5))
            for _ in range(dice.randint(1, 4)):
                if dice.random() < 0.3:
                    with connection.transaction() as inner:
                        dice.choice(actions)(dice, connection)
                        if dice.random() < 0.3:
                            raise psycopg.Rollback(inner)
                else:
                    dice.choice(actions)(dice, connection)
            if long:
                self.stop.wait(dice.uniform(0.2, 1.0))
            if dice.random() < 0.1:
                raise psycopg.Rollback(whole)

    def _episodes(self, _: int) -> None:
        """One of each kind that a mutant loses: it is over only when extraction has passed by."""
        with (
            psycopg.connect(self.tiers["content"]) as slow,
            psycopg.connect(self.tiers["content"], autocommit=True) as quick,
        ):
            make(quick, "email_messages", storage_key="comes back", tenant_id=OWNER)
            self._pass_by()
            with quick.transaction():
                quick.execute("delete from email_messages where storage_key = 'comes back'")
                make(quick, "email_messages", storage_key="comes back", tenant_id=OWNER)
            # Written long before it commits, while later transactions come and go.
            make(slow, "email_messages", storage_key="slow", tenant_id=OWNER)
            make(quick, "email_messages", storage_key="quick", tenant_id=OWNER)
            self._pass_by()
            slow.commit()

    def _pass_by(self) -> None:
        """Waits until two more rounds of extraction began and ended."""
        wanted = self.rounds + 3
        while self.rounds < wanted and not self.stop.is_set():
            time.sleep(0.01)


def _key(dice: random.Random) -> str:
    return f"message {dice.randrange(KEYS)}"


def _insert_message(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, open_count) "
        "values (%s, %s, 'outbound', 'a@b.c', 'd@e.f', %s) on conflict do nothing",
        [_key(dice), OWNER, dice.randrange(1000)],
    )


def _update_message(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute(
        "update email_messages set click_count = %s where storage_key = %s", [dice.randrange(1000), _key(dice)]
    )


def _delete_message(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute("delete from email_messages where storage_key = %s", [_key(dice)])


def _replace_message(dice: random.Random, connection: psycopg.Connection) -> None:
    key = _key(dice)
    connection.execute("delete from email_messages where storage_key = %s", [key])
    make(connection, "email_messages", storage_key=key, tenant_id=OWNER)


def _rename_message(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute(
        "update email_messages set storage_key = %s where storage_key = %s "
        "and not exists (select from email_messages where storage_key = %s)",
        [key := f"message {dice.randrange(KEYS)}", _key(dice), key],
    )


def _insert_open(dice: random.Random, connection: psycopg.Connection) -> None:
    make(connection, "email_opens", tenant_id=OWNER, storage_key=_key(dice))


def _change_open(dice: random.Random, connection: psycopg.Connection) -> None:
    """Moves it to the partition of another month, or deletes it."""
    some = "(select id from email_opens order by random() limit 1)"
    if dice.random() < 0.3:
        connection.execute(f"delete from email_opens where id = {some}")  # type: ignore[arg-type]
    else:
        day = now() - timedelta(days=dice.choice([0, 35, 70]), seconds=dice.randrange(1000))
        connection.execute(f"update email_opens set opened = %s where id = {some}", [day])  # type: ignore[arg-type]


def _insert_tenant(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into tenants (id, name) values (%s, %s) on conflict do nothing", [_tenant(dice), str(uuid4())]
    )


def _change_tenant(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute("update tenants set name = %s where id = %s", [str(uuid4()), _tenant(dice)])


def _delete_tenant(dice: random.Random, connection: psycopg.Connection) -> None:
    connection.execute("delete from tenants where id = %s", [_tenant(dice)])


def _tenant(dice: random.Random) -> UUID:
    return UUID(int=1000 + dice.randrange(KEYS))


ORDINARY = [
    _insert_message,
    _insert_message,
    _update_message,
    _update_message,
    _delete_message,
    _replace_message,
    _rename_message,
    _insert_open,
    _change_open,
]
ORDINARY_TENANT = [_insert_tenant, _insert_tenant, _change_tenant, _delete_tenant]
NOTHING = {"missing": 0, "stale": 0, "ghost": 0, "miscounted": 0}


@pytest.mark.parametrize("seed", [1])
def test_extraction_loses_and_invents_nothing_under_concurrent_writers(tiers: Databases, seed: int) -> None:
    assert Storm(tiers, seed).run(SECONDS) == {table.name: NOTHING for table in TABLES}


def _lost(found: dict[str, dict[str, int]]) -> int:
    return sum(sum(faults.values()) for faults in found.values())


def test_the_storm_notices_a_horizon_that_does_not_wait_for_running_transactions(
    tiers: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = extract.open_snapshot

    @contextlib.contextmanager
    def hasty(*args: Any, **options: Any) -> Iterator[extract.Snapshot]:
        with honest(*args, **options) as snapshot:
            yield dataclasses.replace(snapshot, horizon=snapshot.ceiling)

    monkeypatch.setattr(extract, "open_snapshot", hasty)
    assert _lost(Storm(tiers, 1).run(0.5)) > 0


def test_the_storm_notices_deletes_that_beat_the_rows_inserted_after_them(
    tiers: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        blocks("load"), "still_there", "delete from gone as g using incoming as i where false and {match}"
    )
    honest = blocks("extract")["tombstones"]
    monkeypatch.setitem(blocks("extract"), "tombstones", honest.replace("where {back}", "where false and {back}"))
    monkeypatch.setitem(blocks("load"), "newer", "r._change_xid < excluded._change_xid")
    assert _lost(Storm(tiers, 1).run(0.5)) > 0
