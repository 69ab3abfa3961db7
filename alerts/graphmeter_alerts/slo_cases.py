"""Unit tests of one SLO's rules: every alert fires, does not fire for less, and resolves.

promtool evaluates all groups at one interval whatever they say themselves; it is that of the slices, so that each event
is in one slice. Times of checks are therefore multiples of five minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter_alerts import slo_events, slo_rules, slo_wording, wording
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, Sample, growing, no_alert, series
from graphmeter_alerts.slo_rules import ABSENT, ALERTS, BURN_FAST, BURN_SLOW, EXHAUSTED, SLICE_S
from graphmeter_alerts.slo_traffic import Phase, group, neither, only_good, present, traffic
from graphmeter_alerts.slo_wording import SloWords
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Tier
from graphmeter_config.values import duration_text

_BURN: Final = (BURN_FAST, BURN_SLOW)
_BAD_FOR_S: Final = 4 * HOUR
"""Longer than any alert waits."""
_HARDLY: Final = 1e-5


def cases(config: Config, slo: Slo) -> Iterator[Case]:
    """Every unit test of an SLO's rules."""
    tiers = slo_rules.burn_plan(slo).tiers
    for tier in tiers:
        yield _burns(config, slo, tier)
    yield _below_every_tier(slo, tiers[-1])
    if slo.min_bad_events > 1:
        yield _too_few_bad_events(slo)
    if slo.kind.bad is not None:
        yield _neither_good_nor_bad(slo)
    yield _quiet(slo)
    yield _gone_quiet(slo)
    yield _replayed(slo)
    yield from _other_events(slo)
    yield from _each_by_itself(config, slo)
    if not slo.calendar:
        yield _exhausted(config, slo)
    yield _absent(config, slo)
    yield from _measured_without_events(slo)


