"""A request as small as it can be that goes all ways that most requests go: one run, one node, one call of a model.

A collector that has written nothing yet takes ten times as long for its first transaction (statements that nobody has
prepared, a catalogue of prices that nobody has looked into), while all who send wait for it. So it writes this one before it
is ready, and takes it back: see `Pipeline.rehearse`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from graphmeter import names

_NAME: Final = "rehearsal"
_MODEL: Final = "gpt-4o-mini"
_ROOT, _NODE, _CALL, _START = range(1, 5)


def request() -> ExportTraceServiceRequest:
    """One with ids that nobody else has, of a run that ends now."""
    run_id, now_ns = uuid.uuid4(), time.time_ns()
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add()
    resource.resource.attributes.add(key=names.SERVICE_NAME).value.string_value = _NAME
    scope = resource.scope_spans.add()
    scope.scope.name = names.SCOPE

    nothing: dict[str, str | int] = {}
    common: dict[str, str | int] = {names.RUN_ID: str(run_id), names.GRAPH: _NAME, names.STATUS: names.OK}
    steps: dict[str, str | int] = {names.LANGGRAPH_STEP: 1}
    node: dict[str, str | int] = {names.NODE_PATH: _NAME, **steps}
    call: dict[str, str | int] = {
        names.OPERATION: names.OP_CHAT,
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: _MODEL,
        names.RESPONSE_MODEL: _MODEL,
        names.RESPONSE_ID: f"{_NAME}-{run_id}",
        names.USAGE_INPUT: 2,
        names.USAGE_OUTPUT: 1,
    }
    for number, above, kind, name, own in (
        (_START, _ROOT, names.START, names.OP_START, nothing),
        (_ROOT, 0, names.RUN, f"{names.OP_WORKFLOW} {_NAME}", steps),
        (_NODE, _ROOT, names.NODE, f"{names.OP_NODE} {_NAME}", node),
        (_CALL, _NODE, names.MODEL, f"{names.OP_CHAT} {_MODEL}", {**node, **call}),
    ):
        _add(scope, run_id, number, above, name, now_ns, {names.KIND: kind, **common, **own})
    return whole


def _add(
    scope: ScopeSpans, run_id: uuid.UUID, number: int, above: int, name: str, at_ns: int, said: Mapping[str, str | int]
) -> None:
    span = scope.spans.add(
        name=name,
        trace_id=run_id.bytes,
        span_id=_span_id(run_id, number),
        parent_span_id=_span_id(run_id, above) if above else b"",
        start_time_unix_nano=at_ns,
        end_time_unix_nano=at_ns,
    )
    for key, value in said.items():
        into = span.attributes.add(key=key).value
        if isinstance(value, str):
            into.string_value = value
        else:
            into.int_value = value


def _span_id(run_id: uuid.UUID, number: int) -> bytes:
    return run_id.bytes[:7] + bytes([number])
