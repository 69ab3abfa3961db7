"""Beside OpenInference's and OpenLLMetry's instrumentations of LangChain: our tree is ours, theirs is theirs, and one
collector that receives all of it bills every call once.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_core.tracers.stdout import FunctionCallbackHandler
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from callbacks.application import Application
from callbacks.fakes import FakeChat, State, asking, asking_async, chain_of
from collector.store.dump import dump, opened
from graphmeter import instrument, meter, names, uninstrument
from graphmeter.testing import InMemorySpans
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord

pytestmark = pytest.mark.usefixtures("no_faults")

TREE = "run demo ok\n  node ask ok\n    model gpt-4o-mini ok 10→5"
HOOKS = [f"{a}{when}_{what}" for a in ("", "a") for when in ("before", "after") for what in ("model", "agent")]
WRAPPED = {
    "langchain_core.callbacks.BaseCallbackManager": ["__init__"],
    "langgraph.pregel.Pregel": ["stream", "astream"],
    "langgraph.types.Command": ["__init__"],
    "langchain.agents.middleware.types.AgentMiddleware": HOOKS,
    "langchain_openai.llms.base.BaseOpenAI": ["_generate", "_agenerate", "_stream", "_astream"],
    "langchain_openai.chat_models.base.BaseChatOpenAI": ["_generate", "_agenerate"],
}
INSTRUMENTORS: dict[str, Any] = {"openinference": LangChainInstrumentor, "openllmetry": LangchainInstrumentor}


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLLMetry's uninstrument() leaves its wrappers on classes behind: put back what was there."""
    for path, attributes in WRAPPED.items():
        owner = pkgutil.resolve_name(path)
        for name in attributes:
            monkeypatch.setattr(owner, name, vars(owner)[name])


@pytest.fixture(params=["openinference", "openllmetry", "both"])
def beside(request: pytest.FixtureRequest, app: Application, restored: None) -> Iterator[list[str]]:
    """Scopes of the other instrumentations that are active."""
    chosen = list(INSTRUMENTORS) if request.param == "both" else [request.param]
    active = [INSTRUMENTORS[name]() for name in chosen]
    for one in active:
        one.instrument(tracer_provider=app.provider, skip_dep_check=True)
    yield [type(one).__module__ for one in active]
    for one in reversed(active):
        one.uninstrument()


@pytest.fixture
def undone() -> Iterator[None]:
    yield
    uninstrument()


def received(app: Application, spans: InMemorySpans) -> list[SpanRecord]:
    """What a collector makes of everything that the application and we export, theirs first."""
    spans.all()  # delivered
    mixed: list[ReadableSpan] = [*app.finished(), *spans._spans]
    message = ExportTraceServiceRequest.FromString(encode_spans(mixed).SerializeToString())
    decoded = decode_request(message, Window(0, 2**63))
    assert [] == decoded.rejections
    return decoded.records


def calls(records: list[SpanRecord]) -> list[str]:
    """Names of what would be billed or counted as a call. Whatever else is counted, runs and nodes, is ours."""
    assert [] == [record.name for record in records if record.foreign and record.kind != names.SPAN]
    return sorted(record.name for record in records if record.kind in (names.MODEL, names.TOOL, names.RETRIEVER))


def of(app: Application, scope: str) -> list[str]:
    return [
        span.name for span in app.finished() if span.instrumentation_scope and span.instrumentation_scope.name == scope
    ]


@pytest.mark.parametrize("way", ["handler", "meter", "instrument"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("undone")
async def test_a_run_is_one_tree_of_ours_and_every_call_is_billed_once(
    spans: InMemorySpans, app: Application, beside: list[str], way: str, asynchronous: bool
) -> None:
    graph = chain_of(("ask", asking_async(FakeChat()) if asynchronous else asking(FakeChat())))
    config: Any = {"run_name": "r"}
    if way == "handler":
        config["callbacks"] = [spans.handler()]
    elif way == "meter":
        graph = meter(graph, handler=spans.handler())
    else:
        instrument(spans.handler())
    for _ in range(2):
        if asynchronous:
            assert {"x": 1} == await graph.ainvoke({}, config=config)
        else:
            assert {"x": 1} == graph.invoke({}, config=config)
    assert f"{TREE}\n{TREE}" == spans.tree()
    # Nobody's leftovers chain the second run to the first.
    assert 2 == len({span.trace_id for span in spans.spans()})
    records = received(app, spans)
    assert ["chat gpt-4o-mini"] * 2 == calls(records)
    # Theirs: graph, node and model of each run, OpenLLMetry with one span more around each.
    assert {6 if "openinference" in scope else 8 for scope in beside} == {len(of(app, scope)) for scope in beside}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("undone", "beside")
async def test_calls_that_graphs_do_not_reach_are_billed_once_too(
    spans: InMemorySpans, app: Application, asynchronous: bool
) -> None:
    instrument(spans.handler())

    def node(state: State) -> State:
        FakeChat().invoke("hi", config={"callbacks": []})
        FakeChat().generate([[HumanMessage("hi")]])
        return {"x": 1}

    if asynchronous:
        await FakeChat().ainvoke("hi")
        await chain_of(("ask", node)).ainvoke({})
    else:
        FakeChat().invoke("hi")
        chain_of(("ask", node)).invoke({})
    assert ["chat gpt-4o-mini"] * 3 == calls(received(app, spans))


@pytest.mark.usefixtures("beside")
def test_a_handler_that_comes_after_others_changes_nothing(spans: InMemorySpans, app: Application) -> None:
    quiet = FunctionCallbackHandler(lambda _: None)

    @tool
    def look(what: str) -> str:
        """Looks."""
        return what

    def node(state: State) -> State:
        look.invoke({"what": "x"})
        FakeChat().invoke("hi")
        return {"x": 1}

    chain_of(("ask", node)).invoke({}, config={"callbacks": [quiet, spans.handler()]})
    assert ["chat gpt-4o-mini", "execute_tool look"] == calls(received(app, spans))


@pytest.mark.usefixtures("beside")
def test_what_is_not_measured_is_theirs_to_bill(spans: InMemorySpans, app: Application) -> None:
    chain_of(("ask", asking(FakeChat()))).invoke({})
    records = received(app, spans)
    assert [] == spans.spans()
    assert not any(record.twin for record in records)


async def test_in_the_database_a_call_has_one_row_and_its_twins_are_in_the_trace(
    spans: InMemorySpans, app: Application, beside: list[str], sqlite_url: str
) -> None:
    chain_of(("ask", asking(FakeChat()))).invoke({}, config={"callbacks": [spans.handler()]})
    records = received(app, spans)
    book = PriceBook()
    for record in records:
        book.price(record)

    async with opened(sqlite_url) as store:
        await store.write(records)
    rows = await dump(sqlite_url)
    (run,) = rows["run"]
    (bill,) = rows["ledger"]
    call = spans.one("model")
    assert f"{call.span_id:016x}" == bill["span_id"].hex()
    assert 0 < bill["cost_nano"] == run["cost_nano"]
    assert (1, 1) == (run["model_calls"], sum(row["count"] for row in rows["rollup_day"] if row["kind"] == names.MODEL))
    assert len(records) == len(rows["span"])
    # Of each neighbour: graph, node and model.
    twins = [record for record in records if record.twin]
    assert [names.SPAN] * 3 * len(beside) == [record.kind for record in twins]
