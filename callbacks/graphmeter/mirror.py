"""Our spans in the application's own backend, on request: `mirror=True` hands each one to its span processors, too.

In: spans as built for the collector, in the exporter's thread. Out: the same spans, by `on_end`, to whatever the
application's provider exports through; none of a trace that the application does not sample. Both copies carry
`graphmeter.mirrored`, so that the collector does not forward what that backend has already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphmeter import guard, names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from graphmeter.records import Run


def processor_for(run: Run) -> Any:
    """The application's span processor if it is to have the finished `run`, which is then marked; else None."""
    if not run.tree.flags.sampled:
        return None
    processor = _processor()
    if processor is not None:
        run.facts = {**(run.facts or {}), names.MIRRORED: True}
    return processor


@guard.guarded
def hand_over(span: ReadableSpan, processor: Any) -> None:
    """Give the finished `span` to the application; its processors run in the calling thread."""
    processor.on_end(span)


@guard.guarded
def _processor() -> Any:
    from graphmeter.destination import application_provider

    provider = application_provider()
    # Private, and the only way to a provider's processors; without it nothing is mirrored, and that is said.
    processor = getattr(provider, "_active_span_processor", None)
    if processor is None:
        guard.noticed("nowhere to mirror spans to", "the application has set no tracer provider of OpenTelemetry's SDK")
    return processor
