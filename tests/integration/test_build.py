"""The build on a real server: what was touched is built and nothing else, and it ends where a rebuild ends.

Raw rows are made by hand here, with the slices that the loader would write. Not here: ingestion (test_ingest.py),
the rules of the counters one by one (unit tests of dbt, which `test_rules` runs) and against an independent
recount (test_end_to_end.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from penguin_pipelines.errors import BuildFailed, Busy
from penguin_pipelines.lib import build, dbt, specs
from penguin_pipelines.lib.build import BuildResult

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
FACTS = (
    "intermediate.int_messages",
    "intermediate.int_engagement_events",
    "intermediate.int_mailbox_days",
    "marts.sequence_step_analytics",
    "marts.campaign_analytics",
    "marts.mailbox_analytics",
    "marts.infrastructure_analytics",
    "marts.campaign_analytics_monthly",
    "marts.sequence_step_analytics_monthly",
    "marts.mailbox_analytics_monthly",
    "marts.infrastructure_analytics_monthly",
    "marts.lead_analytics",
    "marts.warmup_analytics",
    "marts.campaign_engagement_hourly",
    "marts.suppression",
    "intermediate.int_bounce_days",
    "intermediate.int_send_hours",
    "intermediate.int_response_times",
    "intermediate.int_provider_days",
    "marts.dim_campaigns",
    "marts.queue_analytics",
    "intermediate.int_queue_failures",
)
NOT_COMPARED = ("id", "created", "updated", "billing_id")

WORLD = """
create function pg_temp.u(t text) returns uuid language sql immutable return md5(t)::uuid;
insert into raw_oltp.tenants (id, name, created) select pg_temp.u('t' || i), 'Tenant ' || i, now() -
  interval '200 days' from generate_series(1, 2) i;
insert into raw_oltp.companies (id, tenant_id, name, status) select pg_temp.u('c' || i || j),
  pg_temp.u('t' || i), 'C' || j, 'active' from generate_series(1, 2) i, generate_series(1, 2) j;
insert into raw_oltp.domains (id, tenant_id, company_id, domain, created) select pg_temp.u('d' || i || j),
  pg_temp.u('t' || i), pg_temp.u('c' || i || j), 'd' || j || '.example', now() from generate_series(1, 2)
  i, generate_series(1, 2) j;
insert into raw_oltp.email_accounts (id, tenant_id, domain_id, status, daily_limit, email) select
  pg_temp.u('m' || i || j), pg_temp.u('t' || i), pg_temp.u('d' || i || (j %% 2 + 1)), 'active', 50, md5(i
  || ',' || j) from generate_series(1, 2) i, generate_series(1, 4) j;
insert into raw_oltp.campaigns (id, tenant_id, company_id, name, status, started) select pg_temp.u('k' ||
  i || j), pg_temp.u('t' || i), pg_temp.u('c' || i || 1), 'K' || j, 'sending', now() from
  generate_series(1, 2) i, generate_series(1, 2) j;
insert into raw_oltp.campaign_sequence_steps (id, tenant_id, campaign_id, step_order, step_type) select
  pg_temp.u('s' || i || j || o), pg_temp.u('t' || i), pg_temp.u('k' || i || j), o, 'email' from
  generate_series(1, 2) i, generate_series(1, 2) j, generate_series(1, 2) o;
insert into raw_oltp.plans (id, slug, max_emails_per_month, price_monthly) values (pg_temp.u('starter'),
  'starter', 10000, 4900);
insert into raw_oltp.subscriptions (id, tenant_id, plan_id, status, billing_interval,
  current_period_start, current_period_end, created)
select pg_temp.u('sub' || i), pg_temp.u('t' || i), pg_temp.u('starter'), 'active', 'month', %(now)s -
  interval '9 days', %(now)s + interval '20 days', %(now)s - interval '100 days' from generate_series(1,
  2) i;
insert into raw_content.email_messages (storage_key, tenant_id, email_account_id, campaign_id,
  sequence_step_id, lead_id, to_email, to_email_domain, direction, message_type, is_warmup, sent, delivered,
  open_count, click_count)
