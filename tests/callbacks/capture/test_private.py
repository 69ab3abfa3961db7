"""Private by default: a graph full of canaries, and the bytes that left its process."""

from __future__ import annotations

import gzip
import io
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, interrupt

from callbacks.application import Application
from callbacks.fakes import FakeChat
from graphmeter import client, names
from graphmeter.emit import Pipeline
from graphmeter.handler import GraphMeterCallbackHandler
from graphmeter.testing import InMemorySpans

CANARY = "c4n4ry"
EMAIL = f"{CANARY}@example.com"
KEY = f"sk-proj-{CANARY}0123456789abcdefXYZ"


class Wire:
    """Everything that was sent, as it came, unzipped and not decoded."""

    def __init__(self) -> None:
        self.bytes = b""
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                wire.bytes += gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def wire() -> Iterator[Wire]:
    kept = Wire()
    thread = threading.Thread(target=kept.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield kept
    kept.server.shutdown()
    kept.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _own_pipelines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pipelines to places that are gone afterwards: they must not keep waiting for them in other tests."""
    made: dict[object, Pipeline] = {}
    monkeypatch.setattr(client, "_pipelines", made)
    yield
    for one in made.values():
        one.shutdown(0.1)


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    secret: str


class Found(BaseRetriever):
    text: str

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(self.text, metadata={"owner": self.text})]


def run_graph(word: str, handler: GraphMeterCallbackHandler) -> None:
    """A graph whose every input, state, message, argument, result, interrupt and exception holds `word`."""

    @tool
    def look_up(name: str) -> str:
        """Look up."""
        return f"{name} and {word}"

    @tool
    def breaks(name: str) -> str:
        """Break."""
        raise ValueError(f"no {name}")

    failed: list[str] = []

    def think(state: State) -> State:
        model = FakeChat(tool_calls=[{"name": "look_up", "args": {"name": word}, "id": "c1"}])
        answer = model.invoke(state["messages"])
        look_up.invoke({"name": word})
        Found(text=word).invoke(word)
        with pytest.raises(ValueError, match="no"):
            breaks.invoke({"name": word})
        FakeChat().invoke([HumanMessage(word), AIMessage(word)])
        with pytest.raises(RuntimeError):
            FakeChat(failures=[RuntimeError(word)]).invoke(word)
        return {"messages": [answer, HumanMessage(word)], "secret": word}

    def fails_once(state: State) -> State:
        if not failed:
            failed.append("")
            raise ConnectionError(state["secret"])
        return {"secret": word}

    def ask(state: State) -> Command[Any]:
        return Command(update={"secret": interrupt({"question": word})})

    builder = StateGraph(State)
    builder.add_node("think", think)
    builder.add_node("flaky", fails_once, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    builder.add_node("ask", ask)
    builder.add_edge(START, "think")
    builder.add_edge("think", "flaky")
    builder.add_edge("flaky", "ask")
    graph = builder.compile(checkpointer=InMemorySaver(), name="canaries")
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    graph.invoke({"messages": [HumanMessage(word)], "secret": word}, config)
    graph.invoke(Command(resume=word), config)


def sent(wire: Wire, **options: Any) -> bytes:
    handler = GraphMeterCallbackHandler(endpoint=wire.url, **options)
    run_graph(f"{EMAIL} {KEY}", handler)
    assert client.pipeline(endpoint=wire.url).flush(60)
    return wire.bytes


@pytest.mark.usefixtures("no_faults")
def test_by_default_no_word_of_the_graph_leaves_the_process(wire: Wire) -> None:
    raw = sent(wire)
    assert b"invoke_node think" in raw
    assert 0 == raw.count(CANARY.encode())


@pytest.mark.usefixtures("no_faults")
def test_with_everything_captured_no_address_and_no_key_leaves(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMETER_ERROR_MESSAGES", "1")
    monkeypatch.setattr(client, "_settings", None)
    raw = sent(wire, capture="content,media,state_diff")
    for attribute in (names.INPUT_MESSAGES, names.TOOL_RESULT, names.RETRIEVAL_DOCUMENTS, names.STATE_DIFF):
        assert attribute.encode() in raw
    assert b"[redacted:email] [redacted:key]" in raw
    assert b"no [redacted:email]" in raw  # the exception's message
    assert 0 == raw.count(CANARY.encode())


def test_a_redactor_that_fails_sends_nothing_and_harms_nothing(wire: Wire) -> None:
    def broken(text: str, where: object) -> str:
        raise LookupError(text)

    raw = sent(wire, capture="content,state_diff", redact=broken)
    assert b"invoke_node think" in raw
    assert 0 == raw.count(CANARY.encode())
    assert 1 <= client.stats().fault_kinds[f"redact {names.INPUT_MESSAGES}: LookupError"]


@pytest.mark.usefixtures("no_faults")
def test_debug_prints_messages_of_exceptions_redacted(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr("sys.stderr", printed)
    sent(wire, debug=True)
    assert "ERROR ConnectionError: [redacted:email] [redacted:key]" in printed.getvalue()
    assert CANARY not in printed.getvalue()


@pytest.mark.usefixtures("no_faults")
def test_the_backend_of_the_application_is_shown_the_same_redacted(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Application(monkeypatch)
    run_graph(f"{EMAIL} {KEY}", spans.handler(capture="content,state_diff", mirror=True))
    ours = [span.attributes for span in spans.spans()]
    shown = "".join(span.to_json() for span in app.finished())
    assert names.INPUT_MESSAGES in shown
    assert "[redacted:email]" in shown
    assert CANARY not in shown + repr(ours)


@pytest.mark.usefixtures("no_faults")
def test_what_waits_on_disk_is_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMETER_SPOOL_DIR", str(tmp_path))
    monkeypatch.setattr(client, "_settings", None)
    nobody = "http://127.0.0.1:9/"  # a pipeline of its own: the shared one has no spool
    run_graph(f"{EMAIL} {KEY}", GraphMeterCallbackHandler(endpoint=nobody, capture="content,state_diff"))
    assert not client.pipeline(endpoint=nobody).flush(60)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.spool"))
    # Requests, each after a header, as they would have been sent: zipped.
    raw = b"".join(
        zlib.decompressobj(31).decompress(b"\x1f\x8b\x08" + part) for part in kept.split(b"\x1f\x8b\x08")[1:]
    )
    assert names.INPUT_MESSAGES.encode() in raw
    assert b"[redacted:email]" in raw
    assert 0 == raw.count(CANARY.encode()) == kept.count(CANARY.encode())
