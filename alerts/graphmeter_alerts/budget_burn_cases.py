"""Unit tests of the speed of budgets: a little above that of each tier and a little below; and of what is spent already."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import budget_burn_rules, budget_rules
from graphmeter_alerts.budget_burn_rules import BURN_FAST, BURN_SLOW, EXHAUSTS_SOON, SOON_FOR_S, SPEED_H
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, growing, no_alert, series, staying
from graphmeter_config import Budget, Config
from graphmeter_config.burn import Tier

_BURN: Final = (BURN_FAST, BURN_SLOW)
_WHOSE: Final = ("cx", "graph=support")
_COLLECTORS: Final = ("a", "b")
_LONG: Final = 10 * MINUTE
EVALUATED_S: Final = 5 * MINUTE
"""promtool looks at these rules so often."""
_SLOW_STEP_MIN: Final = EVALUATED_S // MINUTE


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of them."""
    for budget in budget_burn_rules.watched(config):
        for tier in budget_burn_rules.tiers(budget):
            yield _burns(config, budget, tier)
            yield _too_slow(config, budget, tier)
            yield _slower_again(budget, tier)
        yield _spent_already(budget)
        if budget_burn_rules.lasts_into_another_day(budget):
            yield from _soon(config, budget)


def _labels(budget: Budget) -> dict[str, str]:
    of: dict[str, str] = {"budget": budget.name}
    if "team" in budget.per:
        of["team"] = _WHOSE[0]
    if set(budget.per_labels) - {"team"}:
        of["scope"] = _WHOSE[1]
    return of


def _step_min(tier: Tier) -> int:
    """Days of values every minute take promtool seconds; a window of minutes needs them."""
    return 1 if tier.short_s < HOUR else _SLOW_STEP_MIN


def _speed(tier: Tier) -> Fraction:
    """Share of the limit in a second, at which the tier is just crossed."""
    return tier.share / tier.long_s


def _burns(config: Config, budget: Budget, tier: Tier) -> Case:
    speed, lasts = _speed(tier) * Fraction(12, 10), tier.long_s + _LONG
    ends = (
        lasts
        + _LONG
        + max(
            each.short_s + budget_burn_rules.KEEP_FIRING_FOR_S[each.severity]
            for each in budget_burn_rules.tiers(budget)
            if each.severity == tier.severity
        )
    )
    found = _series(budget, (speed, lasts), (Fraction(0), ends - lasts), used=Fraction(1, 2), step_min=_step_min(tier))
    firing = {name: _firing(config, budget, name, speed, lasts) for name in _BURN}
    return Case(
        f"{budget.name} is spent a little faster than {tier.name}, and no more afterwards",
        found,
        (
            *(Check(lasts - MINUTE, name, firing[name]) for name in _BURN),
            Check(ends - MINUTE, budget_burn_rules.burn_alert(tier)),
        ),
        step_min=_step_min(tier),
    )


def _firing(config: Config, budget: Budget, name: str, speed: Fraction, lasts: int) -> tuple[Firing, ...]:
    # As of the last evaluation.
    lasts = (lasts - MINUTE) // EVALUATED_S * EVALUATED_S
    return tuple(
        _burn(config, budget, tier, speed * min(lasts, tier.long_s))
        for tier in budget_burn_rules.tiers(budget)
        if budget_burn_rules.burn_alert(tier) == name
        and speed > _speed(tier)
        and speed * min(lasts, tier.long_s) > tier.share
    )


def _burn(config: Config, budget: Budget, tier: Tier, share: Fraction) -> Firing:
    spent = f"{float(share * budget_rules.limit_of(budget)):.2f}"
    name, severity = budget_burn_rules.burn_alert(tier), budget_burn_rules.severity(budget, tier)
    own = budget_burn_rules.labels_of(config, budget, name, severity, burn=tier.name)
    return Firing(
        {**own, **_labels(budget)}, budget_burn_rules.burn_words(config, budget, tier, whose=_WHOSE, spent=spent)
    )


def _too_slow(config: Config, budget: Budget, tier: Tier) -> Case:
    speed, lasts, burst = _speed(tier) * Fraction(7, 10), tier.long_s + _LONG, tier.short_s + EVALUATED_S
    return Case(
        f"{budget.name} is spent a little more slowly than {tier.name}, then for a moment faster",
        _series(
            budget,
            (speed, lasts),
            (_speed(tier) * Fraction(15, 10), burst),
            used=Fraction(1, 2),
            step_min=_step_min(tier),
        ),
        (
            *(Check(lasts - MINUTE, name, _firing(config, budget, name, speed, lasts)) for name in _BURN),
            Check(lasts + burst - MINUTE, budget_burn_rules.burn_alert(tier)),
        ),
        step_min=_step_min(tier),
    )


