"""Unit tests of an SLO over calendar months: what begins anew with the first, in January, February and March of 1970.

promtool's time begins with 1970, and two months are long: rules are evaluated twice a day here, so that only five minutes of
each half are in a slice. Which share of them is bad is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter_alerts import slo_month, slo_rules, slo_wording, wording
from graphmeter_alerts.cases import HOUR, Case, Check, Firing, Sample, series
from graphmeter_alerts.slo_rules import EXHAUSTED, SLICE_S
from graphmeter_alerts.slo_traffic import Phase, group, traffic
from graphmeter_alerts.slo_wording import SloWords
from graphmeter_config import Config, Slo
from graphmeter_config.burn import month_plans

EVERY: Final = "12h"
_STEP: Final = 12
_DAY: Final = 24
_FEBRUARY: Final = 31 * _DAY
_MARCH: Final = (31 + 28) * _DAY
_PER_MINUTE: Final = 10
_PER_SLICE: Final = _PER_MINUTE * SLICE_S // 60


def cases(config: Config, slo: Slo) -> Iterator[Case]:
    """January ends badly, February is good, March begins badly."""
    bad_days = math.ceil(31 * (1 + slo.error_budget) / 2)
    good_minutes, bad_minutes = ((31 - bad_days) * _DAY * 60, bad_days * _DAY * 60)
    phases = (
        Phase(_PER_MINUTE, 0, good_minutes),
        Phase(0, _PER_MINUTE, bad_minutes),
        Phase(_PER_MINUTE, 0, 28 * _DAY * 60),
        Phase(0, _PER_MINUTE, 2 * _DAY * 60),
    )
    last = _FEBRUARY - _STEP
    ratio = Fraction(last - (31 - bad_days) * _DAY, last)
    yield Case(
        "a month begins anew with the first, however long the one before was",
        traffic(slo, *phases),
        (
            Check(last * HOUR, EXHAUSTED, (_exhausted(config, slo, ratio),)),
            Check(_FEBRUARY * HOUR, EXHAUSTED),
            Check((_FEBRUARY + _STEP) * HOUR, EXHAUSTED),
            # A budget that is spent within its first day is not told of as spent until that is over.
            Check((_MARCH + _DAY) * HOUR, EXHAUSTED),
            Check((_MARCH + _DAY + _STEP) * HOUR, EXHAUSTED, (_exhausted(config, slo, Fraction(1)),)),
        ),
        (
            *_events(slo, last, last),
            *_events(slo, _FEBRUARY, 0),
            *_events(slo, _FEBRUARY + _STEP, _STEP),
            # 31 days back from here lies January.
            *_events(slo, _MARCH - _STEP, _MARCH - _STEP - _FEBRUARY),
            *_events(slo, _MARCH, 0),
            *_events(slo, _MARCH + 2 * _STEP, 2 * _STEP),
            *_thresholds(slo, last, 31),
            *_thresholds(slo, _MARCH - _STEP, 28),
            *_thresholds(slo, _MARCH, 31),
        ),
    )


def _exhausted(config: Config, slo: Slo, ratio: Fraction) -> Firing:
    remaining = wording.percentage(1 - ratio / slo.error_budget)
    words = slo_wording.error_budget_exhausted(config, EXHAUSTED, SloWords(slo, group(slo)), remaining=remaining)
    return Firing({**slo_rules.labels_of(slo, "ticket"), **group(slo)}, words)


def _events(slo: Slo, at_h: int, since_h: int) -> Iterator[Sample]:
    """Events of so many hours, since the first of the month; 0: there is no sample yet."""
    recorded = series(f"slo:events:increase{slo.window_suffix}", **group(slo), slo=slo.name)
    yield Sample(at_h * HOUR, recorded, {recorded: since_h // _STEP * _PER_SLICE} if since_h else {})


def _thresholds(slo: Slo, at_h: int, days: int) -> Iterator[Sample]:
    """Where tiers begin in a month of so many days; as a comparison, since floats are rounded in another order."""
    for tier in month_plans(slo.error_budget)[days].tiers:
        recorded = series(slo_month.THRESHOLD, burn=tier.name, slo=slo.name)
        near = f"abs({recorded} / {wording.number(tier.threshold)} - 1) < bool 1e-9"
        yield Sample(at_h * HOUR, near, {series("", burn=tier.name, slo=slo.name): 1})
