"""Random traffic and errors: the generated rules, evaluated by Prometheus' own engine, decide as the formula does.

The formula stands here in plain Python, with windows, waits and keep_firing_for, and knows nothing of the code that makes
rules. Many series are judged in one run of promtool, each an event stream of a graph of its own. Prometheus 2 counts the
sample at the beginning of a window, Prometheus 3 does not: what the two would decide differently, or what lies within a
thousandth of a threshold, is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter_alerts import build
from graphmeter_alerts.slo_rules import burn_plan
from graphmeter_alerts.slo_traffic import Phase, traffic
from graphmeter_config import Config, Slo
from support import promtool

MINUTE, HOUR, DAY = 60, 3600, 86_400
GRAPHS = 16


class Tier(NamedTuple):
    """As https://sre.google/workbook/alerting-on-slos/ has it, in numbers."""

    name: str
    short_s: int
    long_s: int
    threshold: float
    for_s: int
    keep_s: int


@dataclass(frozen=True)
class Setting:
    """An SLO, how often its rules are evaluated, and the tiers that it must have."""

    slo: Slo
    step_s: int
    length_s: int
    tiers: tuple[Tier, ...]


def slo(window: str) -> Slo:
    return Slo.model_validate({"name": "runs", "objective": 99, "window": window, "min_bad_events": 5})


SETTINGS = {
    # With a window of a day all windows are read directly; the workbook's factors are below 1 there, and those of 30 d hold,
    # unless half of the budget would be gone first: 0.5 * 24 h / 1 h, 0.5 * 24 h / 6 h.
    "by the minute": Setting(
        slo("1d"),
        MINUTE,
        3 * HOUR,
        (
            Tier("page-fast", 5 * MINUTE, HOUR, 0.01 * 12, 2 * MINUTE, 5 * MINUTE),
            Tier("page-slow", 30 * MINUTE, 6 * HOUR, 0.01 * 2, 15 * MINUTE, 5 * MINUTE),
        ),
    ),
    # Long windows are added up from slices of five minutes, which promtool has to be told to evaluate that often.
    "by the slice": Setting(
        slo("30d"),
        5 * MINUTE,
        8 * HOUR,
        (
            Tier("page-fast", 5 * MINUTE, HOUR, 0.01 * 14.4, 2 * MINUTE, 5 * MINUTE),
            Tier("page-slow", 30 * MINUTE, 6 * HOUR, 0.01 * 6, 15 * MINUTE, 5 * MINUTE),
            Tier("ticket-fast", 2 * HOUR, DAY, 0.01 * 3, HOUR, HOUR),
            Tier("ticket-slow", 6 * HOUR, 3 * DAY, 0.01 * 1, 3 * HOUR, HOUR),
        ),
    ),
}

RATES = (0.0, 0.25, 1.0, 8.0, 256.0)
"""Events a minute."""
RATIOS = (0.0, 0.004, 0.009, 0.011, 0.019, 0.021, 0.029, 0.031, 0.055, 0.065, 0.11, 0.13, 0.14, 0.15, 0.5, 1.0)
"""Of bad ones: around each threshold."""
streams = st.lists(
    st.lists(
        st.tuples(st.sampled_from((2, 5, 12, 30, 60, 120)), st.sampled_from(RATES), st.sampled_from(RATIOS)),
        min_size=1,
        max_size=6,
    ),
    min_size=GRAPHS,
    max_size=GRAPHS,
)


def phases_of(drawn: Sequence[tuple[int, float, float]], length_s: int) -> list[Phase]:
    """The drawn phases again and again, until the time is over."""
    found: list[Phase] = []
    left = length_s // MINUTE
    while left:
        for minutes, rate, ratio in drawn:
            took = min(minutes, left)
            left -= took
            if took:
                # Without rounding: a counter that loses its last digit between two phases would count as started anew.
                bad = round(rate * ratio * 1024) / 1024
                found.append(Phase(rate - bad, bad, took))
    return found


