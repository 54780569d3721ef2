"""What e-mail services have counted themselves, through our sources and marts: every counter and rate agrees."""

from __future__ import annotations

from pathlib import Path

import marketing
import psycopg
import pytest
import recount
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.lib import build, ingest, specs
from penguin_pipelines.lib.load import Loaded

RATES = {
    "delivery_rate": ("delivered", "sent"),
    "open_rate": ("opened_tracked", "delivered"),
    "click_rate": ("clicked_tracked", "delivered"),
    "unsubscribe_rate": ("unsubscribed", "delivered"),
    "click_to_open_rate": ("clicked_tracked", "opened_tracked"),
}


def test_campaigns_of_other_services_count_here_as_their_own_files_do(tiers: Databases, dbt_home: Path) -> None:
    told = marketing.fill(tiers)
    for source in specs.SOURCES:
        settle(tiers[source])
    results = list(ingest.ingest(tiers, specs.all_tables(), pseudonym_key=PSEUDONYM_KEY))
    assert all(isinstance(result, Loaded) for result in results), results
    build.run(tiers["olap"], home=dbt_home, as_of=marketing.AS_OF)

    names = [*recount.COUNTERS, *(f"{rate}::float" for rate in RATES)]
    with psycopg.connect(tiers["olap"]) as olap:
        rows = olap.execute(
            f"select campaign_id::text, {', '.join(names)} from marts.campaign_performance_summary"  # type: ignore[call-overload]
        ).fetchall()
    figures = {row[0]: dict(zip([*recount.COUNTERS, *RATES], row[1:], strict=True)) for row in rows}

    counted = recount.totals(recount.messages(tiers["content"], marketing.AS_OF), ["campaign_id"])
    assert {key: tuple(f[c] for c in recount.COUNTERS) for key, f in figures.items()} == {
        str(key[0] if isinstance(key, tuple) else key): value for key, value in counted.items()
    }
    for found in figures.values():
        for rate, (part, whole) in RATES.items():
            wanted = 100 * found[part] / found[whole] if found[whole] else None
            assert found[rate] == (None if wanted is None else pytest.approx(wanted, abs=0.0051)), rate

    campaigns = {key: mine for key, mine in told.items() if key}
    assert figures.keys() == {str(marketing.identity(key)) for key in campaigns} and len(campaigns) == 5
    for key, mine in campaigns.items():
        found = figures[str(marketing.identity(key))]
        assert found["sent"] == found["delivered"] == len(mine.sent), key
        assert found["opened_tracked"] == len(mine.openers), key
        assert found["clicked_tracked"] == len(mine.clickers), key
        assert found["unsubscribed"] == len(mine.unsubscribed), key
        # Their files count every event; ours count what one client repeats within ten seconds once.
        assert found["opens_total"] + found["clicks_total"] == mine.opens + mine.clicks - mine.repeated, key
        assert found["opens_total"] <= mine.opens and found["clicks_total"] <= mine.clicks, key
    assert {key: mine.repeated for key, mine in campaigns.items() if mine.repeated} == {
        "c2b4c1c0d9": 1,
        "b63e7b8aff": 3,
    }