select 'm' || n, pg_temp.u('t' || i), pg_temp.u('m' || i || (n %% 4 + 1)), case when n %% 5 > 0 then
  pg_temp.u('k' || i || (n %% 2 + 1)) end,
  case when n %% 5 > 1 then pg_temp.u('s' || i || (n %% 2 + 1) || (n %% 3 %% 2 + 1)) end,
  pg_temp.u('l' || i || n %% 40), 'r' || i || n %% 40, 'gmail.com', 'outbound',
    'email', n %% 11 = 0,
  %(now)s - n * interval '97 minutes', case when n %% 3 > 0 then %(now)s - n * interval '97 minutes' +
    interval '5 seconds' end, 0, 0
from generate_series(1, 400) n, lateral (select n %% 2 + 1 as i) t;
insert into raw_content.email_opens (id, tenant_id, storage_key, event_key, opened, user_agent, is_bot)
select n, tenant_id, storage_key, 'o' || n, sent + interval '1 hour', 'Thunderbird', n %% 13 = 0 from
  (select *, substr(storage_key, 2)::int n from raw_content.email_messages) m where n %% 4 = 0 or n %% 7 = 0;
insert into raw_content.email_bounces (id, tenant_id, storage_key, event_key, bounced, bounce_type)
select gen_random_uuid(), tenant_id, storage_key, 'b' || n, sent + interval '1 minute', 'hard' from
  (select *, substr(storage_key, 2)::int n from raw_content.email_messages) m where n %% 17 = 0;
insert into raw_content.email_replies (id, tenant_id, storage_key, replied, is_auto_reply)
select gen_random_uuid(), tenant_id, storage_key, sent + interval '1 minute', true from raw_content.email_messages where
  substr(storage_key, 2)::int %% 23 = 1;
insert into raw_oltp.vps_instances (id, status, approximate_cost, created) select pg_temp.u('v' || s),
  'active', 10.01 * s, %(now)s - interval '50 days' from generate_series(1, 2) s;
insert into raw_oltp.smtp_ip_addresses (id, vps_instance_id, ip_address, status, reputation_state,
  reputation_score, approximate_cost, created) select pg_temp.u('ip' || n), pg_temp.u('v' || n %% 2 + 1),
  '203.0.113.' || n, 'warmed', 'good', 90, 4.99, %(now)s - interval '40 days' from generate_series(1, 4) n;
insert into raw_oltp.domain_ip_assignments (id, tenant_id, domain_id, smtp_ip_address_id, status,
  assigned) select gen_random_uuid(), tenant_id, id, pg_temp.u('ip1'), 'active', %(now)s - interval
  '20 days' from raw_oltp.domains;
update raw_content.email_messages set smtp_ip_address_id = pg_temp.u('ip' || substr(storage_key,
  2)::int %% 3) where storage_key <> 'm77';
insert into raw_queue.job_logs (id, job_id, tenant_id, status, message, attempt_number, duration_ms, started,
  finished, context)
select n, pg_temp.u('j' || n), case when n %% 3 > 0 then pg_temp.u('t' || n %% 3) end,
  (array['success', 'success', 'retry', 'failed'])[n %% 4 + 1], '', n %% 3 + 1, n * 37,
  %(now)s - n * interval '17 minutes',
  %(now)s, jsonb_build_object('queue', 'q' || n %% 2, 'type', 'x', 'run', %(now)s - n * interval '18 minutes',
  'error_class',
  'E' || n %% 5) from generate_series(1, 200) n;
