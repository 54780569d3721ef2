"""Clone to marts on real servers: generate, ingest, build, recount; append, run again, compare with a rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import recount
import recount_infrastructure as addresses
import recount_queue
import recount_rates as rates
from servers import settle

from penguin_pipelines.lib import build, explain, ingest, query, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.synthetic import Options, generate

AS_OF = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
FACTS = {
    "sequence_step_analytics": ["tenant_id", "campaign_id", "step_id", "activity_date"],
    "campaign_analytics": ["tenant_id", "campaign_id", "activity_date"],
    "mailbox_analytics": ["tenant_id", "mailbox_id", "activity_date"],
    "lead_analytics": ["tenant_id", "campaign_id", "lead_id"],
}
LEADS = """
select tenant_id::text, campaign_id::text, lead_id::text, lead_score, first_sent, last_sent, last_engaged
from marts.lead_analytics
"""
PEOPLE = ["tenant_id", "lead_id"]
SCORES = "select tenant_id::text, lead_id::text, points, first_sent, last_sent, last_engaged from marts.lead_scores"
HOURS = """
select tenant_id::text, campaign_id::text, event_hour, device_type, mail_client, opens, clicks, replies
from marts.campaign_engagement_hourly
"""
SEND_HOURS = ["tenant_id", "campaign_id", "activity_date", "send_hour"]
PROVIDER_DAYS = ["tenant_id", "mailbox_id", "activity_date", "provider"]
DELAYS = """
select tenant_id::text, campaign_id::text, step_id::text, activity_date, kind, delay_class, messages
from intermediate.int_response_times
"""
LATEST_READ = """
select least(
  max(source_read) filter (where source = 'oltp'), max(source_read) filter (where source = 'content')
)
from ops.bookmarks
"""
EXPOSURE = """
select campaign_id::text, step_id::text, leads_exposed, leads_sent, leads_delivered, leads_opened
from marts.sequence_step_exposure
"""
COMPARISON = """
select campaign_a::text, campaign_b::text, p_value::float from marts.campaign_comparison where measure = 'open_rate'
"""
SUPPRESSED = """
select tenant_id::text, storage_key, reason, suppressed from marts.suppression where source = 'event'
"""
QUEUE_HOURS = """
select event_hour, queue_name, job_type, tenant_id::text, attempts, completed, retried, dead_lettered,
  ended_after_retry, duration_ms, failed_duration_ms
