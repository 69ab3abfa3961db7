"""Budgets of a collector at the guard: whose limit a call counts against, what happens at it, and while nobody can tell."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import graphmeter
from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of
from graphmeter import BudgetExceeded, BudgetGuard, meter, names, stats
from graphmeter.budget.bills import Paid
from graphmeter.budget.calls import OPEN
from graphmeter.runs import RUNS
from graphmeter.testing import InMemorySpans, budgets, measure

pytestmark = pytest.mark.usefixtures("no_faults", "counted")


def metered(model: FakeChat, spans: InMemorySpans, *, calls: int = 3, **how: Any) -> Any:
    nodes = [(f"n{number}", asking(model)) for number in range(calls)]
    return meter(chain_of(*nodes), handler=spans.handler(), **how)


def test_a_budget_stops_with_what_this_process_adds_to_it(spans: InMemorySpans) -> None:
    model = FakeChat()
    with budgets(support={"limit_usd": 1, "spent_usd": "0.97"}, call_usd="0.02"):
        graph = metered(model, spans, budget="support")
        with pytest.raises(BudgetExceeded) as caught:
            graph.invoke({})
        assert "budget 'support': 1.01 of 1.00 USD are spent; the model call was not made" == str(caught.value)
        with pytest.raises(BudgetExceeded):
            graph.invoke({})
    assert (2, {"stopped": 2}, {}) == (model.answers, stats().guarded, OPEN)


def test_far_from_the_limit_calls_are_counted_when_somebody_asks_or_many_wait(spans: InMemorySpans) -> None:
    with budgets(support={"limit_usd": 1_000_000}, call_usd="0.02") as known:
        metered(FakeChat(), spans, budget="support").invoke({})
        assert 2 == len(known.desk.lately), "the first one at once: nothing was known of what a call costs"
        assert 60_000_000 == graphmeter.budget.status("support").spent_units
        assert 0 == len(known.desk.lately)
        known.desk.most_lately = 3
        metered(FakeChat(), spans, budget="support", calls=4).invoke({})
        assert 1 == len(known.desk.lately)
        known.spend("support", usd=1_000_000 - 0.14)
        last = FakeChat()
        with pytest.raises(BudgetExceeded, match="budget 'support'"):
            metered(last, spans, budget="support").invoke({})
        assert 0 == last.answers


@pytest.mark.parametrize("whose", ["another's", "its own"])
def test_what_is_spent_within_a_run_is_seen_by_the_next_call_of_it(spans: InMemorySpans, whose: str) -> None:
    model = FakeChat()
    ask = asking(model)

    def spend_all(state: State) -> State:
        if whose == "another's":
            known.spend("support", usd=1_000_000)
        else:
            dear = next(run for run in RUNS.values() if run.kind == names.NODE)
            known.desk.states.spend([(dear, Paid(10**15, 1))])
        return {}

    with budgets(support={"limit_usd": 1_000_000}, call_usd="0.02") as known:
        nodes = [("first", ask), ("second", ask), ("third", ask), ("other", spend_all), ("last", ask)]
        with pytest.raises(BudgetExceeded, match="budget 'support'"):
            meter(chain_of(*nodes), handler=spans.handler(), budget="support").invoke({})
    assert 3 == model.answers


def test_a_limit_that_is_lowered_within_a_run_holds_for_the_rest_of_it(spans: InMemorySpans) -> None:
    model = FakeChat()
    ask = asking(model)

    def lower(state: State) -> State:
        known._budgets["support"]["limit"] = 70_000_000
        known.spend("support")
        return {}

    with budgets(support={"limit_usd": 1_000_000}, call_usd="0.02") as known:
        before, after = [(f"before{n}", ask) for n in range(3)], [(f"after{n}", ask) for n in range(3)]
        with pytest.raises(BudgetExceeded, match=r"0\.08 of 0\.07 USD"):
            meter(chain_of(*before, ("other", lower), *after), handler=spans.handler(), budget="support").invoke({})
    assert 4 == model.answers


async def test_asynchronous_graphs_and_tokens(spans: InMemorySpans) -> None:
    model = FakeChat()
    with budgets(support={"limit_tokens": 30}):
        graph = meter(
            chain_of(*((name, asking_async(model)) for name in "abc")), handler=spans.handler(), budget="support"
        )
        with pytest.raises(BudgetExceeded, match="30 of 30 tokens are used"):
            await graph.ainvoke({})
    assert 2 == model.answers


def test_a_divided_budget_is_held_against_the_scope_of_the_call(spans: InMemorySpans) -> None:
    model = FakeChat()
    said = {"limit_tokens": 30, "per": ["team", "tag:plan"], "spent_tokens": 30}
    with budgets(teams={**said, "scope": {"team": "cx", "tag:plan": "free"}}) as known:
        graph = metered(model, spans, calls=2, budget="teams", team="cx", tags={"plan": "free"})
        with pytest.raises(BudgetExceeded, match=r"budget 'teams' \(team cx, tag:plan free\)"):
            graph.invoke({})
        assert 0 == model.answers
        graph.invoke({}, {"metadata": {"graphmeter_tag_plan": "gold"}})
        assert 2 == model.answers
        with pytest.raises(BudgetExceeded):  # that was all for gold
            graph.invoke({}, {"metadata": {"graphmeter_tag_plan": "gold"}})
        graph.invoke({}, {"metadata": {"graphmeter_team": "nobody has met it"}})
        known.spend("teams", tokens=30, scope={"team": "other", "tag:plan": ""})
        other = metered(model, spans, budget="teams", team="other")
        with pytest.raises(BudgetExceeded, match="tag:plan unattributed"):
            other.invoke({})
    assert 4 == model.answers


def test_a_budget_stops_only_what_it_matches(spans: InMemorySpans) -> None:
    model = FakeChat()
    match = {"team": ["c?", "ops*"], "model": "gpt-4*", "node": "n1"}
    with budgets(some={"limit_tokens": 1, "spent_tokens": 1, "match": match}):
        metered(model, spans, budget="some", team="sales").invoke({})
        assert 3 == model.answers
        with pytest.raises(BudgetExceeded):
            metered(model, spans, budget="some", team="cx").invoke({})
        assert 4 == model.answers  # n0 is another node


def test_a_star_is_every_hard_budget(spans: InMemorySpans) -> None:
    model = FakeChat()
    used_up = {"limit_tokens": 1, "spent_tokens": 1}
    with budgets(soft=used_up, hard={**used_up, "hard": True, "match": {"team": "cx"}}):
        metered(model, spans, budget="*", team="sales").invoke({})
        with pytest.raises(BudgetExceeded, match="budget 'hard'"):
            metered(model, spans, budget="*", team="cx").invoke({})
        with pytest.raises(BudgetExceeded, match="budget 'soft'"):  # who names a budget means it
            metered(model, spans, budget=["soft", "hard"], team="sales").invoke({})
    assert 3 == model.answers


def test_a_budget_that_the_collector_does_not_know_is_said_at_once() -> None:
    with budgets(support={"limit_usd": 1}, company={"limit_usd": 9}):
        with pytest.raises(ValueError, match=r"'suport' is not known to the collector at .*; did you mean 'support'"):
            BudgetGuard("suport")
        with pytest.raises(ValueError, match="known there: company, support"):
            BudgetGuard("xyz")


def test_a_budget_that_vanishes_later_harms_nobody_unless_asked_to(spans: InMemorySpans) -> None:
    model = FakeChat()
    with budgets(support={"limit_usd": 1}):
        open_ = metered(model, spans, calls=1, budget="support")
        closed = metered(model, spans, calls=1, budget=BudgetGuard("support", fail="closed"))
    with budgets(other={"limit_usd": 1}):
        open_.invoke({})
        with pytest.raises(BudgetExceeded, match="nobody can tell whether it may be: budget 'support' is not known"):
            closed.invoke({})
    assert (1, {"failed_open": 1, "failed_closed": 1}) == (model.answers, stats().guarded)


def test_while_the_collector_is_away_guards_fail_as_they_were_told(
    spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeChat()
    with budgets(support={"limit_tokens": 60}) as known:
        open_ = metered(model, spans, budget="support")
        closed = metered(model, spans, budget=BudgetGuard("support", fail="closed"))
        known.fail()
        open_.invoke({})
        assert (3, {"failed_open": 3}) == (model.answers, stats().guarded)
        assert 1 == sum("lets them pass" in record.message for record in caplog.records)
        with pytest.raises(BudgetExceeded, match="nobody can tell"):
            closed.invoke({})
        known.spend("support", tokens=15)
        # What is known to be spent does not come back: such a stop is certain.
        with pytest.raises(BudgetExceeded, match="60 of 60 tokens"):
            open_.invoke({})
        known.fail(failing=False)
        with pytest.raises(BudgetExceeded, match="60 of 60 tokens"):
            closed.invoke({})
    assert (3, {}) == (model.answers, OPEN)


@pytest.mark.parametrize("mode", ["cached", "strict"])
def test_while_a_budget_is_counted_guards_fail_as_they_were_told_and_hold_to_the_others(
    spans: InMemorySpans, mode: Literal["cached", "strict"]
) -> None:
    model = FakeChat()
    with budgets(a={"limit_tokens": 10_000, "counted": False}, b={"limit_tokens": 100_000}) as known:

        def guard(fail: Literal["open", "closed"]) -> BudgetGuard:
            return BudgetGuard(["a", "b"], mode=mode, fail=fail, call_tokens=50_000)

        open_, closed = (metered(model, spans, calls=1, budget=guard(fail)) for fail in ("open", "closed"))
        open_.invoke({})
        with pytest.raises(
            BudgetExceeded, match=r"'a' is new to the collector at .*, which is counting what it has spent"
        ):
            closed.invoke({})
        known.spend("b", tokens=100_000)
        for graph in (open_, closed):
            with pytest.raises(BudgetExceeded, match="budget 'b'"):
                graph.invoke({})
    assert (1, {"failed_open": 1, "failed_closed": 1, "stopped": 2}) == (model.answers, stats().guarded)


def test_without_a_collector_a_graph_starts_and_runs(spans: InMemorySpans, caplog: pytest.LogCaptureFixture) -> None:
    model = FakeChat()
    graph = metered(model, spans, budget="support")
    graph.invoke({})
    assert (3, {"failed_open": 3}) == (model.answers, stats().guarded)
    said = [record.message for record in caplog.records]
    assert 1 == sum(
        "cannot learn budgets from http://127.0.0.1:9: [Errno 111] Connection refused" in each for each in said
    )
    with pytest.raises(BudgetExceeded, match="nobody can tell"):
        metered(model, spans, budget=BudgetGuard("support", fail="closed")).invoke({})


def test_the_application_chooses_a_cheaper_model_in_time(spans: InMemorySpans) -> None:
    dear, cheap = FakeChat(), FakeChat(model="gpt-4.1-nano")

    def node(state: State) -> State:
        chosen = cheap if graphmeter.budget.status("support").remaining_ratio < 0.2 else dear
        chosen.invoke("hi")
        return {"x": 1}

    with budgets(support={"limit_usd": 1, "spent_usd": "0.75"}, call_usd="0.02"):
        nodes = [(f"n{number}", node) for number in range(6)]
        meter(chain_of(*nodes), handler=spans.handler(), budget="support").invoke({})
    assert (3, 3) == (dear.answers, cheap.answers)


def test_status_tells_how_a_budget_stands(spans: InMemorySpans) -> None:
    seen: list[graphmeter.budget.Status] = []

    def node(state: State) -> State:
        seen.extend(graphmeter.budget.status(name) for name in ("teams", "", "run", "nobody"))
        return {"x": 1}

    said = {"limit_usd": 10, "spent_usd": "7.5", "per": "team", "scope": {"team": "cx"}}
    with budgets(teams=said, other={"limit_usd": 1, "match": {"team": "sales"}}):
        guard = BudgetGuard("teams", per_run_usd=2)
        meter(
            chain_of(("a", asking(FakeChat())), ("b", node)), handler=spans.handler(), budget=guard, team="cx"
        ).invoke({})
        teams, least, run, nobody = seen
        assert ({"team": "cx"}, 10.0, 7.5, 2.5, 0.25) == (
            teams.scope,
            teams.limit,
            round(teams.spent, 3),
            round(teams.remaining, 3),
            round(teams.remaining_ratio, 3),
        )
        assert ("teams", "run", 2.0) == (least.budget, run.budget, run.limit)
        assert (False, 1.0, False) == (nobody.known, nobody.remaining_ratio, nobody.exceeded)
        assert not graphmeter.budget.status("other").known  # it is about another team


def test_status_never_raises_and_follows_the_guards_choice_while_nobody_can_tell(spans: InMemorySpans) -> None:
    seen: list[float] = []

    def node(state: State) -> State:
        seen.append(graphmeter.budget.status("support").remaining_ratio)
        return {"x": 1}

    with budgets(support={"limit_usd": 10}) as known:
        for fail in ("open", "closed"):
            guard = BudgetGuard("support", fail=fail)
            known.fail()
            meter(chain_of(("a", node)), handler=spans.handler(), budget=guard).invoke({})
            known.fail(failing=False)
    assert [1.0, 0.0] == seen
    with budgets(support={"limit_usd": 10, "spent_usd": 9, "counted": False}, other={"limit_usd": 1}):
        for fail in ("open", "closed"):
            guard = BudgetGuard(["support", "other"], fail=fail)
            meter(chain_of(("a", node)), handler=spans.handler(), budget=guard).invoke({})
    assert [1.0, 0.0] == seen[2:]


# --- a human is asked -------------------------------------------------------------------------------------------------


def gated(model: FakeChat, spans: InMemorySpans, **how: Any) -> Any:
    def node(state: State) -> State:
        graphmeter.budget.gate()
        model.invoke("hi")
        return {"x": 1}

    nodes = [(name, node) for name in "abc"]
    return meter(chain_of(*nodes, checkpointer=InMemorySaver()), handler=spans.handler(), **how)


THREAD = {"configurable": {"thread_id": "t"}}


@pytest.mark.parametrize("answer", [graphmeter.budget.CONTINUE, True, "continue"])
def test_a_human_lets_the_run_go_on(spans: InMemorySpans, answer: object) -> None:
    model = FakeChat()
    with budgets(support={"limit_tokens": 15}):
        graph = gated(model, spans, budget="support")
        [question] = graph.invoke({}, THREAD)["__interrupt__"]
        assert (1, "graphmeter.budget") == (model.answers, question.value["type"])
        assert [("support", 15, 15)] == [
            (each["budget"], each["limit"], each["spent"]) for each in question.value["budgets"]
        ]
        assert {"x": 1} == graph.invoke(Command(resume=answer), THREAD)
    assert (3, {"asked": 1}) == (model.answers, stats().guarded)


@pytest.mark.parametrize("answer", [graphmeter.budget.STOP, False, "stop", {"graphmeter_budget": "perhaps"}])
def test_a_human_stops_the_run(spans: InMemorySpans, answer: object) -> None:
    model = FakeChat()
    graph = gated(model, spans, per_run_tokens=15)
    graph.invoke({}, THREAD)
    with pytest.raises(
        BudgetExceeded, match="the cap of this run: 15 of 15 tokens are used; somebody was asked and said no"
    ):
        graph.invoke(Command(resume=answer), THREAD)
    assert 1 == model.answers


def test_an_answer_is_taken_though_the_budget_was_raised_meanwhile(spans: InMemorySpans) -> None:
    model, given = FakeChat(), []

    def node(state: State) -> State:
        graphmeter.budget.gate("support")
        given.append(interrupt("approve?"))
        model.invoke("hi")
        return {"x": 1}

    graph = meter(
        chain_of(("a", node), checkpointer=InMemorySaver()), handler=spans.handler(), budget=BudgetGuard(per_run_usd=1)
    )
    with budgets(support={"limit_tokens": 1, "spent_tokens": 1}):
        graph.invoke({}, THREAD)
    with budgets(support={"limit_tokens": 100, "spent_tokens": 1}):
        [question] = graph.invoke(Command(resume=graphmeter.budget.CONTINUE), THREAD)["__interrupt__"]
        assert ("approve?", []) == (question.value, given)
        graph.invoke(Command(resume="yes"), THREAD)
    assert (["yes"], 1) == (given, model.answers)


def test_the_answer_to_another_question_is_not_taken(spans: InMemorySpans) -> None:
    given: list[str] = []

    def node(state: State) -> State:
        graphmeter.budget.gate("support")
        given.append(interrupt("approve?"))
        return {"x": 1}

    with budgets(support={"limit_tokens": 10}) as known:
        graph = meter(chain_of(("a", node), checkpointer=InMemorySaver()), handler=spans.handler())
        graph.invoke({}, THREAD)
        known.spend("support", tokens=10)  # meanwhile
        graph.invoke(Command(resume="yes, I approve"), THREAD)
    assert ["yes, I approve"] == given


async def test_a_gate_in_an_asynchronous_graph(spans: InMemorySpans) -> None:
    model = FakeChat()

    async def node(state: State) -> State:
        graphmeter.budget.gate()
        await model.ainvoke("hi")
        return {"x": 1}

    nodes = [(name, node) for name in "ab"]
    graph = meter(chain_of(*nodes, checkpointer=InMemorySaver()), handler=spans.handler(), per_run_tokens=15)
    await graph.ainvoke({}, THREAD)
    await asyncio.sleep(0)
    assert {"x": 1} == await graph.ainvoke(Command(resume=graphmeter.budget.CONTINUE), THREAD)
    assert 2 == model.answers


def test_a_gate_without_anything_to_ask_about_lets_pass() -> None:
    def node(state: State) -> State:
        graphmeter.budget.gate()
        return {"x": 1}

    with measure() as measured:
        chain_of(("a", node)).invoke({})
        measured.run("demo").assert_ok()


# --- the testing kit --------------------------------------------------------------------------------------------------


def test_the_kit_prices_calls_by_list_where_nothing_else_is_said(spans: InMemorySpans) -> None:
    model = FakeChat()
    with (
        budgets(support={"limit_usd": "0.000004"}),
        pytest.raises(BudgetExceeded, match=r"0\.0000045 of 0\.000004 USD"),
    ):
        metered(model, spans, budget="support").invoke({})
    assert 1 == model.answers


def test_the_kit_grants_strict_guards_what_there_is_room_for(spans: InMemorySpans) -> None:
    model = FakeChat()
    with budgets(support={"limit_usd": 1, "spent_usd": "0.95"}, call_usd="0.02"):
        graph = metered(model, spans, budget=BudgetGuard("support", mode="strict", call_usd="0.02"))
        with pytest.raises(BudgetExceeded, match=r"0.99 of 1.00 USD are spent, .*; the call may take 0.02"):
            graph.invoke({})
    assert 2 == model.answers


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "give limit_usd or limit_tokens"),
        ({"limit_usd": 1, "limit_tokens": 1}, "give limit_usd or limit_tokens"),
        ({"limit_usd": 1, "spend_usd": 1}, "spend_usd is none of"),
    ],
)
def test_the_kit_says_what_it_cannot_take(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint), budgets(support=said):
        pass
