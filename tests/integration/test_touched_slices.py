"""Whatever moves, the slice it left and the slice it came to are touched, and nothing stays behind in the marts.

Moves are drawn at random from a seed, several in one transaction and in one window. Not here: what a build does with
a slice (test_build.py), one move at a time (test_ingest.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import recount
from factories import make
from psycopg import sql
from servers import PSEUDONYM_KEY, Databases, Server, settle

from penguin_pipelines.lib import build, ingest, specs
from penguin_pipelines.lib.load import Loaded

TENANTS, CAMPAIGNS, STEPS, MAILBOXES, LEADS = ([UUID(int=100 * kind + n) for n in range(3)] for kind in range(1, 6))
# The clock of the figures; events must lie in partitions that exist.
AS_OF = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
DAYS = [AS_OF - timedelta(days=n) for n in range(12, 16)]
MOVES: dict[str, list[Any]] = {
    "sent": DAYS,
    "campaign_id": [*CAMPAIGNS, None],
    "sequence_step_id": [*STEPS, None],
    "email_account_id": [*MAILBOXES, None],
    "lead_id": [*LEADS, None],
    "tenant_id": TENANTS,
}
EVENTS = {"email_opens": "opened", "email_clicks": "clicked", "email_bounces": "bounced", "email_replies": "replied"}
SLICE = "tenant_id, storage_key, {}, campaign_id, {}, {}, lead_id"
OF_SOURCE = SLICE.format("(sent at time zone 'UTC')::date", "sequence_step_id", "email_account_id")
OF_TOUCHED = SLICE.format("activity_date", "step_id", "mailbox_id")
MESSAGES = "select {} from email_messages order by storage_key"

Slice = tuple[Any, ...]


@pytest.fixture(scope="module")
def shared(postgres: Server) -> Iterator[Databases]:
    databases = Databases(postgres)
    yield databases
    databases.drop()


def _ingest(urls: Databases) -> None:
    for source in specs.SOURCES:
        settle(urls[source])
    results = list(ingest.ingest(urls, specs.all_tables(), pseudonym_key=PSEUDONYM_KEY))
    assert all(isinstance(result, Loaded) for result in results), results


def _messages(content: psycopg.Connection) -> dict[str, Slice]:
    return {row[1]: row for row in content.execute(f"select {OF_SOURCE} from email_messages")}  # type: ignore[call-overload]


def _events(content: psycopg.Connection) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Message, tenant and time of every event."""
    return {
        (table, row[0]): row
        for table, time in EVENTS.items()
        for row in content.execute(f"select event_key, tenant_id, storage_key, {time} from {table}")  # type: ignore[call-overload]
    }


def _touched(url: str) -> set[Slice]:
    with psycopg.connect(url, autocommit=True) as connection:
        query = f"delete from ops.touched_slices where kind = 'message' returning {OF_TOUCHED}"
        return set(connection.execute(query).fetchall())  # type: ignore[call-overload]


def _send(dice: random.Random, content: psycopg.Connection) -> None:
    moved = {column: dice.choice(values) for column, values in MOVES.items()}
    make(content, "email_messages", storage_key=f"m{dice.randrange(10**9)}", **moved)


def _happen(dice: random.Random, content: psycopg.Connection) -> None:
    message = dice.choice(sorted(_messages(content).values(), key=str))
    table, time = dice.choice(list(EVENTS.items()))
    given = {"storage_key": message[1], "tenant_id": message[0], "event_key": f"e{dice.randrange(10**9)}"}
    make(content, table, **given, **{time: dice.choice(DAYS) + timedelta(hours=dice.randrange(48))})


def _move_message(dice: random.Random, content: psycopg.Connection) -> None:
    key = dice.choice(sorted(_messages(content)))
    column, values = dice.choice(list(MOVES.items()))
    statement = sql.SQL("update email_messages set {} = %s where storage_key = %s").format(sql.Identifier(column))
    content.execute(statement, [dice.choice(values), key])


def _move_event(dice: random.Random, content: psycopg.Connection) -> None:
    """To another message, which may be of another tenant, or to another time."""
    (table, key) = dice.choice(sorted(_events(content)))
    message = dice.choice(sorted(_messages(content).values(), key=str))
    content.execute(
        sql.SQL("update {} set storage_key = %s, tenant_id = %s where event_key = %s").format(sql.Identifier(table)),
        [message[1], message[0], key],
    )


def _delete(dice: random.Random, content: psycopg.Connection) -> None:
    if dice.random() < 0.5:
        content.execute("delete from email_messages where storage_key = %s", [dice.choice(sorted(_messages(content)))])
    else:
        table, key = dice.choice(sorted(_events(content)))
        content.execute(sql.SQL("delete from {} where event_key = %s").format(sql.Identifier(table)), [key])


