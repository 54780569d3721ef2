"""Extraction beside writers: nothing is missing, stale or invented, and algorithms that are almost right are found out.

A short storm for ours. For each mutant one episode, stepped by hand, that it loses for certain and ours survives;
and further episodes of orders that transactions may take. The long storm is `make storm` (tests/storm).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from factories import make
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, Server, settle
from storm.engine import MESSAGES, NOTIFICATIONS, OWNERS, TABLES, Killed, Storm, Weather, compare, extract_once
from storm.mutants import HARMLESS, MUTANTS, once

from penguin_pipelines.errors import TableRewritten
from penguin_pipelines.lib import extract, ingest, load
from penguin_pipelines.lib.specs import Table

PATIENCE = 60.0


class Stage:
    """Databases that serve one episode after the other, and steps for two hands."""

    def __init__(self, urls: Databases) -> None:
        self.urls = urls
        self.quick = psycopg.connect(urls["content"], autocommit=True)

    @contextlib.contextmanager
    def writer(self) -> Iterator[psycopg.Connection]:
        """A transaction that has its id and has written nothing; commits when told, at the latest at the end."""
        with psycopg.connect(self.urls["content"]) as connection:
            connection.execute("select pg_current_xact_id()")
            yield connection

    def extract(self, *tables: Table) -> None:
        assert extract_once(self.urls, tables or TABLES) == []

    def finish(self) -> int:
        """Reads all that is committed and gives the rows that are wrong."""
        for _ in range(2):
            settle(self.urls["content"])
            self.extract()
        found = compare(self.urls)
        return sum(faults[name] for faults in found.values() for name in ("missing", "stale", "ghost"))

    def horizon_reaches(self, xid: int, *, passes: bool = False) -> None:
        """Waits until every transaction before `xid`, or that one too, has ended, of all tests on this server."""
        deadline = time.monotonic() + PATIENCE
        while self._horizon() < xid + passes:
            assert time.monotonic() < deadline, "A writing transaction has been open for a minute."
            time.sleep(0.01)

    def _horizon(self) -> int:
        row = self.quick.execute("select pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
        assert row is not None
        return int(row[0])


def _id(connection: psycopg.Connection) -> int:
    row = connection.execute("select pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(row[0])


def _message(connection: psycopg.Connection, key: str) -> None:
    make(connection, "email_messages", storage_key=key, tenant_id=OWNERS[0])


@pytest.fixture(scope="module")
def shared(postgres: Server) -> Iterator[Databases]:
    databases = Databases(postgres)
    yield databases
    databases.drop()


@pytest.fixture
def stage(shared: Databases) -> Iterator[Stage]:
    """Raw equals source when an episode begins, whatever a mutant has left."""
    stage = Stage(shared)
    with stage.quick.transaction():
        stage.quick.execute("delete from email_messages")
        stage.quick.execute("delete from notifications")
        for key in ("deleted", "replaced", "changed"):
            _message(stage.quick, key)
    settle(shared["content"])
    list(ingest.ingest(shared, TABLES, pseudonym_key=PSEUDONYM_KEY, full=True))
    assert stage.finish() == 0
    yield stage
    stage.quick.close()


# -- episodes that a mutant loses ------------------------------------------------------------------


def _commits_between_rows_and_horizon(stage: Stage) -> None:
    with stage.writer() as slow, pytest.MonkeyPatch.context() as patch:
        xid = _id(slow)
        _message(slow, "in between")
        _message(stage.quick, "early")
        stage.horizon_reaches(xid)
        honest = load.pump

        def pump(source: Any, query: Any, target: Any, relation: Any, columns: Any) -> int:
            moved = honest(source, query, target, relation, columns)
            if relation == sql.Identifier("incoming"):
                slow.commit()
                stage.horizon_reaches(xid, passes=True)
            return moved

        patch.setattr(load, "pump", pump)
        # The horizon has not passed the writer: something below it must have changed for rows to be read at all.
        patch.setattr(extract, "has_changes", lambda *_: True)
        stage.extract(MESSAGES)


def _is_the_oldest_that_runs(stage: Stage) -> None:
    with stage.writer() as slow:
        _message(stage.quick, "younger")
        stage.horizon_reaches(_id(slow))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extract, "has_changes", lambda *_: True)
            stage.extract(MESSAGES)
        _message(slow, "exactly at the bound")


def _writes_before_and_commits_after(stage: Stage) -> None:
    with stage.writer() as slow:
        _message(slow, "slow")
        _message(stage.quick, "quick")
        stage.extract()


def _deletes_and_inserts_again(stage: Stage) -> None:
    with stage.quick.transaction():
        stage.quick.execute("delete from email_messages where storage_key = 'replaced'")
        _message(stage.quick, "replaced")


def _is_killed_in_the_middle(stage: Stage) -> None:
    stage.quick.execute("update email_messages set click_count = 9 where storage_key = 'changed'")
    stage.quick.execute("delete from email_messages where storage_key = 'deleted'")
    _message(stage.quick, "new")
    settle(stage.urls["content"])
    with contextlib.suppress(Killed):
        stage.extract()


EPISODES: dict[str, Callable[[Stage], None]] = {
    "horizon after rows": _commits_between_rows_and_horizon,
    "exclusive lower bound": _is_the_oldest_that_runs,
    "horizon is xmax": _writes_before_and_commits_after,
    "upserts before deletes": _deletes_and_inserts_again,
    "bookmark before rows": _is_killed_in_the_middle,
}


@pytest.mark.parametrize("name", EPISODES)
def test_an_episode_that_a_mutant_loses_costs_ours_nothing(stage: Stage, name: str) -> None:
    EPISODES[name](stage)
    assert stage.finish() == 0


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_loses_its_episode(stage: Stage, name: str) -> None:
    with MUTANTS[name](once()):
        EPISODES[name](stage)
        assert stage.finish() > 0


@pytest.mark.parametrize("name", HARMLESS)
def test_a_kill_between_rows_and_their_bookmark_is_harmless_because_replays_are(stage: Stage, name: str) -> None:
    with HARMLESS[name](once()):
        _is_killed_in_the_middle(stage)
    assert stage.finish() == 0


# -- orders that transactions may take -------------------------------------------------------------


@pytest.mark.parametrize("how", ["delete from notifications", "truncate notifications"])
def test_a_row_that_an_older_transaction_brought_back_in_an_earlier_window_stays(stage: Stage, how: str) -> None:
    """The tombstone comes in a later window than the row, and bears a higher transaction id."""
    row = make(stage.quick, "notifications", id=UUID(int=1))
    assert stage.finish() == 0
    with stage.writer() as older, stage.writer() as holder:
        stage.quick.execute(how)  # type: ignore[arg-type]
        make(older, "notifications", id=row["id"], tenant_id=row["tenant_id"], is_read=True)
        older.commit()
        stage.horizon_reaches(_id(holder))
        stage.extract()
    assert stage.finish() == 0


def test_a_row_that_was_written_under_a_savepoint_of_an_old_transaction_is_not_missed(stage: Stage) -> None:
    """Its xmin is that of the subtransaction, younger than its transaction and than others that ended."""
    with psycopg.connect(stage.urls["oltp"]) as slow:
        slow.execute("select pg_current_xact_id()")
        make(stage.quick, "notifications")
        stage.extract()
        with slow.transaction():
            make(slow, "tenants", name="under a savepoint")
        stage.extract()
    assert stage.finish() == 0


def test_a_table_rewritten_after_the_snapshot_is_read_by_the_next_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ALTER TABLE gives all rows the files of a transaction that an older snapshot does not see: it finds none."""
    make(stage.quick, "notifications")
    settle(stage.urls["content"])
    honest = extract.open_snapshot

    @contextlib.contextmanager
    def slow(*args: Any, **options: Any) -> Iterator[extract.Snapshot]:
        with honest(*args, **options) as snapshot:
            if snapshot.source == "content":
                stage.quick.execute("alter table notifications alter is_read type boolean using not is_read")
            yield snapshot

    monkeypatch.setattr(extract, "open_snapshot", slow)
    (failed,) = extract_once(stage.urls)
    assert failed.table == NOTIFICATIONS.full_name and isinstance(failed.error, TableRewritten)
    monkeypatch.undo()
    settle(stage.urls["content"])
    # What ALTER TABLE itself changed is for a full read; here the rows that were there before count.
    found = ingest.ingest(stage.urls, [NOTIFICATIONS], pseudonym_key=PSEUDONYM_KEY)
    assert [getattr(result, "delivered", 0) for result in found] == [1]


# -- the storm -------------------------------------------------------------------------------------


def test_extraction_loses_and_invents_nothing_under_concurrent_writers(tiers: Databases) -> None:
    outcome = Storm(tiers, seed=1, weather=Weather(seconds=5.0)).run()
    assert {table: {k: n for k, n in found.items() if k != "rows"} for table, found in outcome.faults.items()} == {
        table.full_name: {"missing": 0, "stale": 0, "ghost": 0, "miscounted": 0} for table in TABLES
    }
    assert outcome.faults[MESSAGES.full_name]["rows"] > 1 and outcome.transactions > 100 and outcome.rounds > 5
