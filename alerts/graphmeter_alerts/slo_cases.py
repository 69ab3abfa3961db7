"""Unit tests of one SLO's rules: every alert fires, does not fire for less, and resolves.

promtool evaluates all groups at one interval whatever they say themselves; it is that of the slices, so that each event
is in one slice. Times of checks are therefore multiples of five minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import slo_rules, wording
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, Sample, growing, no_alert, series
from graphmeter_alerts.rules import alert_labels
from graphmeter_alerts.slo_rules import ABSENT, ALERTS, BURN_FAST, BURN_SLOW, EXHAUSTED, SLICE_S
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Tier
from graphmeter_config.section import FIELDS
from graphmeter_config.values import duration_text

_BURN: Final = (BURN_FAST, BURN_SLOW)
_BAD_FOR_S: Final = 4 * HOUR
"""Longer than any alert waits."""
_HARDLY: Final = 1e-5
_ALL_CLEAR_S: Final = _BAD_FOR_S + 6 * HOUR + HOUR + 3 * SLICE_S
"""After the bad time: the longest short window, the longest keep_firing_for, and a few evaluations."""


def cases(config: Config, slo: Slo) -> Iterator[Case]:
    """Every unit test of an SLO's rules."""
    tiers = slo_rules.burn_plan(slo).tiers
    for tier in tiers:
        yield _burns(config, slo, tier)
    yield _below_every_tier(slo, tiers[-1])
    if slo.min_bad_events > 1:
        yield _too_few_bad_runs(slo)
    yield _neither_good_nor_bad(slo)
    yield _quiet(slo)
    yield _gone_quiet(slo)
    yield _replayed(slo)
    yield from _other_runs(slo)
    yield _exhausted(config, slo)
    yield _absent(config, slo)


