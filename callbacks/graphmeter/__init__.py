"""Graphmeter's client: measures LangGraph applications from inside their process and sends spans to a collector.

    from graphmeter import meter
    graph = meter(builder.compile(), name="support", team="cx")

Names are imported on first use: `import graphmeter` alone loads neither LangChain nor an exporter nor a price book.
"""

from __future__ import annotations

import importlib
from logging import NullHandler as _NullHandler  # not `import logging`: that name is our own module's
from logging import getLogger as _getLogger
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphmeter import slo as slo
    from graphmeter.attach import instrument, meter, uninstrument
    from graphmeter.budget import BudgetExceeded, BudgetGuard
    from graphmeter.client import Stats, flush, shutdown, stats
    from graphmeter.embeddings import meter_embeddings
    from graphmeter.handler import GraphMeterCallbackHandler
    from graphmeter.inside import RunInfo, current_run, tag
    from graphmeter.outcomes import outcome
    from graphmeter.processor import GraphMeterSpanProcessor

__all__ = [
    "BudgetExceeded",
    "BudgetGuard",
    "GraphMeterCallbackHandler",
    "GraphMeterSpanProcessor",
    "RunInfo",
    "Stats",
    "current_run",
    "flush",
    "instrument",
    "meter",
    "meter_embeddings",
    "outcome",
    "shutdown",
    "stats",
    "tag",
    "uninstrument",
]

_HOMES = {
    "BudgetExceeded": "graphmeter.budget",
    "BudgetGuard": "graphmeter.budget",
    "GraphMeterCallbackHandler": "graphmeter.handler",
    "GraphMeterSpanProcessor": "graphmeter.processor",
    "RunInfo": "graphmeter.inside",
    "Stats": "graphmeter.client",
    "current_run": "graphmeter.inside",
    "flush": "graphmeter.client",
    "instrument": "graphmeter.attach",
    "meter": "graphmeter.attach",
    "meter_embeddings": "graphmeter.embeddings",
    "outcome": "graphmeter.outcomes",
    "shutdown": "graphmeter.client",
    "stats": "graphmeter.client",
    "tag": "graphmeter.inside",
    "uninstrument": "graphmeter.attach",
}

# A library stays silent until the application configures logging.
_getLogger("graphmeter").addHandler(_NullHandler())


def __getattr__(name: str) -> object:
    if name in ("budget", "logging", "slo"):
        return importlib.import_module(f"graphmeter.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graphmeter' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