def _slower_again(budget: Budget, tier: Tier) -> Case:
    """The long window is still beyond the tier, the short one no more, until it is no longer told."""
    lasts = tier.long_s + _LONG
    slower = tier.short_s + budget_burn_rules.KEEP_FIRING_FOR_S[tier.severity] + 2 * EVALUATED_S
    faster = Fraction(13, 10)
    return Case(
        f"{budget.name} is spent faster than {tier.name}, then a little more slowly",
        _series(
            budget,
            (_speed(tier) * faster, lasts),
            (_speed(tier) * Fraction(8, 10), slower),
            used=Fraction(1, 2),
            step_min=_step_min(tier),
        ),
        (Check(lasts + slower - MINUTE, budget_burn_rules.burn_alert(tier)),),
        step_min=_step_min(tier),
    )


def _spent_already(budget: Budget) -> Case:
    fastest = budget_burn_rules.tiers(budget)[0]
    lasts = fastest.long_s + _LONG
    return Case(
        f"{budget.name} is spent, which another alert tells",
        _series(budget, (2 * _speed(fastest), lasts), used=Fraction(1)),
        no_alert(lasts - MINUTE, budget_burn_rules.ALERTS),
    )


def _soon(config: Config, budget: Budget) -> Iterator[Case]:
    lasts = SPEED_H * HOUR + 4 * SOON_FOR_S

    def at(hours: int) -> Fraction:
        """The speed at which half of the limit lasts so long."""
        return Fraction(1, 2) / (hours * HOUR)

    firing = Firing(
        {**budget_burn_rules.labels_of(config, budget, EXHAUSTS_SOON, "ticket"), **_labels(budget)},
        budget_burn_rules.soon_words(config, budget, whose=_WHOSE, hours="20"),
    )
    phases = (at(30), lasts), (at(20), lasts), (at(30), lasts)
    yield Case(
        f"{budget.name} lasts another 30 hours, then 20, then 30",
        _series(budget, *phases, used=Fraction(1, 2), step_min=_SLOW_STEP_MIN),
        (
            Check(10 * MINUTE, EXHAUSTS_SOON),
            Check(lasts - MINUTE, EXHAUSTS_SOON),
            Check(2 * lasts - MINUTE, EXHAUSTS_SOON, (firing,)),
            Check(3 * lasts - MINUTE, EXHAUSTS_SOON),
        ),
        step_min=_SLOW_STEP_MIN,
    )
    yield Case(
        f"{budget.name}: a moment's speed is not told",
        _series(budget, (40 * at(12), lasts), used=Fraction(1, 2)),
        (Check(5 * MINUTE, EXHAUSTS_SOON), Check(5 * MINUTE + SOON_FOR_S - MINUTE, EXHAUSTS_SOON)),
    )
    if not budget.rolling_ns:
        yield Case(
            f"{budget.name} lasts until its period ends",
            _series(budget, (at(20), lasts), used=Fraction(1, 2), ends_s=lasts + 19 * HOUR, step_min=_SLOW_STEP_MIN),
            (Check(lasts - MINUTE, EXHAUSTS_SOON),),
            step_min=_SLOW_STEP_MIN,
        )


def _series(
    budget: Budget, *phases: tuple[Fraction, int], used: Fraction, ends_s: int = 1000 * HOUR, step_min: int = 1
) -> dict[str, str]:
    """Phases are shares of the limit a second, and how many seconds; what is spent in all stays the same."""
    limit, of = budget_rules.limit_of(budget), _labels(budget)
    step_s = step_min * MINUTE
    steps = sum(seconds for _, seconds in phases) // step_s
    # Two collectors store half of it each, and read the same gauges.
    counter = growing(*((float(speed * limit * step_s / 2), seconds // step_s) for speed, seconds in phases))
    values = {
        names.BUDGET_COST: counter,
        names.BUDGET_LIMIT: staying((float(limit), steps + 1)),
        names.BUDGET_SPENT: staying((float(used * limit), steps + 1)),
        names.BUDGET_END: staying((ends_s, steps + 1)),
    }
    return {series(metric.name, **of, instance=each): text for each in _COLLECTORS for metric, text in values.items()}
