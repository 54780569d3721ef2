"""What is wrong with a queue: state and rules in, findings out. Pure; each rule is one function, found by its name.

Reading the state belongs to health.py, what becomes of findings to alerts.py, the limits to rules.yml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penguin_pipelines.errors import SettingsError

RULES_FILE = Path(__file__).with_name("rules.yml")
LEVELS = ("notice", "warning", "high", "critical", "page")
Level = Literal["notice", "warning", "high", "critical", "page"]
MOST = 20_000
"""Waiting jobs of a queue that one look counts; a longer queue shows this number."""


# -- limits ----------------------------------------------------------------------------------------


class Limits(BaseModel):
    """Limits of one queue, as rules.yml names them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standing_seconds: float = Field(gt=0)
    paused_seconds: float = Field(gt=0)
    pending: int = Field(gt=0)
    pending_high_lane: int = Field(gt=0)
    backlog: int = Field(gt=0)
    backlog_minutes: int = Field(gt=0, le=10)
    backlog_page: int = Field(gt=0, lt=MOST)
    mean_age_seconds: float = Field(gt=0)
    error_rate: float = Field(gt=0, le=1)
    error_rate_page: float = Field(gt=0, le=1)
    error_rate_attempts: int = Field(gt=0)
    silent_worker_seconds: float = Field(ge=60)
    unattended_seconds: float = Field(gt=0)
    dead_letter_hours: float = Field(gt=0)
    starving_hours: float = Field(gt=0)
    unfair_seconds: float = Field(gt=0)
    unfair_attempts: int = Field(gt=0)


class TierLimits(BaseModel):
    """Limits of what all queues share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dead_rows: int = Field(gt=0)
    dead_rows_share: float = Field(gt=0, le=1)
    snapshot_seconds: float = Field(gt=0)
    hints_surplus: int = Field(gt=0)


class Notify(BaseModel):
    """How often people are told, and when an alert closes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repeat_minutes: float = Field(gt=0)
    close_below: float = Field(gt=0, le=1)


