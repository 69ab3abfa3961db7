"""A sink over a tracer provider that the user chose (`tracer_provider=`): spans through the public OpenTelemetry API.

Identity, sampling and export are then that provider's. For tests and special set-ups; the normal way is `graphmeter.emit`.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Tracer, TracerProvider

from graphmeter import guard, marks, names, spans
from graphmeter.context import SAMPLED
from graphmeter.records import Note, Run, span_id_of, start_of
from graphmeter.runs import RUNS

_KINDS = {names.MODEL: SpanKind.CLIENT}


class ProviderSink:
    """Makes one span of `provider` per run."""

    opens_all = True

    def __init__(
        self, provider: TracerProvider, finished: Callable[[Run], object], *, error_messages: bool = False
    ) -> None:
        scope = spans.scope()
        self._tracer: Tracer = provider.get_tracer(scope.name, scope.version)
        self._finished = finished
        self._error_messages = error_messages
        resource = getattr(provider, "resource", None)
        self._service = str(resource.attributes.get(names.SERVICE_NAME, "")) if isinstance(resource, Resource) else ""

    def open(self, run: Run, kind: str) -> None:
        """Start a span; its identity is the provider's choice."""
        run.identity = self._open(run, kind)
        if run.identity is None:  # a broken provider: nothing is recorded, but identities stay consistent
            tree = run.tree
            run.identity = SpanContext(tree.trace_id, span_id_of(run.number), False, tree.flags, tree.state)

    @guard.guarded
    def _open(self, run: Run, kind: str) -> SpanContext:
        parent = NonRecordingSpan(run.parent_context) if run.parent_context is not None else trace.INVALID_SPAN
        # The name is final only at the end; samplers see the kind.
        span = self._tracer.start_span(
            f"graphmeter {kind}",
            trace.set_span_in_context(parent),
            _KINDS.get(kind, SpanKind.INTERNAL),
            start_time=run.started_ns,
        )
        run.sdk_span = span
        if kind is names.RUN:
            self._note(start_of(run), trace.set_span_in_context(span))
        made = span.get_span_context()
        in_run, in_call = marks.inside(made.trace_state, trace.get_tracer_provider())
        inside = in_call if kind is names.MODEL else in_run
        return SpanContext(made.trace_id, made.span_id, False, made.trace_flags, inside)

    def note(self, note: Note) -> None:
        """Make a span of `note`, below the root span of the run that it is about."""
        parent = trace.INVALID_SPAN
        if note.run_id is not None:
            open_root = RUNS.get(note.run_id.int)
            root = (
                open_root.context
                if open_root is not None
                else SpanContext(note.trace_id, span_id_of(note.run_id.int), False, SAMPLED)
            )
            parent = NonRecordingSpan(root)
        self._note(note, trace.set_span_in_context(parent))

    @guard.guarded
    def _note(self, note: Note, below: Context) -> None:
        said = spans.describe_note(note, self._service)
        span = self._tracer.start_span(said.usual.name, below, attributes=said.attributes, start_time=note.at_ns)
        span.end(note.at_ns)

    def close(self, run: Run) -> None:
        """End the span of `run` with everything that is known of it."""
        self._close(run)

    def hurry(self) -> None:
        """Nothing waits here."""

    @guard.guarded
    def _close(self, run: Run) -> None:
        span, run.sdk_span = run.sdk_span, None
        self._finished(run)
        if span is None:
            return
        description = spans.describe(run, self._service, error_messages=self._error_messages)
        span.update_name(description.usual.name)
        span.set_attributes(description.attributes)
        for event in description.events:
            span.add_event(event.name, event.attributes, event.timestamp)
        for link in run.links or ():
            span.add_link(link)
        span.set_status(description.status)
        span.end(max(run.ended_ns, run.started_ns))