insert into ops.touched_slices (kind, cause) values ('all', 'content.email_messages');
"""

CHANGES = {
    "a late click": (
        "insert into raw_content.email_clicks (id, tenant_id, storage_key, event_key, clicked, "
        "is_bot) select 1, tenant_id, storage_key, 'late', %(now)s, false from "
        "raw_content.email_messages where storage_key = 'm301'"
    ),
    "another day": (
        "update raw_content.email_messages set sent = sent - interval '3 days', delivered = null "
        "where storage_key = 'm40'"
    ),
    "another campaign, no mailbox": (
        "update raw_content.email_messages set campaign_id = null, sequence_step_id = null, "
        "email_account_id = null where storage_key = 'm41'"
    ),
    "deleted": "update raw_content.email_messages set _deleted = now() where storage_key in ('m50', 'm51')",
    "the last of its day": ("update raw_content.email_messages set _deleted = now() where storage_key = 'm400'"),
    "another address": (
        "update raw_content.email_messages set smtp_ip_address_id = md5('ip3')::uuid where storage_key = 'm61'"
    ),
    "another hour": (
        "update raw_content.email_opens set opened = opened - interval '100 minutes' where storage_key = 'm48'"
    ),
    "a rescued warmup": (
        "insert into raw_content.warmup_interactions (id, tenant_id, storage_key, interaction_type, interacted) "
        "select gen_random_uuid(), tenant_id, storage_key, 'open', %(now)s from raw_content.email_messages "
        "where storage_key = 'm44'"
    ),
    "never sent": "update raw_content.email_messages set sent = null where storage_key = 'm60'",
}
IP_CHANGES = (
    "update raw_oltp.smtp_ip_addresses set reputation_score = 45, approximate_cost = 9.98 where id = md5('ip1')::uuid",
    "update raw_oltp.smtp_ip_addresses set _deleted = now() - interval '3 days' where id = md5('ip4')::uuid",
    "insert into raw_oltp.smtp_ip_addresses (id, vps_instance_id, ip_address, status, approximate_cost, created) "
    "values (md5('ip5')::uuid, md5('v1')::uuid, '203.0.113.5', 'available', 4.99, now() - interval '30 days')",
    "insert into raw_oltp.blacklist_checks (id, smtp_ip_address_id, blacklist_name, is_listed, checked, created) "
    "values (gen_random_uuid(), md5('ip2')::uuid, 'zen.spamhaus.org', true, now() - interval '2 days', now())",
    "insert into ops.touched_slices (kind, cause, entity_id) select 'entity', 'oltp.smtp_ip_addresses', "
    "md5('ip' || n)::uuid from generate_series(1, 5) n where n in (1, 4, 5)",
    "insert into ops.touched_slices (kind, cause, entity_id) values ('entity', 'oltp.blacklist_checks', "
    "md5('ip2')::uuid)",
)
QUEUE_CHANGES = (
    "insert into raw_queue.job_logs (id, job_id, status, message, attempt_number, duration_ms, started, context) "
    "select 1000, job_id, 'failed', '', 9, 5, started, context from raw_queue.job_logs where id = 7",
    "update raw_queue.job_logs set started = started - interval '30 hours' where id = 9",
    "delete from raw_queue.job_logs where id between 20 and 24",
    # Purged by the source after its retention: it happened all the same.
    "update raw_queue.job_logs set _deleted = now() where id = 60",
)
QUEUE_NOTE = (
    "insert into ops.touched_slices (kind, cause, event_hour) select distinct 'hour', 'queue.job_logs', "
    "date_trunc('hour', started, 'UTC') from raw_queue.job_logs where id in (7, 9, 20, 21, 22, 23, 24, 60)"
)
SESSIONS = "select sessions from pg_stat_database where datname = current_database()"
ADDRESS_DAYS = """
select activity_date, smtp_ip_address_id, sum(sent), sum(ip_cost), min(reputation_score)
from marts.infrastructure_analytics group by 1, 2
"""
LATE_CHANGES = (
    "update raw_oltp.smtp_ip_addresses set reputation_score = 45, approximate_cost = 2 * approximate_cost "
    "where id = md5('ip1')::uuid",
    "insert into ops.touched_slices (kind, cause, entity_id) values ('entity', 'oltp.smtp_ip_addresses', "
    "md5('ip1')::uuid)",
    "insert into raw_content.email_messages (storage_key, tenant_id, email_account_id, smtp_ip_address_id, direction, "
    "message_type, is_warmup, sent, open_count, click_count) select 'late', tenant_id, email_account_id, "
    "smtp_ip_address_id, 'outbound', 'email', false, sent, 0, 0 from raw_content.email_messages "
    "where storage_key = 'm301'",
)
CHANGED = ["m301", "m44", "m48", "m40", "m41", "m50", "m51", "m400", "m60", "m61"]
NOTE = """
insert into ops.touched_slices (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id,
  mailbox_id)
select 'message', 'content.email_messages', tenant_id, storage_key, (sent at time zone 'UTC')::date,
  campaign_id, sequence_step_id, email_account_id