class Rules(BaseModel):
    """The whole of rules.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_queue: Limits
    queues: dict[str, Limits]
    tier: TierLimits
    notify: Notify

    def of(self, queue: str) -> Limits:
        """Limits of a queue: its own where it has some, else those of every queue."""
        return self.queues.get(queue, self.every_queue)


@cache
def load_rules(path: Path | None = None) -> Rules:
    """The packaged rules with what another file changes. Raises SettingsError that names the key."""
    merged = yaml.safe_load(RULES_FILE.read_text())
    if path is not None:
        try:
            changed = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as e:
            raise SettingsError(f"PENGUIN_ALERT_RULES names {path}, which cannot be read: {e}.") from None
        if not isinstance(changed, dict) or not all(isinstance(v, dict) for v in changed.values()):
            raise SettingsError(f"{path} must hold some of the sections {', '.join(merged)}, each with keys.")
        for section, values in changed.items():
            if section == "queues":
                for queue, own in values.items():
                    merged["queues"][queue] = {**merged["queues"].get(queue, {}), **(own or {})}
            else:
                merged[section] = {**merged.get(section, {}), **values}
    merged["queues"] = {queue: {**merged["every_queue"], **own} for queue, own in merged["queues"].items()}
    try:
        return Rules.model_validate(merged)
    except ValidationError as e:
        spots = "; ".join(f"{'.'.join(map(str, s['loc']))}: {s['msg']}" for s in e.errors(include_url=False))
        raise SettingsError(f"{path or RULES_FILE} has keys that cannot be used: {spots}.") from None


# -- state -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueueState:
    """One queue at one moment; seconds are ages of due jobs. Columns of `sample` in sql/watch.sql."""

    queue: str
    is_active: bool = True
    high: int = 0
    normal: int = 0
    low: int = 0
    migrated: int = 0
    spent: int = 0
    """Jobs that wait without an attempt left."""
    delayed: int = 0
    running: int = 0
    alive: int = 0
    """Running with a fresh heartbeat, and not for longer than the queue allows."""
    lost: int = 0
    silent_workers: Sequence[str] = ()
    stranded: int = 0
    """Moved to Redis by an older program ten minutes ago and taken by nobody."""
    oldest_seconds: float = 0
    mean_seconds: float = 0
    high_seconds: float = 0
    normal_seconds: float = 0
    low_seconds: float = 0
    first_tenant: str | None = None
    """Whose job has waited longest outside the low lane."""
    first_tenant_seconds: float = 0
    first_tenant_ended: int = 0
    attempts: int = 0
    failed: int = 0
    ended: int = 0
    """Jobs that left the queue in five minutes, well or as dead letters."""
    dead_open: int = 0
    dead_seconds: float = 0
    dead_class: str = ""
    failed_1h: int = 0
    failed_24h: int = 0
    least_before: int = 0
    """Fewest waiting jobs of the samples of the last ten minutes."""
    before_seconds: float = 0
    samples_before: int = 0
    hints: int | None = None
    workers: int | None = None
    """Workers that Redis knows of; None when it cannot say."""

    @property
    def waiting(self) -> int:
        return self.high + self.normal + self.low + self.migrated


@dataclass(frozen=True)
class TableState:
    """Live and dead rows of one table."""

    name: str
    live: int
    dead: int


@dataclass(frozen=True)
class TierState:
    """Everything that one look at the queue tier found."""

    queues: Sequence[QueueState]
    tables: Sequence[TableState] = ()
    snapshot_seconds: float = 0
    snapshot_who: str = ""
    redis: str | None = None
    """Why Redis does not answer; None when it does or none is used."""


# -- findings --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A rule that is broken now. The message is for people, observed and threshold for the record."""

    queue: str | None
    rule: str
    level: Level
    observed: float
    threshold: float
    message: str = field(compare=False)

    @property
    def key(self) -> tuple[str | None, str, str]:
        """What makes two findings the same alert."""
        return (self.queue, self.rule, self.level)


class Judge:
    """Compares figures with limits. For an alert that is open the limit is a little lower, so that none flutters."""

    def __init__(self, rules: Rules, is_open: frozenset[tuple[str | None, str, str]] = frozenset()) -> None:
        self.rules = rules
        self._open = is_open

    def over(
        self, queue: str | None, rule: str, level: Level, observed: float, limit: float, message: str
    ) -> Iterator[Finding]:
        """A finding when the figure is above its limit."""
        kept = self.rules.notify.close_below if (queue, rule, level) in self._open else 1.0
        if observed > limit * kept:
            yield Finding(queue, rule, level, round(observed, 4), limit, message)


QueueRule = Callable[[QueueState, Limits, Judge], Iterator[Finding]]
TierRule = Callable[[TierState, TierLimits, Judge], Iterator[Finding]]


