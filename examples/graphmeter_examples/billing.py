"""A second service: a customer in, open invoices out, `GET /invoices/C-104`.

    uvicorn graphmeter_examples.billing:app --port 8001

It knows nothing of graphs. What asks it sends a `traceparent` header (W3C Trace Context), from which its own tracing goes
on: `GET /invoices/{customer}` and the query below it are part of the trace of the request that a user has made elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel

from graphmeter_examples.invoices import Invoices
from graphmeter_examples.tracing import own_tracing

SERVICE = "billing-app"


class Invoice(BaseModel):
    """One that is not paid."""

    number: str
    cents: int


def create_app(tracer_provider: TracerProvider | None = None) -> FastAPI:
    """The service; `tracer_provider` carries its spans, by default to the collector, and ends when the service does."""
    provider = tracer_provider or own_tracing(SERVICE)
    invoices = Invoices(provider.get_tracer("graphmeter_examples.billing"))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if tracer_provider is None:
            provider.shutdown()

    app = FastAPI(title="Invoices", lifespan=lifespan)

    @app.get("/invoices/{customer}")
    async def open_invoices(customer: str) -> list[Invoice]:
        return [Invoice(number=number, cents=cents) for number, cents in invoices.open_invoices(customer)]

    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["send", "receive"])
    return app


def __getattr__(name: str) -> Any:
    # Made when uvicorn asks for it: importing `create_app` must not start exporters.
    if name == "app":
        globals()["app"] = create_app()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
