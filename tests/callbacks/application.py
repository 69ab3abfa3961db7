"""An application with OpenTelemetry of its own, and trees that mix its spans with ours."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from graphmeter.testing import InMemorySpans


class Application:
    """Its provider is the process's, as far as anybody can see, until the test ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sampler: Sampler | None = None, service: str = "shop") -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": service}))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("application")
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.provider)

    def finished(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.finished()}

    def tree(self, spans: InMemorySpans) -> str:
        """Its spans and ours as one indented tree; ours as `kind label`, its own by their names in brackets.

        A span whose parent is nowhere stands at the left.
        """
        found = [
            (span.start_time or 0, span.context.span_id, span.parent.span_id if span.parent else None, f"[{span.name}]")
            for span in self.finished()
        ]
        found += [(span.start_ns, span.span_id, span.parent_id, f"{span.kind} {span.label}") for span in spans.spans()]
        known = {span_id for _, span_id, _, _ in found}
        lines: list[str] = []

        def walk(parent: int | None, depth: int) -> None:
            for _, span_id, parent_id, line in sorted(found):
                if (parent_id if parent_id in known else None) == parent:
                    lines.append("  " * depth + line)
                    walk(span_id, depth + 1)

        walk(None, 0)
        return "\n".join(lines)