def standing_still(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Due jobs wait, none has left the queue for five minutes, and none is being worked on. Depth says nothing here."""
    if q.is_active and not q.ended and not q.alive:
        waits = f"{_jobs(q.waiting)} due, the oldest for {_time(q.oldest_seconds)}, none ended in 5 minutes"
        yield from judge.over(q.queue, "standing_still", "page", q.oldest_seconds, limits.standing_seconds, waits)


def paused(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Somebody paused the queue and jobs have become due since."""
    if not q.is_active:
        waits = f"paused while {_jobs(q.waiting)} wait, the oldest for {_time(q.oldest_seconds)}"
        yield from judge.over(q.queue, "paused", "warning", q.oldest_seconds, limits.paused_seconds, waits)


def high_pending_jobs(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Too many due jobs, all together or in the high lane alone."""
    lanes = f"{_jobs(q.waiting)} wait (high {q.high:,}, normal {q.normal:,}, low {q.low:,})"
    found = list(judge.over(q.queue, "high_pending_jobs", "warning", q.waiting, limits.pending, lanes))
    found += judge.over(q.queue, "high_pending_jobs", "warning", q.high, limits.pending_high_lane, lanes)
    yield from found[:1]


def queue_backlog(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Many jobs for ten minutes, or very many now."""
    lasting = q.before_seconds >= (limits.backlog_minutes - 1) * 60 and q.samples_before >= limits.backlog_minutes // 2
    if lasting:
        least = min(q.waiting, q.least_before)
        said = f"never fewer than {_jobs(least)} in {limits.backlog_minutes} minutes, {q.waiting:,} now"
        yield from judge.over(q.queue, "queue_backlog", "high", least, limits.backlog, said)
    more = " or more" if q.waiting >= MOST else ""
    said = f"{_jobs(q.waiting)}{more} wait"
    yield from judge.over(q.queue, "queue_backlog", "page", q.waiting, limits.backlog_page, said)


def slow_processing(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """The mean age of due jobs is high."""
    if q.is_active:
        said = f"due jobs have waited {_time(q.mean_seconds)} on average, the oldest {_time(q.oldest_seconds)}"
        yield from judge.over(q.queue, "slow_processing", "warning", q.mean_seconds, limits.mean_age_seconds, said)


def high_error_rate(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Many attempts of the last five minutes failed."""
    if q.attempts >= limits.error_rate_attempts:
        rate = q.failed / q.attempts
        said = f"{q.failed:,} of {q.attempts:,} attempts failed in 5 minutes ({rate:.1%})"
        for level, limit in (("high", limits.error_rate), ("page", limits.error_rate_page)):
            yield from judge.over(q.queue, "high_error_rate", level, rate, limit, said)  # type: ignore[arg-type]


def worker_offline(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """A worker that holds jobs gives no sign of life, or due jobs wait and no worker is known at all."""
    if q.silent_workers:
        names = ", ".join(sorted(q.silent_workers)[:5])
        said = f"no sign of life for {_time(limits.silent_worker_seconds)} of {names}"
        yield from judge.over(q.queue, "worker_offline", "high", len(q.silent_workers), 0, said)
    elif q.is_active and q.workers == 0 and not q.alive and not q.ended:
        said = f"{_jobs(q.waiting)} due for up to {_time(q.oldest_seconds)} and no worker works this queue"
        yield from judge.over(q.queue, "worker_offline", "high", q.oldest_seconds, limits.unattended_seconds, said)


def orphans(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Jobs whose lease ran out and that no sweep has restarted; any living worker would have."""
    left = q.lost + q.spent
    said = f"{_jobs(q.lost)} of silent workers and {q.spent:,} without an attempt left are not swept"
    yield from judge.over(q.queue, "orphans", "high", left, 0, said)


def dead_letters(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """The age counts, not the number: somebody has to look at each."""
    letters = f"{q.dead_open:,} open dead letter{'' if q.dead_open == 1 else 's'}"
    said = f"{letters}, the oldest for {_time(q.dead_seconds)}, last error {q.dead_class}"
    hours = q.dead_seconds / 3600
    yield from judge.over(q.queue, "dead_letters", "warning", hours, limits.dead_letter_hours, said)


def starvation(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """Jobs of the low lane wait although they have aged into the normal one."""
    said = f"{_jobs(q.low)} in the low lane, the oldest waits {_time(q.low_seconds)}"
    hours = q.low_seconds / 3600
    yield from judge.over(q.queue, "starvation", "warning", hours, limits.starving_hours, said)


def tenant_starving(q: QueueState, limits: Limits, judge: Judge) -> Iterator[Finding]:
    """One tenant's jobs stand while those of others end."""
    if q.first_tenant and not q.first_tenant_ended and q.ended >= limits.unfair_attempts:
        waits = _time(q.first_tenant_seconds)
        said = f"tenant {q.first_tenant} waits {waits} while {q.ended:,} jobs of others ended in 5 minutes"
        yield from judge.over(
            q.queue, "tenant_starving", "warning", q.first_tenant_seconds, limits.unfair_seconds, said
        )


def redis_drift(tier: TierState, limits: TierLimits, judge: Judge) -> Iterator[Finding]:
    """Redis and Postgres disagree. Nothing is lost: Postgres is the truth, Redis only wakes workers."""
    if tier.redis is not None:
        yield from judge.over(None, "redis_drift", "warning", 1, 0, f"Redis does not answer: {tier.redis}")
    for q in tier.queues:
        said = f"{_jobs(q.stranded)} handed to Redis ten minutes ago and taken by nobody"
        yield from judge.over(q.queue, "redis_drift", "warning", q.stranded, 0, said)
        if q.hints is not None and not q.stranded:
            surplus = q.hints - 10 * q.waiting
            said = f"{q.hints:,} hints in Redis for {_jobs(q.waiting)} that are due"
            yield from judge.over(q.queue, "redis_drift", "notice", surplus, limits.hints_surplus, said)


def dead_rows(tier: TierState, limits: TierLimits, judge: Judge) -> Iterator[Finding]:
    """Vacuum does not keep up; claims walk over what is left behind."""
    bad = [t for t in tier.tables if t.dead > limits.dead_rows]
    bad.sort(key=lambda t: t.dead / (t.live + t.dead), reverse=True)
    for t in bad[:1]:
        share = t.dead / (t.live + t.dead)
        said = f"table {t.name} has {t.dead:,} dead rows beside {t.live:,} live ones"
        yield from judge.over(None, "dead_rows", "warning", share, limits.dead_rows_share, said)


def old_snapshot(tier: TierState, limits: TierLimits, judge: Judge) -> Iterator[Finding]:
    """An open transaction keeps every dead row since its begin alive."""
    said = f"{tier.snapshot_who} has held a snapshot for {_time(tier.snapshot_seconds)}; vacuum can take nothing away"
    yield from judge.over(None, "old_snapshot", "warning", tier.snapshot_seconds, limits.snapshot_seconds, said)


QUEUE_RULES: tuple[QueueRule, ...] = (
    standing_still,
    paused,
    high_pending_jobs,
    queue_backlog,
    slow_processing,
    high_error_rate,
    worker_offline,
    orphans,
    dead_letters,
    starvation,
    tenant_starving,
)
TIER_RULES: tuple[TierRule, ...] = (redis_drift, dead_rows, old_snapshot)
NAMES: Mapping[str, str] = {rule.__name__: (rule.__doc__ or "").strip() for rule in (*QUEUE_RULES, *TIER_RULES)}
"""Every rule by name, with the sentence that says what it is about."""


def judge_all(
    tier: TierState, rules: Rules, is_open: frozenset[tuple[str | None, str, str]] = frozenset()
) -> list[Finding]:
    """Every finding of every rule, one for each queue, rule and level."""
    judge = Judge(rules, is_open)
    found: dict[tuple[str | None, str, str], Finding] = {}
    for state in tier.queues:
        for rule in QUEUE_RULES:
            for finding in rule(state, rules.of(state.queue), judge):
                found.setdefault(finding.key, finding)
    for tier_rule in TIER_RULES:
        for finding in tier_rule(tier, rules.tier, judge):
            found.setdefault(finding.key, finding)
    return list(found.values())


def health_of(findings: Sequence[Finding], queue: str) -> str:
    """healthy, degraded or critical, for the sample of a queue."""
    levels = {f.level for f in findings if f.queue == queue}
    return "critical" if levels & {"critical", "page"} else "degraded" if levels - {"notice"} else "healthy"


def _jobs(count: int) -> str:
    return f"{count:,} job" if count == 1 else f"{count:,} jobs"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def as_state(row: Mapping[str, Any], hints: int | None, workers: int | None) -> QueueState:
    """A row of the sample as a state."""
    return QueueState(**row, hints=hints, workers=workers)
