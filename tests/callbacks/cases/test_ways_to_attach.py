"""Cases 38 and 39: however often and in however many ways a run is told to us, it is one tree and one bill."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from callbacks.fakes import FakeChat, chain_of, nothing
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import GraphMeterCallbackHandler, instrument, meter, uninstrument
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = f"run demo ok\n  node ask ok\n    {MINI}\n  node sub ok\n    subgraph inner ok\n      node n ok"
WAYS = ("config", "config of the graph", "meter", "instrument")


@pytest.fixture(autouse=True)
def uninstrumented() -> Iterator[None]:
    yield
    uninstrument()


def demo(way: Way) -> Any:
    inner = chain_of(("n", way.node(nothing)), name="inner")
    return chain_of(("ask", way.asking(FakeChat())), ("sub", inner))


async def test_the_same_handler_in_two_places_is_told_of_a_run_twice_and_makes_one(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    """Case 38: LangGraph then starts and ends the root twice, with one id."""
    await way.invoke(demo(way).with_config(bound), {}, bound)
    assert TREE == whole(spans)


async def test_two_handlers_on_one_run_make_one_tree(way: Way, spans: InMemorySpans) -> None:
    """Case 39."""
    await way.invoke(demo(way), {}, {"callbacks": [spans.handler(), spans.handler()]})
    assert TREE == whole(spans)


@pytest.mark.parametrize("chosen", [*itertools.combinations(WAYS, 2), WAYS], ids=" + ".join)
@pytest.mark.parametrize("shared", [True, False], ids=["one-handler", "one-each"])
async def test_any_mix_of_ways_makes_one_tree(
    way: Way, spans: InMemorySpans, chosen: tuple[str, ...], shared: bool
) -> None:
    """Cases 38 (one handler) and 39 (one for each way)."""
    same = spans.handler()

    def handler() -> GraphMeterCallbackHandler:
        return same if shared else spans.handler()

    graph = demo(way)
    if "config of the graph" in chosen:
        graph = graph.with_config({"callbacks": [handler()]})
    if "meter" in chosen:
        graph = meter(graph, handler=handler())
    if "instrument" in chosen:
        instrument(handler())
    await way.invoke(graph, {}, {"callbacks": [handler()]} if "config" in chosen else None)
    assert TREE == whole(spans)
