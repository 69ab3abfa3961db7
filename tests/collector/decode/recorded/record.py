"""Records what agento11y and Langfuse send of the example graphs, for `test_senders`: they are not installed in CI.

    uv sync --all-extras --group peers && PYTHONPATH=tests python tests/collector/decode/recorded/record.py

What was said (prompts, answers, states) is left out: the collector does not read it.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from collector.decode import senders

CONTENT = (
    "langfuse.observation.input",
    "langfuse.observation.output",
    "gen_ai.tool.call.",
    "gen_ai.input.",
    "gen_ai.output.",
    "gen_ai.tool.desc",
    "langfuse.observation.model.parameters",
    "langfuse.trace.metadata.",
    "exception.stacktrace",
    "exception.message",
)


def agento11y(tracing: TracerProvider) -> Any:
    import agento11y as sdk
    from agento11y_langgraph import create_agento11y_langgraph_handler

    client = sdk.Client(
        sdk.ClientConfig(
            tracer=tracing.get_tracer("github.com/grafana/sigil/sdks/python"),
            generation_export=sdk.GenerationExportConfig(protocol="none"),
        )
    )
    return create_agento11y_langgraph_handler(client=client, agent_name="shop-graphs")


def langfuse(tracing: TracerProvider) -> Any:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1:9", tracer_provider=tracing)
    return CallbackHandler(public_key="pk")


def without_content(message: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                holders: list[Any] = [span, *span.events]
                for holder in holders:
                    kept = [pair for pair in holder.attributes if not pair.key.startswith(CONTENT)]
                    del holder.attributes[:]
                    holder.attributes.extend(kept)
    return message


def main() -> None:
    chosen = {"agento11y": agento11y, "langfuse": langfuse}
    for sender in sys.argv[1:] or senders.PEERS:
        (senders.RECORDED / sender).mkdir(exist_ok=True)
        with senders.provider() as (tracing, exporter):
            handler = chosen[sender](tracing)
            for graph, run in senders.GRAPHS.items():
                run(senders.config(handler))
                tracing.force_flush()
                message = ExportTraceServiceRequest.FromString(
                    encode_spans(exporter.get_finished_spans()).SerializeToString()
                )
                body = without_content(message).SerializeToString(deterministic=True)
                (senders.RECORDED / sender / f"{senders.file_of(graph)}.binpb").write_bytes(body)
                exporter.clear()
                print(sender, graph, len(body), "bytes")


if __name__ == "__main__":
    main()
