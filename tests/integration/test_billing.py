"""Usage windows and revenue on real servers against an independent recount, and what late events do to a closed window.

What `penguin explain` reconstructs is held against the facts before and after the same events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import recount
import recount_billing
from servers import settle

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import build, explain, ingest, query, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.synthetic import Options, generate

AS_OF = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
FIGURES = "select * from marts.billing_analytics where is_final order by id"
EXPLAINED = ("campaign_analytics", "mailbox_analytics", "sequence_step_analytics")
LEDGER = "select counter, entry, old_value, new_value, delta, cause from marts.billing_corrections order by id"


def load(tiers: Mapping[str, str]) -> None:
    for source in specs.SOURCES:
        settle(tiers[source])
    results = list(ingest.ingest(tiers, specs.all_tables(), pseudonym_key="a key that only the tests use"))
    assert all(isinstance(r, Loaded) for r in results), results


def rows(url: str, statement: str, role: str = "pm_staff") -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute(f"set role {role}")  # type: ignore[call-overload]
        connection.execute("set time zone 'UTC'")
        return connection.execute(statement).fetchall()  # type: ignore[call-overload]


def test_windows_close_for_good_and_revenue_agrees_with_a_recount(tiers: Mapping[str, str], dbt_home: Path) -> None:
    generate(tiers, Options(tenants=7, messages=2_000, days=75, seed=21, as_of=AS_OF), lambda *_: None)
    load(tiers)
    build.run(tiers["olap"], home=dbt_home, as_of=AS_OF)
    olap = tiers["olap"]
    _assert_revenue_agrees(tiers)
    _assert_windows_agree(tiers)
    _assert_staff_only(olap)

    closed = rows(olap, FIGURES)
    assert closed and rows(olap, LEDGER) == []
    window = next(
        (tenant, start)
        for tenant, start in rows(
            olap, "select tenant_id, period_start from marts.billing_analytics where is_final and emails_sent > 0"
        )
    )
    since = rows(olap, "select now()")[0][0]
    known = {fact: _counters(olap, fact) for fact in EXPLAINED}
    later = AS_OF + timedelta(minutes=10)
    generate(tiers, Options(messages=60, days=1, seed=22, append=True, as_of=later), lambda *_: None)
    _copy_a_message(tiers["content"], *window)
    with psycopg.connect(tiers["content"]) as connection:
        connection.execute("update email_messages set created = now() where created > %s", [AS_OF])
    load(tiers)
    build.run(olap, home=dbt_home, as_of=later)
    assert rows(olap, FIGURES) == closed
    _assert_explained(olap, since, known, later)
    emails = [entry for entry in rows(olap, LEDGER) if entry[0] == "emails_sent"]
    assert (1, 1, 1, "content.email_messages") in [(e[1], e[3] - e[2], e[4], e[5]) for e in emails]
    tenant, start = window
    told = explain.explain(
        olap, "billing_analytics", {"tenant_id": str(tenant), "period_start": str(start)}, since=since, as_of=later
    )
    assert told.counters["emails_sent"]["delta"] == 1
    assert told.unexplained == {"emails_sent": told.counters["emails_sent"]["before"]}
    assert [c["delta"] for c in told.corrections if c["counter"] == "emails_sent" and c["is_since"]] == [1]
    posted = rows(olap, LEDGER)

    build.run(olap, home=dbt_home, as_of=later, full_refresh=True)
    assert rows(olap, FIGURES) == closed
    assert rows(olap, LEDGER) == posted
    _assert_nobody_can_change_them(olap)


def _counters(olap_url: str, fact: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    key, names = explain.facts()[fact], ", ".join(recount.COUNTERS)
    shown = ", ".join(f"{name}::text" for name in key)
    found = rows(olap_url, f"select {shown}, {names} from marts.{fact}")
    return {row[: len(key)]: row[len(key) :] for row in found}


def _assert_explained(olap_url: str, since: datetime, known: Mapping[str, Any], as_of: datetime) -> None:
    """What is reconstructed for both moments is what the marts held then and hold now, for every row that changed."""
    exact = 0
    for fact, before in known.items():
        after = _counters(olap_url, fact)
        changed = [key for key in after if before.get(key) != after[key]]
        assert len(changed) > 10, fact
        for values in changed:
            key = dict(zip(explain.facts()[fact], values, strict=True))
            told = explain.explain(olap_url, fact, key, since=since, as_of=as_of)
            assert told.unexplained == {}, (fact, key)
            assert told.causes, (fact, key)
            if told.is_exact:
                exact += 1
                found = tuple(told.counters[name]["before"] for name in recount.COUNTERS)
                assert found == before.get(values, (0,) * len(found)), (fact, key)
    assert exact > 10
    for fact in explain.facts():
        for _, named in explain.latest(olap_url, fact, limit=2):
            assert explain.explain(olap_url, fact, explain.parse_key(fact, named), as_of=as_of).rows, (fact, named)


def _assert_revenue_agrees(tiers: Mapping[str, str]) -> None:
    paid = recount_billing.revenue(tiers["oltp"])
    movements = recount_billing.movements(paid, AS_OF)
    kinds = Counter(kind for kind, _, _, _ in movements.values())
    assert set(kinds) >= {"new", "expansion", "contraction", "churned", "unchanged"} - {"contraction"}
    found = rows(
        tiers["olap"],
        "select month, tenant_id::text, movement, is_reactivation, start_cents, end_cents from marts.mrr_movements",
    )
    assert {(r[0], r[1]): tuple(r[2:]) for r in found} == movements
    found = rows(
        tiers["olap"], "select cohort_month, age_months, tenants, retained_tenants, mrr_cents from marts.mrr_cohorts"
    )
    assert {(r[0], r[1]): tuple(r[2:]) for r in found} == recount_billing.cohorts(paid, AS_OF)
    days = rows(tiers["olap"], "select day, mrr_cents, active_tenants from marts.executive_business_summary")
    assert max(day for day, _, _ in days) == AS_OF.date()
    for day, cents, active in days:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        owed = [recount_billing.before(steps, midnight) for steps in paid.values()]
        assert (cents, active) == (sum(owed), sum(1 for o in owed if o)), day
        on_date = (
            rows(
                tiers["olap"],
                f"select coalesce(sum(mrr_cents), 0) from marts.mrr_periods where valid_from < '{midnight}' "
                f"and (valid_until is null or valid_until >= '{midnight}')",
            )
            if day.day == 1
            else [(cents,)]
        )
        assert on_date == [(cents,)]


def _assert_windows_agree(tiers: Mapping[str, str]) -> None:
    messages = recount.messages(tiers["content"], AS_OF)
    sent = Counter(zip(messages["tenant_id"], messages["activity_date"], strict=True))
    found = rows(
        tiers["olap"],
        "select tenant_id::text, period_start, period_end, emails_sent, is_final from marts.billing_analytics",
    )
    assert sum(window[3] for window in found) > 1_000
    for tenant, start, end, emails, is_final in found:
        mine = sum(n for (who, day), n in sent.items() if who == tenant and start.date() <= day < end.date())
        assert emails == mine, (tenant, start)
        assert is_final == (end + timedelta(days=3) <= AS_OF)
    expected = recount_billing.window_starts(tiers["oltp"], AS_OF)
    assert len(expected) >= 5
    for tenant, starts in expected.items():
        assert {start for who, start, *_ in found if who == tenant} == starts


def _assert_staff_only(olap_url: str) -> None:
    views = ("mrr_periods", "mrr_movements", "revenue_by_month", "mrr_cohorts", "executive_business_summary")
    for view in views:
        assert rows(olap_url, f"select count(*) from marts.{view}")[0][0] > 0
        for reader in ("analyst", "tenant"):
            with pytest.raises(PenguinError, match="permission denied"):
                query.ask(olap_url, f"select * from marts.{view}", reader=reader)


def _copy_a_message(content_url: str, tenant: object, start: datetime) -> None:
    """One more message of the window, reported months late."""
    with psycopg.connect(content_url) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "select attname from pg_attribute where attrelid = 'email_messages'::regclass and attnum > 0 "
                "and not attisdropped and attname not in ('storage_key', 'message_ref_id', 'internet_message_id', "
                "'change_xid', 'created', 'updated')"
            )
        ]
        connection.execute(
            f"insert into email_messages (storage_key, {', '.join(names)}) "  # type: ignore[call-overload]
            f"select 'late/' || storage_key, {', '.join(names)} from email_messages where tenant_id = %s "
            "and direction = 'outbound' and message_type = 'email' and not is_warmup and sent >= %s "
            "order by sent limit 1",
            [tenant, start],
        )


def _assert_nobody_can_change_them(olap_url: str) -> None:
    with (
        psycopg.connect(olap_url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="closed and never changes"),
    ):
        connection.execute("set role pm_etl")
        connection.execute("update marts.billing_analytics set emails_sent = 0 where is_final")
    for role, error in (("pm_etl", "permission denied"), (None, "append-only")):
        with psycopg.connect(olap_url) as connection, pytest.raises(psycopg.Error, match=error):
            if role:
                connection.execute(f"set role {role}")  # type: ignore[call-overload]
            connection.execute("delete from marts.billing_corrections")
