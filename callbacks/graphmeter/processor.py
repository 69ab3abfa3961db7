"""The application's own spans to our collector, too, on request: those of traces that hold a run.

    provider.add_span_processor(GraphMeterSpanProcessor())

In: the application's finished spans. Out: into the same queue as ours. Which trace will hold a run is known when the run
starts, and what came before it in the same request has ended by then: finished spans wait, within bounds, for a run or for
the end of the request.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from graphmeter import client, following, forks, guard, names, send

_MOST_WAITING: Final = 2048
"""Spans that wait for a run, of all traces together; the oldest trace is given up first."""


class GraphMeterSpanProcessor(SpanProcessor):
    """Sends finished spans of traces that hold a run to the collector; sampled ones only. Add it to the tracer provider.

    Args:
        endpoint: Base URL of a collector other than the process's own.
        forward: Whether the collector may forward them; False where the application exports to the same backend itself.
    """

    def __init__(self, *, endpoint: str = "", forward: bool = True) -> None:
        self._pipeline = client.pipeline(endpoint=endpoint)
        send.load_encoder()  # not in the exporter's thread, where it would hold up a graph
        self._forward = forward
        self._forget()
        following.active = True
        _processors.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, list[ReadableSpan]] = OrderedDict()
        self._count = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Send `span`, or let it wait until its trace holds a run. Never raises."""
        self._take(span)

    @guard.guarded
    def _take(self, span: ReadableSpan) -> None:
        context = span.context
        scope = span.instrumentation_scope
        if not context.trace_flags.sampled or (scope is not None and scope.name == names.SCOPE):
            return
        ends_here = span.parent is None or span.parent.is_remote
        held = following.holds_run(context.trace_id)
        with self._lock:
            before = self._waiting.pop(context.trace_id, []) if held or ends_here else []
            self._count -= len(before)
            if not held and not ends_here:
                self._wait(context.trace_id, span)
        if held:
            for one in (*before, span):
                self._pipeline.take(one if self._forward else _kept_back(one))

    def _wait(self, trace_id: int, span: ReadableSpan) -> None:
        self._waiting.setdefault(trace_id, []).append(span)
        self._count += 1
        while self._count > _MOST_WAITING:
            self._count -= len(self._waiting.popitem(last=False)[1])

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what was queued before the call."""
        return self._pipeline.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what is queued; the queue is the process's, and goes on."""
        self._pipeline.flush(client.settings().exit_timeout_s)


_processors: weakref.WeakSet[GraphMeterSpanProcessor] = weakref.WeakSet()


def _kept_back(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        span.resource,
        {**(span.attributes or {}), names.MIRRORED: True},
        span.events,
        span.links,
        span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _after_fork() -> None:
    for one in list(_processors):
        one._forget()  # the parent may have held the lock, and sends what waits


forks.in_child(_after_fork)
