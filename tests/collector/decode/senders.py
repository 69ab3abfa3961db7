"""The example graphs as each sender tells them: the same conversations, run once per instrumentation, as OTLP requests.

The models are stand-ins with a seed, so what was said, and what it cost, is the same each time.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from langchain_core._api import LangChainDeprecationWarning
from langgraph.types import Command
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graphmeter.testing import InMemorySpans
from graphmeter_examples import agent, approval, research, support
from graphmeter_examples.model import NO_TROUBLE, Trouble
from graphmeter_examples.models import StandIns

RECORDED: Final = Path(__file__).parent / "recorded"
INSTALLED: Final = ("openinference", "openllmetry")
"""Senders that run in the suite."""
PEERS: Final = ("agento11y", "langfuse")
"""Senders of the dependency group `peers`, recorded by `recorded/record.py`."""
SENDERS: Final = (*INSTALLED, *PEERS)

Config = Any  # a RunnableConfig; the graphs' own types differ


def _billing(config: Config) -> None:
    support.build(StandIns(trouble=NO_TROUBLE)).invoke({"question": "A billing question of C-104."}, config)


def _technical(config: Config) -> None:
    support.build(StandIns(trouble=NO_TROUBLE)).invoke({"question": "A technical problem."}, config)


def _agent(config: Config) -> None:
    models = StandIns(trouble=NO_TROUBLE)
    agent.build(models).invoke(dict(agent.wish(models.luck, 0)), config)


def _research(config: Config) -> None:
    research.build(StandIns(trouble=NO_TROUBLE)).invoke({"question": "What about bees?"}, config)


def _approval(config: Config) -> None:
    graph = approval.build(StandIns(trouble=NO_TROUBLE))
    graph.invoke({"request": "a reminder"}, config)
    graph.invoke(Command(resume=approval.APPROVE), config)


def _failure(config: Config) -> None:
    models = StandIns(trouble=Trouble(rate_limited=1.0, broken=0.0))
    try:
        research.build(models).invoke({"question": "What about bees?"}, config)
    except models.failures:
        return
    raise AssertionError("the provider refuses nothing")


GRAPHS: Final[dict[str, Callable[[Config], None]]] = {
    "support, with a subgraph": _billing,
    "support, with a retriever": _technical,
    "agent, with tools": _agent,
    "research, with Send": _research,
    "approval, with an interrupt": _approval,
    "research, refused by the provider": _failure,
}

_HOOKS: Final = [f"{a}{when}_{what}" for a in ("", "a") for when in ("before", "after") for what in ("model", "agent")]
_WRAPPED: Final = {
    "langchain_core.callbacks.BaseCallbackManager": ["__init__"],
    "langgraph.pregel.Pregel": ["stream", "astream"],
    "langgraph.types.Command": ["__init__"],
    "langchain.agents.middleware.types.AgentMiddleware": _HOOKS,
    "langchain_openai.llms.base.BaseOpenAI": ["_generate", "_agenerate", "_stream", "_astream"],
    "langchain_openai.chat_models.base.BaseChatOpenAI": ["_generate", "_agenerate"],
}


def config(*callbacks: Any) -> Config:
    return {"callbacks": list(callbacks), "configurable": {"thread_id": "thread-1"}}


def ours(graph: str) -> ExportTraceServiceRequest:
    """What our client sends of a graph."""
    with InMemorySpans() as spans:
        GRAPHS[graph](config(spans.handler()))
        spans.all()  # delivered
        return _request(spans._spans)


def sent(sender: str, graph: str) -> ExportTraceServiceRequest:
    """What another instrumentation sends of it."""
    if sender in PEERS:
        return recorded(sender, graph)
    with provider() as (tracing, exporter):
        instrumentor: Any = {"openinference": LangChainInstrumentor, "openllmetry": LangchainInstrumentor}[sender]()
        with _restored(), warnings.catch_warnings():
            # OpenInference's tracer calls what LangChain deprecates; as an error that would cost it the span's attributes.
            warnings.simplefilter("ignore", LangChainDeprecationWarning)
            instrumentor.instrument(tracer_provider=tracing, skip_dep_check=True)
            try:
                GRAPHS[graph](config())
            finally:
                instrumentor.uninstrument()
        return _request(exporter.get_finished_spans())


def recorded(sender: str, graph: str) -> ExportTraceServiceRequest:
    """What a sender that is not installed here has sent once."""
    return ExportTraceServiceRequest.FromString((RECORDED / sender / f"{file_of(graph)}.binpb").read_bytes())


def file_of(graph: str) -> str:
    return graph.replace(",", "").replace(" ", "-")


@contextmanager
def provider() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """A tracer provider of the application's own, and what it exports."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    yield tracing, exporter
    tracing.shutdown()


@contextmanager
def _restored() -> Iterator[None]:
    """OpenLLMetry's uninstrument() leaves its wrappers on classes behind: put back what was there."""
    kept = [
        (owner, name, vars(owner)[name])
        for path, attributes in _WRAPPED.items()
        for owner in [pkgutil.resolve_name(path)]
        for name in attributes
    ]
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _request(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(encode_spans(spans).SerializeToString())
