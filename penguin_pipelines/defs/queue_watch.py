"""Watches the queues: a sensor that takes one bounded look and judges it by every rule, and the same rules as checks.

Ten sensors of ten rules would each ask the source again; one look serves them all, and the sample of the minute. The
rules are in lib/queue/watch.py, opening and closing alerts in lib/queue/alerts.py, telling people in
alert_notifications.py.
"""

import json
from collections.abc import Iterator, Sequence

import dagster as dg

from penguin_pipelines.lib.queue import alerts, health, notify
from penguin_pipelines.lib.queue.watch import NAMES, Finding, judge_all, load_rules
from penguin_pipelines.resources import TierResource, runs_by_default
from penguin_pipelines.settings import load_settings

ASSETS = {rule: dg.AssetKey(["queue", "dead_letter_jobs" if rule == "dead_letters" else "jobs"]) for rule in NAMES}
SERIOUS = {"high", "critical", "page"}


@dg.sensor(
    name="queue_watch",
    description="Looks at every queue twice a minute: opens and closes alerts, keeps one sample a minute.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING if runs_by_default() else dg.DefaultSensorStatus.STOPPED,
)
def queue_watch(context: dg.SensorEvaluationContext, queue: TierResource) -> dg.SensorResult:
    settings = load_settings()
    channels = notify.channels_of(settings).names
    watched = alerts.watch(queue.url, queue.redis_url, load_rules(settings.alert_rules), channels)
    # The cursor is what the UI was told. It is stored after the tick, so what a crash swallows is told again.
    before: dict[str, list[str]] | None = json.loads(context.cursor) if context.cursor else None
    after = {rule: sorted({f"{f.queue} {f.level}" for f in _of(watched.findings, rule)}) for rule in NAMES}
    after = {rule: found for rule, found in after.items() if found}
    changed = [rule for rule in NAMES if before is None or before.get(rule) != after.get(rule)]
    events = [_evaluation(rule, _of(watched.findings, rule)) for rule in changed]
    return dg.SensorResult(skip_reason=_said(watched), asset_events=events, cursor=json.dumps(after))


@dg.multi_asset_check(
    name="queue_rules",
    description="The rules of watching, judged by a look of its own.",
    specs=[dg.AssetCheckSpec(rule, asset=ASSETS[rule], description=text) for rule, text in NAMES.items()],
    can_subset=True,
)
def queue_rules(context: dg.AssetCheckExecutionContext, queue: TierResource) -> Iterator[dg.AssetCheckResult]:
    rules = load_rules(load_settings().alert_rules)
    findings = judge_all(health.look(queue.url, queue.redis_url, rules), rules)
    for key in sorted(context.selected_asset_check_keys):
        judged = _evaluation(key.name, _of(findings, key.name))
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=judged.passed,
            severity=judged.severity,
            description=judged.description,
            metadata=judged.metadata,
        )


def _of(findings: Sequence[Finding], rule: str) -> list[Finding]:
    return [f for f in findings if f.rule == rule]


def _evaluation(rule: str, findings: Sequence[Finding]) -> dg.AssetCheckEvaluation:
    serious = any(f.level in SERIOUS for f in findings)
    records = [
        dg.TableRecord(
            {
                "queue": f.queue or "(all)",
                "level": f.level,
                "observed": f.observed,
                "limit": f.threshold,
                "what": f.message,
            }
        )
        for f in findings
    ]
    return dg.AssetCheckEvaluation(
        asset_key=ASSETS[rule],
        check_name=rule,
        passed=not findings,
        severity=dg.AssetCheckSeverity.ERROR if serious else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{f.queue or 'all queues'}: {f.message}" for f in findings[:5]) or None,
        metadata={
            "runbook": dg.MetadataValue.text(f"{notify.RUNBOOK}#{rule}"),
            **({"findings": dg.MetadataValue.table(records)} if records else {}),
        },
    )


def _said(watched: alerts.Watched) -> str:
    """What a tick did, for the list of ticks: one without runs counts there as skipped, and this is its reason."""
    if watched.busy:
        return "Another watcher was at it; nothing was recorded."
    state = f"{watched.waiting:,} due jobs, {len(watched.findings)} alerts open"
    opened = [f"opened {f.queue or 'all queues'} {f.rule} ({f.level}): {f.message}" for f in watched.opened[:5]]
    closed = [f"closed {a.queue or 'all queues'} {a.rule}" for a in watched.closed[:5]]
    return "; ".join([state, *opened, *closed])
