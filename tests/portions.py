"""Late and out of order, in portions with a build after each: what must equal one full rebuild, row by row.

One world is generated whole. A second set of tiers gets it in random portions: half in the first, the rest after,
whatever its time, so that events come before their messages and most of a year late. On the way messages come first
as something else (another day, no campaign, not yet confirmed) and are corrected, events come again under the key they
had, and messages come and are deleted. After each portion: ingest, build with the clock of that portion, and see that
what is closed has not changed and that the ledger holds exactly the difference. At the end every table that dbt fills
by slices is compared by EXCEPT both ways with a full rebuild of the same warehouse and with a warehouse that got the
world at once.

The world has 29 February, both nights of daylight saving in America and Europe, ends of months, midnights of UTC
and of Kathmandu to the microsecond, and a viewer in each of these zones.

    PYTHONPATH=tests python -m portions --portions 20 --messages 3000 --seed 1

which `make portions` does.

Here: the world, the feeding and the comparison. Not here: the short form (tests/integration/test_portions.py), what
each counter must be (recount.py).
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import psycopg
import recount
from psycopg import sql
from servers import FAST, PSEUDONYM_KEY, Databases, Server, settle

from penguin_pipelines.errors import BuildFailed
from penguin_pipelines.lib import build, dbt, ingest, services, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.settings import Settings
from penguin_pipelines.synthetic import Options, generate

AS_OF = datetime(2024, 12, 5, 12, tzinfo=UTC)
FIRST_CLOCK = AS_OF - timedelta(days=21)
"""The clock of the first build; the others share the days up to AS_OF."""
DAYS = 290
MOMENTS = {
    "29 February begins": "2024-02-29 00:00:00",
    "29 February ends": "2024-02-29 23:59:59.999999",
    "March begins": "2024-03-01 00:00:00",
    "midnight in Kathmandu on 29 February": "2024-02-28 18:15:00",
    "before midnight in Kathmandu": "2024-02-29 18:14:59.999999",
    "New York before the hour that is missing": "2024-03-10 06:59:59.999999",
    "New York after it": "2024-03-10 07:00:00",
    "Berlin before the hour that is missing": "2024-03-31 00:59:59.999999",
    "Berlin after it": "2024-03-31 01:00:00",
    "March ends": "2024-03-31 23:59:59.999999",
    "Berlin in the hour that comes twice": "2024-10-27 00:30:00",
    "Berlin in it again": "2024-10-27 01:30:00",
    "October ends": "2024-10-31 23:59:59.999999",
    "November begins": "2024-11-01 00:00:00",
    "New York in the hour that comes twice": "2024-11-03 05:30:00",
    "New York in it again": "2024-11-03 06:30:00",
}
ZONES = ("UTC", "Asia/Kathmandu", "America/New_York", "Europe/Berlin")
TIMES = {
    "email_messages": "coalesce(sent, created)",
    "email_opens": "opened",
    "email_clicks": "clicked",
    "email_bounces": "bounced",
    "email_replies": "replied",
    "email_unsubscribes": "unsubscribed",
    "email_complaints": "complained",
    "warmup_interactions": "interacted",
}
MESSAGE_TIMES = ("queued", "sent", "delivered", "processed", "opened", "clicked", "replied", "bounced", "failed")
# What a message that is corrected later first comes as; the rest of its columns is right at once.
FIRST_VERSION = {
    "sent": "sent - interval '1 day'",
    "delivered": "null",
    "campaign_id": "case when length(storage_key) % 2 = 0 then campaign_id end",
    "sequence_step_id": "null",
    "lead_id": "null",
    "email_account_id": "case when length(subject) % 2 = 0 then email_account_id end",
    "smtp_ip_address_id": "null",
}
# Not the same after a rebuild of the same rows: numbers and times of writing.
OF_WRITING = {"id", "created", "updated", "_loaded"}
# Nor in a warehouse that saw the world only once: what is a snapshot of the day on which it was first built, and the
# windows that a fact was booked to, which are numbered as they are made.
OF_HISTORY = OF_WRITING | {"billing_id"}
SNAPSHOTS = {
    "warmup_analytics": ("schedule_type", "warmup_status", "current_day", "planned_volume", "progress_percentage"),
    "mailbox_analytics": ("warmup_status", "warmup_progress", "daily_limit", "campaign_status"),
    "campaign_analytics": ("status",),
}
FILLED = """
select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('intermediate', 'marts') and c.relkind in ('r', 'p') and not c.relispartition
order by 1, 2
"""
# Tables that are no facts: kept for good (windows, ledger, prices of days), as they are now, about the build itself;
# and those of the queue, which is not fed in portions.
NO_FACTS = {
    "admin_audit_log", "billing_analytics", "billing_corrections", "built_models", "built_project", "int_calendar_days",
    "int_mrr_changes", "int_queue_failures", "int_tenant_storage", "int_touched_hours", "int_touched_messages",
    "int_window_mailboxes", "queue_analytics",
}  # fmt: skip
# Snapshots of the addresses: figures of a day are kept as they were when the day was over.
OF_ADDRESSES = {
    "infrastructure_analytics", "infrastructure_analytics_monthly", "business_cost_allocation", "int_ip_days",
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How many portions of how large a world; `messages` counts outbound mail."""

    portions: int = 20
    messages: int = 3_000
    seed: int = 1
    tenants: int = 4

    def clocks(self) -> list[datetime]:
        """The clock of each build, the first included."""
        step = (AS_OF - FIRST_CLOCK) / self.portions
        return [FIRST_CLOCK + n * step for n in range(self.portions)] + [AS_OF]