def _replayed(slo: Slo) -> Case:
    # Half of what the objective allows: a burst of it must look like nothing else.
    good, bad = _per_minute(slo, Fraction(slo.error_budget) / 2)
    hour, outage, catching_up = 60, 10, 5
    # What waited comes on top of what happens meanwhile.
    faster = 1 + outage // catching_up
    phases = (
        Phase(good, bad, hour),
        Phase(0, 0, outage),
        Phase(faster * good, faster * bad, catching_up),
        Phase(good, bad, hour),
    )
    moments = range(hour, hour + outage + catching_up + 35, SLICE_S // MINUTE)
    return Case(
        f"{outage} minutes without a database, and their replay in {catching_up}, are no alert",
        traffic(slo, *phases),
        tuple(check for minute in moments for check in no_alert(minute * MINUTE, ALERTS)),
    )


def _all_clear_s(slo: Slo) -> int:
    """After the bad time: the longest short window with its keep_firing_for, and a few evaluations."""
    tiers = slo_rules.burn_plan(slo).tiers
    return _BAD_FOR_S + max(tier.short_s + slo_rules.keep_firing_for_s(tier) for tier in tiers) + 3 * SLICE_S


def _words(slo: Slo) -> SloWords:
    return SloWords(slo, group(slo))


def _per_minute(slo: Slo, ratio: Fraction) -> tuple[float, float]:
    """Good and bad events a minute with this share of bad ones, and enough of them to matter at once."""
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
    name = slo_rules.burn_alert(tier)
    return Firing(
        {**slo_rules.labels_of(slo, tier.severity, burn=tier.name), **group(slo)},
        slo_wording.error_budget_burn(config, name, _words(slo), tier, ratio=wording.percentage(ratio)),
    )


def _burns(config: Config, slo: Slo, tier: Tier) -> Case:
    above = [other.threshold for other in slo_rules.burn_plan(slo).tiers if other.threshold > tier.threshold]
    ratio = _rounded((tier.threshold + min(above, default=Fraction(1))) / 2)
    good, bad = _per_minute(slo, ratio)
    before, after = _BAD_FOR_S // MINUTE, _all_clear_s(slo) // MINUTE
    # Afterwards hardly anything happens: long windows stay as bad as they were, so it is the short one that resolves.
    over_s = tier.short_s + slo_rules.keep_firing_for_s(tier) + SLICE_S
    return Case(
        f"{tier.name} fires at {wording.percentage(ratio)} bad {_words(slo).noun}, with what is slower and without what is "
        "faster; then it resolves",
        traffic(slo, Phase(good, bad, before), Phase(good * _HARDLY, 0, after - before)),
        (
            *(Check(_BAD_FOR_S - SLICE_S, name, _firing(config, slo, ratio, name)) for name in _BURN),
            Check(_BAD_FOR_S + over_s, own := slo_rules.burn_alert(tier), _firing(config, slo, ratio, own, over_s)),
            *no_alert(_all_clear_s(slo), _BURN),
        ),
    )


def _below_every_tier(slo: Slo, slowest: Tier) -> Case:
    ratio = _rounded(slowest.threshold * Fraction(9, 10))
    good, bad = _per_minute(slo, ratio)
    return Case(
        f"{wording.percentage(ratio)} bad {_words(slo).noun} burn too slowly for any alert",
        traffic(slo, Phase(good, bad, _BAD_FOR_S // MINUTE)),
        no_alert(_BAD_FOR_S - SLICE_S, _BURN),
    )


def _too_few_bad_events(slo: Slo) -> Case:
    # `increase` extrapolates by a few percent, so a large minimum is missed by more than one.
    count = max(1, min(slo.min_bad_events - 1, slo.min_bad_events * 9 // 10))
    return Case(
        f"{count} bad {_words(slo).noun} of {count} are too few for an alert",
        traffic(slo, Phase(0, 0, 10), Phase(0, count, 1), Phase(0, 0, _BAD_FOR_S // MINUTE)),
        tuple(check for at in (20, 60, 235) for check in no_alert(at * MINUTE, (*_BURN, EXHAUSTED))),
    )


def _neither_good_nor_bad(slo: Slo) -> Case:
    minutes = _BAD_FOR_S // MINUTE
    recorded = series("slo:events:increase1h", **group(slo), slo=slo.name)
    return Case(
        f"{_words(slo).noun} that were not judged are neither good nor bad",
        {**traffic(slo, Phase(10, 0, minutes)), **neither(slo, growing((1000, minutes)))},
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        (Sample(2 * HOUR, recorded, {recorded: 600}),),
    )


def _quiet(slo: Slo) -> Case:
    ratios = '{__name__=~"slo:sli_error:ratio_rate.*|slo:period_error.*|slo:burn_rate.*"}'
    return Case(
        f"without {_words(slo).noun} there is no ratio, no NaN and no alert",
        only_good(slo, f"7+0x{_BAD_FOR_S // MINUTE}"),
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        (Sample(2 * HOUR, ratios, {}),),
    )


def _gone_quiet(slo: Slo) -> Case:
    return Case(
        "what happened and went quiet is not missing",
        traffic(slo, Phase(10, 0, 60), Phase(0, 0, 180)),
        no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
    )


def _other_events(slo: Slo) -> Iterator[Case]:
    for field in slo.select.restricting():
        yield Case(
            f"{_words(slo).noun} of another {field} are none of its business",
            traffic(slo, Phase(0, 100, _BAD_FOR_S // MINUTE), **{field: "not/selected"}),
            no_alert(_BAD_FOR_S - SLICE_S, ALERTS),
        )


def _each_by_itself(config: Config, slo: Slo) -> Iterator[Case]:
    """One goes wrong; what differs from it in one dimension goes well, and so much that together they would, too."""
    fastest = slo_rules.burn_plan(slo).tiers[0]
    ratio = _rounded((fastest.threshold + 1) / 2)
    good, bad = _per_minute(slo, ratio)
    minutes = _BAD_FOR_S // MINUTE
    well = Phase(float(Fraction(bad) * 10 / slo.error_budget), 0, minutes)
    apart = [name for name in slo.per if set("*?") & set(getattr(slo.select, name)[0])]
    if not apart:
        return
    found = traffic(slo, Phase(good, bad, minutes))
    for name in apart:
        other = getattr(slo.select, name)[0].replace("*", "another").replace("?", "y")
        found |= traffic(slo, well, **{name: other})
    yield Case(
        f"every {', '.join(apart)} is judged by itself",
        found,
        tuple(Check(_BAD_FOR_S - SLICE_S, name, _firing(config, slo, ratio, name)) for name in _BURN),
    )


def _exhausted(config: Config, slo: Slo) -> Case:
    budget = slo.error_budget
    ratio = _rounded(min(2 * budget, (1 + budget) / 2))
    good, bad = _per_minute(slo, ratio)
    # As many good events in the second hour as make the bad ones of the first half of what may be bad.
    many_good = bad * float(2 / budget)
    remaining = wording.percentage(1 - ratio / budget)
    annotations = slo_wording.error_budget_exhausted(config, EXHAUSTED, _words(slo), remaining=remaining)
    firing = Firing({**slo_rules.labels_of(slo, "ticket"), **group(slo)}, annotations)
    return Case(
        f"the error budget of {duration_text(slo.window_s)} is spent, and comes back with good {_words(slo).noun}",
        traffic(slo, Phase(good, bad, 60), Phase(many_good, 0, 70)),
        (
            Check(5 * MINUTE, EXHAUSTED),
            Check(HOUR, EXHAUSTED, (firing,)),
            Check(2 * HOUR + 10 * MINUTE, EXHAUSTED),
        ),
    )


def _absent(config: Config, slo: Slo) -> Case:
    gone_s, wait_s = 2 * HOUR, SLICE_S + slo_rules.absent_for_s(slo)
    told_s = gone_s + -(-wait_s // SLICE_S) * SLICE_S + SLICE_S
    back_s = told_s + 2 * SLICE_S
    gone, back = gone_s // MINUTE, back_s // MINUTE
    annotations = slo_wording.slo_metric_absent(config, ABSENT, _words(slo), events=str(gone * 10))
    firing = Firing({**slo_rules.labels_of(slo, "ticket", job=slo_rules.JOB), **group(slo)}, annotations)
    return Case(
        "metrics of what happened are gone, and come back",
        only_good(slo, f"0+10x{gone} _x{back - gone - 1} {gone * 10}+10x60"),
        (
            Check(gone_s, ABSENT),
            Check(gone_s + SLICE_S, ABSENT),
            Check(told_s, ABSENT, (firing,)),
            Check(back_s + 2 * SLICE_S, ABSENT),
        ),
    )


def _measured_without_events(slo: Slo) -> Iterator[Case]:
    instead = slo_events.instead_of(slo)
    if instead is not None:
        gone, end = 60, _BAD_FOR_S // MINUTE
        yield Case(
            f"without a single event since a collector was started anew nothing is missing: it shows {instead.name}",
            only_good(slo, f"0+10x{gone}") | present(slo, f"0+10x{end}"),
            no_alert(_BAD_FOR_S - SLICE_S, (ABSENT,)),
        )
