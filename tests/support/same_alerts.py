"""A configuration and a traffic in, whether `rules simulate` and promtool tell the same of it out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from graphmeter_alerts import build
from graphmeter_alerts.rules import matchers
from graphmeter_alerts.simulate import simulate
from graphmeter_alerts.would import Would
from graphmeter_cli import stored
from graphmeter_collector.store.read import open_reader
from graphmeter_config import Config
from support import promtool
from support.records import SECOND

OFF: Final = 1
"""Evaluations that a counter may lag behind what is stored: a new one shows zero first."""


class Story(NamedTuple):
    """What is judged, from when on, and how often."""

    config: Config
    kinds: frozenset[str]
    """Alerts that are compared."""
    begins_ns: int
    step_s: int
    steps: int

    async def simulated(self, url: str) -> list[Would]:
        """What is told of a database."""
        until_ns = self.begins_ns + self.steps * self.step_s * SECOND
        async with open_reader(url) as reader:
            found = await stored.read(reader, self.config, self.begins_ns, until_ns)
        told = simulate(self.config, found, self.begins_ns, until_ns)
        return [one for one in told if one.alert in self.kinds]

    def judged(self, found: Sequence[Would], values: Mapping[str, Sequence[str]], folder: Path) -> promtool.Result:
        """Whether the generated rules fire so, on series with a value for each step."""
        rules = {
            name: text
            for name, text in build(self.config).items()
            if ".rules." in name and any(kind in text for kind in self.kinds)
        }
        for name, text in rules.items():
            (folder / name).write_text(text)
        test = {
            "rule_files": sorted(rules),
            "evaluation_interval": f"{self.step_s}s",
            "tests": [
                {
                    "interval": f"{self.step_s}s",
                    "input_series": [{"series": name, "values": " ".join(each)} for name, each in values.items()],
                    "promql_expr_test": list(self._checks(found)),
                }
            ],
        }
        path = folder / "same.test.yml"
        path.write_text(json.dumps(test))  # JSON is YAML
        return promtool.test_rules(path)

    def _checks(self, found: Iterable[Would]) -> Iterable[dict[str, Any]]:
        """Each alert fires then, and no other does."""
        window, told = f"[{(self.steps + 1) * self.step_s}s]", set[str]()
        for one in found:
            ends = self.steps + 1 if one.until_ns is None else self._step(one.until_ns)
            begins, firing = self._step(one.since_ns), "ALERTS" + matchers(alertstate="firing", **_labels(one))
            # Once each: else times would have to be told apart.
            assert firing not in told
            told.add(firing)
            for at, expected in ((begins - OFF - 1, 0), (begins + OFF, 1), (ends - OFF - 1, 1), (ends + OFF, 0)):
                if begins <= at < ends or (not expected and 0 <= at <= self.steps):
                    yield self._check(f"count({firing}) or vector(0)", at, expected)
            within = OFF + (ends <= self.steps)
            length = f"count_over_time({firing}{window})"
            yield self._check(f"abs({length} - {ends - begins}) <= bool {within}", self.steps, 1)
        any_of = f'ALERTS{{alertname=~"{"|".join(sorted(self.kinds))}",alertstate="firing"}}'
        yield self._check(f"count(count_over_time({any_of}{window}))", self.steps, len(told))

    def _step(self, at_ns: int) -> int:
        return (at_ns - self.begins_ns) // (self.step_s * SECOND)

    def _check(self, expr: str, at: int, expected: int) -> dict[str, Any]:
        samples = [{"labels": "{}", "value": expected}]
        return {"expr": f"sum({expr})", "eval_time": f"{at * self.step_s}s", "exp_samples": samples}


def _labels(one: Would) -> dict[str, str]:
    """What tells an alert from others in Prometheus."""
    said = dict(each.split("=", 1) for each in one.about.split(", "))
    if "budget" in said:
        said["scope"] = said.pop("graph")
    return {"alertname": one.alert, "severity": one.severity, **said}
