"""Finds days on which a tenant's sending, bounces or replies are far from usual for it, and draws them.

A day is compared with earlier days of its kind (working day or weekend) by a robust z-score: the distance
from the median in units of the median absolute deviation, which a past outlier does not widen. The unit is
never smaller than the noise of counting, else a tenant with steady figures would alarm at every message.
Not here: reading the days (sql/anomalies.sql), what becomes of a finding (defs/checks.py).
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["tenant_id", "activity_date", "sent", "delivered", "bounced", "replied"]
"""What `find` wants: one row per tenant and UTC send date."""

HISTORY_DAYS = 42
JUDGED_DAYS = 3
_LEAST_HISTORY = 8  # days of the same kind; four weekends
_LEAST_MESSAGES = 50  # below that a rate says nothing
_LIMIT = 5.0  # many tenants are judged every day, so the usual 3.5 would alarm by chance
_TO_SIGMA = 1.4826  # of the median absolute deviation of a normal distribution


@dataclass(frozen=True)
class Measure:
    """A figure that is judged. `lag`: days after sending until most of what it counts has come in."""

    name: str
    part: str
    of: str | None
    lag: int


MEASURES = (
    Measure("sent", "sent", None, 0),
    Measure("bounce rate", "bounced", "sent", 1),
    Measure("reply rate", "replied", "delivered", 3),
)


@dataclass(frozen=True)
class Anomaly:
    """One figure of one tenant on one day."""

    tenant_id: str
    activity_date: date
    measure: str
    value: float
    usual: float
    score: float


@dataclass(frozen=True)
class Findings:
    """`judged` counts figures that had enough history; without any there is nothing to conclude."""

    anomalies: tuple[Anomaly, ...]
    judged: int


def find(daily: pd.DataFrame, today: date) -> Findings:
    """Judges the last complete days of every tenant; `today` and what lies behind it is not complete."""
    if daily.empty:
        return Findings((), 0)
    wide = _every_day(daily, today)
    found: list[Anomaly] = []
    judged = 0
    for measure in MEASURES:
        for age in range(1, JUDGED_DAYS + 1):
            day = today - timedelta(days=age + measure.lag)
            scores = _scores(wide, measure, day)
            judged += len(scores)
            for tenant, figures in scores[scores["score"].abs() >= _LIMIT].iterrows():
                found.append(Anomaly(str(tenant), day, measure.name, *map(float, figures)))
    found.sort(key=lambda a: -abs(a.score))
    return Findings(tuple(found), judged)


def _every_day(daily: pd.DataFrame, today: date) -> dict[str, pd.DataFrame]:
    """Each figure with a row per day and a column per tenant.

    A day without any message has no row in the mart: it is a zero, but only from the tenant's first day on.
    """
    first = min(daily["activity_date"])
    days = [first + timedelta(days=n) for n in range((today - first).days)]
    wide = {
        part: daily.pivot(index="activity_date", columns="tenant_id", values=part).reindex(days).astype(float)
        for part in COLUMNS[2:]
    }
    begun = wide["sent"].notna().cummax()
    return {part: figures.fillna(0.0).where(begun) for part, figures in wide.items()}


def _scores(wide: dict[str, pd.DataFrame], measure: Measure, day: date) -> pd.DataFrame:
    """Value, usual value and score of one day for the tenants that have enough history and messages."""
    figures = wide[measure.part]
    whole = wide[measure.of].where(wide[measure.of] >= _LEAST_MESSAGES) if measure.of else None
    if whole is not None:
        figures = figures / whole
    if day not in figures.index:
        return pd.DataFrame({"value": [], "usual": [], "score": []})
    earliest, weekend = day - timedelta(days=HISTORY_DAYS), _is_weekend(day)
    history = figures.loc[[d for d in figures.index if earliest <= d < day and _is_weekend(d) == weekend]]
    value, usual = figures.loc[day], history.median()
    if whole is None:
        noise = np.sqrt(usual.clip(lower=1.0))
    else:
        likely = usual.clip(0.001, 0.999)
        noise = np.sqrt(likely * (1 - likely) / whole.loc[day])
    unit = np.maximum(_TO_SIGMA * (history - usual).abs().median(), noise)
    table = pd.DataFrame({"value": value, "usual": usual, "score": (value - usual) / unit})
    judged: Any = table[(history.notna().sum() >= _LEAST_HISTORY) & value.notna()]
    return judged


def _is_weekend(day: date) -> bool:
    return day.weekday() >= 5


def plot(daily: pd.DataFrame, findings: Findings, tenants: int = 4) -> str:
    """The tenants with the strongest findings, else the largest ones, as a PNG in a Markdown image."""
    from matplotlib.figure import Figure  # most runs draw nothing, and the import takes a second

    strongest = list(dict.fromkeys(a.tenant_id for a in findings.anomalies))
    totals: Any = daily.groupby("tenant_id")["sent"].sum()
    largest = totals.sort_values(ascending=False).index.astype(str)
    shown = list(dict.fromkeys([*strongest, *largest]))[:tenants]
    figure = Figure(figsize=(8, 1.8 * len(shown)), layout="constrained")
    for row, (tenant, axes) in enumerate(zip(shown, np.atleast_1d(figure.subplots(len(shown))), strict=True)):
        days: Any = daily[daily["tenant_id"].astype(str) == tenant].sort_values(by="activity_date")  # pyright: ignore
        axes.plot(days["activity_date"], days["sent"], color="0.4", linewidth=1, label="sent")
        marked = {a.activity_date for a in findings.anomalies if a.tenant_id == tenant}
        odd = days[days["activity_date"].isin(list(marked))]
        axes.scatter(odd["activity_date"], odd["sent"], color="tab:red", zorder=3, label="unusual")
        axes.set_title(tenant, fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        if row == 0:
            axes.legend(fontsize=7, frameon=False, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return f"![daily sends](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
