"""Clone to marts on real servers: generate, ingest, build, recount; append, run again, compare with a rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import recount
from servers import settle

from penguin_pipelines.lib import build, ingest, query, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.synthetic import Options, generate

AS_OF = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
FACTS = {
    "sequence_step_analytics": ["tenant_id", "campaign_id", "step_id", "activity_date"],
    "campaign_analytics": ["tenant_id", "campaign_id", "activity_date"],
    "mailbox_analytics": ["tenant_id", "mailbox_id", "activity_date"],
}


def _load(tiers: Mapping[str, str]) -> list[Loaded]:
    for source in specs.SOURCES:
        settle(tiers[source])
    results = list(ingest.ingest(tiers, specs.all_tables(), pseudonym_key="a key that only the tests use"))
    failed = [r for r in results if not isinstance(r, Loaded)]
    assert not failed, failed
    return [r for r in results if isinstance(r, Loaded)]


def _facts(olap_url: str, mart: str) -> dict[tuple[object, ...], tuple[int, ...]]:
    keys, counters = FACTS[mart], recount.COUNTERS
    shown = [f"{k}::text" if k.endswith("_id") else k for k in keys]
    with psycopg.connect(olap_url) as connection:
        rows = connection.execute(f"select {', '.join([*shown, *counters])} from marts.{mart}").fetchall()  # type: ignore[call-overload]
    return {tuple(r[: len(keys)]): tuple(r[len(keys) :]) for r in rows if any(r[len(keys) :])}


def _assert_recount_agrees(tiers: Mapping[str, str], as_of: datetime) -> None:
    messages = recount.messages(tiers["content"], as_of)
    assert len(messages) > 1_000
    for mart, keys in FACTS.items():
        assert _facts(tiers["olap"], mart) == recount.totals(messages, keys), mart


def test_the_whole_way_from_sources_to_marts(tiers: Mapping[str, str], tmp_path: Path) -> None:
    generate(tiers, Options(tenants=2, messages=2_500, days=20, seed=11, as_of=AS_OF), lambda *_: None)
    assert all(r.mode == "baseline" for r in _load(tiers))
    assert build.run(tiers["olap"], home=tmp_path, as_of=AS_OF).started_dbt
    _assert_recount_agrees(tiers, AS_OF)

    # Nothing new: nothing is read again and dbt stays at rest.
    assert all(r.mode == "idle" for r in _load(tiers))
    assert not build.run(tiers["olap"], home=tmp_path, as_of=AS_OF).started_dbt

    later = AS_OF + timedelta(days=1)
    generate(tiers, Options(messages=200, days=1, seed=12, append=True, as_of=later), lambda *_: None)
    again = {r.table: r for r in _load(tiers)}
    assert again["content.email_messages"].mode == "delta"
    assert 200 <= again["content.email_messages"].delivered < 1_000
    assert again["oltp.leads"].deleted > 0
    build.run(tiers["olap"], home=tmp_path, as_of=later)
    _assert_recount_agrees(tiers, later)

    incremental = {mart: _facts(tiers["olap"], mart) for mart in FACTS}
    build.run(tiers["olap"], home=tmp_path, as_of=later, full_refresh=True)
    assert incremental == {mart: _facts(tiers["olap"], mart) for mart in FACTS}
    _assert_tenants_see_their_own(tiers["olap"])


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
