"""Spend that nobody owns in, an alert out: a bill that cannot be shown back to anybody grows unseen."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, alert_labels, matchers
from graphmeter_alerts.wording import number
from graphmeter_config import Config

UNATTRIBUTED: Final = "GraphmeterSpendUnattributed"
ALERTS: Final = (UNATTRIBUTED,)

FOR_S: Final = 900
"""A release that forgets its team is no reason to hurry; one run of a test is none at all."""


def groups(config: Config) -> list[Group]:
    """The one rule group about spend; none where nobody asks for it."""
    wanted = config.alerting.unattributed
    if wanted is None:
        return []
    spent = names.COST.name
    # Each collector counts what it stored: here they are added.
    nobodys = f"sum(increase({spent}{matchers(team=names.UNATTRIBUTED)}[1d]))"
    alert = Alert(
        UNATTRIBUTED,
        f"{nobodys} / sum(increase({spent}[1d])) > {number(Fraction(wanted.share))}\n"
        f"and\n{nobodys} >= {number(Fraction(wanted.at_least_usd))}",
        alert_labels("ticket"),
        wording.spend_unattributed(config, UNATTRIBUTED, share=wording.PERCENT_VALUE),
        FOR_S,
    )
    return [Group("graphmeter-spend", 60, (alert,))]
