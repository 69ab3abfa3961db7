"""The current span: lets the application's own spans nest under our runs, and leaves nothing behind.

A callback cannot rely on undoing what it attaches: asynchronous ends arrive in a copy of the context, batches interleave,
streams are abandoned. So what is attached is a proxy that heals itself: while its run is open it answers with the run's
identity, afterwards with that of the span below it. Nothing depends on a detach; restoring is best effort.

A stream hands control back in the middle: between two parts its caller sees the context of the generator. So the proxy of a
graph, and of a model call that streams, lends its identity only to code that runs below LangGraph or the model.

The proxy lends identity only. Attributes, events and status that the application sets on "the current span" go to the
application's own span below, as if we were not there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.util import types

from graphmeter import marks, names

if TYPE_CHECKING:
    from types import FrameType

    from graphmeter.records import Run

_RUN_KEY = otel_context.create_key("graphmeter-run")
# The key under which the API keeps the current span is private; an otherwise empty context shows it.
SPAN_KEY = next(iter(trace.set_span_in_context(INVALID_SPAN, Context())))


def ways(runtime: object) -> tuple[Callable[[], Context], Callable[[Context], object]]:
    """How to get the current context of `runtime`, OpenTelemetry's, and how to set it.

    Its own functions are two calls of Python code each, and a node needs four of them. Where all they do is to ask a context
    variable, so do we.
    """
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is ContextVarsRuntimeContext and isinstance(variable, ContextVar):
        return variable.get, variable.set
    return otel_context.get_current, otel_context.attach


get_context, _attach = ways(otel_context._RUNTIME_CONTEXT)

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NO_STATE = trace.TraceState()


class CurrentSpan(Span):
    """Stands for an open run; once it has `ended`, for the span that was current below it."""

    __slots__ = ("before", "below", "ended", "inside", "run")

    def __init__(self, run: Run, below: Span, before: Context) -> None:
        self.run = run
        self.below = below
        self.ended = False
        self.before: Context | None = before
        """The context that the run began in."""
        self.inside: Context | None = None
        """That of its body."""

    def _covers_caller(self) -> bool:
        """Whether the calling code is part of the run, as it always is but in the caller of a stream."""
        run = self.run
        if run.kind is names.RUN:
            return _runs_below("langgraph.")
        if run.kind is names.MODEL and run.first_ns:
            return _runs_below("langchain_core.language_models.")
        return True

    def _application_span(self) -> Span:
        span = self.below
        while type(span) is CurrentSpan:
            span = span.below
        return span

    def get_span_context(self) -> SpanContext:
        span: Span = self
        while type(span) is CurrentSpan:
            if not span.ended and span._covers_caller():
                return span.run.context
            span = span.below
        return span.get_span_context()

    def is_recording(self) -> bool:
        return self._application_span().is_recording()

    def end(self, end_time: int | None = None) -> None:
        """Nothing: the run ends with its callback, the application's span where the application ends it."""

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        self._application_span().set_attributes(attributes)

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        self._application_span().set_attribute(key, value)

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        self._application_span().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        self._application_span().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._application_span().update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._application_span().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self._application_span().record_exception(exception, attributes, timestamp, escaped)

    def __getattr__(self, name: str) -> Any:
        # What an SDK span has beyond the API (`attributes`, `name`): read by some instrumentations.
        return getattr(self._application_span(), name)


def _runs_below(module: str) -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if (frame.f_globals.get("__name__") or "").startswith(module):
            return True
        frame = frame.f_back
    return False


def current() -> tuple[Context, Span]:
    """The current context and span; not an ended proxy of ours but what is below it, so that chains stay short.

    The context is as it is, with that proxy: to be built upon, or put back, for either of which it is as good.
    """
    here = get_context()
    span = here.get(SPAN_KEY)
    if type(span) is not CurrentSpan:
        return here, span if isinstance(span, Span) else INVALID_SPAN
    if not span.ended:
        return here, span
    below = span.below
    while type(below) is CurrentSpan and below.ended:
        below = below.below
    return here, below


def run_here() -> Run | None:
    """The run of ours that started last in the current context; it may have ended since."""
    run: Run | None = get_context().get(_RUN_KEY)  # type: ignore[assignment]
    return run


def application_span(span: Span) -> Span:
    """The nearest span that is not ours; open proxies in the same context belong to unrelated runs (a batch)."""
    while type(span) is CurrentSpan:
        span = span.below
    return span


def opened_inside(here: Context, span: Span, run: Run) -> bool:
    """Whether `span` was opened by the application inside the body of `run`, in the same trace, and is really recorded.

    Another instrumentation of LangChain is not the application: its span of the same thing stands beside ours. Nor is one
    inside that the caller of a stream opens around the next part.
    """
    if not (
        type(span) is not CurrentSpan
        and span.is_recording()
        and span.get_span_context().trace_id == run.context.trace_id
        and not marks.is_of_langchain(span)
        and (run.kind is not names.RUN or getattr(getattr(span, "parent", None), "span_id", 0) == run.context.span_id)
    ):
        return False
    inside: Run | None = here.get(_RUN_KEY)  # type: ignore[assignment]
    # Asynchronous runs inside the span may have ended since; in this context nothing tells of it. Chains never stood here.
    while inside is not None and inside is not run and inside.proxy is None:
        inside = inside.parent
    return inside is run


def around(here: Context, span: Span) -> SpanContext | None:
    """The application's span around a run that starts on top of `span` in `here`; None: there is none.

    Other instrumentations leave ended spans of theirs behind in asynchronous callers, and would chain every later run to
    the first one. Below such a span is what was around the run of ours that it was opened in.
    """
    outer = application_span(span)
    found = outer.get_span_context()
    if not found.is_valid:
        return None
    if getattr(outer, "end_time", None) is not None:
        before: Run | None = here.get(_RUN_KEY)  # type: ignore[assignment]
        if before is not None and before.tree.trace_id == found.trace_id:
            return before.tree.outer
    return found


def enter(run: Run, here: Context, span: Span) -> None:
    """Make `run` current, on top of `span` in `here`."""
    proxy = run.proxy = CurrentSpan(run, span, here)
    inside = proxy.inside = Context({**here, SPAN_KEY: proxy, _RUN_KEY: run})
    _attach(inside)


def leave(run: Run) -> None:
    """Stop standing for `run`, everywhere at once; put the former context back if we are where it was replaced."""
    proxy = run.proxy
    if proxy is None:
        return
    run.proxy = None
    proxy.ended = True
    # Setting, not resetting by token: a token is only good in the context that made it.
    if proxy.before is not None and get_context() is proxy.inside:
        _attach(proxy.before)
    proxy.before = proxy.inside = None  # they hold the proxy


def sampling_of_application(
    provider: object, trace_id: int, here: Context
) -> tuple[TraceFlags, trace.TraceState] | None:
    """How the application would have sampled a trace that starts here: its own sampler is asked, never changed.

    Children of ours carry this decision, so an application that samples 1 % still does. None: its provider has no sampler.
    Then nobody has decided anything, and the trace counts as sampled: it is, by us.
    """
    sampler = getattr(provider, "sampler", None)
    if sampler is None:
        return None
    result = sampler.should_sample(
        trace.set_span_in_context(INVALID_SPAN, here), trace_id, "invoke_workflow", trace.SpanKind.INTERNAL
    )
    sampled = bool(result.decision.is_sampled())
    return (SAMPLED if sampled else TraceFlags(TraceFlags.DEFAULT)), result.trace_state or NO_STATE
