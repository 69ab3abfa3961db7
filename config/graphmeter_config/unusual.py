"""What was counted every five minutes in, whether it was unusual out: bands around a graph's own past, and past weeks.

The same values as rules record: sums of the last hour, and nothing where that had too few runs. Means and deviations are
floats, as they are to Prometheus; margins are far wider than what is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from typing import Final

from graphmeter import names
from graphmeter_config.anomalies import OWN_PAST_BEGINS_S, SAMPLE_S, Band, TrafficDrop
from graphmeter_config.history import History
from graphmeter_config.measures import HOUR_S, WEEK_S

_HOUR: Final = HOUR_S // SAMPLE_S
_WEEK: Final = WEEK_S // SAMPLE_S


def drops(drop: TrafficDrop, history: History, first: int, until: int) -> list[bool]:
    """Whether fewer runs came in the hour before each of the samples [first, until) than in the same of past weeks.

    A week is known from the first run on that is found at all.
    """
    began = history.whole.first
    if began is None:
        return [False] * (until - first)
    oldest = first - drop.weeks * _WEEK
    runs = history.whole.windows(_HOUR, oldest, until)
    below = drop.below.as_integer_ratio()
    found = []
    for at in range(first, until):
        weeks = [at - week * _WEEK for week in range(1, drop.weeks + 1)]
        past = [runs[then - oldest] for then in weeks if then > began]
        # Twice the median is a whole number.
        usual = _twice_the_median(past)
        enough = len(past) >= drop.needs_weeks and usual >= 2 * drop.at_least
        found.append(enough and 2 * runs[at - oldest] * below[1] < below[0] * usual)
    return found


def _twice_the_median(values: Sequence[int]) -> int:
    ordered, middle = sorted(values), len(values) // 2
    if not ordered:
        return 0
    return 2 * ordered[middle] if len(ordered) % 2 else ordered[middle - 1] + ordered[middle]


def above_band(band: Band, history: History, first: int, until: int) -> list[bool]:
    """Whether the value of the hour before each of the samples [first, until) lies above its band."""
    own, length = OWN_PAST_BEGINS_S // SAMPLE_S, round(band.history_s) // SAMPLE_S
    oldest = first - own - length
    values = _values(band, history, oldest, until)
    known = [value for value in values if value is not None]
    # As far from nought as they have to be, so that squares of what is large and alike still tell it apart.
    centre = sum(known) / len(known) if known else 0.0
    counts = [0, *accumulate(value is not None for value in values)]
    sums = [0.0, *accumulate(0.0 if value is None else value - centre for value in values)]
    squares = [0.0, *accumulate(0.0 if value is None else (value - centre) ** 2 for value in values)]
    found = []
    for at in range(first, until):
        value, end = values[at - oldest], at - oldest - own + 1
        start = end - length
        count = counts[end] - counts[start]
        if value is None or count < band.samples:
            found.append(False)
            continue
        mean = (sums[end] - sums[start]) / count
        scatter = sqrt(max((squares[end] - squares[start]) / count - mean**2, 0.0))
        margin = float(band.factor) * (mean + centre) + float(band.points)
        found.append(value > mean + centre + margin + band.deviations * scatter)
    return found


def _values(band: Band, history: History, first: int, until: int) -> list[float | None]:
    """What a band is around; None for hours with too few runs."""
    events = history.whole.windows(_HOUR, first, until)
    parts = [part.windows(_HOUR, first, until) for part in history.parts]
    if band.unit == "seconds":
        bounds = band.metric.buckets
        above = zip(*parts, strict=True)
        pairs = zip(events, above, strict=True)
        return [_p95(bounds, whole, each) if whole >= band.at_least else None for whole, each in pairs]
    unit = names.NANO_PER_USD if band.unit == "usd" else 1
    both = zip(events, parts[0], strict=True)
    return [part / whole / unit if whole >= band.at_least else None for whole, part in both]


def _p95(bounds: Sequence[float], whole: int, above: Sequence[int]) -> float:
    """As Prometheus takes it from a histogram: events are spread evenly between two bounds, none is above the last."""
    rank, lower, below = 0.95 * whole, 0.0, 0
    for bound, beyond in zip(bounds, above, strict=True):
        if (within := whole - beyond) >= rank:
            return lower + (bound - lower) * (rank - below) / (within - below)
        lower, below = bound, within
    return bounds[-1]
