"""Unit tests of plain thresholds: each limit fires for whom it holds, beside others that do well, and resolves.

And what must not fire: a value just within the limit, too few events, whoever has a limit of their own or none, and what
is not selected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import threshold_rules, threshold_wording, wording
from graphmeter_alerts.cases import MINUTE, Case, Check, Firing, series, staying
from graphmeter_alerts.threshold_rules import ALERT_OF
from graphmeter_alerts.threshold_traffic import COLLECTORS, Phase, identity, matching, quantile, traffic
from graphmeter_config import Config
from graphmeter_config.threshold import Limit, Threshold

EVALUATED_S: Final = 5 * MINUTE
"""promtool looks at these rules so often."""
_AFTER: Final = 10
"""Minutes beyond the window and the wait, after which everything is as it will be."""


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of all thresholds."""
    for name, threshold in threshold_rules.wanted(config):
        yield from _of(config, name, threshold)


def _of(config: Config, name: str, threshold: Threshold) -> Iterator[Case]:
    for limit in threshold.limits:
        of = identity(threshold, limit)
        if of is not None:
            yield _crossed(config, name, threshold, limit, of)
            if threshold.guard:
                yield _too_few(name, threshold, limit, of)
            if threshold.for_s:
                yield _too_soon(name, threshold, limit, of)
    limit = threshold.limits[-1]
    of = identity(threshold, limit)
    if of is None:
        return
    for field in threshold.select.restricting():
        other: dict[str, str] = {**of, field: "not/selected"}
        yield _silent(f"{ALERT_OF[name]}: another {field} is none of its business", name, threshold, limit, other)
    for select in {select.model_dump_json(): select for select in limit.instead_of}.values():
        chosen = {**of, **{field: matching(globs)[0] for field, globs in select.restricting().items()}}
        if not any(_holds(threshold, each, chosen) for each in threshold.limits):
            said = ", ".join(f"{field} {chosen[field]}" for field in select.restricting())
            yield _silent(f"{ALERT_OF[name]}: disabled for {said}", name, threshold, limit, chosen)
    if name == "run_duration":
        yield _still_running(config, name, threshold, limit, of)


def _holds(threshold: Threshold, limit: Limit, of: Mapping[str, str]) -> bool:
    return (limit.select is None or limit.select.matches(of)) and not any(
        other.matches(of) for other in limit.instead_of
    )


def _minutes(threshold: Threshold) -> int:
    """How long a phase lasts."""
    return round((threshold.window + 2 * (threshold.for_s or 0)) / MINUTE) + _AFTER


def _enough(threshold: Threshold) -> Fraction:
    """Events a minute that are just enough; where they are not needed there are some all the same."""
    window = Fraction(threshold.window) / MINUTE or Fraction(1)
    return (threshold.guard * Fraction(5, 4) if threshold.guard else Fraction(300)) / window


def _rounded(value: Fraction) -> Fraction:
    """As many digits as alerts show, so that their text does not depend on how a float rounds."""
    return Fraction(f"{float(value):.4g}")


def _well(threshold: Threshold, limit: Limit) -> Fraction:
    """A value just within the limit."""
    if threshold.unit == "count":
        return Fraction(0) if threshold.bounds else limit.value
    if threshold.most and not _gauge(threshold):
        # In the bucket that ends at the limit, or below it.
        return max(Fraction(repr(each)) for each in threshold.metrics[0].buckets if each <= float(limit.value))
    if threshold.compares == "below":
        return _rounded(min(limit.value * Fraction(12, 10), (1 + limit.value) / 2))
    return _rounded(limit.value * Fraction(9, 10))


def _bad(threshold: Threshold, limit: Limit) -> Fraction:
    """A value beyond it."""
    if threshold.unit == "count":
        return Fraction(3) if threshold.bounds else limit.value + 1
    if threshold.most and not _gauge(threshold):
        bounds = [Fraction(repr(each)) for each in threshold.metrics[0].buckets]
        # Above them all where no bucket is far enough.
        return next((each for each in bounds if quantile(threshold, each) > limit.value), 2 * bounds[-1])
    if threshold.compares == "below":
        return _rounded(limit.value * Fraction(3, 4))
    if threshold.unit == "share":
        return _rounded(min(limit.value * Fraction(12, 10), (1 + limit.value) / 2))
    if threshold.unit == "usd" and not threshold_rules.of_single_runs(threshold):
        # Whole cents, as it is told.
        return Fraction(math.floor(limit.value * 140) + 1, 100)
    return _rounded(limit.value * Fraction(7, 5))


def _gauge(threshold: Threshold) -> bool:
    return all(metric.type == "gauge" for metric in threshold.metrics)


def _text(threshold: Threshold, value: Fraction) -> str:
    """How an alert shows a value."""
    if threshold.unit == "share":
        return wording.percentage(value)
    if threshold.unit == "seconds":
        return wording.duration(value if _gauge(threshold) else quantile(threshold, value))
    if threshold.unit == "usd":
        return f"{float(value):.4g}" if threshold_rules.of_single_runs(threshold) else f"{float(value):.2f}"
    return f"{float(value):.0f}"


