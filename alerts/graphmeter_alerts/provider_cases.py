"""Unit tests of providers' limits: just below them, near them, below again; and calls that are made with another key."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import provider_rules, wording
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, growing, series
from graphmeter_alerts.provider_rules import NEAR, Limited
from graphmeter_alerts.threshold_traffic import matching
from graphmeter_config import Config
from graphmeter_config.provider_limits import ProviderLimit

_AFTER: Final = 10
EVALUATED_S: Final = MINUTE
"""promtool looks at these rules so often."""


def cases(config: Config, by: ProviderLimit) -> Iterator[Case]:
    """Every unit test of one entry."""
    for one in provider_rules.limited(by):
        yield _near(config, one)
        if one.by.for_s:
            yield _too_soon(one)
        yield from _others(one)


def _identity(one: Limited) -> dict[str, str]:
    selected = one.by.selecting()
    # Examples of what no pattern restricts are as good as any.
    return {name: matching(selected.get(name, ("*",)))[0] for name in names.LLM_CALLS.labels[:-1]}


def _minutes(one: Limited) -> int:
    return round((2 * one.by.window_s + 2 * (one.by.for_s or 0)) / MINUTE) + _AFTER


def _near(config: Config, one: Limited) -> Case:
    minutes, warn_at = _minutes(one), Fraction(one.by.warn_at)
    well, near = warn_at * Fraction(9, 10), Fraction(f"{float(warn_at * Fraction(12, 10)):.4g}")
    of = _identity(one)
    found = _series(one, of, (well, minutes), (near, minutes), (well, minutes))
    # Enough below all the limits that these calls have.
    most = max(_used(one, other, Fraction(1)) for other in provider_rules.limited(one.by))
    for name in one.by.per:
        found |= _series(one, {**of, name: "not/selected"}, (min(well, warn_at / 2 / most), 3 * minutes))
    group: dict[str, str] = {name: of[name] for name in one.by.per}
    # Other limits of these calls are used as well.
    firing = [
        [
            _firing(config, other, group, used)
            for other in provider_rules.limited(one.by)
            if (used := _used(one, other, share)) > warn_at
        ]
        for share in (well, near)
    ]
    return Case(
        f"{one.by.name}: {one.of} come near the limit, and leave it",
        found,
        tuple(
            Check(((phase + 1) * minutes - 1) * MINUTE, NEAR, tuple(told))
            for phase, told in enumerate((firing[0], firing[1], firing[0]))
        ),
    )


def _too_soon(one: Limited) -> Case:
    """Far beyond the limit from the first minute: when it is looked at first, nobody has waited yet."""
    found = _series(one, _identity(one), (Fraction(100), 2 * EVALUATED_S // MINUTE))
    return Case(f"{one.by.name}: {one.of} are not told at once", found, (Check(EVALUATED_S, NEAR),))


def _firing(config: Config, one: Limited, group: dict[str, str], used: Fraction) -> Firing:
    told = provider_rules.words(config, one, group, used=wording.percentage(used))
    return Firing({**provider_rules.labels_of(one), **group}, told)


def _used(one: Limited, other: Limited, share: Fraction) -> Fraction:
    """How much of another limit a share of this one is."""
    metric, types = provider_rules.counter(one)
    its_metric, its_types = provider_rules.counter(other)
    if metric is not its_metric:
        return Fraction(0)
    common = Fraction(len(set(types) & set(its_types)), len(types)) if types else Fraction(1)
    return share * one.per_minute * common / other.per_minute


def _others(one: Limited) -> Iterator[Case]:
    minutes, of = _minutes(one), _identity(one)
    for name in one.by.selecting():
        yield Case(
            f"{one.by.name}: {one.of} of another {name} do not count",
            _series(one, {**of, name: "not/selected"}, (Fraction(2), minutes)),
            (Check((minutes - 1) * MINUTE, NEAR),),
        )


def _series(one: Limited, of: dict[str, str], *phases: tuple[Fraction, int]) -> dict[str, str]:
    """Phases are shares of the limit, and minutes."""
    metric, types = provider_rules.counter(one)
    values = types or (names.OK, names.ERROR)
    told = "type" if types else "status"
    each = growing(*((float(share * one.per_minute / len(values)), minutes) for share, minutes in phases))
    found = {series(metric.name, **of, **{told: value}): each for value in values}
    if not one.by.count_cache_reads and types:
        # What does not count is plenty.
        plenty = growing((9.0 * one.per_minute, sum(minutes for _, minutes in phases)))
        found |= {series(metric.name, **of, type="cache_read"): plenty}
    return found
