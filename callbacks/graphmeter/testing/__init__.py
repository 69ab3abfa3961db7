"""For tests of applications: what a graph did, how long, with how many tokens, for how much money.

from graphmeter.testing import measure

def test_a_refund_is_cheap():
    with measure() as measured:
        application.answer("I want my money back")
    run = measured.run("support")
    run.assert_ok()
    run.assert_cost_below("0.02")
    run.assert_visited("search", times=2)

`budgets()` says what a graph's guards are told of budgets, `slos()` what `graphmeter.slo.status()` tells.
Nothing is sent anywhere meanwhile. The pytest fixture `graphmeter_runs` is the same around a whole test.
"""

from __future__ import annotations

from graphmeter.testing.budgets import KnownBudgets, budgets
from graphmeter.testing.measuring import measure
from graphmeter.testing.runs import RecordedRun, UnknownCost
from graphmeter.testing.slos import KnownSlos, slos
from graphmeter.testing.spans import InMemorySpans, RecordedSpan, draw, recorded_span

__all__ = [
    "InMemorySpans",
    "KnownBudgets",
    "KnownSlos",
    "RecordedRun",
    "RecordedSpan",
    "UnknownCost",
    "budgets",
    "draw",
    "measure",
    "recorded_span",
    "slos",
]
