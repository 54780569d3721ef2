"""Onboarding of tables that somebody else made and others write to: whenever it happens, ingestion loses nothing."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import yaml
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.errors import Busy, ConnectionFailed, PenguinError, SchemaError
from penguin_pipelines.lib import db, ingest, onboard, reconcile, specs
from penguin_pipelines.lib.baseline import Limits
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.specs import Table
from penguin_pipelines.migrations import runner

PLAIN = "create table orders (id bigint primary key, tenant_id uuid not null, total integer, updated text)"
PARTITIONED = """
create table orders (id bigint, tenant_id uuid not null, total integer, updated text, primary key (id))
  partition by range (id);
create table orders_low partition of orders for values from (minvalue) to (500);
create table orders_high partition of orders for values from (500) to (maxvalue) partition by range (id);
create table orders_high_a partition of orders_high for values from (500) to (800);
create table orders_high_b partition of orders_high for values from (800) to (maxvalue);
"""
FILL = "insert into orders select n, md5((n % 3)::text)::uuid, n, 'theirs' from generate_series(1, 1000) as n"
HALF_BUILT = """
select from pg_index as i join pg_class as c on c.oid = i.indrelid
where not i.indisvalid and c.relkind = 'r' and c.relname like 'orders%'
"""
BUILDER = """
select pid from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and query like '%create index concurrently%'
"""
OPEN = {
    PLAIN: ["track", "index"],
    PARTITIONED: ["track"] + ["index"] * 4,
}


def stanza(mode: str) -> Table:
    plain = {"id": "bigint", "tenant_id": "uuid", "total": "integer", "updated": "text"}
    return Table.model_validate(
        {
            "source": "content", "name": "orders", "description": "Orders of a shop.", "mode": mode, "key": ["id"],
            "tenant": "tenant_id", "slice": "none", "columns": {"plain": plain},
        }
    )  # fmt: skip


def _public(url: str) -> str:
    """The default path begins with a schema named like the login, and ours is named so."""
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dpublic"


class Shop:
    """A foreign table in a source, its stanza, and writers that never stop."""

    def __init__(self, tiers: Databases, monkeypatch: pytest.MonkeyPatch, made: str) -> None:
        self.tiers, self.monkeypatch, self.made = tiers, monkeypatch, made
        self.url = _public(tiers["content"])
        with psycopg.connect(self.url) as connection:
            connection.execute(made)  # type: ignore[call-overload]
            connection.execute(FILL)
            connection.execute("grant select on orders to pm_loader")
        self.mode("xmin")
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(3)]

    def mode(self, mode: str) -> None:
        self.table = stanza(mode)
        self.monkeypatch.setattr(specs, "tables", lambda source: (self.table,) if source == "content" else ())

    def load(self) -> Loaded:
        (result,) = ingest.ingest(self.tiers, [self.table], pseudonym_key=PSEUDONYM_KEY)
        assert isinstance(result, Loaded), result
        return result

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures

    def _write(self, seed: int) -> None:
        dice = random.Random(seed)
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                while not self.stop.is_set():
                    with connection.transaction() as whole:
                        connection.execute("select pg_current_xact_id()")
                        for _ in range(dice.randint(1, 3)):
                            self._change(dice, connection, seed)
                        if dice.random() < 0.1:
                            self.stop.wait(0.05)
                        if dice.random() < 0.1:
                            raise psycopg.Rollback(whole)
        except BaseException as error:  # noqa: BLE001  a thread's failure must reach the test
            self.failures.append(error)

    def _change(self, dice: random.Random, connection: psycopg.Connection, seed: int) -> None:
        """Each writer has keys of its own, so that they do not wait for each other."""
        number = dice.randrange(350) * 3 + seed
        match dice.randrange(3):
            case 0:
                connection.execute("delete from orders where id = %s", [number])
            case 1:
                connection.execute("update orders set total = %s where id = %s", [dice.randrange(10**6), number])
            case _:
                connection.execute(
                    "insert into orders (id, tenant_id, total) values (%s, md5(%s)::uuid, 0) on conflict do nothing",
                    [number, str(number % 3)],
                )


@pytest.fixture(params=[PLAIN, PARTITIONED], ids=["plain", "partitioned"])
def shop(tiers: Databases, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(tiers, monkeypatch, request.param)
    yield shop
    shop.stop.set()


def _done(url: str) -> list[bool]:
    return [step.is_done for step in onboard.plan(url, "content", "orders")]


# -- while everybody writes ------------------------------------------------------------------------


@pytest.mark.every_postgres
def test_ingestion_before_during_and_after_loses_nothing(shop: Shop) -> None:
    for thread in shop.threads:
        thread.start()
    shop.load()
    runs = threading.Thread(target=_onboard, args=(shop,))
    runs.start()
    while runs.is_alive():
        shop.load()
    # No read of the old kind in between: the first of the new kind takes over whatever happened since the last.
    time.sleep(0.1)
    shop.mode("xid8")
    for _ in range(5):
        shop.load()
    shop.close()
    assert all(_done(shop.url))
    settle(shop.url)
    shop.load()
    assert _rows(shop.url, "orders", "true") == _rows(shop.tiers["olap"], "raw_content.orders", "_deleted is null")
    (result,) = reconcile.reconcile(shop.tiers, [shop.table], pseudonym_key=PSEUDONYM_KEY, full=True, marts=False)
    assert result.state == "equal"


def _onboard(shop: Shop) -> None:
    try:
        onboard.run(shop.url, "content", "orders", patience=120, pause=0.05)
    except BaseException as error:  # noqa: BLE001  a thread's failure must reach the test
        shop.failures.append(error)


def _rows(url: str, relation: str, condition: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        query = f"select id, tenant_id, total, updated from {relation} where {condition} order by id"
        return connection.execute(query).fetchall()  # type: ignore[call-overload]


@pytest.mark.parametrize("change", ["delete from orders where id < 10", "update orders set total = -1 where id < 10"])
def test_what_happened_between_the_last_read_of_the_old_kind_and_the_onboarding_is_read(
    shop: Shop, change: str
) -> None:
    settle(shop.url)
    shop.load()
    with psycopg.connect(shop.url) as connection:
        connection.execute(change)  # type: ignore[call-overload]
    onboard.run(shop.url, "content", "orders")
    shop.mode("xid8")
    settle(shop.url)
    shop.load()
    assert _rows(shop.url, "orders", "true") == _rows(shop.tiers["olap"], "raw_content.orders", "_deleted is null")
    shop.load()
    assert shop.load().mode == "idle"


def test_no_row_is_rewritten_and_nothing_but_the_mark_changes(shop: Shop) -> None:
    leaf = "orders" if shop.made == PLAIN else "orders_low"
    state = f"select pg_relation_filenode('{leaf}'), array_agg(ctid::text || xmin::text order by id) from {leaf}"
    with psycopg.connect(shop.url, autocommit=True) as connection:
        before = connection.execute(state).fetchone()  # type: ignore[call-overload]
        onboard.run(shop.url, "content", "orders")
        assert connection.execute(state).fetchone() == before  # type: ignore[call-overload]
        connection.execute("update orders set total = 7 where id = 1")
        assert connection.execute("select updated from orders where id = 1").fetchone() == ("theirs",)
        connection.execute("insert into orders (id, tenant_id) values (2000, gen_random_uuid())")
        marks = connection.execute("select count(distinct change_xid), count(*) from orders").fetchone()
        assert marks == (3, 1001)


# -- killed, refused, repeated ---------------------------------------------------------------------


def test_what_a_killed_run_left_is_finished_by_the_next(shop: Shop) -> None:
    """Killed while an old transaction keeps the first index from becoming valid."""
    assert [s.name for s in onboard.plan(shop.url, "content", "orders")] == OPEN[shop.made]
    call = f"from penguin_pipelines.lib import onboard; onboard.run({shop.url!r}, 'content', 'orders')"
    with psycopg.connect(shop.url) as old, psycopg.connect(shop.url, autocommit=True) as watcher:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        process: subprocess.Popen[bytes] | None = None
        try:
            old.execute("select pg_current_xact_id()")
            process = subprocess.Popen([sys.executable, "-c", call])
            _until(watcher, f"select exists ({HALF_BUILT})")
            process.send_signal(signal.SIGKILL)
            process.wait()
            watcher.execute(f"select pg_terminate_backend(pid) from ({BUILDER}) as b")
            _until(watcher, f"select not exists ({BUILDER})")
        finally:
            if process and process.poll() is None:
                process.kill()
    done = _done(shop.url)
    assert done[0] and not all(done)
    onboard.run(shop.url, "content", "orders")
    assert all(_done(shop.url))
    with psycopg.connect(shop.url) as connection:
        assert connection.execute("select count(*) from pg_index where not indisvalid").fetchone() == (0,)
    assert all(s.is_done for s in onboard.run(shop.url, "content", "orders")), "Running it again changes nothing."


def _until(connection: psycopg.Connection, question: str) -> None:
    deadline = time.monotonic() + 60
    while connection.execute(question).fetchone() != (True,):  # type: ignore[call-overload]
        assert time.monotonic() < deadline, question
        time.sleep(0.02)


def test_a_table_in_use_is_left_as_it_is_and_its_writers_go_on(shop: Shop) -> None:
    told: list[str] = []
    with psycopg.connect(shop.url) as writer:
        writer.execute("update orders set total = 0 where id = 1")
        with pytest.raises(Busy, match="in use whenever we asked"):
            onboard.run(shop.url, "content", "orders", lock_timeout="50ms", patience=0.3, pause=0.1, report=told.append)
        writer.execute("update orders set total = 0 where id = 2")
    assert sum("again in" in line for line in told) >= 1
    assert not any(_done(shop.url))
    with psycopg.connect(shop.url) as connection:
        triggers = "select count(*) from pg_trigger where tgname like 'leave%' and tgrelid = 'orders'::regclass"
        assert connection.execute(triggers).fetchone() == (0,)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("alter table orders drop constraint orders_pkey", "has no primary key"),
        ("alter table orders add column change_xid xid8", "not of our making"),
        ("alter table orders rename to others", "has no table 'orders'"),
    ],
)
def test_a_table_that_cannot_be_onboarded_says_why(shop: Shop, statement: str, sentence: str) -> None:
    with psycopg.connect(shop.url) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
    with pytest.raises(PenguinError, match=sentence):
        onboard.run(shop.url, "content", "orders")


def test_a_database_without_our_functions_names_the_command(empty_database: str) -> None:
    with psycopg.connect(_public(empty_database)) as connection:
        connection.execute(PLAIN)
    with pytest.raises(SchemaError, match="penguin migrate up --tier oltp --to 0001"):
        onboard.plan(empty_database, "oltp", "orders")
    runner.up(empty_database, "oltp", to="0001")
    assert all(s.is_done for s in onboard.run(empty_database, "oltp", "orders"))


def test_a_key_that_tombstones_would_not_carry_is_refused(shop: Shop) -> None:
    shop.table = shop.table.model_copy(update={"key": ("total",)})
    with pytest.raises(PenguinError, match="but the primary key has not"):
        onboard.run(shop.url, "content", "orders")


def test_tables_of_our_own_are_tracked_already(tiers: Databases) -> None:
    for table in ("email_messages", "email_opens"):
        assert all(s.is_done for s in onboard.plan(tiers["content"], "content", table))


def test_a_proposed_stanza_is_careful_and_can_be_read(tiers: Databases) -> None:
    with db.connect(tiers["oltp"], "oltp") as connection:
        connection.execute(
            sql.SQL(
                "create table people (id uuid primary key, tenant_id uuid, contact_email text, biography text, "
                "status varchar(20), settings jsonb, age integer, last_ip inet)"
            )
        )
    proposed = yaml.safe_load(onboard.stanza(tiers["oltp"], "oltp", "people"))[0]
    found = Table.model_validate({"source": "oltp", **proposed})
    assert found.mode == "xmin"
    assert set(found.columns.pseudonym) == {"contact_email", "last_ip"}
    assert set(found.columns.never) == {"biography", "settings"}
    assert set(found.columns.plain) == {"id", "tenant_id", "status", "age"}


# -- a source where nothing may be altered ---------------------------------------------------------

FOREIGN = """
create table orders (id bigint primary key, tenant_id uuid not null, total integer, updated text);
create table customers (id bigint primary key, tenant_id uuid not null, total integer, updated text);
create table basket (id bigint, tenant_id uuid, total integer, updated text, primary key (tenant_id, id));
"""
NAMES = ("orders", "customers", "basket")


@pytest.fixture
def foreign(tiers: Databases, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """URLs with a content tier of plain DDL, seen by a login that may do nothing but SELECT; `owner` may write."""
    login, password = f"reader_{secrets.token_hex(6)}", secrets.token_hex(12)
    stanzas = tuple(stanza("xid8").model_copy(update={"name": name}) for name in NAMES)
    monkeypatch.setattr(specs, "tables", lambda source: stanzas if source == "content" else ())
    name = sql.Identifier(login)
    with psycopg.connect(_public(empty_database), autocommit=True) as owner:
        owner.execute(FOREIGN)
        owner.execute(FILL)
        owner.execute("insert into customers select * from orders; insert into basket select * from orders")
        owner.execute(sql.SQL("create role {} login password {}").format(name, sql.Literal(password)))
        owner.execute(sql.SQL("grant select on all tables in schema public to {}").format(name))
        split = urlsplit(empty_database)
        netloc = f"{login}:{password}@{split.netloc.rpartition('@')[2]}"
        reader = urlunsplit(split._replace(netloc=netloc))
        yield {"olap": tiers["olap"], "content": reader, "owner": _public(empty_database)}
        owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


def _read_foreign(urls: dict[str, str], limits: Limits = Limits()) -> list[str]:
    settle(urls["owner"])
    found = ingest.ingest(
        urls, specs.tables("content"), pseudonym_key=PSEUDONYM_KEY, foreign={"content"}, limits=limits
    )
    loaded = [result for result in found if isinstance(result, Loaded)]
    assert len(loaded) == len(NAMES)
    for name in NAMES:
        assert _rows(urls["owner"], name, "true") == _rows(urls["olap"], f"raw_content.{name}", "_deleted is null")
    return [result.mode for result in loaded]


@pytest.mark.every_postgres
@pytest.mark.parametrize("limits", [Limits(), Limits(chunk_bytes=16 * 1024)], ids=["at once", "in ranges"])
def test_a_database_of_plain_ddl_is_ingested_and_reconciled_with_select_alone(
    foreign: dict[str, str], limits: Limits
) -> None:
    assert _read_foreign(foreign, limits) == ["baseline"] * 3
    assert _read_foreign(foreign) == ["idle"] * 3
    with psycopg.connect(foreign["owner"], autocommit=True) as owner:
        owner.execute("update orders set total = -1 where id % 7 = 0; delete from orders where id % 5 = 0")
        owner.execute("insert into customers values (5000, gen_random_uuid(), 1, 'new')")
        assert _read_foreign(foreign) == ["delta", "delta", "idle"]
        owner.execute("truncate customers; delete from basket where id < 4")
        owner.execute("insert into basket select * from orders on conflict do nothing")
        owner.execute("update basket set total = 3 where id = 9")
        assert _read_foreign(foreign)[1:] == ["delta", "delta"]
        compared = list(
            reconcile.reconcile(
                foreign, specs.tables("content"), pseudonym_key=PSEUDONYM_KEY, foreign={"content"}, marts=False
            )
        )
        assert [result.state for result in compared] == ["equal"] * 3, compared
    with pytest.raises(SchemaError, match="penguin migrate up --tier content"):
        list(ingest.ingest(foreign, specs.tables("content"), pseudonym_key=PSEUDONYM_KEY))


def test_a_login_that_may_not_read_everything_of_a_foreign_source_fails_loudly(foreign: dict[str, str]) -> None:
    with psycopg.connect(foreign["owner"], autocommit=True) as owner:
        owner.execute("alter table orders enable row level security")
    with pytest.raises(ConnectionFailed, match=r"Grant it SELECT.*BYPASSRLS"):
        _read_foreign(foreign)
