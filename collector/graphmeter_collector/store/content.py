"""Stored bytes of a span in, what its application captured out: prompts, answers, arguments, states, as they were sent.

Read when somebody asks for it: captured content is in no column, no index and no report of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import and_, select

from graphmeter import names
from graphmeter_collector.reports import ContentRow
from graphmeter_collector.store.tables import span, span_body

if TYPE_CHECKING:
    from graphmeter_collector.store.read import SqlReader

MOST_SPANS = 2000
"""Of one trace; a few kilobytes each."""
_CAPTURED = frozenset(names.CAPTURED)


async def read(reader: SqlReader, trace_id: bytes) -> list[ContentRow]:
    """What was captured in a trace, by start of its spans."""
    same = and_(*(span.c[key] == span_body.c[key] for key in ("trace_id", "span_id", "day")))
    query = (
        select(span_body.c.span_id, span_body.c.body)
        .join(span, same)
        .where(span_body.c.trace_id == trace_id, span.c.kind.not_in(names.NOTES))
        .order_by(span.c.start_ns, span.c.span_id)
        .limit(MOST_SPANS)
    )
    rows = [ContentRow(row["span_id"].hex(), captured(row["body"])) for row in await reader.rows(query)]
    return [row for row in rows if row.attributes]


def captured(body: bytes) -> dict[str, str]:
    """Captured attributes of the span, as text; what came structured (the conventions allow it) becomes JSON."""
    attributes = Span.FromString(body).attributes
    return {
        item.key: item.value.string_value
        if item.value.WhichOneof("value") == "string_value"
        else json.dumps(_plain(item.value), ensure_ascii=False, separators=(",", ":"))
        for item in attributes
        if item.key in _CAPTURED
    }


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _plain(one.value) for one in value.kvlist_value.values}
    if kind == "bytes_value":
        return f"[{len(value.bytes_value)} bytes]"
    return getattr(value, kind) if kind is not None else None
