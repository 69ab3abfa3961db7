"""Callback handlers to compare; no network is timed. Each comes in two kinds: its exporter throws away what it is given or,
with `encode`, what it would send, encoded as for its own backend:

- graphmeter: OTLP by its own encoder, and gzip, as it goes to a collector, with the reports that go along;
- openinference, openllmetry, langfuse: OTLP by OpenTelemetry's encoder, uncompressed, as OTLPSpanExporter does by default;
- agento11y: its spans likewise; its generations as the protobuf message of its gRPC exporter, which is the default;
- langsmith: the parts of its multipart request, compressed with zstd if `zstandard` is installed, in threads of its own; its
  client believes to be connected to a backend of today;
- mlflow: OTLP as its REST store makes it, one request per span, in the graph's thread; the header of a trace, a small JSON
  message, is left out.

Some of them change LangChain when they are loaded: what they do to others shows where all share a process. What is not
installed raises ImportError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
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


class EncodingExporter(SpanExporter):
    """Encodes every span as OTLP, and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


class DoesNothing(BaseCallbackHandler):
    """Inherits every callback, does nothing in any of them."""

    run_inline = True


def _exporter(encode: bool) -> SpanExporter:
    return EncodingExporter() if encode else NullExporter()


def _provider(encode: bool) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_exporter(encode), max_queue_size=65_536))
    return provider


def none(encode: bool) -> Contestant:
    return Contestant([], lambda: None, "")


def nothing(encode: bool) -> Contestant:
    return Contestant([DoesNothing()], lambda: None, "")


def graphmeter(encode: bool) -> Contestant:
    from graphmeter import GraphMeterCallbackHandler, client, send

    # Half a second of flush interval as in production; the exporter gets built spans, as an OTLP encoder would.
    if encode:
        send.HttpDelivery.post = lambda self, body: 0
        handler = GraphMeterCallbackHandler(endpoint="http://127.0.0.1:9", graph="bench", team="bench")
    else:
        handler = GraphMeterCallbackHandler(exporter=NullExporter(), graph="bench", team="bench")
    return Contestant([handler], lambda: client.flush(10), version("graphmeter"))


def openinference(encode: bool) -> Contestant:
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer

    provider = _provider(encode)
    tracer = OpenInferenceTracer(provider.get_tracer("bench"), separate_trace_from_runtime_context=False)
    return Contestant([tracer], provider.force_flush, version("openinference-instrumentation-langchain"))


def openllmetry(encode: bool) -> Contestant:
    from opentelemetry.instrumentation.langchain.callback_handler import TraceloopCallbackHandler
    from opentelemetry.metrics import NoOpMeter

    provider, meter = _provider(encode), NoOpMeter("bench")
    handler: Any = TraceloopCallbackHandler(
        provider.get_tracer("bench"), meter.create_histogram("duration"), meter.create_histogram("tokens")
    )
    return Contestant([handler], provider.force_flush, version("opentelemetry-instrumentation-langchain"))


def langfuse(encode: bool) -> Contestant:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    backend = Langfuse(
        public_key="pk-lf-bench",
        secret_key="sk-lf-bench",  # noqa: S106 - a key of nothing
        base_url="http://127.0.0.1:9",
        span_exporter=_exporter(encode),
        tracer_provider=TracerProvider(),
    )
    return Contestant([CallbackHandler()], backend.flush, version("langfuse"))


def langsmith(encode: bool) -> Contestant:
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client

    class Silent(Client):
        def create_run(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

        def update_run(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

    class Sendless(Client):
        def _send_multipart_req(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

        def _send_compressed_multipart_req(self, *args: Any, **kwargs: Any) -> None:
            """Keeps nothing."""

    about = {"instance_flags": {"zstd_compression_enabled": True}}
    where = {"api_url": "http://127.0.0.1:9", "api_key": "bench"}
    client = Sendless(**where, info=about) if encode else Silent(**where, auto_batch_tracing=False)
    tracer = LangChainTracer(client=client, project_name="bench")
    return Contestant([tracer], client.flush, version("langsmith"))


def mlflow(encode: bool) -> Contestant:
    import tempfile

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
    from mlflow.tracing.client import TracingClient
    from mlflow.tracing.constant import SpansLocation, TraceTagKey
    from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
    from mlflow.tracing.utils.otlp import resource_to_otel_proto

    def log_spans(self: Any, location: str, spans: list[Any]) -> list[Any]:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.CopyFrom(resource_to_otel_proto(getattr(spans[0]._span, "resource", None)))
        group.scope_spans.add().spans.extend(span.to_otel_proto() for span in spans)
        request.SerializeToString()
        return spans

    def start_trace(self: Any, trace_info: Any) -> Any:
        trace_info.tags[TraceTagKey.SPANS_LOCATION] = (
            SpansLocation.TRACKING_STORE
        )  # what a server says that takes spans
        return trace_info

    if encode:
        TracingClient.log_spans, TracingClient.start_trace = log_spans, start_trace
    else:
        MlflowV3SpanExporter.export = lambda self, spans: None
    # As its autologging attaches it in async graphs, it would hop to an executor for every event; inline is its better side.
    return Contestant([MlflowLangchainTracer(run_inline=True)], lambda: None, version("mlflow-skinny"))


def agento11y(encode: bool) -> Contestant:
    from agento11y import Client, ClientConfig
    from agento11y.exporters import grpc
    from agento11y.exporters.noop import NoopGenerationExporter
    from agento11y_langgraph import Agento11yLangGraphHandler

    class Encoding(NoopGenerationExporter):
        def export_generations(self, request: Any) -> Any:
            generations = [grpc.generation_to_proto(generation) for generation in request.generations]
            grpc.agento11y_pb2.ExportGenerationsRequest(generations=generations).SerializeToString()
            return super().export_generations(request)

    provider = _provider(encode)
    exporter = Encoding() if encode else NoopGenerationExporter()
    backend = Client(ClientConfig(generation_exporter=exporter, tracer=provider.get_tracer("bench")))

    def settle() -> None:
        if encode:
            backend.flush()
        provider.force_flush()

    return Contestant([Agento11yLangGraphHandler(client=backend)], settle, version("agento11y-langgraph"))


ALL: dict[str, Callable[[bool], Contestant]] = {
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