class Wrong(AssertionError):
    """Figures that are not what they must be."""


class Portions:
    """A world, and tiers that get it in portions."""

    def __init__(
        self,
        server: Server,
        size: Size,
        home: Path,
        report: Callable[[str], None] = lambda _: None,
        label: str | None = None,
    ) -> None:
        self.size, self.home, self.report, self.server = size, home, report, server
        self.clocks = size.clocks()
        self.whole = Databases(server)
        self._closed: dict[int, tuple[Any, ...]] = {}
        self._posted: list[tuple[Any, ...]] = []
        self._snapshots: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        options = Options(tenants=size.tenants, messages=size.messages, days=DAYS, seed=size.seed, as_of=AS_OF)
        generate(self.whole, options, lambda *_: None)
        self._harden()
        self._plan()
        self.fed = self.whole.copy("oltp", label=label)
        self._feed_whole_tables()

    def drop(self) -> None:
        self.fed.drop()
        self.whole.drop()

    # -- the world ---------------------------------------------------------------------------------

    def _harden(self) -> None:
        """Moves messages, each with all that happened to it, to the moments; repeats events under the key they had."""
        with psycopg.connect(self.whole["content"]) as content:
            content.execute("create temp table moved (storage_key text primary key, delta interval)")
            for moment in MOMENTS.values():
                content.execute(
                    "insert into moved select storage_key, delta from ("
                    "select storage_key, %(to)s::timestamp at time zone 'UTC' - sent as delta, "
                    "row_number() over (partition by tenant_id order by "
                    "sent > %(to)s::timestamp at time zone 'UTC' + interval '35 days', "
                    "hashtextextended(storage_key, %(seed)s)) as n "
                    "from email_messages where direction = 'outbound' and message_type = 'email' "
                    "and sent >= %(to)s::timestamp at time zone 'UTC' "
                    "and storage_key not in (select storage_key from moved)) as m where n <= 4",
                    {"to": moment, "seed": self.size.seed},
                )
            shifted = ", ".join(f"{column} = {column} + delta" for column in MESSAGE_TIMES)
            content.execute(
                f"update email_messages as m set {shifted} from moved where m.storage_key = moved.storage_key"  # type: ignore[call-overload]
            )
            for table, time in TIMES.items():
                if table == "email_messages":
                    continue
                content.execute(
                    f"update {table} as e set {time} = {time} + delta from moved "  # type: ignore[call-overload]
                    "where e.storage_key = moved.storage_key"
                )
            for table in ("email_opens", "email_clicks"):
                time, columns = TIMES[table], self._columns(content, table, without={"id"})
                names = ", ".join(columns)
                values = ", ".join(f"{time} + interval '7 seconds'" if c == time else c for c in columns)
                content.execute(
                    f"insert into {table} ({names}) select {values} from {table} where id % 11 = 0"  # type: ignore[call-overload]
                )
            found = content.execute(
                "select count(distinct sent) from email_messages where sent = any(%s::timestamptz[])",
                [[f"{moment}+00" for moment in MOMENTS.values()]],
            ).fetchone()
            assert found == (len(MOMENTS),), "The world lacks a moment that it must have."

    def _plan(self) -> None:
        """Which portion each row comes in: half in the first, none before its time."""
        with psycopg.connect(self.whole["content"]) as content:
            content.execute("create schema feed")
            for table, time in TIMES.items():
                key = "storage_key" if table == "email_messages" else "id"
                content.execute(
                    f"create table feed.{table} as select {key}::text as key, "  # type: ignore[call-overload]
                    f"greatest(due, case when h %% 2 = 0 then 0 else 1 + h / 2 %% %(portions)s end)::int as portion, "
                    f"(case when h / 97 %% 4 = 0 then 1 + h / 389 %% %(portions)s else 0 end)::int as corrected "
                    f"from (select {key}, hashtextextended({key}::text, %(seed)s) & 2147483647 as h, "
                    f"(select count(*) from unnest(%(clocks)s::timestamptz[]) as c where {time} > c) as due "
                    f"from {table}) as t where due <= %(portions)s",
                    {"portions": self.size.portions, "seed": self.size.seed, "clocks": self.clocks},
                )
                # Rows of after the end are not of this world.
                content.execute(
                    f"delete from {table} where {key}::text not in (select key from feed.{table})"  # type: ignore[call-overload]
                )

            # An answer names its message by a foreign key, so it comes with it or after it.
            later = (
                "update feed.email_messages as f set portion = p.portion from email_messages as m "
                "join feed.email_messages as p on p.key = m.parent_message_id "
                "where m.storage_key = f.key and f.portion < p.portion"
            )
            while content.execute(later).rowcount:
                pass

    @staticmethod
    def _columns(connection: psycopg.Connection, table: str, without: set[str] | None = None) -> list[str]:
        rows = connection.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
            "and attgenerated = '' order by attnum",
            [table],
        )
        return [name for (name,) in rows if name not in {"change_xid", *(without or set())}]

    # -- feeding -----------------------------------------------------------------------------------

    def _feed_whole_tables(self) -> None:
        with psycopg.connect(self.whole["content"]) as whole, psycopg.connect(self.fed["content"]) as fed:
            span = whole.execute("select min(opened)::date, max(opened)::date from email_opens").fetchone()
            assert span is not None
            fed.execute(
                "select penguin.create_range_partitions(table_name::regclass, unit, %s - 40, %s + 40) "
                "from penguin.partition_rules",
                span,
            )
            for table in ("content_objects", "email_content", "attachments", "notifications", "transactional_emails"):
                self._copy(whole, fed, table, f"select {{columns}} from {table}")

    def _copy(self, source: psycopg.Connection, target: psycopg.Connection, table: str, query: str) -> None:
        columns = self._columns(source, table)
        text = query.replace("{columns}", ", ".join(columns))
        _stream(source, text, target, f"{table} ({', '.join(columns)})")

    def feed(self, first: int, last: int | None = None) -> None:
        """Brings the portions first..last into the sources, as one."""
        last = first if last is None else last
        with psycopg.connect(self.whole["content"]) as whole, psycopg.connect(self.fed["content"]) as fed:
            for table in TIMES:
                key = "storage_key" if table == "email_messages" else "id"
                columns = self._columns(whole, table)
                shown = columns
                if table == "email_messages":
                    early = f"f.corrected > {last} and direction = 'outbound'"
                    shown = [
                        f"case when {early} then {FIRST_VERSION[c]} else {c} end" if c in FIRST_VERSION else c
                        for c in columns
                    ]
                query = (
                    f"select {', '.join(shown)} from {table} as t join feed.{table} as f on f.key = t.{key}::text "
                    f"where f.portion between {first} and {last} order by md5(f.key)"
                )
                self._copy(whole, fed, table, query)
            names = ", ".join(["storage_key", *FIRST_VERSION])
            fed.execute(f"create temp table corrections as select {names} from email_messages limit 0")  # type: ignore[call-overload]
            query = (
                f"select {names} from email_messages as t join feed.email_messages as f on f.key = t.storage_key "
                f"where f.corrected between {first} and {last} and f.portion < {first}"
            )
            _stream(whole, query, fed, f"corrections ({names})")
            right = ", ".join(f"{column} = c.{column}" for column in FIRST_VERSION)
            fed.execute(
                f"update email_messages as m set {right} from corrections as c where m.storage_key = c.storage_key"  # type: ignore[call-overload]
            )
            fed.execute("delete from email_messages where storage_key like 'ghost/%'")
            if last < self.size.portions:
                self._haunt(fed)

    def _haunt(self, fed: psycopg.Connection) -> None:
        """Messages that the next portion deletes, in windows that are open and closed."""
        columns = self._columns(fed, "email_messages", without={"storage_key", "message_ref_id", "internet_message_id"})
        names = ", ".join(columns)
        fed.execute(
            f"insert into email_messages (storage_key, {names}) select 'ghost/' || storage_key, {names} "  # type: ignore[call-overload]
            "from email_messages where direction = 'outbound' and sent is not null order by md5(storage_key) limit 15"
        )

    # -- building and looking ----------------------------------------------------------------------

    def run(self, last: int | None = None) -> None:
        """All portions or those up to the last, each built and looked at; raises Wrong at the first that is wrong."""
        for portion, clock in enumerate(self.clocks[: None if last is None else last + 1]):
            self.feed(portion)
            self.build(clock)
            self.assert_closed_is_closed(clock)
            self.report(f"portion {portion} of {self.size.portions}, built as of {clock:%Y-%m-%d %H:%M}")

    def build(self, clock: datetime, urls: Databases | None = None, **options: Any) -> None:
        """Ingests and builds."""
        urls = urls or self.fed
        load(urls)
        build.run(urls["olap"], home=self.home, as_of=clock, **options)

    def assert_closed_is_closed(self, clock: datetime) -> None:
        """Closed windows and frozen columns are as they were, the ledger has only grown and holds the difference."""
        with _asking(self.fed["olap"]) as olap:
            closed = {row[0]: row for row in olap.execute("select * from marts.billing_analytics where is_final")}
            changed = [key for key, row in self._closed.items() if closed.get(key) != row]
            posted = olap.execute("select * from marts.billing_corrections order by id").fetchall()
            snapshots = {}
            for fact, columns in SNAPSHOTS.items():
                keys = "tenant_id, campaign_id" if fact == "campaign_analytics" else "tenant_id, mailbox_id"
                rows = olap.execute(
                    f"select {keys}, activity_date, {', '.join(columns)} from marts.{fact} where is_final"  # type: ignore[call-overload]
                )
                snapshots |= {(fact, *row[:3]): row[3:] for row in rows}
            windows = olap.execute(
                "select w.tenant_id, w.period_start::date, w.period_end::date, w.emails_sent + coalesce(("
                "  select sum(c.delta) from marts.billing_corrections as c "
                "  where c.billing_id = w.id and c.counter = 'emails_sent'), 0) "
                "from marts.billing_analytics as w where w.is_final"
            ).fetchall()
        if changed:
            raise Wrong(f"{len(changed)} closed windows changed by {clock}, such as {self._closed[changed[0]]}.")
        if posted[: len(self._posted)] != self._posted:
            raise Wrong(f"The ledger was written over by {clock}.")
        moved = [key for key in self._snapshots.keys() & snapshots.keys() if self._snapshots[key] != snapshots[key]]
        if moved:
            raise Wrong(f"{len(moved)} snapshots of final days changed by {clock}, such as {moved[0]}.")
        sent: defaultdict[Any, int] = defaultdict(int)
        with _asking(self.fed["content"]) as content:
            for tenant, day, number in content.execute(
                "select tenant_id, sent::date, count(*) from email_messages where direction = 'outbound' "
                "and message_type = 'email' and not is_warmup and sent is not null group by 1, 2"
            ):
                sent[tenant, day] += number
        for tenant, start, end, told in windows:
            counted = sum(sent[tenant, start + timedelta(days=n)] for n in range((end - start).days))
            if told != counted:
                raise Wrong(f"Window {start} of {tenant} and its corrections say {told}, the messages {counted}.")
        self._closed, self._posted, self._snapshots = closed, posted, snapshots

    @property
    def closed_and_posted(self) -> tuple[int, int]:
        """Closed windows and rows of the ledger so far."""
        return len(self._closed), len(self._posted)

    def against_full_refresh(self) -> dict[str, int]:
        """Rows by table that a full rebuild of the same warehouse has otherwise; tables that agree are not in it."""
        with _asking(self.fed["olap"]) as olap:
            keep(olap)
        self.build(AS_OF, full_refresh=True)
        self.assert_closed_is_closed(AS_OF)
        with _asking(self.fed["olap"]) as olap:
            return differences(olap, OF_WRITING)

    def build_whole(self) -> None:
        """The warehouse that gets the world at once."""
        self.build(AS_OF, self.whole)

    def against_whole(self) -> dict[str, int]:
        """The same against the warehouse that got the world at once, without what tells of the way there."""
        with _asking(self.fed["olap"]) as olap, _asking(self.whole["olap"]) as whole:
            whole.execute("drop schema if exists kept cascade")
            whole.execute("create schema kept")
            for schema, name in facts(whole):
                relation, copy = f"{schema}.{name}", f"kept.{name}"
                whole.execute(f"create table {copy} as select * from {relation} limit 0")  # type: ignore[call-overload]
                names = ", ".join(self._columns(whole, relation))
                _stream(olap, f"select {names} from {relation}", whole, f"{copy} ({names})")
            return differences(whole, OF_HISTORY, history=True)

    def assert_sources_agree(self) -> None:
        """What was fed is the world, else the comparison says nothing."""
        for table in TIMES:
            found = []
            for urls in (self.whole, self.fed):
                with _asking(urls["content"]) as content:
                    names = ", ".join(self._columns(content, table, without={"updated"}))
                    found.append(
                        content.execute(
                            f"select count(*), md5(string_agg(t, ' ' order by t)) from (select md5(row({names})::text) "  # type: ignore[call-overload]
                            f"as t from {table}) as t"
                        ).fetchone()
                    )
            if found[0] != found[1]:
                raise Wrong(f"content.{table} was not fed as it is: {found}.")

    def assert_counts_by_utc_day(self) -> None:
        """Every counter by UTC day is what a recount says, whoever looks from wherever."""
        messages = recount.messages(self.whole["content"], AS_OF)
        for mart, keys in {
            "campaign_analytics": ["tenant_id", "campaign_id", "activity_date"],
            "mailbox_analytics": ["tenant_id", "mailbox_id", "activity_date"],
        }.items():
            shown = ", ".join(f"{k}::text" if k.endswith("_id") else k for k in keys)
            with _asking(self.fed["olap"]) as olap:
                olap.execute("set time zone 'Asia/Kathmandu'")
                rows = olap.execute(f"select {shown}, {', '.join(recount.COUNTERS)} from marts.{mart}").fetchall()  # type: ignore[call-overload]
            found = {row[: len(keys)]: row[len(keys) :] for row in rows if any(row[len(keys) :])}
            if found != recount.totals(messages, keys):
                raise Wrong(f"marts.{mart} by UTC day is not what a recount says.")

    def assert_viewers_agree(self) -> None:
        """Views by hour of the viewer, as the tenant that looks: hours are labelled in the zone, sums are the same."""
        with _asking(self.fed["olap"]) as olap:
            tenants = [t for (t,) in olap.execute("select distinct tenant_id from marts.campaign_analytics")]
        for tenant in tenants:
            mine = {"tenant": str(tenant)}
            with _asking(self.fed["olap"]) as olap:
                sends = olap.execute(
                    "select activity_date + make_interval(hours => send_hour), sent from intermediate.int_send_hours "
                    "where tenant_id = %(tenant)s",
                    mine,
                ).fetchall()
                acts = olap.execute(
                    "select event_hour at time zone 'UTC', opens + clicks + replies "
                    "from marts.campaign_engagement_hourly where tenant_id = %(tenant)s",
                    mine,
                ).fetchall()
            for zone in ZONES:
                for view, rows, figure in (
                    ("send_hour_performance", sends, "sent"),
                    ("engagement_heat_map", acts, "opens + clicks + replies"),
                ):
                    wanted: defaultdict[tuple[int, int], int] = defaultdict(int)
                    for begins, number in rows:
                        local = begins.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
                        wanted[local.isoweekday() % 7, local.hour] += number
                    with psycopg.connect(self.fed["olap"]) as connection:
                        connection.execute("set role pm_tenant")
                        connection.execute("select set_config('app.current_tenant_id', %s, false)", [str(tenant)])
                        connection.execute("select set_config('app.time_zone', %s, false)", [zone])
                        seen = connection.execute(
                            f"select weekday, hour, sum({figure}) from tenant.{view} group by 1, 2"  # type: ignore[call-overload]
                        ).fetchall()
                    if {(day, hour): n for day, hour, n in seen if n} != {k: n for k, n in wanted.items() if n}:
                        raise Wrong(f"tenant.{view} of {tenant} in {zone} is not what its hours say.")