def _replayed(slo: Slo) -> Case:
    # Half of what the objective allows: a burst of it must look like nothing else.
    good, bad = _per_minute(slo, Fraction(slo.error_budget) / 2)
    hour, outage, catching_up = 60, 10, 5
    # What waited comes on top of what runs meanwhile.
    faster = 1 + outage // catching_up

    def counted(per_minute: float) -> str:
        return growing((per_minute, hour), (0, outage), (faster * per_minute, catching_up), (per_minute, hour))

    moments = range(hour, hour + outage + catching_up + 35, SLICE_S // MINUTE)
    return Case(
        f"{outage} minutes without a database, and their replay in {catching_up}, are no alert",
        {
            _runs(slo, names.OK): counted(good),
            _runs(slo, names.ERROR): counted(bad),
        },
        tuple(check for minute in moments for check in no_alert(minute * MINUTE, ALERTS)),
    )


def _example(glob: str) -> str:
    """A value that the glob matches, and few others would."""
    return glob.replace("*", "example").replace("?", "x")


def _identity(slo: Slo) -> dict[str, str]:
    return {field: _example(getattr(slo.select, field)[0]) for field in FIELDS}


def _runs(slo: Slo, status: str, **other: str) -> str:
    return series(names.RUNS.name, **{**_identity(slo), **other, "status": status})


def _graph(slo: Slo) -> str:
    return _identity(slo)["graph"]


def _per_minute(slo: Slo, ratio: Fraction) -> tuple[float, float]:
    """Good and bad runs a minute with this share of bad ones, and enough of them to matter at once."""
    bad = Fraction(slo.min_bad_events)
    return float(bad * (1 - ratio) / ratio), float(bad)


def _rounded(ratio: Fraction) -> Fraction:
    """As many digits as alerts show, so that their text does not depend on how a float rounds."""
    return Fraction(f"{float(ratio):.4g}")


def _firing(config: Config, slo: Slo, ratio: Fraction, alert: str, over_s: int = 0) -> tuple[Firing, ...]:
    """What a steady error ratio makes fire once everybody has waited long enough, or still so long after its end."""
    tiers = [tier for tier in slo_rules.burn_plan(slo).tiers if slo_rules.burn_alert(tier) == alert]
    return tuple(
        _burn(config, slo, tier, ratio) for tier in tiers if tier.crossed(ratio, ratio) and tier.short_s > over_s
    )


def _burn(config: Config, slo: Slo, tier: Tier, ratio: Fraction) -> Firing:
    graph, name = _graph(slo), slo_rules.burn_alert(tier)
    return Firing(
        {**alert_labels(tier.severity, slo=slo.name, burn=tier.name), "graph": graph},
        wording.error_budget_burn(config, name, slo, tier, graph=graph, ratio=wording.percentage(ratio)),
    )


def _burns(config: Config, slo: Slo, tier: Tier) -> Case:
    above = [other.threshold for other in slo_rules.burn_plan(slo).tiers if other.threshold > tier.threshold]
    ratio = _rounded((tier.threshold + min(above, default=Fraction(1))) / 2)
    good, bad = _per_minute(slo, ratio)
    before, after = _BAD_FOR_S // MINUTE, _ALL_CLEAR_S // MINUTE
    failed = f"{wording.percentage(ratio)} bad runs"
    # Afterwards hardly anything runs: long windows stay as bad as they were, so it is the short one that resolves.
    good_after = good * _HARDLY
    over_s = tier.short_s + slo_rules.keep_firing_for_s(tier) + SLICE_S
    return Case(
        f"{tier.name} fires at {failed}, with what is slower and without what is faster; then it resolves",
        {
            _runs(slo, names.OK): growing((good, before), (good_after, after - before)),
            # Two kinds of bad: both have to count.
            _runs(slo, names.ERROR): growing((bad / 2, before), (0, after - before)),
            _runs(slo, names.LOST): growing((bad / 2, before), (0, after - before)),
        },
        (
            *(Check(_BAD_FOR_S - SLICE_S, name, _firing(config, slo, ratio, name)) for name in _BURN),
            Check(_BAD_FOR_S + over_s, own := slo_rules.burn_alert(tier), _firing(config, slo, ratio, own, over_s)),
            *no_alert(_ALL_CLEAR_S, _BURN),
        ),
    )


def _below_every_tier(slo: Slo, slowest: Tier) -> Case:
    ratio = _rounded(slowest.threshold * Fraction(9, 10))
    good, bad = _per_minute(slo, ratio)
    minutes = _BAD_FOR_S // MINUTE
    return Case(
        f"{wording.percentage(ratio)} bad runs burn too slowly for any alert",
        {_runs(slo, names.OK): growing((good, minutes)), _runs(slo, names.ERROR): growing((bad, minutes))},
        no_alert(_BAD_FOR_S - SLICE_S, _BURN),
    )


def _too_few_bad_runs(slo: Slo) -> Case:
    # `increase` extrapolates by a few percent, so a large minimum is missed by more than one.
    count = max(1, min(slo.min_bad_events - 1, slo.min_bad_events * 9 // 10))
    return Case(
        f"{count} bad runs of {count} are too few for an alert",
        {_runs(slo, names.ERROR): f"0+0x10 {count}+0x{_BAD_FOR_S // MINUTE}"},
        tuple(check for at in (20, 60, 235) for check in no_alert(at * MINUTE, (*_BURN, EXHAUSTED))),
    )


def _neither_good_nor_bad(slo: Slo) -> Case:
    minutes = _BAD_FOR_S // MINUTE
    recorded = series("slo:events:increase1h", graph=_graph(slo), slo=slo.name)
    return Case(
        "interrupted and cancelled runs are neither good nor bad",
        {
            _runs(slo, names.OK): growing((10, minutes)),
            _runs(slo, names.INTERRUPTED): growing((1000, minutes)),
            _runs(slo, names.CANCELLED): growing((1000, minutes)),
        },
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        (Sample(2 * HOUR, recorded, {recorded: 600}),),
    )


def _quiet(slo: Slo) -> Case:
    ratios = '{__name__=~"slo:sli_error:ratio_rate.*|slo:period_error.*|slo:burn_rate.*"}'
    return Case(
        "without runs there is no ratio, no NaN and no alert",
        {_runs(slo, names.OK): f"7+0x{_BAD_FOR_S // MINUTE}"},
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        (Sample(2 * HOUR, ratios, {}),),
    )


def _gone_quiet(slo: Slo) -> Case:
    return Case(
        "a graph that ran and went quiet is not missing",
        {_runs(slo, names.OK): growing((10, 60), (0, 180))},
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
    )


def _other_runs(slo: Slo) -> Iterator[Case]:
    restricted = slo.select.restricting()
    if restricted:
        field = next(iter(restricted))
        yield Case(
            f"runs of another {field} are none of its business",
            {_runs(slo, names.ERROR, **{field: "not/selected"}): growing((100, _BAD_FOR_S // MINUTE))},
            no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        )


def _exhausted(config: Config, slo: Slo) -> Case:
    budget, graph = slo.error_budget, _graph(slo)
    ratio = _rounded(min(2 * budget, (1 + budget) / 2))
    good, bad = _per_minute(slo, ratio)
    # As many good runs in the second hour as make the bad ones of the first half of what may be bad.
    many_good = bad * float(2 / budget)
    remaining = wording.percentage(1 - ratio / budget)
    annotations = wording.error_budget_exhausted(config, EXHAUSTED, slo, graph=graph, remaining=remaining)
    period = duration_text(slo.window_s)
    return Case(
        f"the error budget of {period} is spent, and comes back with good runs",
        {
            _runs(slo, names.OK): growing((good, 60), (many_good, 70)),
            _runs(slo, names.ERROR): growing((bad, 60), (0, 70)),
        },
        (
            Check(5 * MINUTE, EXHAUSTED),
            Check(HOUR, EXHAUSTED, (Firing({**alert_labels("ticket", slo=slo.name), "graph": graph}, annotations),)),
            Check(2 * HOUR + 10 * MINUTE, EXHAUSTED),
        ),
    )


def _absent(config: Config, slo: Slo) -> Case:
    graph = _graph(slo)
    gone_s, wait_s = 2 * HOUR, SLICE_S + slo_rules.absent_for_s(slo)
    told_s = gone_s + -(-wait_s // SLICE_S) * SLICE_S + SLICE_S
    back_s = told_s + 2 * SLICE_S
    gone, back = gone_s // MINUTE, back_s // MINUTE
    annotations = wording.slo_metric_absent(config, ABSENT, slo, graph=graph, events=str(gone * 10))
    firing = Firing({**alert_labels("ticket", slo=slo.name, job=slo_rules.JOB), "graph": graph}, annotations)
    return Case(
        "metrics of a graph that ran are gone, and come back",
        {_runs(slo, names.OK): f"0+10x{gone} _x{back - gone - 1} {gone * 10}+10x60"},
        (
            Check(gone_s, ABSENT),
            Check(gone_s + SLICE_S, ABSENT),
            Check(told_s, ABSENT, (firing,)),
            Check(back_s + 2 * SLICE_S, ABSENT),
        ),
    )
