"""The public test kit: what a test of a user's own graph can ask."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy, interrupt

import graphmeter
from callbacks.fakes import FakeChat, FakeStreamingChat, State, asking, asking_async, chain_of, nothing
from callbacks.otlp import Receiver
from graphmeter import client
from graphmeter.hook import HOOK
from graphmeter.testing import InMemorySpans, UnknownCost, measure

pytest_plugins = ("pytester",)

PRICE_OF_A_CALL = Decimal("0.0000045")
"""gpt-4o-mini: 10 tokens in at 0.15 and 5 out at 0.60 USD a million."""


def test_a_run_says_what_it_did_and_what_it_cost() -> None:
    inner = chain_of(("search", asking(FakeChat())), name="inner")
    graph = chain_of(("plan", asking(FakeChat())), ("research", inner), ("again", inner))
    with measure() as measured:
        graph.invoke({}, config={"metadata": {"graphmeter_tag_plan": "gold"}})
    run = measured.run("demo")
    assert ("demo", "ok", ["plan", "research", "research.search", "again", "again.search"]) == (
        run.graph,
        run.status,
        run.path,
    )
    assert (3, (30, 15), 3 * PRICE_OF_A_CALL) == (len(run.model_calls), run.tokens, run.cost_usd)
    assert (2, 1, 0) == (run.visits("search"), run.visits("research.search"), run.visits("nowhere"))
    assert {"plan": "gold"} == run.tags
    assert 0 < run.duration_s < 60
    run.assert_ok()
    run.assert_visited("search", times=2)
    run.assert_visited("plan")
    run.assert_path("plan", "research", "research.search", "again", "again.search")
    run.assert_cost_below("0.02")
    run.assert_tokens_below(46)
    run.assert_model_calls_at_most(3)


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        (lambda run: run.assert_cost_below(0.0000045), "cost 0.0000045 USD, not less than 0.0000045 USD"),
        (lambda run: run.assert_tokens_below(15), "used 15 tokens, not fewer than 15"),
        (lambda run: run.assert_model_calls_at_most(0), "made 1 model calls, more than 0"),
        (lambda run: run.assert_visited("ask", times=2), "ran 'ask' 1 times, not 2 times"),
        (lambda run: run.assert_visited("plan"), "ran 'plan' 0 times, not at least once"),
        (lambda run: run.assert_path("plan", "ask"), "went ask, not plan → ask"),
        (lambda run: run.assert_called_tool("search"), "called tool 'search' 0 times, not at least once"),
    ],
    ids=["cost", "tokens", "calls", "times", "visited", "path", "tool"],
)
def test_a_claim_that_does_not_hold_shows_the_tree(claim: object, complaint: str) -> None:
    assert callable(claim)
    with measure() as measured:
        chain_of(("ask", asking(FakeChat()))).invoke({})
    with pytest.raises(AssertionError) as raised:
        claim(measured.run())
    tree = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5"
    assert f"run of 'demo' {complaint}\n{tree}" == str(raised.value)


def test_a_failed_run_is_not_ok_and_names_its_errors() -> None:
    def broken(state: State) -> State:
        raise ValueError("no")

    graph = chain_of(("broken", broken))
    with measure() as measured, pytest.raises(ValueError, match="no"):
        graph.invoke({})
    run = measured.run()
    assert ["broken", "demo"] == sorted(span.label for span in run.errors)
    with pytest.raises(AssertionError, match="ended with status 'error', not 'ok'"):
        run.assert_ok()


def test_retries_are_attempts_of_one_visit_and_all_of_them_cost() -> None:
    tries: list[int] = []

    def flaky(state: State) -> State:
        FakeChat().invoke("hi")
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("again")
        return {"x": 1}

    builder_graph = chain_of(("n", nothing))
    builder = builder_graph.builder
    builder.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.001, max_attempts=3, jitter=False))
    builder.add_edge("n", "flaky")
    graph = builder.compile(name="demo")
    with measure() as measured:
        graph.invoke({})
    run = measured.run()
    assert (1, 3, 3 * PRICE_OF_A_CALL) == (run.visits("flaky"), run.attempts("flaky"), run.cost_usd)
    run.assert_ok()


def test_outcomes_and_tools_can_be_asked_for() -> None:
    from langchain_core.tools import tool

    @tool
    def look_up(query: str) -> str:
        """Look up."""
        return "found"

    def node(state: State) -> State:
        look_up.invoke({"query": "q"})
        graphmeter.outcome("resolved", good=True)
        return {"x": 1}

    with measure() as measured:
        chain_of(("n", node)).invoke({})
        run_id = measured.run().run_id
        graphmeter.outcome("csat", value=4.5, run_id=run_id)
    run = measured.run()
    assert {"resolved": (True, None), "csat": (None, 4.5)} == run.outcomes
    run.assert_called_tool("look_up", times=1)


def test_a_cost_that_nobody_knows_is_not_taken_for_none() -> None:
    with measure() as measured:
        chain_of(("ask", asking(FakeChat(model="nobodys-model", provider="nobody")))).invoke({})
        chain_of(("ask", asking(FakeChat(usage=None))), name="silent").invoke({})
    with pytest.raises(UnknownCost, match="no price of nobodys-model-2026-01-01 of provider nobody"):
        measured.run("demo").assert_cost_below(1)
    with pytest.raises(UnknownCost, match="told no usage"):
        _ = measured.run("silent").cost_usd


def test_without_prices_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with measure() as measured:
        chain_of(("ask", asking(FakeChat(model="nobodys-model", provider="nobody")))).invoke({})
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(UnknownCost, match=r"pip install 'graphmeter\[prices\]'"):
        _ = measured.run().cost_usd


async def test_runs_are_told_apart_also_when_they_overlap() -> None:
    import asyncio

    graph = chain_of(("ask", asking_async(FakeStreamingChat(delay_s=0.001))))
    with measure() as measured:
        await asyncio.gather(*(graph.ainvoke({}) for _ in range(5)))
    runs = measured.runs("demo")
    assert [(1, (10, 5))] * 5 == [(run.visits("ask"), run.tokens) for run in runs]
    assert 5 == len({run.run_id for run in runs})
    with pytest.raises(LookupError, match="5 finished runs of 'demo'"):
        measured.run("demo")


def test_an_interrupted_run_and_its_resume_are_two() -> None:
    from langgraph.types import Command

    def ask(state: State) -> State:
        return {"x": interrupt("go on?")}

    graph = chain_of(("ask", ask), checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    with measure() as measured:
        graph.invoke({}, config=thread)
        graph.invoke(Command(resume=2), config=thread)
    assert ["interrupted", "ok"] == [run.status for run in measured.runs()]


def test_metered_graphs_keep_their_attribution_and_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    try:
        handler = graphmeter.GraphMeterCallbackHandler(endpoint=receiver.url, team="cx")
        before = graphmeter.meter(chain_of(("n", nothing)), name="before", handler=handler)
        with measure() as measured:
            before.invoke({})
            later = graphmeter.GraphMeterCallbackHandler(endpoint=receiver.url + "/later")
            graphmeter.meter(chain_of(("n", nothing)), name="later", handler=later).invoke({})
        before.invoke({})
        assert client.pipeline(endpoint=receiver.url).flush(60)
    finally:
        receiver.close()
    assert ["before", "later"] == [run.graph for run in measured.runs()]
    assert "cx" == measured.run("before").root.attributes["graphmeter.team"]
    assert ["node", "run", "start"] == sorted(kind for kind in receiver.kinds() if kind in ("node", "run", "start"))
    assert HOOK.everywhere is None


def test_pytest_finds_the_fixture_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from langgraph.graph import START, StateGraph

        def test_it(graphmeter_runs):
            builder = StateGraph(dict)
            builder.add_node("n", lambda state: {})
            builder.add_edge(START, "n")
            builder.compile(name="mine").invoke({})
            graphmeter_runs.run("mine").assert_path("n")
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_spans_kept_before_are_forgotten_on_request() -> None:
    with InMemorySpans() as kept:
        chain_of(("n", nothing)).invoke({}, config={"callbacks": [kept.handler()]})
        kept.clear()
        assert [] == kept.runs()
