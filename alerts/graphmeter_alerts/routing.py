"""Routes of Alertmanager as values: matchers in, their YAML out, and which receiver an alert reaches by them.

One flat list, first match decides: no route of ours has routes below it or continues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graphmeter_alerts.rules import quoted


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a label that an alert lacks is empty."""

    label: str
    value: str
    """With `=~` a regular expression for the whole value."""
    how: Literal["=", "!=", "=~"] = "="

    @property
    def text(self) -> str:
        """As Alertmanager's configuration has it."""
        return f"{self.label}{self.how}{quoted(self.value)}"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is meant."""
        value = labels.get(self.label, "")
        if self.how == "=~":
            return re.fullmatch(self.value, value) is not None
        return (value == self.value) == (self.how == "=")


@dataclass(frozen=True, slots=True)
class Route:
    """Alerts that match everything go to this receiver."""

    matchers: tuple[Matcher, ...]
    receiver: str
    timing: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As Alertmanager's configuration has it."""
        return {"matchers": [each.text for each in self.matchers], "receiver": self.receiver, **self.timing}


def reached(routes: Iterable[Route], labels: Mapping[str, str], otherwise: str) -> str:
    """The receiver of the first route that matches."""
    for route in routes:
        if all(matcher.matches(labels) for matcher in route.matchers):
            return route.receiver
    return otherwise
