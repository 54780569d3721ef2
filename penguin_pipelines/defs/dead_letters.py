"""Watches jobs that used up their attempts: a sensor that looks every minute, and a check of every run.

What is too old is decided in lib/queue/watch.py. Replaying and resolving belong to `penguin queue dead`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from psycopg.rows import class_row

from penguin_pipelines.lib.queue.watch import DeadLetters, Decision, decide_dead_letters
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.resources import TierResource, runs_by_default

ASSET = dg.AssetKey(["queue", "dead_letter_jobs"])
CHECK = "none_is_overdue"


@dg.sensor(
    name="dead_letters",
    description="Reports dead letters that wait for 24 hours or more, once for each state of a queue.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING if runs_by_default() else dg.DefaultSensorStatus.STOPPED,
)
def dead_letters(context: dg.SensorEvaluationContext, queue: TierResource) -> dg.SensorResult:
    now = datetime.now(UTC)
    state = _read(queue)
    decision = decide_dead_letters(state, context.cursor, now)
    if not decision.report:
        return dg.SensorResult(skip_reason=decision.reason, cursor=decision.cursor)
    metadata = _metadata(state, decision, now)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=ASSET,
        check_name=CHECK,
        passed=decision.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=decision.reason,
        metadata=metadata,
    )
    observation = dg.AssetObservation(ASSET, description=decision.reason, metadata=metadata)
    # A tick without runs counts as skipped; the reason is what the UI shows of it.
    return dg.SensorResult(skip_reason=decision.reason, asset_events=[observation, evaluation], cursor=decision.cursor)


@dg.asset_check(asset=ASSET, name=CHECK, description="Fails when a dead letter has waited for 24 hours or more.")
def none_is_overdue(queue: TierResource) -> dg.AssetCheckResult:
    now = datetime.now(UTC)
    state = _read(queue)
    decision = decide_dead_letters(state, None, now)
    return dg.AssetCheckResult(
        passed=decision.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=decision.reason,
        metadata=_metadata(state, decision, now),
    )


def _read(queue: TierResource) -> list[DeadLetters]:
    """The state now. An unreadable queue raises and so fails the tick: it must not look like an empty one."""
    with queue.connect(role="pm_loader") as connection:
        rows = connection.cursor(row_factory=class_row(DeadLetters))
        rows.execute(blocks("queue")["bound"])
        return rows.execute(blocks("queue")["open_dead_letters"]).fetchall()


def _metadata(state: Sequence[DeadLetters], decision: Decision, now: datetime) -> dict[str, dg.MetadataValue]:
    records = [
        dg.TableRecord(
            {
                "queue": d.queue,
                "open": d.open,
                "oldest, hours": round((now - d.oldest).total_seconds() / 3600, 1),
                "newest": d.newest,
                "last error": d.error_class,
            }
        )
        for d in state
    ]
    shown = {"dead letters": dg.MetadataValue.table(records)} if records else {}
    return {"open": dg.MetadataValue.int(sum(d.open for d in state)), **shown}
