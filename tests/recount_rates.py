"""An independent recount of what is derived from counters: intervals, scores, percentiles, compliance, use of a plan.

It shares no code and no SQL with the warehouse: counters come from recount.py, formulas from the written rules. Not
here: H2 (recount.py), H3 and H5 (recount_infrastructure.py), the comparison (test_end_to_end.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from datetime import date, datetime, timedelta
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import pandas as pd
import recount
import recount_infrastructure as addresses

Z = NormalDist().inv_cdf(0.975)
MEASURES = {"open_rate": "opened_tracked", "click_rate": "clicked_tracked", "reply_rate": "replied"}
PERCENTS = (10, 25, 50, 75, 90, 95)
LONGEST = 90 * recount.DAY
Figures = dict[tuple[Any, ...], Any]


def wilson(hits: int, size: int) -> tuple[float, float] | None:
    """Bounds of the interval at 95 %, in percent; None for an empty sample."""
    if not size:
        return None
    share = hits / size
    centre = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    return 100 * (centre - half), 100 * (centre + half)


def campaigns(frame: pd.DataFrame) -> Figures:
    """By campaign: H4, and (rate, low, high) of opens, clicks and replies, one flat tuple in percent."""
    found: Figures = {}
    for campaign, rows in frame.dropna(subset=["campaign_id"]).groupby("campaign_id"):
        sums = rows[recount.COUNTERS].sum()
        score = None
        if sums.delivered:
            score = 40 * sums.delivered / sums.sent + 30 * (1 - sums.bounced / sums.sent)
            score += 30 * (1 - sums.spam_complaints / sums.delivered)
        figures = [score]
        for counter in MEASURES.values():
            bounds = wilson(sums[counter], sums.delivered)
            figures += [100 * sums[counter] / sums.delivered, *bounds] if bounds else [None, None, None]
        found[campaign,] = tuple(figures)
    return found


def mailbox_health(oltp_url: str, frame: pd.DataFrame) -> Figures:
    """H1 by mailbox and day with campaign or one-to-one mail."""
    _, _, boxes = addresses.places(oltp_url)
    daily = frame[frame.mailbox_id != recount.NOBODY].groupby(["mailbox_id", "activity_date"])[recount.COUNTERS].sum()
    return {
        (box, day): addresses.h1(daily.loc[box], day, paused=boxes[box]["status"] == "suspended")
        for box, day in daily.index
        if box in boxes
    }


def percentiles(frame: pd.DataFrame) -> Figures:
    """Bounds in seconds of the class that each percentile lies in, by (campaign, step or None, kind)."""
    delays: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in frame.dropna(subset=["campaign_id"]).itertuples():
        for kind, delay in (("open", row.open_delay), ("reply", row.reply_delay)):
            if not pd.isna(delay):
                for step in (row.step_id, None):
                    delays[row.campaign_id, step, kind].append(delay)
    found: Figures = {}
    edges = [0, *recount.DELAYS, LONGEST]
    for key, values in delays.items():
        ordered = sorted(values)
        places = [ordered[math.ceil(Fraction(p, 100) * len(ordered)) - 1] for p in PERCENTS]
        found[key] = [tuple(edges[n : n + 2]) for n in (bisect_right(recount.DELAYS, value) for value in places)]
    return found


def compliance(oltp_url: str, frame: pd.DataFrame) -> Figures:
    """(rate, to the target, to the limit, complaints left, state) by (primary domain, provider, day), thirty days each.

    Generated domains end in one label, so the last two are the primary domain.
    """
    domains = {d["id"]: ".".join(d["domain"].split(".")[-2:]) for d in addresses.table(oltp_url, "domains")}
    domain_of, _, _ = addresses.places(oltp_url)
    mail = frame[frame.provider.isin(["gmail", "yahoo"]) & (frame.mailbox_id != recount.NOBODY)].copy()
    mail["domain"] = mail.mailbox_id.map(domain_of).map(domains)
    daily = mail.groupby(["tenant_id", "domain", "provider", "activity_date"])[["delivered", "spam_complaints"]].sum()
    found: Figures = {}
    for tenant, domain, provider, day in daily.index:
        days = daily.loc[tenant, domain, provider]
        month = days[(days.index > day - timedelta(days=30)) & (days.index <= day)].sum()
        most, target = Fraction(3, 10), Fraction(1, 10) if provider == "gmail" else None
        left = math.ceil(most * int(month.delivered) / 100) - 1 - int(month.spam_complaints)
        if not month.delivered:
            found[tenant, domain, provider, day] = (None, None, None, left, None)
            continue
        rate = Fraction(100 * int(month.spam_complaints), int(month.delivered))
        state = "over the limit" if rate >= most else "over the target" if target and rate >= target else "good"
        found[tenant, domain, provider, day] = (
            float(rate),
            float(target - rate) if target else None,
            float(most - rate),
            left,
            state,
        )
    return found


def emails_of_windows(frame: pd.DataFrame, windows: list[tuple[str, date, date]]) -> dict[tuple[str, date], int]:
    """Messages sent in each usage window, by tenant and its first day."""
    sent = frame.groupby(["tenant_id", "activity_date"])["sent"].sum()
    return {
        (tenant, start): int(sum(n for (who, day), n in sent.items() if who == tenant and start <= day < end))
        for tenant, start, end in windows
    }


def use(used: int, limit: int | None, start: datetime, end: datetime, moment: datetime) -> tuple[Any, ...]:
    """(percent, remaining, over, projection, cents for what is over) of the messages of a window."""
    projected = None
    if moment - start >= timedelta(days=2):
        projected = used * ((end - start) / (min(moment, end) - start))
    if limit is None:
        return None, None, None, projected, 0
    percent = 100 * used / limit if limit else 100.0 * bool(used)
    over = max(0, used - limit)
    return percent, max(0, limit - used), over, projected, 1000 * -(-over // 10_000)
