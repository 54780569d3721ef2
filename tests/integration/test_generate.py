"""The generator on real servers: reproducible, consistent, continued by --append, and nothing half written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg import sql
from servers import Databases

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.synthetic import Options, generate, write
from penguin_pipelines.synthetic.write import Block

AS_OF = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
SMALL = Options(messages=2_500, days=40, as_of=AS_OF)
LATER = Options(messages=500, append=True, as_of=AS_OF + timedelta(days=2))

TABLES = """
select n.nspname, c.relname,
  array_agg(a.attname::text order by a.attnum) filter (where a.attname not in ('change_xid', 'plan_id'))
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname in ('public', 'marts') and c.relkind in ('r', 'p') and not c.relispartition
  and c.relname not in ('plans', 'job_queues')
group by 1, 2
"""


def contents(urls: Mapping[str, str], *, changed: bool = False) -> dict[str, Any]:
    """Number and digest of the rows of each table, without what the server decides (watermarks, ids of plans; times of
    change where a trigger writes them)."""
    found = {}
    for tier in urls:
        with psycopg.connect(urls[tier]) as connection:
            for schema, table, columns in connection.execute(TABLES).fetchall():
                stamped = changed or table == "smtp_ip_addresses"
                kept = [sql.Identifier(c) for c in columns if not (stamped and c == "updated")]
                query = sql.SQL(
                    "select count(*), md5(string_agg(r::text, '|' order by r::text)) from (select {} from {}) as r"
                )
                name = sql.Identifier(schema, table)
                found[f"{tier}.{table}"] = connection.execute(query.format(sql.SQL(", ").join(kept), name)).fetchone()
    return found


def value(urls: Mapping[str, str], tier: str, query: str) -> Any:
    with psycopg.connect(urls[tier]) as connection:
        row = connection.execute(cast("LiteralString", query)).fetchone()
    assert row
    return row[0]


@pytest.fixture
def twin(postgres: Any) -> Iterator[Databases]:
    second = Databases(postgres)
    yield second
    second.drop()


@pytest.fixture
def filled(tiers: Databases) -> Databases:
    generate(tiers, SMALL)
    return tiers


@pytest.fixture(scope="module")
def standing(postgres: Any) -> Iterator[Databases]:
    """One history for all tests that only look at it."""
    databases = Databases(postgres)
    try:
        generate(databases, SMALL)
        yield databases
    finally:
        databases.drop()


def test_the_same_seed_and_present_give_the_same_rows(tiers: Databases, twin: Databases) -> None:
    generate(tiers, SMALL)
    generate(twin, SMALL)
    assert contents(tiers) == contents(twin)
    generate(tiers, LATER)
    generate(twin, LATER)
    assert contents(tiers, changed=True) == contents(twin, changed=True)


def test_every_table_of_the_sources_is_filled_and_nothing_lies_in_the_future(tiers: Databases) -> None:
    seen: list[tuple[str, int, int]] = []
    summary = generate(tiers, SMALL, lambda *step: seen.append(step))
    empty = {name for name, (count, _) in contents(tiers).items() if not count and not name.startswith("olap.")}
    assert empty == {"queue.queue_alerts"}
    assert seen[-1] == ("commit", 1, 1)
    assert summary.seconds > 0
    outbound = "select count(*) from inbox_message_refs where direction = 'outbound'"
    assert value(tiers, "oltp", outbound) == SMALL.messages
    newest = "select max(greatest(sent, delivered, bounced, queued, created)) from email_messages"
    assert value(tiers, "content", newest) <= AS_OF
    assert value(tiers, "content", "select max(greatest(opened, created)) from email_opens") <= AS_OF


@pytest.mark.parametrize(
    "broken",
    [
        "select count(*) from email_messages where bounced is not null and delivered is not null",
        "select count(*) from email_messages where bounced is not null and sent is null",
        "select count(*) from email_messages where coalesce(opened, clicked, replied, unsubscribed) is not null",
        "select count(*) from email_messages as m where m.bounced is not null and not exists "
        "(select from email_bounces as b where b.storage_key = m.storage_key)",
        "select count(*) from email_opens as o join email_messages as m using (storage_key) where o.opened < m.sent",
        "select count(*) from email_opens as o left join email_messages as m using (storage_key) where m.sent is null",
        "select count(*) from email_replies as r left join email_messages as m on m.storage_key = r.reply_storage_key "
        "where m.direction is distinct from 'inbound'",
        "select count(*) from email_messages "
        "where storage_key not like tenant_id || '/20__/__/email/' || message_ref_id",
    ],
)
def test_messages_and_events_agree(standing: Databases, broken: str) -> None:
    assert value(standing, "content", broken) == 0


@pytest.mark.parametrize(
    "broken",
    [
        "select count(*) from campaigns as c join campaign_leads as l on l.campaign_id = c.id where c.status = 'draft'",
        "select count(*) from inbox_message_refs as r join email_accounts as b on b.id = r.email_account_id "
        "join campaigns as c on c.id = r.campaign_id where b.company_id <> c.company_id",
        "select count(*) from email_accounts as b join domains as d on d.id = b.domain_id "
        "where b.company_id <> d.company_id",
        "select count(*) from leads as l where l.status in ('bounced', 'unsubscribed') and not exists "
        "(select from suppression_list as s where s.tenant_id = l.tenant_id and s.email = l.email)",
        "select count(*) from smtp_ip_addresses as i where assigned_count <> "
        "(select count(*) from domain_ip_assignments as a where a.smtp_ip_address_id = i.id and a.status <> 'expired')",
        "select count(*) from subscriptions as s where plan_id <> (select plan_id from subscription_changes as c "
        "where c.subscription_id = s.id order by effective desc limit 1)",
    ],
)
def test_customers_are_consistent(standing: Databases, broken: str) -> None:
    assert value(standing, "oltp", broken) == 0


def test_append_adds_changes_and_deletes(filled: Databases) -> None:
    before = value(filled, "content", "select max(created) from email_messages")
    summary = generate(filled, LATER)
    since = before - timedelta(minutes=5)
    added = f"select count(*) from inbox_message_refs where direction = 'outbound' and queued > '{since}'"
    assert value(filled, "oltp", added) >= LATER.messages
    for touched in (
        "content.email_opens", "oltp.subscription_changes", "changed content.email_messages", "changed oltp.leads",
        "changed oltp.inbox_message_refs", "changed oltp.campaigns", "changed oltp.email_accounts",
        "changed oltp.users",
        "changed oltp.subscriptions", "changed oltp.campaign_sequence_steps", "changed queue.jobs",
        "deleted content.email_messages", "deleted content.content_objects", "deleted oltp.leads",
        "deleted oltp.suppression_list", "deleted oltp.campaign_sequence_steps", "deleted oltp.inbox_message_refs",
    ):  # fmt: skip
        assert summary.rows[touched] > 0, touched
    late = f"select count(*) from email_opens where created > '{AS_OF}' and opened < created - interval '1 hour'"
    assert value(filled, "content", late) > 0


def test_append_works_again_and_again_without_time_passing(filled: Databases) -> None:
    for _ in range(3):
        generate(filled, LATER)
    with pytest.raises(PenguinError, match="already reaches"):
        generate(filled, Options(append=True, as_of=AS_OF - timedelta(days=1)))


def test_what_does_not_fit_the_databases_is_refused(tiers: Databases) -> None:
    with pytest.raises(PenguinError, match="no tenant"):
        generate(tiers, LATER)
    generate(tiers, Options(messages=0, as_of=AS_OF))
    with pytest.raises(PenguinError, match="--append"):
        generate(tiers, SMALL)


def test_a_run_that_breaks_off_leaves_nothing(tiers: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    real = write.copy

    def failing(connection: psycopg.Connection, block: Block) -> None:
        if block.table == "email_replies":
            raise ConnectionResetError("the server went away")
        real(connection, block)

    monkeypatch.setattr(write, "copy", failing)
    with pytest.raises(ConnectionResetError):
        generate(tiers, SMALL)
    monkeypatch.undo()
    assert all(not count for count, _ in contents(tiers).values())
    generate(tiers, SMALL)


def test_a_run_that_dies_between_commits_is_recognised(tiers: Databases) -> None:
    generate(tiers, Options(messages=50, as_of=AS_OF))
    with psycopg.connect(tiers["oltp"]) as connection:
        connection.execute("truncate tenants, users cascade")
    with pytest.raises(PenguinError, match="broke off between two commits"):
        generate(tiers, SMALL)