from marts.queue_analytics
"""
QUEUE_FAILURES = "select queue_name, job_type, error_class, failures from marts.queue_failures"
FULLEST = {
    "billing_analytics": "f.emails_sent * (not f.is_final)::integer",
    "campaign_engagement_hourly": "(f.opens + f.clicks + f.replies)",
    "queue_analytics": "f.attempts",
    "warmup_analytics": "(f.opened_tracked + f.replied)",
}
WARMUP_HEALTH = "select tenant_id::text, mailbox_id::text, activity_date, health_score from marts.warmup_analytics"


def _load(tiers: Mapping[str, str]) -> list[Loaded]:
    for source in specs.SOURCES:
        settle(tiers[source])
    results = list(ingest.ingest(tiers, specs.all_tables(), pseudonym_key="a key that only the tests use"))
    failed = [r for r in results if not isinstance(r, Loaded)]
    assert not failed, failed
    return [r for r in results if isinstance(r, Loaded)]


def _facts(olap_url: str, mart: str, keys: list[str] | None = None) -> dict[tuple[object, ...], tuple[int, ...]]:
    keys, counters = keys or FACTS[mart], recount.COUNTERS
    relation = mart if "." in mart else f"marts.{mart}"
    shown = [f"{k}::text" if k.endswith("_id") else k for k in keys]
    with psycopg.connect(olap_url) as connection:
        rows = connection.execute(f"select {', '.join([*shown, *counters])} from {relation}").fetchall()  # type: ignore[call-overload]
    return {tuple(r[: len(keys)]): tuple(r[len(keys) :]) for r in rows if any(r[len(keys) :])}


def _assert_recount_agrees(tiers: Mapping[str, str], as_of: datetime) -> None:
    messages = recount.messages(tiers["content"], as_of)
    assert len(messages) > 1_000
    for mart, keys in FACTS.items():
        assert _facts(tiers["olap"], mart) == recount.totals(messages, keys), mart
    assert _keyed(tiers["olap"], LEADS, 3) == recount.leads(messages, FACTS["lead_analytics"])
    campaign_mail = messages.dropna(subset=["campaign_id"])
    assert _facts(tiers["olap"], "lead_scores", PEOPLE) == recount.totals(campaign_mail, PEOPLE)
    assert _keyed(tiers["olap"], SCORES, 2) == recount.leads(messages, PEOPLE)
    assert _keyed(tiers["olap"], HOURS, 5) == recount.hours(messages)
    assert _facts(tiers["olap"], "intermediate.int_send_hours", SEND_HOURS) == recount.totals(messages, SEND_HOURS)
    assert _facts(tiers["olap"], "intermediate.int_provider_days", PROVIDER_DAYS) == recount.totals(
        messages, PROVIDER_DAYS
    )
    assert {key: n for key, (n,) in _keyed(tiers["olap"], DELAYS, 6).items()} == recount.delays(messages)
    ((data_as_of,),) = _keyed(tiers["olap"], LATEST_READ, 1)
    assert _keyed(tiers["olap"], EXPOSURE, 2) == recount.exposure(tiers["oltp"], messages, data_as_of)  # type: ignore[arg-type]
    pairs = {key: p for key, (p,) in _keyed(tiers["olap"], COMPARISON, 2).items()}
    counted = recount.comparison(messages, "opened_tracked")
    assert pairs.keys() == counted.keys() and len(pairs) > 0
    assert all(p == pytest.approx(counted[key], abs=1e-6) for key, p in pairs.items())
    causes = recount.suppressed(tiers["content"], messages)
    assert {reason for reason, _ in causes.values()} >= {"hard_bounce", "unsubscribe", "spam_complaint"}
    assert _keyed(tiers["olap"], SUPPRESSED, 2) == causes
    warmups = recount.messages(tiers["content"], as_of, warmup=True)
    assert len(warmups) > 100
    keys = ["tenant_id", "mailbox_id", "activity_date"]
    assert _facts(tiers["olap"], "warmup_analytics", keys) == recount.totals(warmups, keys)
    health = {key: score for key, (score,) in _keyed(tiers["olap"], WARMUP_HEALTH, 3).items()}
    assert health == recount.warmup_health(warmups)


def _keyed(olap_url: str, question: str, keys: int) -> dict[tuple[object, ...], tuple[object, ...]]:
    """The answer by its first columns."""
    with psycopg.connect(olap_url) as connection:
        connection.execute("set time zone 'UTC'")
        rows = connection.execute(question).fetchall()  # type: ignore[call-overload]
    return {tuple(r[:keys]): tuple(r[keys:]) for r in rows}


def _rows(tiers: Mapping[str, str], question: str, keys: int) -> dict[tuple[object, ...], tuple[Any, ...]]:
    """Answers of the warehouse by their first columns, ids as text."""
    with psycopg.connect(tiers["olap"]) as connection:
        rows = connection.execute(question).fetchall()  # type: ignore[call-overload]
    texts = [tuple(str(v) if isinstance(v, UUID) else v for v in row) for row in rows]
    return {row[:keys]: row[keys:] for row in texts}


def _assert_queue_agrees(tiers: Mapping[str, str]) -> None:
    lines = recount_queue.attempts(tiers["queue"])
    counted = recount_queue.hours(lines)
    assert len(lines) > 50 and any(key[3] is None for key in counted) and any(n[3] for n in counted.values())
    assert _keyed(tiers["olap"], QUEUE_HOURS, 4) == counted
    clusters = {key: n for key, (n,) in _keyed(tiers["olap"], QUEUE_FAILURES, 3).items()}
    assert clusters == recount_queue.failures(lines) and len(clusters) > 1


def _assert_addresses_agree(tiers: Mapping[str, str], as_of: datetime, *, fresh: bool) -> None:
    messages, oltp = recount.messages(tiers["content"], as_of), tiers["oltp"]
    ids = "tenant_id, smtp_ip_address_id, activity_date"
    counters = _rows(tiers, f"select {ids}, {', '.join(recount.COUNTERS)} from marts.infrastructure_analytics", 3)
    assert {k: v for k, v in counters.items() if k[0] is not None} == addresses.traffic(messages)
    assert not any(any(v) for k, v in counters.items() if k[0] is None)

    shares = addresses.costs(oltp, messages, as_of.date())
    booked = _rows(tiers, f"select {ids}, ip_cost::float, vps_cost::float from marts.infrastructure_analytics", 3)
    assert set(booked) == set(shares) and len(shares) > 100
    assert any(k[0] is None for k in shares) and any(k[0] is not None for k in shares)
    for key, dollars in shares.items():
        assert booked[key] == pytest.approx(dollars, abs=2e-4), key
    monthly = _rows(tiers, "select tenant_id, month, total_cost::float from marts.business_cost_allocation", 2)
    assert set(monthly) == set(addresses.by_tenant_and_month(shares))
    for key, total in addresses.by_tenant_and_month(shares).items():
        assert monthly[key][0] == pytest.approx(total, abs=0.02), key
    if fresh:
        now = _rows(
            tiers,
            "select distinct smtp_ip_address_id, domains_assigned, blacklist_count, reputation_score, reputation_state "
            f"from marts.infrastructure_analytics where activity_date = '{as_of.date()}'",
            1,
        )
        assert now == addresses.snapshots(oltp, as_of)

    domains = _rows(
        tiers,
        "select domain_id, activity_date, sent, sent_30, domain_health_score::float from marts.domain_performance "
        "where sent > 0",
        2,
    )
    wanted = addresses.domain_scores(oltp, messages)
    assert set(domains) == set(wanted)
    assert all(domains[key] == pytest.approx(wanted[key], abs=0.006) for key in wanted)
    last = max(messages.activity_date)
    workspaces = _rows(
        tiers,
        "select company_id, sent, replied, workspace_health_score, period_end from marts.agency_client_health "
        "where sent > 0",
        1,
    )
    counted = addresses.workspaces(oltp, tiers["content"], messages, last)
    counted = {key: value for key, value in counted.items() if value[0]}
    assert set(workspaces) == set(counted) and any(v[2] is not None for v in counted.values())
    for key, (sent, replied, score) in counted.items():
        assert workspaces[key][:2] == (sent, replied) and workspaces[key][3] == last
        assert workspaces[key][2] == (None if score is None else pytest.approx(score, abs=0.501))


def _agree(found: Mapping[Any, Any], wanted: Mapping[Any, Any], tolerance: float) -> None:
    """The same keys, and figures that differ by no more than they are rounded."""
    assert set(found) == set(wanted) and len(found) > 3
    for key, figures in wanted.items():
        assert list(found[key]) == [pytest.approx(f, abs=tolerance) if isinstance(f, float) else f for f in figures], (
            key
        )


def _assert_rates_agree(tiers: Mapping[str, str], as_of: datetime) -> None:
    messages = recount.messages(tiers["content"], as_of)
    measures = ", ".join(f"{name}::float, {name}_low::float, {name}_high::float" for name in rates.MEASURES)
    query = f"select campaign_id, deliverability_score::float, {measures} from marts.campaign_quality where sent > 0"
    _agree(_rows(tiers, query, 1), rates.campaigns(messages), 0.006)

    scores = _rows(tiers, "select mailbox_id, activity_date, health_score from marts.mailbox_analytics", 2)
    wanted = rates.mailbox_health(tiers["oltp"], messages)
    assert {key: scores[key][0] for key in wanted} == wanted and any(score for score in wanted.values())

    names = ", ".join(f"p{p}_seconds" for p in rates.PERCENTS)
    found = _rows(tiers, f"select campaign_id, step_id, kind, {names} from marts.response_times", 3)
    classes = rates.percentiles(messages)
    assert set(found) == set(classes) and {kind for _, _, kind in found} == {"open", "reply"}
    for key, bounds in classes.items():
        assert all(low <= v <= high for v, (low, high) in zip(found[key], bounds, strict=True)), key

    query = (
        "select tenant_id, primary_domain, provider, activity_date, spam_rate_30_days::float, "
        "distance_to_target::float, distance_to_limit::float, complaints_left, state from marts.provider_compliance "
        "where sent > 0"
    )
    _agree(_rows(tiers, query, 4), rates.compliance(tiers["oltp"], messages), 0.0006)
    _assert_use_agrees(tiers, messages)


def _assert_use_agrees(tiers: Mapping[str, str], messages: Any) -> None:
    query = (
        "select tenant_id, period_start, period_end, now(), emails_used, emails_limit, emails_percent::float, "
        "emails_remaining, emails_over, projected_emails, overage_cents, overage_mode from marts.billing_usage"
    )
    windows = [(*key, *rest) for key, rest in _rows(tiers, query, 3).items()]
    days = [(tenant, start.date(), end.date()) for tenant, start, end, *_ in windows]
    counted = rates.emails_of_windows(messages, days)
    assert any(window[8] for window in windows), "No window is over its limit."
    for tenant, start, end, moment, used, limit, percent, left, over, projected, cents, mode in windows:
        assert (used, mode) == (counted[tenant, start.date()], "auto_add")
        wanted = rates.use(used, limit, start, end, moment)
        assert percent == (None if wanted[0] is None else pytest.approx(wanted[0], abs=0.0051))
        assert (left, over, cents) == (wanted[1], wanted[2], wanted[4])
        assert projected == (None if wanted[3] is None else pytest.approx(wanted[3], abs=0.51))


def test_the_whole_way_from_sources_to_marts(tiers: Mapping[str, str], dbt_home: Path) -> None:
    generate(tiers, Options(tenants=2, messages=2_500, days=20, seed=11, as_of=AS_OF), lambda *_: None)
    with psycopg.connect(tiers["oltp"]) as connection:
        connection.execute("update plans set max_emails_per_month = 70")
    assert all(r.mode == "baseline" for r in _load(tiers))
    assert build.run(tiers["olap"], home=dbt_home, as_of=AS_OF).started_dbt
    _assert_recount_agrees(tiers, AS_OF)
    _assert_addresses_agree(tiers, AS_OF, fresh=True)
    _assert_queue_agrees(tiers)
    _assert_rates_agree(tiers, AS_OF)

    # Nothing new: nothing is read again and dbt stays at rest.
    assert all(r.mode == "idle" for r in _load(tiers))
    assert not build.run(tiers["olap"], home=dbt_home, as_of=AS_OF).started_dbt

    later = AS_OF + timedelta(days=1)
    generate(tiers, Options(messages=200, days=1, seed=12, append=True, as_of=later), lambda *_: None)
    again = {r.table: r for r in _load(tiers)}
    assert again["content.email_messages"].mode == "delta"
    assert 200 <= again["content.email_messages"].delivered < 1_000
    assert again["oltp.leads"].deleted > 0
    build.run(tiers["olap"], home=dbt_home, as_of=later)
    _assert_recount_agrees(tiers, later)
    _assert_addresses_agree(tiers, later, fresh=False)
    _assert_queue_agrees(tiers)

    _assert_every_fact_is_explained(tiers["olap"], later)
    incremental = {mart: _facts(tiers["olap"], mart) for mart in FACTS}
    build.run(tiers["olap"], home=dbt_home, as_of=later, full_refresh=True)
    assert incremental == {mart: _facts(tiers["olap"], mart) for mart in FACTS}
    _assert_tenants_see_their_own(tiers["olap"])


def _assert_every_fact_is_explained(olap_url: str, as_of: datetime) -> None:
    """What `penguin explain` recounts is what the row holds, of the fullest rows of each fact and of idle ones."""
    idle = 0
    for fact, key in explain.facts().items():
        columns, figure = ", ".join(f"f.{name}::text" for name in key), FULLEST.get(fact, "f.sent")
        question = (
            f"(select {columns} from marts.{fact} as f where {figure} > 0 order by {figure} desc, {columns} limit 3)"
            f" union (select {columns} from marts.{fact} as f where f.tenant_id is null order by {columns} limit 1)"
        )
        found = [dict(zip(key, row, strict=True)) for row in query.ask(olap_url, question).rows]
        assert found, fact
        for named in found:
            told = explain.explain(olap_url, fact, named, as_of=as_of)
            assert told.unexplained == {}, (fact, named)
            empty = not any(counted["after"] for counted in told.counters.values())
            assert empty is not bool(told.all_events), (fact, named)
            idle += empty
    assert idle == 2, "An idle address was to be asked for, by day and by month."
    _assert_a_wrong_figure_is_told(olap_url, as_of)


def _assert_a_wrong_figure_is_told(olap_url: str, as_of: datetime) -> None:
    key = explain.facts()["warmup_analytics"]
    with psycopg.connect(olap_url) as connection:
        row = connection.execute(
            "update marts.warmup_analytics set opened_tracked = 0 where id = (select id from marts.warmup_analytics"
            " order by opened_tracked desc, id limit 1)"
            " returning tenant_id::text, mailbox_id::text, activity_date::text"
        ).fetchone()
    assert row
    told = explain.explain(olap_url, "warmup_analytics", dict(zip(key, row, strict=True)), as_of=as_of)
    assert told.unexplained == {"opened_tracked": 0}
    with psycopg.connect(olap_url) as connection:
        connection.execute(
            "update marts.warmup_analytics set opened_tracked = %s"
            " where (tenant_id::text, mailbox_id::text, activity_date::text) = (%s, %s, %s)",
            [told.counters["opened_tracked"]["after"], *row],
        )


def _assert_tenants_see_their_own(olap_url: str) -> None:
    everything = "select tenant_id, sum(sent) from marts.campaign_analytics group by tenant_id"
    sent = dict(query.ask(olap_url, everything).rows)
    assert len(sent) == 2
    for view in ("campaign_performance", "campaign_performance_summary"):
        question = f"select tenant_id, sum(sent) from tenant.{view} group by tenant_id"
        for tenant, total in sent.items():
            assert query.ask(olap_url, question, tenant=str(tenant)).rows == [(tenant, total)]
        assert query.ask(olap_url, question, reader="tenant").rows == []
    with pytest.raises(Exception, match="permission denied"):
        query.ask(olap_url, everything, reader="tenant")
