"""Time: microseconds since 1970 in UTC, the shape of a working week, delays of people, and time stamps as
text.

Not here: which message goes out when (plan.py). Nothing reads the system clock; the present is passed in.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OFFSETS = np.array([-8, -6, -5, -5, -3, 0, 0, 1, 1, 1, 2, 3, 5, 8], dtype=np.int64) * HOUR
"""Zones of workspaces and their recipients, weighted by repetition; fixed, without summer time."""

WEEKDAY = np.array([1.0, 1.0, 1.0, 0.97, 0.85, 0.10, 0.06])
"""Share of the planned mail of a day (Monday first) that really goes out on it."""

SENDING_HOURS = np.array([0, 0, 0, 0, 0, 0, 1, 4, 13, 17, 16, 12, 7, 10, 12, 10, 7, 4, 2, 1, 0, 0, 0, 0], dtype=float)
"""Weight of each local hour for sending."""


def micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(time: int) -> datetime:
    """The inverse of `micros`."""
    return _EPOCH + timedelta(microseconds=int(time))


def weekday(local: Times) -> NDArray[np.int64]:
    """0 is Monday."""
    return (local // DAY + 3) % 7


def stamps(times: Times, valid: NDArray[np.bool_] | None = None) -> list[str]:
    """Text of each time to the millisecond for a session in UTC; the COPY null where not valid."""
    text = np.datetime_as_string(times.astype("datetime64[us]"), unit="ms")
    if valid is not None:
        text = np.where(valid, text, "\\N")
    return text.tolist()


def stamp(time: int) -> str:
    """One time stamp."""
    return stamps(np.array([time], dtype=np.int64))[0]


def _time_of_day(rng: np.random.Generator, n: int) -> Times:
    cumulated = np.cumsum(SENDING_HOURS) / SENDING_HOURS.sum()
    hour = np.searchsorted(cumulated, rng.random(n), side="right")
    return hour.astype(np.int64) * HOUR + rng.integers(0, HOUR, n)


def working(rng: np.random.Generator, times: Times, offsets: Times) -> Times:
    """The same local days, weekends mostly moved to the days after, at an hour at which companies send."""
    day = (times + offsets) // DAY
    which = (day + 3) % 7
    moved = rng.random(len(times)) >= WEEKDAY[which]
    ahead = np.where(which >= 5, 7 - which, 1) + np.where(which >= 5, rng.integers(0, 4, len(times)), 0)
    day = np.where(moved, day + ahead, day)
    # A Friday that is moved must not land on the weekend.
    day += np.where(moved & ((day + 3) % 7 == 5), 2, 0)
    return day * DAY + _time_of_day(rng, len(times)) - offsets


def within(rng: np.random.Generator, times: Times, low: Times | int, high: Times | int) -> Times:
    """Times outside low..high are drawn anew, evenly inside."""
    span = np.maximum(np.asarray(high) - np.asarray(low), 1)
    fresh = np.asarray(low) + (rng.random(len(times)) * span).astype(np.int64)
    return np.where((times < low) | (times >= high), fresh, times)


def lognormal(rng: np.random.Generator, n: int, median: float, sigma: float) -> Times:
    """Delays with a long tail, in microseconds."""
    return (median * np.exp(sigma * rng.standard_normal(n))).astype(np.int64)


def waking(rng: np.random.Generator, times: Times, offsets: Times) -> Times:
    """Moves most of what people would do at night or on a weekend to the next working morning; never
    backwards."""
    local = times + offsets
    hour = local % DAY // HOUR
    late = (hour >= 21) & (rng.random(len(times)) < 0.85)
    early = (hour < 7) & (rng.random(len(times)) < 0.9)
    day = local // DAY + late
    weekend = ((day + 3) % 7 >= 5) & (rng.random(len(times)) < 0.75)
    day = np.where(weekend, day + 7 - (day + 3) % 7, day)
    morning = day * DAY + 7 * HOUR + (rng.beta(1.5, 2.5, len(times)) * 5 * HOUR).astype(np.int64)
    return np.where(late | early | weekend, np.maximum(morning - offsets, times), times)


def ingest(rng: np.random.Generator, times: Times, present: int) -> Times:
    """When each event was stored: mostly at once, sometimes hours or days late, never after the present."""
    lag = lognormal(rng, len(times), 3 * SECOND, 1.0)
    draw = rng.random(len(times))
    lag = np.where(draw < 0.025, rng.integers(HOUR, 2 * DAY, len(times)), lag)
    lag = np.where(draw < 0.004, rng.integers(2 * DAY, 12 * DAY, len(times)), lag)
    return np.minimum(times + lag, np.maximum(present, times))