def _firing(config: Config, name: str, threshold: Threshold, limit: Limit, of: Mapping[str, str], shown: str) -> Firing:
    group: dict[str, str] = {each: of[each] for each in threshold.per}
    words = threshold_wording.Words(threshold, limit, group)
    told = threshold_wording.exceeded(config, ALERT_OF[name], name, words, value=shown)
    return Firing({**threshold_rules.labels_of(limit), **group}, told)


def _crossed(config: Config, name: str, threshold: Threshold, limit: Limit, of: dict[str, str]) -> Case:
    """Just within the limit, then beyond, then within again; what differs in what is judged by itself does well."""
    minutes, events = _minutes(threshold), _enough(threshold)
    well, bad = _well(threshold, limit), _bad(threshold, limit)
    found = traffic(
        name,
        threshold,
        limit,
        of,
        Phase(well, events, minutes),
        Phase(bad, events, minutes),
        Phase(well, events, minutes),
    )
    for field in threshold.per:
        other = {**of, field: of[field] + "-other"}
        found |= traffic(name, threshold, limit, other, Phase(_best(threshold), 50 * events, 3 * minutes))
    alert = ALERT_OF[name]
    firing = _firing(config, name, threshold, limit, of, _text(threshold, bad))
    return Case(
        f"{alert}: {limit.text}{_whose(limit)} is exceeded, and resolves",
        found,
        (
            Check((minutes - 1) * MINUTE, alert),
            Check((2 * minutes - 1) * MINUTE, alert, (firing,)),
            Check((3 * minutes - 1) * MINUTE, alert),
        ),
    )


def _best(threshold: Threshold) -> Fraction:
    """A value that no limit is exceeded by."""
    if threshold.compares == "below":
        return Fraction(99, 100)
    if threshold.most and not _gauge(threshold):
        return Fraction(repr(threshold.metrics[0].buckets[0]))
    # Waste is a part of what is spent, and there is some.
    return min(limit.value for limit in threshold.limits) / 1000 if threshold.unit == "share" else Fraction(0)


def _too_few(name: str, threshold: Threshold, limit: Limit, of: dict[str, str]) -> Case:
    minutes = 2 * _minutes(threshold)
    events = threshold.guard * Fraction(9, 10) / (Fraction(threshold.window) / MINUTE)
    return Case(
        f"{ALERT_OF[name]}{_whose(limit)}: too few to judge by",
        traffic(name, threshold, limit, of, Phase(_bad(threshold, limit), events, minutes)),
        tuple(Check(at * MINUTE, ALERT_OF[name]) for at in (minutes // 2, minutes - 1)),
    )


def _too_soon(name: str, threshold: Threshold, limit: Limit, of: dict[str, str]) -> Case:
    """Far beyond the limit from the first minute: when it is looked at first, nobody has waited yet."""
    # Sums grow with time.
    value = _bad(threshold, limit) * (100 if threshold.unit in ("usd", "count") and not threshold.most else 1)
    bad = Phase(value, 100 * _enough(threshold), 2 * EVALUATED_S // MINUTE)
    return Case(
        f"{ALERT_OF[name]}{_whose(limit)}: not told at once",
        traffic(name, threshold, limit, of, bad),
        (Check(0 if _gauge(threshold) else EVALUATED_S, ALERT_OF[name]),),
    )


def _whose(limit: Limit) -> str:
    return "" if limit.select is None else f" for {limit.whose}"


def _silent(title: str, name: str, threshold: Threshold, limit: Limit, of: dict[str, str]) -> Case:
    minutes = _minutes(threshold)
    bad = Phase(_bad(threshold, limit), _enough(threshold), minutes)
    return Case(title, traffic(name, threshold, limit, of, bad), (Check((minutes - 1) * MINUTE, ALERT_OF[name]),))


def _still_running(config: Config, name: str, threshold: Threshold, limit: Limit, of: dict[str, str]) -> Case:
    minutes, limit_s = _minutes(threshold), float(limit.value)
    labels = {label: of[label] for label in names.RUN_OLDEST.labels}
    age = staying((limit_s / 2, minutes), (limit_s + 60, minutes), (0, minutes))
    found = {series(names.RUN_OLDEST.name, **labels, instance=each): age for each in COLLECTORS}
    firing = _firing(config, name, threshold, limit, of, "1")
    quiet = Phase(Fraction(0), _enough(threshold), 3 * minutes)
    checks = (
        Check((minutes - 1) * MINUTE, ALERT_OF[name]),
        Check((2 * minutes - 1) * MINUTE, ALERT_OF[name], (firing,)),
        Check((3 * minutes - 1) * MINUTE, ALERT_OF[name]),
    )
    return Case(
        f"{ALERT_OF[name]}: a run that has not ended counts once, whatever else ended",
        found | traffic(name, threshold, limit, of, quiet),
        checks,
    )
