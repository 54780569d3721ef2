"""Checks of the marts that are more than a dbt test: figures that are correct and still unusual.

Tests of keys and sums belong to dbt_project, checks of reading to ingestion.py. Not blocking: an unusual day
is news, not an error.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.resources import TierResource


@dg.asset_check(
    asset=["marts", "campaign_analytics"],
    name="usual_results",
    description="Warns of tenants whose volume, bounce or reply rate on the last days is far from usual.",
)
def usual_results(olap: TierResource) -> dg.AssetCheckResult:
    import pandas as pd  # takes as long as a whole idle run may; needed only when the mart was built

    from penguin_pipelines.lib import anomalies

    today = datetime.now(UTC).date()
    furthest = anomalies.HISTORY_DAYS + anomalies.JUDGED_DAYS + max(m.lag for m in anomalies.MEASURES)
    with olap.connect(role="pm_etl") as connection:
        bounds = {"since": today - timedelta(days=furthest), "today": today}
        rows = connection.execute(blocks("anomalies")["daily_results"], bounds).fetchall()
    daily = pd.DataFrame(rows, columns=anomalies.COLUMNS)
    findings = anomalies.find(daily, today)
    if not findings.judged:
        return dg.AssetCheckResult(passed=True, description="Too little history to judge any tenant.")
    table = [
        dg.TableRecord(
            {
                "tenant": a.tenant_id,
                "day": a.activity_date.isoformat(),
                "measure": a.measure,
                "value": round(a.value, 4),
                "usual": round(a.usual, 4),
                "score": round(a.score, 1),
            }
        )
        for a in findings.anomalies[:50]
    ]
    metadata: dict[str, dg.MetadataValue] = {
        "judged": dg.MetadataValue.int(findings.judged),
        "unusual": dg.MetadataValue.int(len(findings.anomalies)),
        "daily sends": dg.MetadataValue.md(anomalies.plot(daily, findings)),
    }
    if table:
        metadata["findings"] = dg.MetadataValue.table(table)
    return dg.AssetCheckResult(
        passed=not findings.anomalies,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(findings.anomalies)} of {findings.judged} figures are unusual.",
        metadata=metadata,
    )
