"""A run stops at its cap before the next call is made: whichever way its calls are made, nothing is spent after the stop."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from callbacks.fakes import FakeChat, FakeStreamingChat, State, asking, asking_async, chain_of, nothing
from callbacks.versions import CALLBACKS_OF_SUBGRAPHS, needs_langgraph
from graphmeter import BudgetExceeded, BudgetGuard, GraphMeterCallbackHandler, meter, names, stats
from graphmeter.budget.calls import OPEN
from graphmeter.testing import InMemorySpans

CALL = 15
"""Tokens of a call of the fake models."""

pytestmark = pytest.mark.usefixtures("no_faults", "counted")


def metered(graph: Any, spans: InMemorySpans, **caps: Any) -> Any:
    return meter(graph, handler=spans.handler(), **caps)


def stopped(run: Callable[[], object]) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught:
        run()
    assert {} == OPEN
    return caught.value


def test_a_run_stops_before_the_first_call_beyond_its_cap(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = metered(chain_of(*((name, asking(model)) for name in "abcd")), spans, per_run_tokens=2 * CALL)
    error = stopped(lambda: graph.invoke({}))
    assert "the cap of this run: 30 of 30 tokens are used; the model call was not made" == str(error)
    assert ("run", 2) == (error.budget, model.answers)
    assert spans.tree().splitlines() == [
        "run demo error",
        "  node a ok",
        "    model gpt-4o-mini ok 10→5",
        "  node b ok",
        "    model gpt-4o-mini ok 10→5",
        "  node c error",
    ]
    said = {span.label: span.attributes.get(names.BUDGET_STOPPED) for span in spans.spans()}
    assert ("run", "run", None) == (said["demo"], said["c"], said["b"])
    assert "graphmeter.budget.BudgetExceeded" == spans.one("node", "c").attributes[names.ERROR_TYPE]
    assert {"stopped": 1} == stats().guarded


async def test_an_asynchronous_run_stops_as_well(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = metered(chain_of(*((name, asking_async(model)) for name in "abcd")), spans, per_run_tokens=2 * CALL)
    with pytest.raises(BudgetExceeded):
        await graph.ainvoke({})
    assert (2, {}) == (model.answers, OPEN)
    assert 2 == len(spans.spans("model"))


def test_every_run_has_the_cap_for_itself(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = metered(chain_of(("a", asking(model)), ("b", asking(model))), spans, per_run_tokens=2 * CALL)
    for _ in range(3):
        graph.invoke({})
    assert (6, {}) == (model.answers, stats().guarded)


def test_streams_and_text_models_are_stopped_too(spans: InMemorySpans) -> None:
    model = FakeStreamingChat()

    def streaming(state: State) -> State:
        assert list(model.stream("hi"))
        return {"x": 1}

    graph = metered(chain_of(*((name, streaming) for name in "abc")), spans, per_run_tokens=2 * CALL)
    stopped(lambda: list(graph.stream({}, stream_mode="messages")))
    assert 2 == len(spans.spans("model"))


def test_calls_that_no_config_reaches_are_stopped_too(spans: InMemorySpans) -> None:
    model = FakeChat()

    def beside(state: State) -> State:
        model.invoke("hi", {"callbacks": []})
        return {"x": 1}

    def generated(state: State) -> State:
        model.generate([[HumanMessage("hi")]])
        return {"x": 1}

    graph = metered(chain_of(("a", beside), ("b", generated), ("c", beside)), spans, per_run_tokens=2 * CALL)
    stopped(lambda: graph.invoke({}))
    assert 2 == model.answers
    graph = metered(chain_of(("a", beside), ("b", generated)), spans, per_run_tokens=CALL)
    stopped(lambda: graph.invoke({}))
    assert 3 == model.answers


def test_calls_of_subgraphs_count_and_are_stopped(spans: InMemorySpans) -> None:
    model = FakeChat()
    inner = chain_of(("x", asking(model)), ("y", asking(model)), name="inner")
    graph = metered(chain_of(("a", asking(model)), ("b", inner), ("c", asking(model))), spans, per_run_tokens=2 * CALL)
    stopped(lambda: graph.invoke({}))
    assert 2 == model.answers
    said = {span.label for span in spans.spans() if names.BUDGET_STOPPED in span.attributes}
    assert {"demo", "b", "inner", "y"} >= said >= {"demo", "y"}


@needs_langgraph(CALLBACKS_OF_SUBGRAPHS, "callbacks of subgraphs")
def test_the_guard_of_a_subgraph_counts_what_the_subgraph_spends(spans: InMemorySpans) -> None:
    model = FakeChat()
    inner = meter(
        chain_of(("x", asking(model)), ("y", asking(model)), name="inner"), handler=spans.handler(), per_run_tokens=CALL
    )
    graph = metered(chain_of(("a", asking(model)), ("b", inner)), spans, per_run_tokens=9 * CALL)
    stopped(lambda: graph.invoke({}))
    assert 2 == model.answers


def test_failed_attempts_count_and_the_stop_is_not_retried(spans: InMemorySpans) -> None:
    model = FakeChat(failures=[])
    tried: list[int] = []

    def node(state: State) -> State:
        tried.append(1)
        model.invoke("hi")
        raise ConnectionError("later")

    builder = StateGraph(State)
    builder.add_node("a", node, retry_policy=RetryPolicy(max_attempts=9, initial_interval=0.001))
    builder.add_edge(START, "a")
    graph = metered(builder.compile(name="demo"), spans, per_run_tokens=3 * CALL)
    stopped(lambda: graph.invoke({}))
    assert (3, 4) == (model.answers, len(tried))
    retry_on: Any = RetryPolicy().retry_on
    assert not retry_on(BudgetExceeded("no"))


def test_a_fallback_does_not_get_around_the_cap(spans: InMemorySpans) -> None:
    model, cheaper = FakeChat(), FakeChat(model="gpt-4.1-nano")

    def node(state: State) -> State:
        model.with_retry(wait_exponential_jitter=False).with_fallbacks([cheaper]).invoke("hi")
        return {"x": 1}

    graph = metered(chain_of(("a", node), ("b", node)), spans, per_run_tokens=CALL)
    stopped(lambda: graph.invoke({}))
    assert (1, 0) == (model.answers, cheaper.answers)


def fan_out(model: BaseChatModel, width: int, node: Callable[[BaseChatModel], Any]) -> Any:
    builder = StateGraph(State)
    builder.add_node("a", nothing)
    builder.add_node("b", node(model))
    builder.add_node("c", nothing)
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lambda _: [Send("b", {}) for _ in range(width)], ["b"])
    builder.add_edge("b", "c")
    return builder.compile(name="demo")


def counting(**how: Any) -> tuple[FakeChat, list[None]]:
    """A model, and what it appends to at each call: that is safe in threads, which adding is not."""
    calls: list[None] = []
    return FakeChat(seen=lambda: calls.append(None), **how), calls


def test_parallel_branches_share_the_cap_of_their_run(spans: InMemorySpans) -> None:
    model, calls = counting(delay_s=0.02)
    graph = metered(fan_out(model, 8, asking), spans, per_run_tokens=2 * CALL)
    with pytest.raises(BudgetExceeded):
        graph.invoke({}, {"max_concurrency": 2})
    assert 2 <= len(calls) <= 3  # and one that was in flight when the second ended


def test_with_a_bound_for_a_call_what_is_in_flight_is_counted(spans: InMemorySpans) -> None:
    model, calls = counting(delay_s=0.05)
    guard = BudgetGuard(per_run_tokens=3 * CALL + 2, call_tokens=CALL)
    with pytest.raises(BudgetExceeded):
        metered(fan_out(model, 8, asking), spans, budget=guard).invoke({}, {"max_concurrency": 8})
    assert 3 == len(calls)


async def test_asynchronous_branches_with_a_bound_for_a_call(spans: InMemorySpans) -> None:
    model = FakeChat(delay_s=0.05)
    guard = BudgetGuard(per_run_tokens=3 * CALL, call_tokens=CALL)
    with pytest.raises(BudgetExceeded):
        await metered(fan_out(model, 8, asking_async), spans, budget=guard).ainvoke({})
    assert model.answers <= 3


def test_thirty_two_threads_share_a_guard_and_not_their_caps(spans: InMemorySpans) -> None:
    model, calls = counting()
    graph = metered(chain_of(*((name, asking(model)) for name in "abc")), spans, per_run_tokens=2 * CALL)

    def work(_: int) -> int:
        count = 0
        for _ in range(5):
            with pytest.raises(BudgetExceeded):
                graph.invoke({})
            count += 1
        return count

    with ThreadPoolExecutor(32) as pool:
        assert 160 == sum(pool.map(work, range(32)))
    assert (320, 160, {}) == (len(calls), stats().guarded["stopped"], OPEN)


async def test_tasks_share_a_guard_and_not_their_caps(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = metered(chain_of(*((name, asking_async(model)) for name in "abc")), spans, per_run_tokens=2 * CALL)
    found = await asyncio.gather(*(graph.ainvoke({}) for _ in range(50)), return_exceptions=True)
    assert {BudgetExceeded} == {type(each) for each in found}
    assert (100, {}) == (model.answers, OPEN)


def test_a_resumed_run_goes_on_with_what_it_has_spent(spans: InMemorySpans) -> None:
    model = FakeChat()

    def ask(state: State) -> State:
        interrupt("go on?")
        return {"x": 1}

    nodes = [("a", asking(model)), ("b", ask), ("c", asking(model)), ("d", asking(model))]
    graph = metered(chain_of(*nodes, checkpointer=InMemorySaver()), spans, per_run_tokens=2 * CALL)
    thread = {"configurable": {"thread_id": "t"}}
    graph.invoke({}, thread)
    stopped(lambda: graph.invoke(Command(resume=True), thread))
    assert 2 == model.answers
    graph.invoke({}, {"configurable": {"thread_id": "another"}})
    assert 3 == model.answers


def test_a_guard_beside_a_handler_of_ones_own_in_any_order(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = chain_of(("a", asking(model)), ("b", asking(model)))
    for order in (1, -1):
        callbacks = [BudgetGuard(per_run_tokens=CALL), spans.handler()][::order]
        stopped(lambda callbacks=callbacks: graph.invoke({}, {"callbacks": callbacks}))  # type: ignore[misc]
    assert (2, 2) == (model.answers, len(spans.spans("model")))
    said = [span.label for span in spans.spans() if names.BUDGET_STOPPED in span.attributes]
    assert ["b", "b", "demo", "demo"] == sorted(said)


def test_two_guards_of_one_run_both_count(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = chain_of(*((name, asking(model)) for name in "abc"))
    callbacks = [spans.handler(), BudgetGuard(per_run_tokens=9 * CALL), BudgetGuard(per_run_tokens=2 * CALL)]
    stopped(lambda: graph.invoke({}, {"callbacks": callbacks}))
    assert 2 == model.answers


def test_a_call_that_the_guard_of_a_subgraph_stops_is_in_flight_nowhere(spans: InMemorySpans) -> None:
    model = FakeChat()
    inner = meter(
        chain_of(*((name, asking(model)) for name in "xyz"), name="inner"), handler=spans.handler(), per_run_tokens=CALL
    )

    def nested(state: State) -> State:
        stopped(lambda: inner.invoke({}))
        return {}

    # Room for exactly the calls that are made, each counted with the most that it may take while it is in flight.
    guard = BudgetGuard(per_run_tokens=3 * CALL, call_tokens=CALL)
    graph = chain_of(("a", asking(model)), ("b", nested), ("c", asking(model)))
    meter(graph, handler=spans.handler(), budget=guard).invoke({})
    assert 3 == model.answers


def test_meter_attaches_one_handler_that_measures_and_asks(spans: InMemorySpans) -> None:
    model = FakeChat()
    graph = metered(chain_of(("a", asking(model))), spans, per_run_tokens=9 * CALL)
    (handler,) = graph.config["callbacks"]
    assert isinstance(handler, GraphMeterCallbackHandler)
    assert handler is copy.deepcopy(handler)
    twin = pickle.loads(pickle.dumps(meter(chain_of(("a", nothing)), per_run_tokens=CALL).config["callbacks"][0]))
    assert (CALL, True) == (twin.guards[0]._caps.tokens, isinstance(twin, GraphMeterCallbackHandler))
    graph.invoke({})
    (call,) = spans.spans("model")
    said = call.attributes
    assert (["stop"], "resp_1", 10) == (
        list(said[names.FINISH_REASONS]),
        said[names.RESPONSE_ID],
        said[names.USAGE_INPUT],
    )


def test_answers_from_a_cache_cost_nothing(spans: InMemorySpans) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "total_cost": 0}
    model = FakeChat(usage=usage)
    graph = metered(chain_of(*((name, asking(model)) for name in "abc")), spans, per_run_tokens=1)
    graph.invoke({})
    assert 3 == model.answers


async def test_a_cancelled_call_is_not_in_flight_any_more(spans: InMemorySpans) -> None:
    model = FakeChat(delay_s=5)
    graph = metered(chain_of(("a", asking_async(model))), spans, per_run_tokens=CALL)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await graph.ainvoke({})
    assert {} == OPEN


def test_copies_of_a_graph_keep_the_guard_and_a_pickle_has_one_like_it() -> None:
    guard = BudgetGuard(per_run_usd="0.25", call_usd="0.1")
    assert guard is copy.deepcopy(guard)
    twin = pickle.loads(pickle.dumps(guard))
    assert guard._caps == twin._caps
    error = pickle.loads(pickle.dumps(BudgetExceeded("no")))
    assert ("no", None) == (str(error), error.status)


@pytest.mark.parametrize(
    ("caps", "complaint"),
    [
        ({}, "a guard without anything to guard"),
        ({"per_run_usd": -1}, "per_run_usd=-1 is not an amount of USD above zero: write 0.50"),
        ({"per_run_usd": 0}, "per_run_usd=0 is not"),
        ({"per_run_usd": "a lot"}, "per_run_usd='a lot' is not"),
        ({"per_run_usd": float("nan")}, "per_run_usd=nan is not"),
        ({"per_run_usd": True}, "per_run_usd=True is not"),
        ({"per_run_usd": "0.0000000001"}, "finer than a nano-USD"),
        ({"per_run_tokens": 1.5}, "per_run_tokens=1.5 is not a whole number of tokens above zero: write 50_000"),
        ({"per_run_tokens": 0}, "per_run_tokens=0 is not"),
        ({"per_run_usd": 1, "call_usd": 2}, "call_usd is more than per_run_usd: no call would ever be made"),
        ({"per_run_usd": 1, "mode": "exact"}, "mode='exact' is none of 'cached'"),
        ({"per_run_usd": 1, "fail": "soft"}, "fail='soft' is neither 'open' nor 'closed'"),
        ({"per_run_usd": 1, "on_exceeded": "ask"}, "on_exceeded='ask' is neither 'stop' nor 'warn' nor a function"),
        ({"per_run_usd": 1, "max_age_s": 0}, "max_age_s=0 is not between 0.2 and 3600 seconds"),
        ({"budget": ""}, "'' is no name of a budget"),
        ({"budget": ["a", 3]}, "3 is no name of a budget"),
    ],
)
def test_what_makes_no_sense_is_said_when_the_guard_is_made(caps: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        BudgetGuard(**caps)
    assert complaint in str(caught.value)


def test_a_function_that_would_have_to_be_awaited_is_refused() -> None:
    async def later(status: object) -> None: ...

    with pytest.raises(TypeError, match="takes a plain function"):
        BudgetGuard(per_run_usd=1, on_exceeded=later)
    with pytest.raises(ValueError, match="belong to the guard"):
        meter(chain_of(("a", nothing)), budget=BudgetGuard(per_run_usd=1), per_run_usd=1)


def test_a_guard_may_only_warn_or_leave_it_to_the_application(
    spans: InMemorySpans, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeChat()
    graph = chain_of(*((name, asking(model)) for name in "abc"))
    metered(graph, spans, budget=BudgetGuard(per_run_tokens=CALL, on_exceeded="warn")).invoke({})
    assert (3, {"warned": 2}) == (model.answers, stats().guarded)
    assert 1 == sum("the guard only warns" in record.message for record in caplog.records)

    seen: list[float] = []
    decide = BudgetGuard(per_run_tokens=CALL, on_exceeded=lambda status: seen.append(status.remaining_ratio))
    metered(graph, spans, budget=decide).invoke({})
    assert (6, [0.0, -1.0], 2) == (model.answers, seen, stats().guarded["left"])

    def refuse(status: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        metered(graph, spans, budget=BudgetGuard(per_run_tokens=CALL, on_exceeded=refuse)).invoke({})
    assert (7, {}) == (model.answers, OPEN)


def test_a_graph_that_nothing_measures_is_told_and_not_harmed(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeChat()
    graph = chain_of(("a", asking(model)), ("b", asking(model)))
    graph.invoke({}, {"callbacks": [BudgetGuard(per_run_tokens=CALL)]})
    assert (2, {"failed_open": 2}) == (model.answers, stats().guarded)
    assert 1 == sum("nothing measures the graph" in record.message for record in caplog.records)
    with pytest.raises(BudgetExceeded, match="nothing measures the graph"):
        graph.invoke({}, {"callbacks": [BudgetGuard(per_run_tokens=CALL, fail="closed")]})
    assert (2, {}) == (model.answers, OPEN)


def test_a_call_without_a_price_leaves_the_cap_in_force(spans: InMemorySpans) -> None:
    unpriced, model = FakeChat(model="nobody-knows-it"), FakeChat()
    nodes = [("a", asking(unpriced)), *((name, asking(model)) for name in "bcd")]
    guard = BudgetGuard(per_run_usd="0.000009")  # two calls by list prices
    error = stopped(lambda: metered(chain_of(*nodes), spans, budget=guard).invoke({}))
    assert ("run", 2) == (error.budget, model.answers)
    assert {"stopped": 1, "failed_open": 2, "unpriced": 1} == stats().guarded
    with pytest.raises(BudgetExceeded, match="what an earlier call of the run cost is not known"):
        metered(chain_of(*nodes), spans, budget=BudgetGuard(per_run_usd=1, fail="closed")).invoke({})
    assert (2, {}) == (model.answers, OPEN)
    # Tokens are known whatever they cost.
    nodes = [("a", asking(unpriced)), ("b", asking(model))]
    metered(chain_of(*nodes), spans, budget=BudgetGuard(per_run_tokens=2 * CALL, fail="closed")).invoke({})


def test_a_call_outside_of_graphs_is_a_run_by_itself(spans: InMemorySpans) -> None:
    model = FakeChat()
    for _ in range(3):
        model.invoke("hi", {"callbacks": [GraphMeterCallbackHandler(exporter=spans), BudgetGuard(per_run_tokens=1)]})
    assert (3, {}) == (model.answers, OPEN)
