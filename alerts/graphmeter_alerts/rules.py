"""Prometheus rules as values: records, alerts and groups in, YAML that promtool 2.42 and newer accept out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from graphmeter_config.values import duration_text

PRODUCT: Final = "graphmeter"


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As rule files have it."""
        return {"record": self.name, "expr": self.expr, **({"labels": dict(self.labels)} if self.labels else {})}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    for_s: int = 0
    """How long the expression has to hold before the alert fires."""
    keep_firing_for_s: int = 0
    """How long it keeps firing afterwards, so that a signal that flaps is one alert."""

    def plain(self) -> dict[str, Any]:
        """As rule files have it."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr}
        if self.for_s:
            rule["for"] = duration_text(self.for_s)
        if self.keep_firing_for_s:
            rule["keep_firing_for"] = duration_text(self.keep_firing_for_s)
        return {**rule, "labels": dict(self.labels), "annotations": dict(self.annotations)}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates in this order; groups run side by side."""

    name: str
    interval_s: int
    rules: tuple[Record | Alert, ...]

    def plain(self) -> dict[str, Any]:
        """As rule files have it."""
        rules = [rule.plain() for rule in self.rules]
        return {"name": self.name, "interval": duration_text(self.interval_s), "rules": rules}


def alert_labels(severity: str, **labels: str) -> dict[str, str]:
    """Labels every alert has, and those of its own."""
    return {"severity": severity, "product": PRODUCT, **labels}


def matchers(**labels: str) -> str:
    """Labels that have to be equal, as PromQL: `{slo="x"}`."""
    return "{" + ",".join(f"{name}={quoted(value)}" for name, value in labels.items()) + "}"


def quoted(text: str) -> str:
    """A PromQL string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: blocks for several lines, lists indented, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Keys in their own order, lines unbroken."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def rule_file(groups: Sequence[Group]) -> str:
    """YAML of a rule file."""
    return to_yaml({"groups": [group.plain() for group in groups]})
