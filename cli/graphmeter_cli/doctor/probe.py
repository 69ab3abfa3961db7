"""One real run towards a collector: by the client around a tiny graph, or where LangGraph is missing as bare OTLP spans.

The probe calls no model, so it costs nothing and moves no money in anybody's report.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from uuid import UUID

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from graphmeter import names
from graphmeter_cli.api import bearer

SERVICE = "graphmeter-doctor"
GRAPH = "doctor"
NODE = "examine"
TIMEOUT_S = 10.0


class NotSent(Exception):
    """The collector did not take the probe; the message says why."""


def send(url: str, run_id: UUID, api_key: str = "") -> str:
    """Send one finished run, showing the key if there is one; returns how it was made.

    Raises:
        NotSent: the collector did not acknowledge it.
    """
    try:
        import langgraph.graph  # noqa: F401 - only asked whether it is there
    except ModuleNotFoundError:
        _post(url, by_hand(run_id), api_key)
        return "bare OTLP spans (LangGraph is not installed here)"
    _run_graph(url, run_id, api_key)
    return "a LangGraph graph with the client's handler"


def _run_graph(url: str, run_id: UUID, api_key: str) -> None:
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph

    from graphmeter import GraphMeterCallbackHandler, client, meter

    class State(TypedDict):
        healthy: bool

    os.environ["OTEL_SERVICE_NAME"] = SERVICE  # the client reads it when it first sends
    if api_key:
        os.environ["GRAPHMETER_API_KEY"] = api_key
    builder = StateGraph(State)
    builder.add_node(NODE, lambda state: {"healthy": True})
    builder.add_edge(START, NODE)
    builder.add_edge(NODE, END)
    graph = meter(builder.compile(), name=GRAPH, handler=GraphMeterCallbackHandler(endpoint=url))
    graph.invoke({"healthy": False}, {"run_id": run_id})
    # This way alone is asked: what the process sends elsewhere says nothing about this collector.
    way = client.pipeline(endpoint=url)
    if not way.flush(TIMEOUT_S) or (counts := way.counts()).failed or counts.dropped:
        raise NotSent(f"the client could not deliver its spans within {TIMEOUT_S:g} s")


def by_hand(run_id: UUID) -> ExportTraceServiceRequest:
    """The spans of a run with one node, under the names of the wire contract."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(_text(names.SERVICE_NAME, SERVICE))
    scope = resource.scope_spans.add()
    scope.scope.name = names.SCOPE
    now_ns = time.time_ns()
    everywhere = {names.RUN_ID: str(run_id), names.GRAPH: GRAPH, names.STATUS: names.OK}
    root, node = run_id.bytes[:8], run_id.bytes[8:]
    for span_id, parent, name, attributes in (
        (root, b"", f"{names.OP_WORKFLOW} {GRAPH}", {names.KIND: names.RUN, names.OPERATION: names.OP_WORKFLOW}),
        (
            node,
            root,
            f"{names.OP_NODE} {NODE}",
            {names.KIND: names.NODE, names.OPERATION: names.OP_NODE, names.NODE_PATH: NODE, names.NODE_NAME: NODE},
        ),
    ):
        span = scope.spans.add(
            trace_id=run_id.bytes,
            span_id=span_id,
            parent_span_id=parent,
            name=name,
            start_time_unix_nano=now_ns - 1_000_000,
            end_time_unix_nano=now_ns,
        )
        span.attributes.extend(_text(key, value) for key, value in (everywhere | attributes).items())
    return request


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _post(url: str, body: ExportTraceServiceRequest, api_key: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - the caller has asked this collector's /health already
        f"{url}/v1/traces",
        body.SerializeToString(),
        {"content-type": "application/x-protobuf", **bearer(api_key)},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - as above
            return
    except urllib.error.HTTPError as refused:
        with refused:
            said = refused.read(300).decode("utf-8", "replace").strip()
        raise NotSent(f"the collector answered {refused.code}: {said}") from refused
    except OSError as problem:
        raise NotSent(str(problem)) from problem