from raw_content.email_messages where storage_key = any(%(keys)s) and _deleted is null
"""


class Warehouse:
    """A migrated warehouse with raw rows; `fill` puts them there."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home

    def fill(self) -> None:
        with self.connect("pm_loader") as connection:
            for source in specs.SOURCES:
                for table in specs.tables(source):
                    _make_raw(connection, table)
            psycopg.ClientCursor(connection).execute(WORLD, {"now": NOW})

    @contextmanager
    def connect(self, role: str) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url) as connection:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            yield connection

    def build(self, **given: Any) -> BuildResult:
        return build.run(self.url, home=self.home, **{"as_of": NOW, **given})

    def rows(self, query: str, role: str = "pm_etl") -> list[tuple[Any, ...]]:
        with self.connect(role) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload]

    def facts(self) -> dict[str, set[tuple[Any, ...]]]:
        """Everything that a rebuild must reproduce."""
        found = {}
        for relation in FACTS:
            schema, name = relation.split(".")
            columns = self.rows(
                f"select attname from pg_attribute where attrelid = '{schema}.{name}'::regclass "
                "and attnum > 0 and not attisdropped"
            )
            names = ", ".join(f"{c}::text" for (c,) in columns if c not in NOT_COMPARED)
            found[relation] = set(self.rows(f"select {names} from {relation}"))
        return found


def _make_raw(connection: psycopg.Connection, table: specs.Table) -> None:
    columns = ", ".join(f'"{c.name}" {c.type}' for c in table.raw_columns)
    added = "_change_xid xid8, _loaded timestamptz default now(), _deleted timestamptz"
    name = f"{table.raw_schema}.{table.name}"
    connection.execute(f"create table {name} ({columns}, {added}, primary key ({', '.join(table.raw_key)}))")  # type: ignore[call-overload]
    connection.execute(f"grant select on {name} to pm_etl")  # type: ignore[call-overload]


def test_what_changed_ends_where_a_rebuild_ends(built: Warehouse, first_build: BuildResult) -> None:
    warehouse, first = built, first_build
    assert first.started_dbt and first.models > 40 and first.tests > 30 and first.claimed == 1
    before = warehouse.facts()
    assert all(before.values())
    idle = warehouse.build()
    assert not idle.started_dbt
    with warehouse.connect("pm_loader") as connection:
        connection.execute(NOTE, {"keys": CHANGED})
        for change in CHANGES.values():
            connection.execute(change, {"now": NOW} if "%(now)s" in change else None)  # type: ignore[call-overload]
        connection.execute(NOTE, {"keys": CHANGED})
        connection.execute(
            "update raw_oltp.domains d set company_id = (select c.id from raw_oltp.companies c where "
            "c.tenant_id = d.tenant_id and c.id <> d.company_id) where domain = 'd1.example'"
        )
        connection.execute(
            "insert into ops.touched_slices (kind, cause, tenant_id, entity_id) select 'entity', "
            "'oltp.domains', tenant_id, id from raw_oltp.domains where domain = 'd1.example'"
        )
        connection.execute("update raw_oltp.campaigns set name = 'Renamed', status = 'paused' where name = 'K2'")
        connection.execute(
            "insert into ops.touched_slices (kind, cause, tenant_id, entity_id) select 'entity', "
            "'oltp.campaigns', tenant_id, id from raw_oltp.campaigns where name = 'Renamed'"
        )
        for change in (*IP_CHANGES, QUEUE_NOTE, *QUEUE_CHANGES, QUEUE_NOTE):
            connection.execute(change)  # type: ignore[call-overload]
    # A build that dies halfway has written where a message is now; where it was before must not be lost with it.
    for change in ("revoke insert, delete on {} from pm_etl", "grant insert, delete on {} to pm_etl"):
        for role, table in (("pm_etl", "intermediate.int_ip_days"), ("pm_owner", "marts.campaign_engagement_hourly")):
            with warehouse.connect(role) as connection:
                connection.execute(change.format(table))  # type: ignore[call-overload]
        if change.startswith("revoke"):
            with pytest.raises(BuildFailed, match="permission denied"):
                warehouse.build()
    assert warehouse.rows("select oid::regclass from pg_class where relpersistence = 'u'") == [], (
        "A crash of the server empties an unlogged table, and with it what the build that died has to say."
    )
    ((opened,),) = warehouse.rows(SESSIONS)
    again = warehouse.build()
    assert again.started_dbt
    assert warehouse.rows(SESSIONS)[0][0] - opened < again.models / 2, "A model must not cost a connection of its own."
    after = warehouse.facts()
    assert all(after[name] != before[name] for name in FACTS)
    assert warehouse.build(full_refresh=True).claimed == 1
    rebuilt = warehouse.facts()
    for name in FACTS:
        assert after[name] == rebuilt[name], name
    assert warehouse.rows("select count(*) from ops.touched_slices") == [(0,)]


