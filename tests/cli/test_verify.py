"""The demo's proof: equal only if every kind of fact is equal in every group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.rows import NODE, RUN, spend
from graphmeter import names
from graphmeter_cli.demo.verify import Stored, compare
from graphmeter_collector.reports import RunCount
from graphmeter_examples.tally import Tally, spending_as

SERVICE = "graphmeter-demo-00000000"
USAGE = {"input": 100, "cache_read": 20, "output": 30, "reasoning": 7}


def truth() -> Tally:
    """One run of one node that tried twice and asked a model and a tool once."""
    tally = Tally()
    tally.run("support", "cx", names.OK)
    tally.attempt("support", "classify", names.ERROR, final=False)
    tally.attempt("support", "classify", names.OK)
    with spending_as("cx"):
        tally.model_call("support", "classify", "gpt-4o", names.OK, USAGE, 12_345)
    tally.tool_call("support", "classify", "search", names.OK)
    return tally


def stored() -> Stored:
    """What reports say about the same run."""
    return Stored(
        run_counts=[RunCount(SERVICE, "demo", "support", "cx", names.OK, 1)],
        runs=[replace(RUN, service=SERVICE, tool_calls=1)],
        nodes=[replace(NODE, runs=1, attempts=2, errors=0)],
        cost=[spend(12_345, service=SERVICE, graph="support", team="cx", node="classify", model="gpt-4o")],
    )


def unequal(tally: Tally, kept: Stored) -> dict[str, list[tuple[str, int, int]]]:
    return {one.what: one.differences() for one in compare(tally, kept) if not one.equal}


def test_what_was_run_equals_what_was_stored() -> None:
    assert unequal(truth(), stored()) == {}


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        pytest.param(
            lambda tally: tally.run("support", "", names.ERROR),
            {"runs": [("support, unattributed, error", 1, 0)]},
            id="a run more",
        ),
        pytest.param(
            lambda tally: tally.attempt("support", "classify", names.ERROR, final=False),
            {"node attempts": [("support, classify", 3, 2)]},
            id="an attempt more",
        ),
        pytest.param(
            lambda tally: tally.attempt("support", "answer", names.ERROR),
            {
                "node executions": [("support, answer", 1, 0)],
                "node attempts": [("support, answer", 1, 0)],
                "node errors": [("support, answer", 1, 0)],
            },
            id="a failed node more",
        ),
        pytest.param(
            lambda tally: tally.model_call("support", "classify", "gpt-4o", names.OK, {"reasoning": 1}, 1),
            {
                "model calls": [("support, unattributed, classify, gpt-4o", 1, 0)],
                "tokens, reasoning": [("support, unattributed, classify, gpt-4o", 1, 0)],
                "cost, nano-USD": [("support, unattributed, classify, gpt-4o", 1, 0)],
            },
            id="a nano-dollar that nobody owns",
        ),
        pytest.param(
            lambda tally: tally.tool_call("support", "classify", "search", names.ERROR),
            {"tool calls": [("support", 2, 1)]},
            id="a tool call more",
        ),
    ],
)
def test_a_wrong_tally_is_found_out(
    lie: Callable[[Tally], None], expected: dict[str, list[tuple[str, int, int]]]
) -> None:
    tally = truth()
    lie(tally)

    assert expected == unequal(tally, stored())


def test_money_on_the_wrong_team_is_found_although_the_sum_is_right() -> None:
    kept = stored()
    moved = replace(kept, cost=[replace(kept.cost[0], group=kept.cost[0].group | {"team": "growth"})])

    assert unequal(truth(), moved)["cost, nano-USD"] == [
        ("support, cx, classify, gpt-4o", 12_345, 0),
        ("support, growth, classify, gpt-4o", 0, 12_345),
    ]


def test_the_bill_of_a_real_provider_is_not_compared() -> None:
    kept = replace(stored(), cost=[])

    assert {"model calls", "cost, nano-USD"} <= unequal(truth(), kept).keys()
    assert all(one.equal for one in compare(truth(), kept, exact=False))
