"""Callback handlers to compare, each with an exporter that throws everything away: no network is timed.

A contestant is made in a process of its own, since some of them change LangChain when they are loaded. What is not installed
raises ImportError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class Contestant(NamedTuple):
    """A handler, and how to make it finish what it does in threads of its own, so that it is counted."""

    handlers: list[BaseCallbackHandler]
    settle: Callable[[], object]
    about: str


class NullExporter(SpanExporter):
    """Takes every span and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class DoesNothing(BaseCallbackHandler):
    """Inherits every callback, does nothing in any of them."""

    run_inline = True


def _provider() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NullExporter(), max_queue_size=65_536))
    return provider


def none() -> Contestant:
    return Contestant([], lambda: None, "")


def nothing() -> Contestant:
    return Contestant([DoesNothing()], lambda: None, "")


def graphmeter() -> Contestant:
    from graphmeter import GraphMeterCallbackHandler, client

    # Half a second of flush interval as in production; the exporter gets built spans, as an OTLP encoder would.
    return Contestant(
        [GraphMeterCallbackHandler(exporter=NullExporter(), graph="bench", team="bench")],
        lambda: client.flush(10),
        version("graphmeter"),
    )


def openinference() -> Contestant:
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer

    provider = _provider()
    tracer = OpenInferenceTracer(provider.get_tracer("bench"), separate_trace_from_runtime_context=False)
    return Contestant([tracer], provider.force_flush, version("openinference-instrumentation-langchain"))


def openllmetry() -> Contestant:
    from opentelemetry.instrumentation.langchain.callback_handler import TraceloopCallbackHandler
    from opentelemetry.metrics import NoOpMeter

    provider, meter = _provider(), NoOpMeter("bench")
    handler: Any = TraceloopCallbackHandler(
        provider.get_tracer("bench"), meter.create_histogram("duration"), meter.create_histogram("tokens")
    )
    return Contestant([handler], provider.force_flush, version("opentelemetry-instrumentation-langchain"))


def langfuse() -> Contestant:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    backend = Langfuse(
        public_key="pk-lf-bench",
        secret_key="sk-lf-bench",  # noqa: S106 - a key of nothing
        base_url="http://127.0.0.1:9",
        span_exporter=NullExporter(),
        tracer_provider=TracerProvider(),
    )
    return Contestant([CallbackHandler()], backend.flush, version("langfuse"))


def langsmith() -> Contestant:
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client

    class Silent(Client):
        def create_run(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

        def update_run(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

    tracer = LangChainTracer(
        client=Silent(api_url="http://127.0.0.1:9", api_key="bench", auto_batch_tracing=False), project_name="bench"
    )
    return Contestant([tracer], lambda: None, version("langsmith"))


def mlflow() -> Contestant:
    import tempfile

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
    from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter

    MlflowV3SpanExporter.export = lambda self, spans: None
    # As its autologging attaches it in async graphs, it would hop to an executor for every event; inline is its better side.
    return Contestant([MlflowLangchainTracer(run_inline=True)], lambda: None, version("mlflow-skinny"))


def agento11y() -> Contestant:
    from agento11y import Client, ClientConfig
    from agento11y.exporters.noop import NoopGenerationExporter
    from agento11y_langgraph import Agento11yLangGraphHandler

    provider = _provider()
    backend = Client(ClientConfig(generation_exporter=NoopGenerationExporter(), tracer=provider.get_tracer("bench")))
    return Contestant([Agento11yLangGraphHandler(client=backend)], provider.force_flush, version("agento11y-langgraph"))


ALL: dict[str, Callable[[], Contestant]] = {
    "no handler": none,
    "does nothing": nothing,
    "graphmeter": graphmeter,
    "openinference": openinference,
    "openllmetry": openllmetry,
    "langfuse": langfuse,
    "langsmith": langsmith,
    "mlflow": mlflow,
    "agento11y": agento11y,
}
BASE, FLOOR, OURS = "no handler", "does nothing", "graphmeter"
PEERS = tuple(name for name in ALL if name not in (BASE, FLOOR, OURS))
