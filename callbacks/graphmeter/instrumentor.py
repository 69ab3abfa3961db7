"""For `opentelemetry-instrument python app.py`: measures every graph of an application that has no line of ours.

Found through the entry point `opentelemetry_instrumentor`, hence loaded by that command only, whose package
(opentelemetry-instrumentation) the client does not depend on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

# That module keeps itself from type checkers.
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

_DEPENDENCIES: Final = ("langgraph >= 1.0",)


class GraphmeterInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """`graphmeter.instrument()` and `graphmeter.uninstrument()` as OpenTelemetry calls them."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return _DEPENDENCIES

    def _instrument(self, **kwargs: Any) -> None:
        """Measure every graph; `handler=` is passed on.

        Raises:
            ModuleNotFoundError: LangGraph is not installed. `opentelemetry-instrument` then goes on without us, silently.
        """
        from graphmeter.attach import instrument

        try:
            instrument(kwargs.get("handler"))
        except ImportError as error:
            raise ModuleNotFoundError(str(error), name="langgraph") from error

    def _uninstrument(self, **kwargs: Any) -> None:
        from graphmeter.attach import uninstrument

        uninstrument()