def load(urls: Mapping[str, str]) -> None:
    """Ingests everything that is committed."""
    for source in specs.SOURCES:
        settle(urls[source])
    results = list(ingest.ingest(urls, specs.all_tables(), pseudonym_key=PSEUDONYM_KEY))
    failed = [result for result in results if not isinstance(result, Loaded)]
    if failed:
        raise Wrong(f"Ingestion failed: {failed}.")


def _stream(source: psycopg.Connection, query: str, target: psycopg.Connection, into: str) -> None:
    """The rows of a query of one database into a table of another."""
    with (
        source.cursor().copy(f"copy ({query}) to stdout") as rows,  # type: ignore[call-overload]
        target.cursor().copy(f"copy {into} from stdin") as writer,  # type: ignore[call-overload]
    ):
        for block in rows:
            writer.write(block)


@contextmanager
def _asking(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url) as connection:
        connection.execute("set time zone 'UTC'")
        yield connection


def facts(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Every table that dbt fills from events, so that a new one is compared without anybody adding it here."""
    rows = connection.execute(FILLED).fetchall()  # type: ignore[call-overload]
    return [
        (schema, name)
        for schema, name in rows
        if name not in NO_FACTS and not name.startswith(("dim_", "known_")) and "__dbt" not in name
    ]


def keep(connection: psycopg.Connection) -> None:
    """Copies the facts into schema kept."""
    connection.execute("drop schema if exists kept cascade")
    connection.execute("create schema kept")
    for schema, name in facts(connection):
        connection.execute(f"create table kept.{name} as select * from {schema}.{name}")  # type: ignore[call-overload]


def differences(connection: psycopg.Connection, without: set[str], *, history: bool = False) -> dict[str, int]:
    """Rows by table that are in the facts or in their copies alone: EXCEPT both ways, repeats counted."""
    found = {}
    for schema, name in facts(connection):
        columns = [c for c in Portions._columns(connection, f"{schema}.{name}") if c not in without]
        condition = ""
        if history and name in OF_ADDRESSES:
            keys = [c for c in columns if c.endswith("_id") or c in ("activity_date", "month")]
            counters = [c for c in columns if c in recount.COUNTERS]
            columns, condition = keys + counters, f"where {' + '.join(counters) or '0'} > 0"
        elif history:
            columns = [c for c in columns if c not in SNAPSHOTS.get(name, ())]
        names = ", ".join(columns)
        new, old = (f"select {names} from {relation} {condition}" for relation in (f"{schema}.{name}", f"kept.{name}"))
        query = (
            f"select count(*) from ((({new}) except all ({old})) union all (({old}) except all ({new}))) as different"
        )
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        if row and row[0]:
            found[f"{schema}.{name}"] = row[0]
    return found


# -- mutants: builds that forget, to see that the comparison sees it ----------------------------------


@contextmanager
def forgets_the_old_slice(home: Path) -> Iterator[None]:
    """A build that recomputes what a message is now and not what it was."""
    project = home / f"mutant-{secrets.token_hex(3)}"
    shutil.copytree(dbt.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "intermediate" / "messages" / "int_touched_messages.sql"
    text = model.read_text()
    for forgotten in ("    union\n    select * from held\n", "        union all\n        select * from written\n"):
        assert forgotten in text
        text = text.replace(forgotten, "")
    model.write_text(text)
    with patch.object(dbt, "PROJECT", project):
        yield


@contextmanager
def drops_a_slice(home: Path | None = None) -> Iterator[Callable[[str], None]]:
    """A build that loses what it was told of one message; gives what puts it back into a warehouse."""
    del home
    ours, lost = build.run, []

    def run(url: str, **options: Any) -> build.BuildResult:
        with psycopg.connect(url) as connection:
            lost.extend(
                row
                for (row,) in connection.execute(
                    "delete from ops.touched_slices as s where (tenant_id, storage_key) = ("
                    "select tenant_id, storage_key from ops.touched_slices where cause = 'content.email_messages' "
                    "and campaign_id is not null order by storage_key limit 1) returning to_jsonb(s)::text"
                )
            )
        return ours(url, **options)

    def give_back(url: str) -> None:
        names = "kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id"
        with psycopg.connect(url) as connection:
            for row in lost:
                connection.execute(
                    f"insert into ops.touched_slices ({names}) "  # type: ignore[call-overload]
                    f"select {names} from jsonb_populate_record(null::ops.touched_slices, %s::jsonb)",
                    [row],
                )

    with patch.object(build, "run", run):
        yield give_back


MUTANTS = {"forgets_the_old_slice": forgets_the_old_slice, "drops_a_slice": drops_a_slice}


def main() -> int:
    """All portions, both comparisons and the mutants on a server of its own; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portions", type=int, default=20)
    parser.add_argument("--messages", type=int, default=3_000)
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--mutants", nargs="*", default=list(MUTANTS), choices=[*MUTANTS, []], help="which to run after"
    )
    options = parser.parse_args()
    if unknown := set(options.mutants) - MUTANTS.keys():
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}")
    size = Size(options.portions, options.messages, options.seed, options.tenants)
    with _server() as server, tempfile.TemporaryDirectory(prefix="penguin-portions-dbt-") as home:
        portions = Portions(server, size, Path(home), _say)
        good = _prove(portions, options.mutants, Path(home))
        portions.drop()
    return 0 if good else 1