def test_a_part_does_not_forget_where_an_event_was(built: Warehouse) -> None:
    hours = "marts.campaign_engagement_hourly"
    before = built.facts()[hours]
    with built.connect("pm_loader") as connection:
        connection.execute(NOTE, {"keys": ["m48"]})
        connection.execute(CHANGES["another hour"])
    assert built.build(select="int_engagement_events").claimed == 0
    assert built.build().claimed > 0
    after = built.facts()[hours]
    built.build(full_refresh=True)
    assert before != after == built.facts()[hours]


def test_time_alone_touches(built: Warehouse) -> None:
    warehouse = built
    addresses = warehouse.rows(ADDRESS_DAYS)
    with warehouse.connect("pm_loader") as connection:
        for change in LATE_CHANGES:
            connection.execute(change)  # type: ignore[call-overload]
        connection.execute(NOTE, {"keys": ["late"]})
    later = NOW + timedelta(days=12)
    assert warehouse.build(as_of=later).started_dbt
    day = (later - timedelta(days=8)).date()
    undecided = "select count(*) from intermediate.int_messages where delivered + bounced = 0"
    assert warehouse.rows(undecided) == [(0,)]
    facts = (
        "sequence_step_analytics", "campaign_analytics", "mailbox_analytics", "infrastructure_analytics",
        "warmup_analytics",
    )  # fmt: skip
    for fact in facts:
        assert warehouse.rows(f"select count(*) from marts.{fact} where is_final <> (activity_date <= '{day}')") == [
            (0,)
        ]
    assert not warehouse.build(as_of=later).started_dbt
    _assert_facts_keep_what_they_said(addresses, warehouse.rows(ADDRESS_DAYS), later)


def _assert_facts_keep_what_they_said(before: list[Any], after: list[Any], later: datetime) -> None:
    """A final day keeps its price, a day that is over its reputation; every day that has begun has its row."""
    old = {(day, ip): rest for day, ip, *rest in before}
    new = {(day, ip): rest for day, ip, *rest in after}
    last_final = (NOW - timedelta(days=8)).date()
    address = next(ip for (day, ip), rest in old.items() if day == last_final and rest[0] > 0 and rest[1] > 0)
    mail = {day: new[day, address][0] - old[day, address][0] for day, ip in old if ip == address}
    assert sum(mail.values()) == 1 and next(day for day in mail if mail[day]) < last_final
    for (day, ip), (_, cost, score) in old.items():
        assert new[day, ip][2] == score
        changed = ip == address and day > last_final
        assert (1.9 * float(cost) < float(new[day, ip][1])) if changed else new[day, ip][1] == cost
    live = {ip for (day, ip), rest in old.items() if day == NOW.date() and rest[1] > 0}
    assert len(live) == 4 and {(NOW.date() + timedelta(days=n), ip) for ip in live for n in range(13)} <= set(new)
    assert max(day for day, _ in new) == later.date()
    assert {new[day, address][2] for day, ip in new if ip == address and day > NOW.date()} == {45}


