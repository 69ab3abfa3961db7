"""Case 49: whatever the application or a model says, the graph's result is the same; a fault is counted, and logged once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.outputs import ChatResult
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from callbacks.fakes import FakeChat, State, chain_of
from callbacks.trees import MINI, whole
from callbacks.ways import Way
from graphmeter import GraphMeterCallbackHandler, client, guard, names, runs, stats
from graphmeter.testing import InMemorySpans

TREE = f"run demo ok\n  node ask ok\n    {MINI}"


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    guard.forget()


class Odd(FakeChat):
    """Says of its usage what no model should."""

    said: Any = None

    def _result(self) -> ChatResult:
        result = super()._result()
        # Set afterwards: what an integration sets is not validated either.
        result.generations[0].message.usage_metadata = self.said  # type: ignore[attr-defined]
        return result


class Broken(SpanExporter):
    """Raises, or says no."""

    def __init__(self, *, times: int = 1000, result: SpanExportResult | None = None) -> None:
        self.left = times
        self.result = result
        self.taken: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.left > 0:
            self.left -= 1
            if self.result is not None:
                return self.result
            raise ZeroDivisionError("exporter")
        self.taken.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        raise ZeroDivisionError("shutdown")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "graphmeter"]


@pytest.mark.parametrize("result", [None, SpanExportResult.FAILURE], ids=["raises", "refuses"])
async def test_an_exporter_that_fails_costs_its_spans_and_nothing_else(
    way: Way, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    exporter = Broken(times=2, result=result)
    handler = GraphMeterCallbackHandler(exporter=exporter)
    graph = chain_of(("ask", way.asking(FakeChat())))
    with caplog.at_level(logging.WARNING, "graphmeter"):
        for _ in range(3):
            assert {"x": 1} == await way.invoke(graph, {}, {"callbacks": [handler]})
            client.pipeline(exporter=exporter).flush(60)
    counts = client.pipeline(exporter=exporter).counts()
    assert (4, 8, 0, 0) == (counts.exported, counts.failed, counts.dropped, counts.queued)
    assert 4 == len(exporter.taken)
    assert [2] == list(guard.faults().values())
    assert 1 == len(logged(caplog))
    assert {} == runs.RUNS
    client.discard(exporter)  # its shutdown raises, too


@pytest.mark.parametrize("method", ["on_start", "on_end"])
async def test_a_provider_whose_processor_raises_costs_its_spans_and_nothing_else(
    way: Way, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    processor = SpanProcessor()

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    setattr(processor, method, broken)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    handler = GraphMeterCallbackHandler(tracer_provider=provider)
    graph = chain_of(("ask", way.asking(FakeChat())))
    with caplog.at_level(logging.WARNING, "graphmeter"):
        for _ in range(2):
            assert {"x": 1} == await way.invoke(graph, {}, {"callbacks": [handler]})
    assert 6 <= stats().faults
    assert len(guard.faults()) == len(logged(caplog))
    assert {} == runs.RUNS


async def test_metadata_that_is_no_text_is_left_out_and_counted(
    way: Way, spans: InMemorySpans, bound: Any, caplog: pytest.LogCaptureFixture
) -> None:
    metadata: dict[Any, Any] = {
        "graphmeter_team": threading.Lock(),
        "graphmeter_tag_plan": {"deep": object()},
        "graphmeter_tenant": "acme",
        "lock": threading.Lock(),
        7: "a key that is no text",
    }
    metadata["itself"] = metadata
    graph = chain_of(("ask", way.asking(FakeChat())))
    with caplog.at_level(logging.WARNING, "graphmeter"):
        for _ in range(2):
            assert {"x": 1} == await way.invoke(graph, {}, {**bound, "metadata": metadata})
    assert f"{TREE}\n{TREE}" == whole(spans)
    for span in spans.all():
        assert "acme" == span.attributes[names.TENANT]
        assert not {names.TEAM, names.TAG_PREFIX + "plan"} & span.attributes.keys()
    assert {"unusable metadata graphmeter_tag_plan": 2, "unusable metadata graphmeter_team": 2} == guard.faults()
    assert 2 == len(logged(caplog))


async def test_what_a_node_does_to_its_config_does_not_reach_the_run(
    way: Way, spans: InMemorySpans, bound: Any
) -> None:
    from langchain_core.runnables import RunnableConfig

    def spoil(state: State, config: RunnableConfig) -> State:
        config["metadata"].update(graphmeter_team="other", langgraph_node="other")
        config["metadata"].pop("langgraph_checkpoint_ns")
        config["tags"] = ["langsmith:hidden"]
        FakeChat().invoke("hi", config=config)
        return {"x": 1}

    async def spoil_async(state: State, config: RunnableConfig) -> State:
        config["metadata"].update(graphmeter_team="other", langgraph_node="other")
        config["metadata"].pop("langgraph_checkpoint_ns")
        config["tags"] = ["langsmith:hidden"]
        await FakeChat().ainvoke("hi", config=config)
        return {"x": 1}

    graph = chain_of(("ask", spoil_async if way.asynchronous else spoil), ("then", way.asking(FakeChat())))
    await way.invoke(graph, {}, {**bound, "metadata": {"graphmeter_team": "cx"}, "tags": ["mine"]})
    assert f"{TREE}\n  node then ok\n    {MINI}" == whole(spans)
    assert {"cx"} == {span.attributes[names.TEAM] for span in spans.all()}


@pytest.mark.parametrize("model", ["", None, 7], ids=["empty", "none", "number"])
async def test_a_model_without_a_name_is_a_call_without_a_price(
    way: Way, spans: InMemorySpans, bound: Any, model: Any
) -> None:
    nameless = FakeChat.model_construct(**{**FakeChat().__dict__, "model": model})
    assert {"x": 1} == await way.invoke(chain_of(("ask", way.asking(nameless))), {}, bound)
    # What answered is known all the same, and is no model that anybody knows.
    assert "run demo ok\n  node ask ok\n    model ok 10→5" == whole(spans)
    call = spans.one("model")
    assert "chat" == call.name
    assert names.REQUEST_MODEL not in call.attributes
    assert {} == guard.faults()


@pytest.mark.parametrize(
    ("said", "tokens", "kinds"),
    [
        pytest.param({"input_tokens": 10.0, "output_tokens": 5.0}, "10→5 $0.0000045", 0, id="whole-floats"),
        pytest.param({"input_tokens": None, "output_tokens": 5}, "usage missing", 0, id="none"),
        pytest.param({"input_tokens": 10, "output_tokens": -5}, "10→0 $0.0000015", 1, id="negative"),
        pytest.param({"input_tokens": 10, "output_tokens": 0.5}, "10→0 $0.0000015", 1, id="half"),
        pytest.param({"input_tokens": float("nan"), "output_tokens": 5}, "usage missing", 1, id="nan"),
        pytest.param({"input_tokens": "10", "output_tokens": [5]}, "usage missing", 2, id="texts"),
        pytest.param(
            {"input_tokens": 10, "output_tokens": 5, "input_token_details": 3}, "10→5 $0.0000045", 0, id="detail"
        ),
        pytest.param("ten", "usage missing", 0, id="no-mapping"),
        pytest.param({}, "usage missing", 0, id="empty"),
    ],
)
async def test_unusable_usage_is_never_negative_and_never_an_exception(
    way: Way, spans: InMemorySpans, bound: Any, caplog: pytest.LogCaptureFixture, said: Any, tokens: str, kinds: int
) -> None:
    graph = chain_of(("ask", way.asking(Odd(said=said))))
    with caplog.at_level(logging.WARNING, "graphmeter"):
        for _ in range(2):
            assert {"x": 1} == await way.invoke(graph, {}, bound)
    tree = f"run demo ok\n  node ask ok\n    model gpt-4o-mini ok {tokens}"
    assert f"{tree}\n{tree}" == whole(spans)
    assert [2] * kinds == list(guard.faults().values())
    assert kinds == len(logged(caplog))


async def test_a_fault_of_ours_at_the_end_of_a_call_says_that_its_usage_is_missing(
    way: Way, spans: InMemorySpans, bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphmeter import models

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(models, "answered", broken)
    assert {"x": 1} == await way.invoke(chain_of(("ask", way.asking(FakeChat()))), {}, bound)
    assert "run demo ok\n  node ask ok\n    model gpt-4o-mini ok usage missing" == whole(spans)
    assert 1 == stats().faults
