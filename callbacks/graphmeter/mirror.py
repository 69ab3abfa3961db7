"""Our spans in the application's own backend, on request: `mirror=True` hands each one to its span processors, too.

In: finished runs, in the exporter's thread. Out: the spans that the collector gets, by `on_end`, to whatever the
application's provider exports through; none of a trace that the application does not sample. Both copies carry
`graphmeter.mirrored`, so that the collector does not forward what that backend has already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphmeter import guard, names

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from graphmeter.records import Run


def mirror(run: Run, resource: Resource, *, error_messages: bool) -> None:
    """Give the finished `run` to the application, and mark it; its processors run in the calling thread."""
    if not run.tree.flags.sampled:
        return
    processor = _processor()
    if processor is not None:
        run.facts = {**(run.facts or {}), names.MIRRORED: True}
        hand_over(run, resource, processor, error_messages)


@guard.guarded
def hand_over(run: Run, resource: Resource, processor: Any, error_messages: bool) -> None:
    """Give the span of `run` to the application's `processor`."""
    from graphmeter import spans

    processor.on_end(spans.build(run, resource, spans.service_of(resource), error_messages=error_messages))


@guard.guarded
def _processor() -> Any:
    from graphmeter.destination import application_provider

    provider = application_provider()
    # Private, and the only way to a provider's processors; without it nothing is mirrored, and that is said.
    processor = getattr(provider, "_active_span_processor", None)
    if processor is None:
        guard.noticed("nowhere to mirror spans to", "the application has set no tracer provider of OpenTelemetry's SDK")
    return processor
