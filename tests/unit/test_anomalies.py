"""Which days count as unusual; the figures are made here, no database is asked."""

from __future__ import annotations

import base64
from datetime import date, timedelta

import numpy as np
import pandas as pd

from penguin_pipelines.lib import anomalies

TODAY = date(2026, 3, 18)  # a Wednesday


def usual(days: int = 50, tenant: str = "a", seed: int = 1) -> pd.DataFrame:
    """Weekdays about 1000 messages, weekends about 100, bounces 2 %, replies 5 %."""
    random = np.random.default_rng(seed)
    rows = []
    for age in range(days, 0, -1):
        day = TODAY - timedelta(days=age)
        sent = int(random.poisson(100 if day.weekday() >= 5 else 1000))
        bounced = int(random.binomial(sent, 0.02))
        rows.append([tenant, day, sent, sent - bounced, bounced, int(random.binomial(sent - bounced, 0.05))])
    return pd.DataFrame(rows, columns=anomalies.COLUMNS)


def change(daily: pd.DataFrame, age: int, **values: int) -> pd.DataFrame:
    changed = daily.copy()
    changed.loc[changed["activity_date"] == TODAY - timedelta(days=age), list(values)] = list(values.values())
    return changed


def test_usual_days_are_judged_and_nothing_is_found() -> None:
    daily = pd.concat(usual(tenant=str(n), seed=n) for n in range(40))
    findings = anomalies.find(daily, TODAY)
    assert findings.anomalies == ()
    assert findings.judged > 200


def test_a_day_without_any_message_is_unusual_for_a_tenant_who_sends_every_day() -> None:
    daily = usual()
    daily = daily[daily["activity_date"] != TODAY - timedelta(days=1)]
    (found,) = anomalies.find(daily, TODAY).anomalies
    assert (found.tenant_id, found.measure, found.value) == ("a", "sent", 0)
    assert found.activity_date == TODAY - timedelta(days=1) and found.score < -5


def test_bounces_out_of_proportion_are_unusual_though_the_volume_is_not() -> None:
    (found,) = anomalies.find(change(usual(), 2, bounced=120), TODAY).anomalies
    assert found.measure == "bounce rate" and found.score > 5


def test_a_weekend_is_compared_with_weekends() -> None:
    sunday = 3  # 15 March
    daily = change(usual(), sunday, sent=1000, delivered=980)
    assert anomalies.find(daily, TODAY).anomalies[0].measure == "sent"


def test_replies_of_the_last_days_are_not_missed_yet() -> None:
    daily = change(change(usual(), 1, replied=0), 2, replied=0)
    assert anomalies.find(daily, TODAY).anomalies == ()


def test_too_little_history_gives_no_judgement() -> None:
    findings = anomalies.find(usual(days=7), TODAY)
    assert findings == anomalies.Findings((), 0)
    assert anomalies.find(pd.DataFrame([], columns=anomalies.COLUMNS), TODAY) == anomalies.Findings((), 0)


def test_days_before_a_tenant_began_are_no_zeros() -> None:
    late = usual(tenant="late", seed=3).tail(10)
    assert anomalies.find(pd.concat([usual(), late]), TODAY).anomalies == ()


def test_the_plot_is_a_png() -> None:
    daily = change(usual(), 1, sent=9000)
    text = anomalies.plot(daily, anomalies.find(daily, TODAY))
    data = text.split("base64,")[1].rstrip(")")
    assert base64.b64decode(data).startswith(b"\x89PNG")
