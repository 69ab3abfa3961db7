"""Limits of providers in, how much of them is used out, and an alert when they are near: before calls are refused."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts import slo_events, wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, matchers, quoted
from graphmeter_alerts.wording import label, links, number, percentage, variables, who
from graphmeter_config import Config
from graphmeter_config.provider_limits import ProviderLimit
from graphmeter_config.values import duration_text

NEAR: Final = "GraphmeterProviderLimitNear"
ALERTS: Final = (NEAR,)
USED: Final = "graphmeter:provider_limit_used:ratio"


class Limited(NamedTuple):
    """One limit of a provider."""

    by: ProviderLimit
    of: str
    """tokens, input_tokens, output_tokens, requests."""
    per_minute: int

    @property
    def labels(self) -> dict[str, str]:
        """That tell its records and alerts from others'."""
        return {"limit": self.by.name, "of": self.of}


def limited(by: ProviderLimit) -> list[Limited]:
    """What is limited, each by itself."""
    return [Limited(by, of, per_minute) for of, per_minute in by.limits.items()]


def groups(config: Config, by: ProviderLimit) -> list[Group]:
    """The rule group of one entry."""
    rules = [rule for one in limited(by) for rule in (_used(one), _near(config, one))]
    return [Group(f"graphmeter-provider-limit-{by.name}", 60, tuple(rules))]


def labels_of(one: Limited) -> dict[str, str]:
    """Labels that an alert has by itself."""
    return alert_labels(one.by.severity, **one.labels)


def words(config: Config, one: Limited, group: Mapping[str, str], *, used: str) -> dict[str, str]:
    """What the alert says; `group` holds what has the limit for itself, `used` is a share of it."""
    by, noun = one.by, one.of.replace("_", " ")
    whose = who(group) or "All calls together"
    of_key = f" of the key {by.key}" if by.key else ""
    return {
        "summary": f"{whose}: more than {percentage(Fraction(by.warn_at))} of the {noun} that {by.name} allows are used",
        "description": (
            f"In the last {duration_text(by.window_s)} {used} of {one.per_minute} {noun} a minute{of_key} were used in the "
            "mean. Beyond the limit the provider refuses calls. Find the graph and node that call most, and whether a batch "
            "can wait."
        ),
        **links(config, NEAR, **variables(group)),
    }


def counter(one: Limited) -> tuple[names.Metric, tuple[str, ...]]:
    """What is counted against the limit, and which kinds of tokens; none for requests."""
    return (names.LLM_CALLS, ()) if one.of == "requests" else (names.TOKENS, one.by.token_types(one.of))


def _used(one: Limited) -> Record:
    metric, types = counter(one)
    parts = [slo_events.one_of(name, globs) for name, globs in one.by.selecting().items()]
    if types and types != names.TOKEN_TYPES:
        parts.append(f"type=~{quoted('|'.join(types))}")
    minutes = Fraction(one.by.window_s) / 60
    rate = f"increase({slo_events.selector(metric.name, parts)}[{duration_text(one.by.window_s)}])"
    return Record(USED, f"sum by ({', '.join(one.by.per)}) ({rate}) / {number(minutes * one.per_minute)}", one.labels)


def _near(config: Config, one: Limited) -> Alert:
    group: dict[str, str] = {name: label(name) for name in one.by.per}
    return Alert(
        NEAR,
        f"{USED}{matchers(**one.labels)} > {number(Fraction(one.by.warn_at))}",
        labels_of(one),
        words(config, one, group, used=wording.PERCENT_VALUE),
        round(one.by.for_s or 0),
        round(one.by.window_s),
    )
