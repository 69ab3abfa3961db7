"""An exporter that keeps spans in memory, and spans as plain objects.

with InMemorySpans() as spans:
    graph.invoke(x, config={"callbacks": [spans.handler()]})
    assert "run support ok" == spans.tree().splitlines()[0]
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from graphmeter import client, names
from graphmeter.handler import GraphMeterCallbackHandler

if TYPE_CHECKING:
    from graphmeter.testing.runs import RecordedRun


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """One span."""

    name: str
    kind: str
    """One of `graphmeter.names.KINDS` or `NOTES`."""
    status: str
    """One of `graphmeter.names.SPAN_STATUSES`."""
    trace_id: int
    span_id: int
    parent_id: int | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any] = field(default_factory=dict, repr=False)
    links: tuple[int, ...] = ()
    """Span ids linked to."""
    exception: Mapping[str, Any] | None = None
    """Attributes of the exception event."""
    otel_error: bool = False

    @property
    def label(self) -> str:
        """The span's name without its operation: name of graph, node, model, tool."""
        return self.name.partition(" ")[2] or self.name

    @property
    def tokens(self) -> tuple[int, int]:
        """Inclusive input and output tokens."""
        return self.attributes.get(names.USAGE_INPUT, 0), self.attributes.get(names.USAGE_OUTPUT, 0)


class InMemorySpans(SpanExporter):
    """Keeps what handlers made by `handler()` emit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReadableSpan] = []

    def __enter__(self) -> InMemorySpans:
        return self

    def __exit__(self, *_: object) -> None:
        client.discard(self)

    def handler(self, **options: Any) -> GraphMeterCallbackHandler:
        """A handler that emits here; options as for GraphMeterCallbackHandler."""
        return GraphMeterCallbackHandler(exporter=self, **options)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self._spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to do; what was kept can still be read."""

    def clear(self) -> None:
        """Forget what was emitted so far."""
        client.pipeline(exporter=self).flush(5.0)
        with self._lock:
            self._spans.clear()

    def all(self) -> list[RecordedSpan]:
        """Everything emitted so far, notes included, by start time."""
        client.pipeline(exporter=self).flush(5.0)
        with self._lock:
            recorded = [recorded_span(span) for span in self._spans]
        return sorted(recorded, key=lambda span: (span.start_ns, span.end_ns))

    def spans(self, kind: str = "", label: str = "") -> list[RecordedSpan]:
        """Spans so far, by start time, without notes; narrowed by kind and label if given."""
        return [
            span
            for span in self.all()
            if span.kind not in names.NOTES and kind in ("", span.kind) and label in ("", span.label)
        ]

    def one(self, kind: str = "", label: str = "") -> RecordedSpan:
        """The only such span.

        Raises:
            LookupError: There is none, or more than one.
        """
        found = self.spans(kind, label)
        if len(found) != 1:
            raise LookupError(f"{len(found)} spans of kind {kind!r} labelled {label!r} in\n{self.tree()}")
        return found[0]

    def runs(self, graph: str = "") -> list[RecordedRun]:
        """Finished runs so far, by start time; those of one graph if it is named."""
        from graphmeter.testing.runs import runs_of

        return [run for run in runs_of(self.all()) if graph in ("", run.graph)]

    def run(self, graph: str = "") -> RecordedRun:
        """The only finished run (of `graph`).

        Raises:
            LookupError: There is none, or more than one.
        """
        found = self.runs(graph)
        if len(found) != 1:
            raise LookupError(f"{len(found)} finished runs of {graph or 'any graph'!r} in\n{self.tree()}")
        return found[0]

    def tree(self) -> str:
        """Spans as indented lines `kind label status`, with tokens of model calls and numbers of repeated attempts."""
        return draw(self.spans())


def recorded_span(span: ReadableSpan) -> RecordedSpan:
    """`span` as a plain object."""
    attributes = dict(span.attributes or {})
    exceptions = [event for event in span.events if event.name == "exception"]
    return RecordedSpan(
        span.name,
        str(attributes.get(names.KIND, names.SPAN)),
        str(attributes.get(names.STATUS, "")),
        span.context.trace_id,
        span.context.span_id,
        span.parent.span_id if span.parent is not None else None,
        span.start_time or 0,
        span.end_time or 0,
        attributes,
        dict(span.resource.attributes),
        tuple(link.context.span_id for link in span.links),
        dict(exceptions[0].attributes or {}) if exceptions else None,
        not span.status.is_ok and span.status.status_code.name == "ERROR",
    )


def draw(spans: Sequence[RecordedSpan]) -> str:
    """`spans` as an indented tree; those whose parent is not among them stand at the left."""
    known = {span.span_id for span in spans}
    children: dict[int | None, list[RecordedSpan]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    lines: list[str] = []

    def walk(parent: int | None, depth: int) -> None:
        for span in children.get(parent, ()):
            lines.append("  " * depth + _line(span))
            walk(span.span_id, depth + 1)

    walk(None, 0)
    return "\n".join(lines)


def _line(span: RecordedSpan) -> str:
    parts = [span.kind, span.label, span.status]
    if span.kind == names.NODE and (span.attributes[names.ATTEMPT] > 1 or not span.attributes[names.ATTEMPT_FINAL]):
        final = " final" if span.attributes[names.ATTEMPT_FINAL] else ""
        parts.append(f"attempt {span.attributes[names.ATTEMPT]}{final}")
    if span.kind == names.MODEL and names.USAGE_INPUT in span.attributes:
        tokens_in, tokens_out = span.tokens
        parts.append(f"{tokens_in}→{tokens_out}")
    if span.attributes.get(names.CACHE_HIT):
        parts.append("cached")
    return " ".join(part for part in parts if part)
