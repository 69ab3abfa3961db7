"""A real database behind a node: customer in, open invoices out, each query under its own span.

The span is what a database instrumentation would make; it shows that work inside a node nests under that node.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from opentelemetry import trace

_SCHEMA = """
CREATE TABLE invoice (customer TEXT NOT NULL, number TEXT PRIMARY KEY, cents INTEGER NOT NULL, paid INTEGER NOT NULL);
INSERT INTO invoice
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
SELECT 'C-' || (100 + i % 40), 'I-' || (5000 + i), 1990 + i * 37 % 9000, i % 3 > 0 FROM n;
"""
_QUERY = "SELECT number, cents FROM invoice WHERE customer = ? AND NOT paid ORDER BY number"


Found = list[tuple[str, int]]
"""Numbers and amounts in cents."""


class Invoices(Runnable[str, Found]):
    """An in-memory SQLite database of 200 invoices of 40 customers (C-100 to C-139)."""

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("graphmeter_examples")
        # LangGraph runs nodes in threads of its own; the lock keeps them apart.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = threading.Lock()
        self._database.executescript(_SCHEMA)
        self.close = weakref.finalize(self, self._database.close)

    def invoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> Found:  # noqa: A002
        return self.open_invoices(input)

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> Found:  # noqa: A002
        return self.open_invoices(input)  # in memory: nothing to wait for

    def open_invoices(self, customer: str) -> Found:
        """Empty for an unknown customer."""
        with self._tracer.start_as_current_span(
            "SELECT invoice",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "sqlite", "db.query.text": _QUERY, "db.collection.name": "invoice"},
        ):
            with self._lock:
                rows = self._database.execute(_QUERY, (customer,)).fetchall()
            return [(str(number), int(cents)) for number, cents in rows]
