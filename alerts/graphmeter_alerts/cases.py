"""promtool unit tests as values: what series do, which alerts must then fire, with which words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from graphmeter_alerts.rules import Group, matchers, to_yaml

MINUTE: Final = 60
HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert as it has to look."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """As test files have it."""
        return {"exp_labels": dict(self.labels), "exp_annotations": dict(self.annotations)}


@dataclass(frozen=True, slots=True)
class Check:
    """At a time: exactly these alerts of a name fire."""

    at_s: int
    alert: str
    firing: tuple[Firing, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As test files have it."""
        expected = [firing.plain() for firing in self.firing]
        return {"eval_time": f"{self.at_s // MINUTE}m", "alertname": self.alert, "exp_alerts": expected}


@dataclass(frozen=True, slots=True)
class Sample:
    """At a time: an expression gives exactly these series."""

    at_s: int
    expr: str
    values: Mapping[str, float]
    """Series → value; empty: no sample at all."""

    def plain(self) -> dict[str, Any]:
        """As test files have it."""
        samples = [{"labels": series, "value": value} for series, value in self.values.items()]
        return {"expr": self.expr, "eval_time": f"{self.at_s // MINUTE}m", "exp_samples": samples}


@dataclass(frozen=True, slots=True)
class Case:
    """Series with one value a minute, and what follows from them."""

    name: str
    series: Mapping[str, str]
    checks: tuple[Check, ...]
    samples: tuple[Sample, ...] = field(default=())
    step_min: int = 1
    """Minutes from one value to the next; phases of series count such steps."""

    def plain(self) -> dict[str, Any]:
        """As test files have it."""
        series = [{"series": name, "values": values} for name, values in self.series.items()]
        case: dict[str, Any] = {"name": self.name, "interval": f"{self.step_min}m", "input_series": series}
        if self.checks:
            case["alert_rule_test"] = [check.plain() for check in self.checks]
        if self.samples:
            case["promql_expr_test"] = [sample.plain() for sample in self.samples]
        return case


def no_alert(at_s: int, alerts: Iterable[str]) -> tuple[Check, ...]:
    """None of these alerts fires."""
    return tuple(Check(at_s, alert) for alert in alerts)


def series(metric: str, **labels: str) -> str:
    """One series as test files name it."""
    return metric + matchers(**labels)


def growing(*phases: tuple[float, int]) -> str:
    """A counter from 0 that grows by so much a minute for so many minutes, phase after phase."""
    value = 0.0
    parts: list[str] = []
    for per_minute, minutes in phases:
        # The first sample of each phase repeats the last of the one before, a minute later; only the first may start at 0.
        first = value if not parts else value + per_minute
        parts.append(f"{_text(first)}+{_text(per_minute)}x{minutes if not parts else minutes - 1}")
        value += per_minute * minutes
    return " ".join(parts)


def staying(*phases: tuple[float | None, int]) -> str:
    """A gauge that has a value for so many minutes, phase after phase; None: no sample."""
    return " ".join(f"_x{minutes}" if value is None else f"{_text(value)}+0x{minutes - 1}" for value, minutes in phases)


def _text(value: float) -> str:
    # Without an exponent: promtool reads `1e-05` as a series that falls.
    return format(Decimal(repr(float(value))), "f").removesuffix(".0")


def unit_test_file(rule_file: str, groups: Sequence[Group], evaluate_every: str, cases: Sequence[Case]) -> str:
    """YAML of a promtool unit test file beside its rule file."""
    return to_yaml(
        {
            "rule_files": [rule_file],
            "evaluation_interval": evaluate_every,
            # Without this, promtool evaluates the groups of one moment in any order.
            "group_eval_order": [group.name for group in groups],
            "tests": [case.plain() for case in cases],
        }
    )
