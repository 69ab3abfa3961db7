"""What was counted in, whether a threshold was crossed at each minute out: the comparison that its rule makes.

All sums are whole numbers and limits fractions, so nothing is rounded. A quantile of a histogram lies above a limit where
more than its rest do; between two bounds events are spread evenly, as Prometheus takes them to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from operator import and_, gt, or_
from typing import Final

from graphmeter import names
from graphmeter_config.history import History
from graphmeter_config.indicators import shown
from graphmeter_config.measures import LEVELS, MINUTE_S, RUNNING, around, bounds_of, is_quantile
from graphmeter_config.threshold import Limit, Threshold
from graphmeter_config.thresholds import CacheHits, Waste

_REST: Final = Fraction(1, 20)
"""Of events that are above their p95."""


def limit_for(threshold: Threshold, group: Sequence[str]) -> Limit | None:
    """The limit that holds for one group, values of `per`; None: no alert for it."""
    values: dict[str, str] = {name: shown(name, value) for name, value in zip(threshold.per, group, strict=True)}
    for limit in threshold.limits:
        if any(others.matches(values) for others in limit.instead_of):
            continue
        if limit.select is None or limit.select.matches(values):
            return limit
    return None


def crossed(
    name: str, threshold: Threshold, limit: Limit, found: Mapping[str, History], first: int, until: int
) -> list[bool]:
    """Whether the limit is crossed at the beginning of each minute [first, until).

    Args:
        name: The threshold's name in files.
        threshold: Whose window and guard count.
        limit: One of its limits.
        found: What was counted of one group, by `Measure.of`; what is missing never happened.
        first: Minute since the epoch.
        until: The same.
    """
    bounds = bounds_of(name, threshold)
    history = found.get(name) or History.empty(2 * len(bounds) or 1)
    if name in LEVELS:
        return _older(history, bounds.index(limit.value), first, until)
    window = round(threshold.window) // MINUTE_S
    if threshold.bounds:
        at = bounds.index(limit.value)
        some = [count > 0 for count in history.parts[at].windows(window, first, until)]
        running = found.get(RUNNING)
        return list(map(or_, some, _older(running, at, first, until))) if running else some
    whole = history.whole.windows(window, first, until)
    if is_quantile(threshold):
        above, scale = _above(threshold, limit, history, whole, (window, first, until))
        return _share(above, whole, scale * _REST, threshold)
    part = history.parts[0].windows(window, first, until)
    unit = names.NANO_PER_USD if threshold.unit == "usd" else 1
    if isinstance(threshold, Waste):
        least = threshold.guard * names.NANO_PER_USD
        enough = [amount >= least for amount in part]
        return list(map(and_, enough, _share(part, whole, limit.value, threshold, least=1)))
    if isinstance(threshold, CacheHits):
        # Where a cache never answered, nobody uses one.
        used = history.parts[0].first
        asked = [used is not None and used < minute for minute in range(first, until)]
        return list(map(and_, asked, _share(part, whole, limit.value, threshold)))
    if threshold.guard:
        return _share(part, whole, limit.value * unit, threshold)
    return beyond(part, limit.value * unit)


def beyond(amounts: Sequence[int], limit: Fraction) -> list[bool]:
    """Whether each amount is above a limit."""
    above, below = limit.numerator, limit.denominator
    return [amount * below > above for amount in amounts]


def _share(
    part: Sequence[int], whole: Sequence[int], limit: Fraction, threshold: Threshold, least: int | None = None
) -> list[bool]:
    """Whether so much of the whole is too much, or too little, wherever there is enough of it."""
    above, below = limit.numerator, limit.denominator
    guard = int(threshold.guard) if least is None else least
    if threshold.compares == "below":
        return [of >= guard and amount * below < above * of for amount, of in zip(part, whole, strict=True)]
    return [of >= guard and amount * below > above * of for amount, of in zip(part, whole, strict=True)]


def _above(
    threshold: Threshold, limit: Limit, history: History, whole: Sequence[int], at: tuple[int, int, int]
) -> tuple[list[int], int]:
    """How many events lie above a limit, times a number that makes them whole, and that number."""
    bounds = bounds_of("", threshold)
    lower, upper = around(threshold, limit.value)
    above_upper = history.parts[bounds.index(upper)].windows(*at)
    above_lower = history.parts[bounds.index(lower)].windows(*at) if lower else whole
    part = (upper - limit.value) / (upper - lower)
    times, scale = part.numerator, part.denominator
    return [top * scale + (both - top) * times for top, both in zip(above_upper, above_lower, strict=True)], scale


def _older(history: History, bound: int, first: int, until: int) -> list[bool]:
    """Whether anything is older than a bound."""
    began, ended = history.parts[2 * bound], history.parts[2 * bound + 1]
    return list(map(gt, began.before(first, until), ended.before(first, until)))