def _stir(dice: random.Random, content: psycopg.Connection) -> None:
    for _ in range(dice.randint(3, 10)):
        with content.transaction():
            for _ in range(dice.randint(1, 3)):
                dice.choice([_send, _happen, _move_message, _move_message, _move_event, _delete])(dice, content)


def _fill(dice: random.Random, content: psycopg.Connection) -> None:
    for _ in range(25):
        _send(dice, content)
    for _ in range(25):
        _happen(dice, content)


@pytest.mark.parametrize("seed", range(4))
def test_every_changed_row_touches_the_slice_it_left_and_the_slice_it_came_to(shared: Databases, seed: int) -> None:
    dice = random.Random(seed)
    with psycopg.connect(shared["content"], autocommit=True) as content:
        _fill(dice, content)
        _ingest(shared)
        _touched(shared["olap"])
        before, events = _messages(content), _events(content)
        _stir(dice, content)
        _ingest(shared)
        after, later = _messages(content), _events(content)
        wanted = {side[key] for key in before.keys() | after.keys() for side in (before, after) if key in side} - {
            slice for key, slice in before.items() if after.get(key) == slice
        }
        for key in events.keys() | later.keys():
            if events.get(key) != later.get(key):
                for happened, messages in ((events, before), (later, after)):
                    if key in happened and (message := messages.get(happened[key][2])):
                        # An event belongs to a message of its own tenant.
                        wanted |= {message} if message[0] == happened[key][1] else set()
        assert len(wanted) > 2
        assert wanted - _touched(shared["olap"]) == set()


ENTITIES = [
    ("campaign_leads", "campaign_id", "campaigns"),
    ("campaign_sequence_steps", "campaign_id", "campaigns"),
    ("domains", "company_id", "companies"),
]


@pytest.mark.parametrize(("table", "column", "parent"), ENTITIES)
def test_an_entity_that_moves_to_another_parent_or_key_touches_both_of_what_its_stanza_names(
    shared: Databases, table: str, column: str, parent: str
) -> None:
    stanza = specs.find(f"oltp.{table}")
    with psycopg.connect(shared["oltp"], autocommit=True) as oltp:
        row = make(oltp, table)
        other = make(oltp, parent, tenant_id=row["tenant_id"])
        _ingest(shared)
        with psycopg.connect(shared["olap"], autocommit=True) as warehouse:
            warehouse.execute("truncate ops.touched_slices")
        statement = sql.SQL("update {} set {} = %s where id = %s").format(sql.Identifier(table), sql.Identifier(column))
        oltp.execute(statement, [other["id"], row["id"]])
    _ingest(shared)
    with psycopg.connect(shared["olap"]) as warehouse:
        found = warehouse.execute(
            "select tenant_id, entity_id from ops.touched_slices where kind = 'entity'"
        ).fetchall()
    assert stanza.entity
    now = {**row, column: other["id"]}
    assert {(row["tenant_id"], row[stanza.entity]), (row["tenant_id"], now[stanza.entity])} <= set(found)


FACTS = {
    "sequence_step_analytics": ["tenant_id", "campaign_id", "step_id", "activity_date"],
    "campaign_analytics": ["tenant_id", "campaign_id", "activity_date"],
    "mailbox_analytics": ["tenant_id", "mailbox_id", "activity_date"],
}


def _facts(url: str, mart: str) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Counters by key; a row of nothing but zeros counts as no row."""
    keys = [f"{k}::text" if k.endswith("_id") else k for k in FACTS[mart]]
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"select {', '.join([*keys, *recount.COUNTERS])} from marts.{mart}").fetchall()  # type: ignore[call-overload]
    return {row[: len(keys)]: row[len(keys) :] for row in rows if any(row[len(keys) :])}


def test_nothing_stays_behind_in_the_marts_when_messages_and_events_move(tiers: Databases, dbt_home: Path) -> None:
    dice = random.Random(5)
    with psycopg.connect(tiers["content"], autocommit=True) as content:
        _fill(dice, content)
        _ingest(tiers)
        build.run(tiers["olap"], home=dbt_home, as_of=AS_OF)
        before = {mart: _facts(tiers["olap"], mart) for mart in FACTS}
        _stir(dice, content)
        _stir(dice, content)
    _ingest(tiers)
    assert build.run(tiers["olap"], home=dbt_home, as_of=AS_OF).started_dbt
    messages = recount.messages(tiers["content"], AS_OF)
    for mart, keys in FACTS.items():
        after = _facts(tiers["olap"], mart)
        assert after == recount.totals(messages, keys), mart
        assert before[mart].keys() - after.keys(), "Something must have left a slice for good."
