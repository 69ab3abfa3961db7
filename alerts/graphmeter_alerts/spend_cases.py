"""Unit tests of the rule about spend that nobody owns: much of much fires; little of much, and all of little, do not."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.cases import HOUR, MINUTE, Case, Check, Firing, series
from graphmeter_alerts.rules import alert_labels
from graphmeter_alerts.spend_rules import FOR_S, UNATTRIBUTED
from graphmeter_alerts.wording import number
from graphmeter_config import Config

_MINUTES: Final = 180


def cases(config: Config) -> Iterator[Case]:
    """Every unit test of the rule."""
    wanted = config.alerting.unattributed
    if wanted is None:
        return
    limit, enough = Fraction(wanted.share), Fraction(wanted.at_least_usd)
    over, under = min(limit * Fraction(6, 5), (1 + limit) / 2), limit * Fraction(9, 10)
    told = wording.spend_unattributed(config, UNATTRIBUTED, share=wording.percentage(over))
    firing = Firing(alert_labels("ticket"), told)
    quick, slow = enough / 60, enough / (10 * _MINUTES)
    yield Case(
        "much spend without a team is a ticket once it is enough money",
        _spent(quick, over),
        (
            # Enough after an hour; then it has to stay so for a while.
            Check(HOUR - 2 * MINUTE, UNATTRIBUTED),
            Check(HOUR + FOR_S - 5 * MINUTE, UNATTRIBUTED),
            Check(HOUR + FOR_S + 5 * MINUTE, UNATTRIBUTED, (firing,)),
        ),
    )
    yield Case(
        "a share that is accepted is none",
        _spent(quick, under),
        (Check(3 * HOUR, UNATTRIBUTED),),
    )
    yield Case("little money is none, whosever it is", _spent(slow, over), (Check(3 * HOUR, UNATTRIBUTED),))


def _spent(nobodys: Fraction, share: Fraction) -> dict[str, str]:
    """Spend a minute that names no team, and so much of others that it is this share of all; of two collectors."""
    others = nobodys * (1 - share) / share
    return {
        series(names.COST.name, team=team, instance=collector): f"0+{number(usd / 2)}x{_MINUTES}"
        for collector in ("a", "b")
        for team, usd in ((names.UNATTRIBUTED, nobodys), ("cx", others))
    }
