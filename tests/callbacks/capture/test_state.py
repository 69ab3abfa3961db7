"""What `capture="state"` and `"state_diff"` put on nodes: sizes, keys, values."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel, SecretStr

from callbacks.fakes import FakeChat
from graphmeter import names
from graphmeter.capture.state import Size
from graphmeter.testing import InMemorySpans, RecordedSpan

pytestmark = pytest.mark.usefixtures("no_faults")


class State(TypedDict, total=False):
    x: int
    said: Annotated[list[str], operator.add]


@dataclass
class Data:
    x: int = 0
    y: int | None = None


class Model(BaseModel):
    x: int = 0
    key: SecretStr = SecretStr("hunter2")


def graph_of(schema: type[Any], node: Any, **options: Any) -> Any:
    builder = StateGraph(schema)
    builder.add_node("n", node)
    builder.add_edge(START, "n")
    return builder.compile(**options)


def state_of(span: RecordedSpan) -> dict[str, Any]:
    return {key: value for key, value in span.attributes.items() if key.startswith("graphmeter.state.")}


def json_bytes(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_node_shows_the_sizes_of_what_it_was_given_and_wrote(spans: InMemorySpans, asynchronous: bool) -> None:
    graph = graph_of(State, lambda state: {"x": 2, "said": ["Grüße"]})
    config: Any = {"callbacks": [spans.handler(capture="state")]}
    given = {"x": 1, "said": ["hello"]}
    if asynchronous:
        await graph.ainvoke(given, config)
    else:
        graph.invoke(given, config)
    assert {
        names.STATE_BYTES: json_bytes(given),
        names.STATE_UPDATE_BYTES: json_bytes({"x": 2, "said": ["Grüße"]}),
        names.STATE_KEYS: ["said", "x"],
    } == state_of(spans.one("node"))


@pytest.mark.parametrize(
    ("schema", "wrote", "keys", "diff"),
    [
        (State, {"x": 2}, ["x"], {"x": 2}),
        (State, None, [], None),
        (State, Command(update={"x": 2}), ["x"], {"x": 2}),
        (State, Command(update=[("x", 2)]), ["x"], {"x": 2}),
        (State, Command(goto=()), [], None),
        (State, [Command(update={"said": ["a"]}), {"said": ["b"]}], ["said"], [{"said": ["a"]}, {"said": ["b"]}]),
        (Data, Data(x=2), ["x"], {"x": 2}),
        (Data, {"x": 2}, ["x"], {"x": 2}),
        (Model, Model(x=2), ["key", "x"], {"x": 2, "key": "**********"}),
    ],
)
def test_whatever_a_node_returns_is_read_as_langgraph_reads_it(
    spans: InMemorySpans, schema: type[Any], wrote: Any, keys: list[str], diff: Any
) -> None:
    graph_of(schema, lambda state: wrote).invoke({"x": 1}, {"callbacks": [spans.handler(capture="state_diff")]})
    found = state_of(spans.one("node"))
    assert keys == found[names.STATE_KEYS]
    assert (diff is not None) == (names.STATE_DIFF in found)
    if diff is not None:
        assert diff == json.loads(found[names.STATE_DIFF])
    else:
        assert 0 == found[names.STATE_UPDATE_BYTES]


def test_messages_in_a_state_look_as_they_do_on_model_calls(spans: InMemorySpans) -> None:
    class Chat(TypedDict, total=False):
        messages: Annotated[list[Any], operator.add]

    graph = graph_of(Chat, lambda state: {"messages": [FakeChat().invoke(state["messages"])]})
    graph.invoke({"messages": [HumanMessage("hi")]}, {"callbacks": [spans.handler(capture="state_diff")]})
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}
    assert {"messages": [answer]} == json.loads(spans.one("node").attributes[names.STATE_DIFF])


def test_a_node_that_waits_for_somebody_was_given_a_state_and_wrote_nothing(spans: InMemorySpans) -> None:
    def ask(state: State) -> State:
        return {"x": interrupt("how many?")}

    graph = graph_of(State, ask, checkpointer=InMemorySaver())
    config: Any = {"callbacks": [spans.handler(capture="state_diff")], "configurable": {"thread_id": "t"}}
    graph.invoke({"x": 1}, config)
    graph.invoke(Command(resume=7), config)
    waits, goes_on = spans.spans("node")
    assert "interrupted" == waits.status
    assert {names.STATE_BYTES: json_bytes({"x": 1, "said": []})} == state_of(waits)
    assert '{"x":7}' == goes_on.attributes[names.STATE_DIFF]


def test_a_task_of_the_functional_api_has_sizes_and_no_keys(spans: InMemorySpans) -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @entrypoint()
    def flow(x: int) -> int:
        return double(x).result()

    flow.invoke(21, {"callbacks": [spans.handler(capture="state_diff")]})
    call = spans.one("node", "double")
    assert {
        names.STATE_BYTES: json_bytes({"x": 21}),
        names.STATE_UPDATE_BYTES: 2,
        names.STATE_DIFF: "42",
    } == state_of(call)


def test_a_state_is_measured_as_it_was_given_though_the_node_changes_it(spans: InMemorySpans) -> None:
    written: list[str] = []

    def appends(state: State) -> State:
        state["said"].append("in place" * 100)
        return {"said": written}

    graph_of(State, appends).invoke({"said": ["a"]}, {"callbacks": [spans.handler(capture="state_diff")]})
    assert json_bytes({"said": ["a"]}) == spans.one("node").attributes[names.STATE_BYTES]


@dataclass
class Odd:
    name: str = "n"
    shown: list[int] = field(default_factory=lambda: [1, 2])


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, False, -12, "é", {"b": []}], "c": {}},
        [],
        "text",
        10**15,
        ["a"] * 500,
        {str(number): number for number in range(500)},
    ],
)
def test_a_size_is_that_of_compact_json(value: object) -> None:
    size = Size(value)
    assert (json_bytes(value), False) == (size.bytes, size.partial)


def test_objects_count_as_their_fields_and_bytes_as_base64() -> None:
    assert json_bytes({"name": "n", "shown": [1, 2]}) == Size(Odd()).bytes
    assert json_bytes({"x": 0, "key": "**********"}) == Size(Model()).bytes
    assert 2 + 8 == Size(b"12345").bytes


def test_a_vector_is_estimated_and_an_array_asked() -> None:
    numpy = pytest.importorskip("numpy")
    assert 2 + 999_999 + 3 * 1_000_000 == Size([0.5] * 1_000_000).bytes
    assert 8 * 1_000_000 == Size(numpy.zeros((1000, 1000))).bytes


def test_what_is_too_large_or_cannot_be_seen_into_is_said_to_be_partial(spans: InMemorySpans) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert Size(cycle).partial
    assert Size([{"x": 1}] * 100_000).partial
    assert Size(object()).partial
    graph_of(State, lambda state: {"x": object()}).invoke({"x": 1}, {"callbacks": [spans.handler(capture="state")]})
    assert spans.one("node").attributes[names.STATE_PARTIAL] is True


def test_a_long_text_that_is_not_ascii_is_extrapolated() -> None:
    assert 2 + 2_000_000 == Size("é" * 1_000_000).bytes