# --- the formula --------------------------------------------------------------------------------------------------


def cumulated(per_minute: Sequence[float]) -> list[float]:
    values = [0.0]
    for added in per_minute:
        values.append(values[-1] + added)
    return values


def increase(values: Sequence[float], at: int, window: int, *, left_open: bool) -> float:
    """Of a counter with a sample a minute from 0 on, over `window` minutes; Prometheus 3 leaves out the first of them."""
    since = at - window
    if since < 0 or not left_open:
        return values[at] - values[max(since, 0)]
    # One sample less, extrapolated to the whole window; never below zero.
    first = since + 1
    grown = values[at] - values[first]
    before = min(1.0, values[first] * (at - first) / grown) if grown else 0.0
    return grown * (at - first + before) / (at - first) if at > first else 0.0


def counted(values: Sequence[float], at: int, window_s: int, *, left_open: bool) -> float:
    """Longer windows than six hours are added up from slices of five minutes."""
    window = min(window_s // MINUTE, at)
    if window_s <= 6 * HOUR or not left_open:
        return increase(values, at, window, left_open=left_open)
    return sum(increase(values, end, 5, left_open=True) for end in range(at, at - window, -5))


def crossed(
    tier: Tier, bad: Sequence[float], total: Sequence[float], at: int, *, left_open: bool, slack: float
) -> bool:
    def ratio(window_s: int) -> float:
        events = counted(total, at, window_s, left_open=left_open)
        return counted(bad, at, window_s, left_open=left_open) / events if events > 0 else -1.0

    enough = counted(bad, at, tier.long_s, left_open=left_open) >= 5 * slack
    threshold = tier.threshold * slack
    return enough and ratio(tier.long_s) > threshold and ratio(tier.short_s) > threshold


def fires(decisions: Sequence[bool], tier: Tier, step_s: int) -> list[bool]:
    """What an alert with `for` and `keep_firing_for` makes of an expression that holds or does not."""
    found: list[bool] = []
    since: int | None = None
    ended: int | None = None
    firing = False
    for index, holds in enumerate(decisions):
        now = index * step_s
        if holds:
            since, ended = (now if since is None else since), None
            firing = firing or now - since >= tier.for_s
        elif firing:
            ended = now if ended is None else ended
            if now - ended >= tier.keep_s:
                since, ended, firing = None, None, False
        else:
            since = None
        found.append(firing)
    return found


def decided(setting: Setting, phases: Sequence[Phase]) -> Iterator[tuple[Tier, list[bool | None]]]:
    """For each tier whether it fires at each evaluation; None: a hair or a version of Prometheus decides."""
    bad = cumulated([phase.bad for phase in phases for _ in range(phase.minutes)])
    total = cumulated([phase.good + phase.bad for phase in phases for _ in range(phase.minutes)])
    steps = range(0, setting.length_s // MINUTE, setting.step_s // MINUTE)
    for tier in setting.tiers:
        timelines = [
            fires(
                [crossed(tier, bad, total, at, left_open=left_open, slack=slack) for at in steps], tier, setting.step_s
            )
            for left_open, slack in product((False, True), (0.999, 1.001))
        ]
        yield tier, [said[0] if len(set(said)) == 1 else None for said in zip(*timelines, strict=True)]


# --- Prometheus ---------------------------------------------------------------------------------------------------


class Comparison(NamedTuple):
    differs: str
    """What promtool says of decisions that are not the formula's."""
    firing: int
    """Decisions to fire that were compared."""
    left_out: float
    """Share of those that were not compared."""


def compared(setting: Setting, drawn: Sequence[Sequence[tuple[int, float, float]]], folder: Path) -> Comparison:
    """The formula against promtool, every five minutes."""
    files = build(Config(slos=(setting.slo,), budgets=(), thresholds=None, anomalies=None))
    (folder / "rules.yml").write_text(files["slo-runs.rules.yml"], encoding="utf-8")
    groups = [group["name"] for group in yaml.safe_load(files["slo-runs.rules.yml"])["groups"]]
    series: dict[str, str] = {}
    firing: dict[int, list[str]] = {}
    unclear: dict[int, set[str]] = {}
    for number, each in enumerate(drawn):
        graph, phases = f"g{number}", phases_of(each, setting.length_s)
        series |= traffic(setting.slo, *phases, graph=graph)
        for tier, said in decided(setting, phases):
            for at_s, now in zip(range(0, setting.length_s, setting.step_s), said, strict=True):
                if now is None:
                    unclear.setdefault(at_s, set()).add(graph)
                elif now:
                    firing.setdefault(at_s, []).append(f'{{burn="{tier.name}", graph="{graph}"}}')
    tests, told = [], 0
    for at_s in range(10 * MINUTE, setting.length_s, 5 * MINUTE):
        left_out = unclear.get(at_s, set())
        expr = f'count by (graph, burn) (ALERTS{{alertstate="firing",burn!="",graph!~"{"|".join(sorted(left_out))}"}})'
        expected = [one for one in firing.get(at_s, ()) if not any(f'"{graph}"' in one for graph in left_out)]
        told += len(expected)
        samples = [{"labels": one, "value": 1} for one in expected]
        tests.append({"expr": expr, "eval_time": f"{at_s // MINUTE}m", "exp_samples": samples})
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{setting.step_s // MINUTE}m",
        "group_eval_order": groups,
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": tests,
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    result = promtool.test_rules(folder / "test.yml")
    times = range(10 * MINUTE, setting.length_s, 5 * MINUTE)
    share = sum(len(unclear.get(at_s, ())) for at_s in times) / (len(times) * len(drawn))
    return Comparison("" if result.ok else result.output, told, share)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_rules_have_the_tiers_of_the_formula(name: str) -> None:
    setting = SETTINGS[name]
    found = [
        (tier.name, tier.short_s, tier.long_s, f"{float(tier.threshold):.9g}") for tier in burn_plan(setting.slo).tiers
    ]
    assert [(tier.name, tier.short_s, tier.long_s, f"{tier.threshold:.9g}") for tier in setting.tiers] == found


@pytest.mark.parametrize("name", list(SETTINGS))
def test_rules_fire_when_the_formula_does_and_never_else(name: str, tmp_path: Path) -> None:
    fired: list[int] = []

    @settings(max_examples=2, deadline=None, derandomize=True, database=None, phases=[Stage.generate])
    @given(streams)
    def check(drawn: list[list[tuple[int, float, float]]]) -> None:
        comparison = compared(SETTINGS[name], drawn, tmp_path)
        assert not comparison.differs, comparison.differs
        assert comparison.left_out < 0.5
        fired.append(comparison.firing)

    check()
    assert sum(fired) > 100, fired


def test_a_rule_that_differed_from_the_formula_would_be_found() -> None:
    setting = SETTINGS["by the minute"]
    fast, slow = setting.tiers
    drawn = [[(60, 8.0, ratio), (5, 0.0, 0.0), (60, 8.0, 0.0)] for ratio in RATIOS]
    drawn += [[(60, 8.0, 0.0), (120, 8.0, ratio)] for ratio in RATIOS]

    def decisions(tier: Tier) -> list[list[bool | None]]:
        only = replace(setting, tiers=(tier,))
        return [said for each in drawn for _, said in decided(only, phases_of(each, setting.length_s))]

    for tier in (fast, slow):
        expected = decisions(tier)
        for changed in (
            tier._replace(threshold=tier.threshold * 1.3),
            tier._replace(threshold=tier.threshold / 1.3),
            tier._replace(for_s=tier.for_s * 2),
            tier._replace(keep_s=tier.keep_s * 2),
            tier._replace(short_s=tier.short_s * 3),
            tier._replace(long_s=tier.long_s // 3),
        ):
            assert expected != decisions(changed), changed