def _prove(portions: Portions, mutants: list[str], home: Path) -> bool:
    try:
        portions.run()
        portions.assert_sources_agree()
        portions.assert_counts_by_utc_day()
        portions.assert_viewers_agree()
        portions.build_whole()
        found = {
            "a warehouse built at once": portions.against_whole(),
            "a full rebuild": portions.against_full_refresh(),
        }
    except Wrong as wrong:
        _say(str(wrong))
        return False
    closed, posted = portions.closed_and_posted
    _say(f"{closed} closed windows unchanged, {posted} corrections in the ledger, which is the difference")
    for other, tables in found.items():
        _say(f"rows that differ from {other}: {tables or 'none'}")
    good = not any(found.values())
    for name in mutants:
        seen = mutant(portions.server, portions.size, name, home)
        _say(f"mutant {name}: {sum(seen.values())} rows differ")
        good &= bool(seen)
    return good


def mutant(server: Server, size: Size, name: str, home: Path) -> dict[str, int]:
    """What a mutant leaves behind after two portions of a small world."""
    portions = Portions(server, Size(1, min(size.messages, 800), size.seed, 2), home)
    try:
        portions.feed(0)
        portions.build(portions.clocks[0])
        portions.build_whole()
        portions.feed(1)
        with MUTANTS[name](home), suppress(BuildFailed):
            # The invariants that every build tests may refuse it as well; its rows are there all the same.
            portions.build(AS_OF)
        return portions.against_whole()
    finally:
        portions.drop()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def _server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="penguin-portions-") as home:
        settings = Settings(home=Path(home))  # type: ignore[call-arg]
        endpoints = services.up(settings, lambda _: None)
        try:
            url = endpoints.urls["oltp"].rsplit("/", 1)[0] + "/postgres"
            with psycopg.connect(url, autocommit=True) as connection:
                for name, value in FAST.items():
                    connection.execute(
                        sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.SQL(value))  # type: ignore[arg-type]
                    )
                connection.execute("select pg_reload_conf()")
            yield Server("local", url, endpoints.urls["redis"], home, secrets.token_hex(4))
        finally:
            services.down(settings, lambda _: None)


if __name__ == "__main__":
    sys.exit(main())
