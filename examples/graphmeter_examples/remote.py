"""A second service behind a node: customer in, open invoices out, over HTTP.

The instrumentation of httpx opens a span for each request, below the node that makes it, and sends its ids along as
`traceparent`, so what the service does is in the caller's trace. Nothing here knows of Graphmeter.
"""

from __future__ import annotations

from typing import Any

import httpx
from langchain_core.runnables import Runnable, RunnableConfig
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from graphmeter_examples.invoices import Found


class RemoteInvoices(Runnable[str, Found]):
    """What `Invoices` knows, asked of `graphmeter_examples.billing`; `url` is that service's."""

    def __init__(self, url: str, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._sync = httpx.Client(base_url=url, timeout=10)
        self._async = httpx.AsyncClient(base_url=url, timeout=10)
        for client in (self._sync, self._async):
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=tracer_provider)

    def invoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> Found:  # noqa: A002
        return _read(self._sync.get(f"/invoices/{input}"))

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **_: Any) -> Found:  # noqa: A002
        return _read(await self._async.get(f"/invoices/{input}"))

    async def aclose(self) -> None:
        """Close its connections."""
        self._sync.close()
        await self._async.aclose()


def _read(answer: httpx.Response) -> Found:
    answer.raise_for_status()
    return [(str(each["number"]), int(each["cents"])) for each in answer.json()]