def test_a_tenant_sees_its_own_rows_only_and_an_edited_query_takes_effect(
    built: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = built
    project = tmp_path / "dbt_project"
    shutil.copytree(dbt.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt, "PROJECT", project)
    views = [
        name
        for (name,) in warehouse.rows(
            "select viewname from pg_views where schemaname = 'tenant' and viewname <> 'data_freshness'"
        )
    ]
    assert len(views) == len(list((project / "models" / "tenant").glob("*.sql"))) - 1
    tenants = warehouse.rows("select tenant_id from marts.dim_tenants")
    for role in ("pm_tenant", "pm_app"):
        for view in views:
            assert warehouse.rows(f"select count(*) from tenant.{view}", role) == [(0,)]
            for (tenant,) in tenants:
                with warehouse.connect(role) as connection:
                    connection.execute(f"set local app.current_tenant_id = '{tenant}'")  # type: ignore[call-overload]
                    seen = connection.execute(f"select distinct tenant_id from tenant.{view}").fetchall()  # type: ignore[call-overload]
                # A comparison needs two campaigns, and each tenant here has mail of one.
                assert seen == ([] if view == "campaign_comparison" else [(tenant,)]), view
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        warehouse.rows("select * from marts.campaign_analytics", "pm_tenant")
    assert warehouse.rows("select count(*) from marts.campaign_performance_summary", "pm_analyst") == [(2,)]

    model = project / "models" / "marts" / "campaigns" / "campaign_performance_summary.sql"
    model.write_text(model.read_text().replace("    totals.updated,\n", "    totals.updated,\n    7 as seven,\n"))
    below = project / "models" / "marts" / "campaigns" / "campaign_performance.sql"
    below.write_text(
        below.read_text().replace("    f.activity_date,\n", "    f.activity_date::text as activity_date,\n")
    )
    # Its columns are a contract: readers keep the view that they know until the contract says otherwise too.
    with pytest.raises(BuildFailed, match=r"campaign_performance.*contract"):
        warehouse.build(select="campaign_performance")
    day = "select pg_typeof(activity_date)::text from marts.campaign_performance limit 1"
    assert warehouse.rows(day, "pm_analyst") == [("date",)]
    contract = project / "models" / "marts" / "campaigns" / "_campaigns__models.yml"
    before, view = contract.read_text().split("  - name: campaign_performance\n")
    contract.write_text(
        before + "  - name: campaign_performance\n" + view.replace("data_type: date", "data_type: text", 1)
    )
    assert warehouse.build(select="campaign_performance_summary campaign_performance").claimed == 0
    assert warehouse.rows("select distinct seven from marts.campaign_performance_summary", "pm_analyst") == [(7,)]
    # What stands on a view that was made anew is still there, with its grants.
    with warehouse.connect("pm_tenant") as connection:
        connection.execute(f"set local app.current_tenant_id = '{tenants[0][0]}'")  # type: ignore[call-overload]
        assert connection.execute("select count(*) from tenant.campaign_performance_summary").fetchone() == (1,)
        assert connection.execute(
            "select pg_typeof(activity_date)::text from tenant.campaign_performance limit 1"
        ).fetchone() == ("text",)


def test_a_changed_threshold_recomputes_everything_once(
    built: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = built
    project = tmp_path / "dbt_project"
    shutil.copytree(dbt.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt, "PROJECT", project)
    assert not warehouse.build().started_dbt
    hot = "select count(*) filter (where is_counted), min(rule_version) from intermediate.int_engagement_events"
    ((counted, version),) = warehouse.rows(hot)
    assert counted > 0 and version == 1

    # A view that changes is no rule: dbt runs, and no row is computed again.
    view = project / "models" / "marts" / "campaigns" / "campaign_performance.sql"
    view.write_text(view.read_text() + "-- edited\n")
    assert warehouse.build().claimed == 0

    settings = project / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("engagement_rule_version: 1", "engagement_rule_version: 2"))
    agents = project / "seeds" / "known_agents.csv"
    agents.write_text(agents.read_text() + "Thunderbird,contains,scanner\n")
    # A build that fails has not recomputed anything; the next one still does, and it waits as one slice, not two.
    with warehouse.connect("pm_loader") as connection:
        connection.execute("alter table raw_content.email_replies rename column is_auto_reply to auto")
    with pytest.raises(BuildFailed):
        warehouse.build()
    with warehouse.connect("pm_loader") as connection:
        connection.execute("alter table raw_content.email_replies rename column auto to is_auto_reply")
    assert warehouse.build().claimed == 1
    assert warehouse.rows(hot) == [(0, 2)]
    assert warehouse.rows("select sum(opened_tracked), sum(opened_machine) > 0 from marts.campaign_analytics") == [
        (0, True)
    ]
    assert warehouse.rows("select count(*) from marts.campaign_engagement_hourly where opens > 0") == [(0,)]
    assert not warehouse.build().started_dbt


def test_a_failed_build_consumes_nothing(warehouse: Warehouse) -> None:
    with warehouse.connect("pm_loader") as connection:
        connection.execute("alter table raw_content.email_replies rename column is_auto_reply to auto")
    with pytest.raises(BuildFailed, match=r"stg_content__email_replies.*is_auto_reply"):
        warehouse.build()
    assert warehouse.rows("select kind, build_id is not null from ops.touched_slices") == [("all", True)]
    with warehouse.connect("pm_loader") as connection:
        connection.execute("alter table raw_content.email_replies rename column auto to is_auto_reply")
    assert warehouse.build().claimed == 1


def test_rules(built: Warehouse) -> None:
    """The unit tests of dbt: one for each written rule of the counters."""
    assert built.build(full_refresh=True, unit_tests=True).tests >= 48


def test_one_build_at_a_time(warehouse: Warehouse) -> None:
    with psycopg.connect(warehouse.url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [build.BUILD_LOCK])
        with pytest.raises(Busy, match="Another build"):
            warehouse.build(wait_seconds=0.3)
