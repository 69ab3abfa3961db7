"""Human in the loop: who resumed which run, since when, in all ways that LangGraph has to pause and to go on."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from callbacks.fakes import State, chain_of, nothing
from callbacks.versions import ERROR_HANDLER, INTERRUPT_EVENTS, needs_langgraph
from graphmeter import instrument, meter, names, older, uninstrument, waits
from graphmeter.runs import RUNS
from graphmeter.testing import InMemorySpans, RecordedSpan

pytestmark = pytest.mark.usefixtures("no_faults", "forgotten")

GO: Any = Command(resume=1)
THREAD = {"configurable": {"thread_id": "t1"}}


class Sum(TypedDict, total=False):
    x: Annotated[int, operator.add]


@pytest.fixture
def forgotten() -> None:
    """No interrupted run of another test waits here."""
    waits._by_checkpoint.clear()
    waits._by_thread.clear()


def ask(question: str = "ok?") -> Any:
    def node(state: State) -> State:
        return {"x": int(interrupt(question))}

    return node


def asking_twice(state: State) -> State:
    return {"x": int(interrupt("one")) + int(interrupt("two"))}


def paused(*nodes: tuple[str, Any], **options: Any) -> Any:
    return chain_of(*nodes, checkpointer=InMemorySaver(), **options)


def in_node() -> Any:
    return paused(("a", nothing), ("approve", ask()))


def in_subgraph() -> Any:
    return paused(("outer", chain_of(("approve", ask()), name="inner")))


def in_tool() -> Any:
    @tool
    def approve(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    def node(state: State) -> State:
        approve.invoke({"question": "?"})
        return {"x": 1}

    return paused(("n", node))


def before_node() -> Any:
    return paused(("a", nothing), ("b", nothing), interrupt_before=["b"])


def after_node() -> Any:
    return paused(("a", nothing), ("b", nothing), interrupt_after=["a"])


def before_node_of_subgraph() -> Any:
    return paused(("outer", chain_of(("b", nothing), name="inner", interrupt_before=["b"])))


def functional() -> Any:
    @task
    def double(x: int) -> int:
        return 2 * x

    @entrypoint(checkpointer=InMemorySaver())
    def demo(x: int) -> int:
        return double(1).result() + int(interrupt("ok?"))

    return demo


told = needs_langgraph(INTERRUPT_EVENTS, "interrupt events")
WAYS = [
    in_node,
    in_subgraph,
    in_tool,
    before_node,
    after_node,
    before_node_of_subgraph,
    functional,
]


def config(spans: InMemorySpans, **configurable: Any) -> Any:
    return {"callbacks": [spans.handler()], "configurable": {"thread_id": "t1", **configurable}}


def of(spans: InMemorySpans) -> list[RecordedSpan]:
    return spans.spans("run")


def resumes(second: RecordedSpan, first: RecordedSpan) -> None:
    """`second` says everything there is to say of resuming `first`."""
    assert names.INTERRUPTED == first.status
    assert (first.span_id,) == second.links
    assert first.attributes[names.RUN_ID] == second.attributes[names.RESUMED_RUN]
    waited_s = second.attributes[names.WAITED_S]
    assert (second.start_ns - first.end_ns) / 1e9 == pytest.approx(waited_s)
    assert first.attributes[names.CONVERSATION_ID] == second.attributes[names.CONVERSATION_ID]


def resumes_nothing(run: RecordedSpan) -> None:
    assert () == run.links
    assert set() == {names.RESUMED_FROM, names.RESUMED_RUN, names.WAITED_S} & run.attributes.keys()


async def drive(how: str, graph: Any, given: Any, config: Any) -> None:
    match how:
        case "invoke":
            graph.invoke(given, config=config)
        case "stream":
            list(graph.stream(given, config=config))
        case "ainvoke":
            await graph.ainvoke(given, config=config)
        case "astream":
            [_ async for _ in graph.astream(given, config=config, stream_mode=["updates", "messages"])]


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "astream"])
@pytest.mark.parametrize("made", WAYS)
async def test_whoever_resumes_says_what_and_since_when(
    spans: InMemorySpans, made: Callable[[], Any], how: str
) -> None:
    graph = made()
    await drive(how, graph, {}, config(spans))
    await drive(
        how, graph, GO if "before" not in made.__name__ and "after" not in made.__name__ else None, config(spans)
    )

    first, second = of(spans)
    resumes_nothing(first)
    resumes(second, first)
    expected = first.attributes.get(names.LANGGRAPH_CHECKPOINT_ID, names.LATEST_CHECKPOINT)
    assert expected == second.attributes[names.RESUMED_FROM]
    assert names.OK == second.status
    assert not any(span.otel_error for span in spans.spans())


@pytest.mark.parametrize("attached", ["handler", "meter", "instrument", "all"])
def test_however_it_is_attached(spans: InMemorySpans, attached: str) -> None:
    graph = in_node()
    given: Any = THREAD
    handler = spans.handler()
    if attached in ("meter", "all"):
        graph = meter(graph, name="shop", handler=handler)
    if attached in ("handler", "all"):
        given = {**THREAD, "callbacks": [handler]}
    if attached in ("instrument", "all"):
        instrument(handler)
    try:
        graph.invoke({}, config=given)
        graph.invoke(GO, config=given)
    finally:
        uninstrument()

    first, second = of(spans)
    resumes(second, first)


@told
def test_several_that_are_answered_one_by_one_are_a_chain_of_waits(spans: InMemorySpans) -> None:
    builder = StateGraph(Sum)
    for name in ("p", "q"):
        builder.add_node(name, ask(name))
        builder.add_edge(START, name)
    graph = builder.compile(name="demo", checkpointer=InMemorySaver())
    asked = graph.invoke({"x": 1}, config=config(spans))["__interrupt__"]
    for each in asked:
        graph.invoke(Command(resume={each.id: 1}), config=config(spans))

    first, second, third = of(spans)
    resumes(second, first)
    resumes(third, second)
    # One checkpoint all along: only the runs tell the waits apart.
    assert 1 == len({run.attributes[names.LANGGRAPH_CHECKPOINT_ID] for run in (first, second)})
    assert [names.INTERRUPTED, names.INTERRUPTED, names.OK] == [run.status for run in of(spans)]


def test_two_questions_of_one_node_are_two_waits(spans: InMemorySpans) -> None:
    graph = paused(("n", asking_twice))
    given: Any
    for given in ({}, GO, GO):
        graph.invoke(given, config=config(spans))

    first, second, third = of(spans)
    resumes(second, first)
    resumes(third, second)


def test_a_tool_node_that_asks_in_two_tools_at_once(spans: InMemorySpans) -> None:
    from langchain_core.messages import AIMessage
    from langgraph.graph import MessagesState

    @tool
    def approve(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([approve]))
    builder.add_edge(START, "tools")
    graph = builder.compile(name="demo", checkpointer=InMemorySaver())
    calls: Any = [{"name": "approve", "args": {"question": "?"}, "id": str(n), "type": "tool_call"} for n in range(2)]
    asked = graph.invoke({"messages": [AIMessage("", tool_calls=calls)]}, config=config(spans))["__interrupt__"]
    graph.invoke(Command(resume={each.id: 1 for each in asked}), config=config(spans))

    first, second = of(spans)
    resumes(second, first)


@told
def test_an_answer_that_is_given_twice_resumes_the_same_run_twice(spans: InMemorySpans) -> None:
    graph = in_node()
    graph.invoke({}, config=config(spans))
    checkpoint = graph.get_state(THREAD).config["configurable"]["checkpoint_id"]
    graph.invoke(GO, config=config(spans))
    graph.invoke(Command(resume=2), config=config(spans, checkpoint_id=checkpoint))

    first, second, third = of(spans)
    resumes(second, first)
    resumes(third, first)
    assert second.attributes[names.WAITED_S] < third.attributes[names.WAITED_S]


@told
def test_a_state_that_is_edited_before_the_answer_is_no_obstacle(spans: InMemorySpans) -> None:
    graph = in_node()
    graph.invoke({}, config=config(spans))
    graph.update_state(THREAD, {"x": 5})
    graph.invoke(GO, config=config(spans))

    first, second = of(spans)
    resumes(second, first)
    # Editing makes a checkpoint of its own.
    assert first.attributes[names.LANGGRAPH_CHECKPOINT_ID] != second.attributes[names.RESUMED_FROM]


@told
def test_a_graph_behind_another_runnable_knows_its_thread_all_the_same(spans: InMemorySpans) -> None:
    graph = in_node()
    sequence: Any = RunnableLambda(lambda given: given) | graph
    sequence.invoke({}, config=config(spans))
    graph.update_state(THREAD, {"x": 5})
    sequence.invoke(GO, config=config(spans))

    first, second = of(spans)
    resumes(second, first)


@told
def test_an_older_checkpoint_that_is_run_again_later_resumes_no_run(spans: InMemorySpans) -> None:
    graph = in_node()
    graph.invoke({}, config=config(spans))
    oldest = list(graph.get_state_history(THREAD))[-1].config["configurable"]["checkpoint_id"]
    graph.invoke(GO, config=config(spans))
    graph.invoke(None, config=config(spans, checkpoint_id=oldest))

    first, second, third = of(spans)
    resumes(second, first)
    assert names.INTERRUPTED == third.status
    assert () == third.links
    assert names.RESUMED_RUN not in third.attributes


def test_new_input_in_the_same_thread_resumes_nothing_then_or_later(spans: InMemorySpans) -> None:
    graph = in_node()
    given: Any
    for given in ({}, {"x": 2}, GO):
        graph.invoke(given, config=config(spans))

    _, second, third = of(spans)
    resumes_nothing(second)
    resumes(third, second)


def test_other_threads_are_other_waits(spans: InMemorySpans) -> None:
    graph = in_node()
    for thread in ("t1", "t2"):
        graph.invoke({}, config=config(spans, thread_id=thread))
    graph.invoke(GO, config=config(spans, thread_id="t1"))

    first, _, third = of(spans)
    resumes(third, first)


async def leave_at_interrupt(graph: Any, spans: InMemorySpans) -> None:
    stream = graph.astream({}, config=config(spans))
    async for chunk in stream:
        if "__interrupt__" in chunk:
            break
    await stream.aclose()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stream_that_is_left_at_the_interrupt_has_paused(spans: InMemorySpans, asynchronous: bool) -> None:
    graph = in_node()
    if asynchronous:
        await leave_at_interrupt(graph, spans)
        await graph.ainvoke(GO, config=config(spans))
    else:
        for chunk in graph.stream({}, config=config(spans)):
            if "__interrupt__" in chunk:
                break
        graph.invoke(GO, config=config(spans))

    first, second = of(spans)
    resumes(second, first)


@needs_langgraph(ERROR_HANDLER, "error handler of a node")
@pytest.mark.parametrize(("late", "beside"), [(False, False), (True, False), (False, True)])
async def test_a_stream_that_is_left_at_the_interrupt_has_paused_also_if_an_error_was_handled(
    spans: InMemorySpans, late: bool, beside: bool
) -> None:
    async def fail(state: State) -> State:
        if late:
            await asyncio.sleep(60)
        raise ValueError

    async def handle(state: State) -> Command[str]:
        handled.set()
        return Command() if beside else Command(goto="approve")

    async def approve(state: State) -> State:
        await handled.wait()
        return {"x": int(interrupt("ok?"))}

    handled = asyncio.Event()

    builder = StateGraph(State)
    builder.add_node("fail", fail, error_handler=handle, timeout=0.05 if late else None)
    builder.add_node("approve", approve)
    builder.add_edge(START, "fail")
    if beside:
        builder.add_edge(START, "approve")
    graph = builder.compile(checkpointer=InMemorySaver(), name="test")

    await leave_at_interrupt(graph, spans)
    await graph.ainvoke(GO, config=config(spans))

    first, second = of(spans)
    resumes(second, first)


async def test_a_run_that_is_cancelled_while_a_node_beside_the_interrupt_works_has_not_paused(
    spans: InMemorySpans,
) -> None:
    async def works(state: State) -> State:
        if state["x"]:
            await asyncio.sleep(60)
        return {}

    async def asks(state: State) -> State:
        return {"x": int(interrupt("ok?"))} if state["x"] else {}

    builder = StateGraph(State)
    for name, node in (("works", works), ("asks", asks)):
        builder.add_node(name, node)
        builder.add_edge(START, name)
    graph = builder.compile(checkpointer=InMemorySaver(), name="test")

    await graph.ainvoke({"x": 0}, config=config(spans))  # so that the thread's steps have begun before
    running = asyncio.create_task(graph.ainvoke({"x": 1}, config=config(spans)))
    async with asyncio.timeout(10):
        while not any(run.interrupted for run in RUNS.values()):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [names.OK, names.CANCELLED] == [root.status for root in of(spans)]
    assert not waits._by_thread


def test_a_retry_after_an_error_resumes_no_run(spans: InMemorySpans) -> None:
    def fail(state: State) -> State:
        raise ValueError

    graph = paused(("a", nothing), ("fail", fail))
    given: Any
    for given in ({}, None):
        with pytest.raises(ValueError):
            graph.invoke(given, config=config(spans))

    _, second = of(spans)
    assert names.RESUMED_RUN not in second.attributes


def test_without_a_checkpointer_an_interrupt_waits_for_nobody(spans: InMemorySpans) -> None:
    chain_of(("approve", ask())).invoke({}, config={"callbacks": [spans.handler()]})

    assert names.INTERRUPTED == spans.one("run").status
    assert {} == waits._by_thread


def test_an_older_langgraph_is_understood_by_what_its_graphs_are_given(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(older, "TELLS", False)
    handler = spans.handler()
    # It has no such events.
    monkeypatch.setattr(type(handler), "on_interrupt", lambda *_: None)
    monkeypatch.setattr(type(handler), "on_resume", lambda *_: None)
    graph = in_node()
    given: Any
    for given in ({}, GO, {"x": 1}, {"x": 2}):
        graph.invoke(given, config={**THREAD, "callbacks": [handler]})

    first, second, third, fourth = of(spans)
    resumes(second, first)
    assert names.LATEST_CHECKPOINT == second.attributes[names.RESUMED_FROM]
    resumes_nothing(third)
    resumes_nothing(fourth)


@told
def test_interrupted_runs_are_forgotten_oldest_first(spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_MOST", 2)
    graph = in_node()
    for number in range(4):
        graph.invoke({}, config=config(spans, thread_id=f"t{number}"))
    assert (2, 2) == (len(waits._by_thread), len(waits._by_checkpoint))

    for number in (0, 3):
        graph.invoke(GO, config=config(spans, thread_id=f"t{number}"))
    *_, third, fifth, sixth = of(spans)
    assert names.RESUMED_RUN not in fifth.attributes
    # The collector joins what this process has forgotten.
    assert names.RESUMED_FROM in fifth.attributes
    resumes(sixth, third)
