"""A chat service around the support graph: `POST /chat` in, an answer and its trace id out.

    uvicorn graphmeter_examples.app:app

The service traces itself as any FastAPI application does, with a tracer provider of its own; one call of
`graphmeter.meter` measures the graph. A trace reads `POST /chat → invoke_workflow support → invoke_node … → chat …`, and a
billing question shows `SELECT invoice` nested under the node that ran the query.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from langchain_core.runnables import RunnableConfig
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import BaseModel, Field

from graphmeter_examples import support
from graphmeter_examples.invoices import Invoices
from graphmeter_examples.model import NO_TROUBLE
from graphmeter_examples.models import Models, choose_models, model_from_environment

SERVICE = "chat-app"

_log = logging.getLogger(__name__)


class Message(BaseModel):
    """What a customer says."""

    message: str = Field(examples=["A billing question: why was customer C-104 charged twice?"], min_length=1)
    user: str = ""
    thread: str = ""


class Answer(BaseModel):
    """What the graph answered."""

    answer: str
    topic: str
    trace_id: str
    """`graphmeter trace <trace_id>` shows what happened."""


def create_app(
    models: Models | None = None,
    tracer_provider: TracerProvider | None = None,
    *,
    team: str = "web",
    **meter: Any,
) -> FastAPI:
    """The service. `models` defaults to a real provider if its key is in the environment, else to stand-ins.

    `tracer_provider` carries the service's own spans; by default they go to the collector that the graph's spans go to,
    and end when the service does. `meter` is passed on to `graphmeter.meter`.
    """
    # Whoever only runs the graphs needs no client.
    import graphmeter

    provider = tracer_provider or _own_tracing()
    tracer = provider.get_tracer("graphmeter_examples.app")
    talking = models or _default_models()
    graph = graphmeter.meter(
        support.build(talking, Invoices(tracer)),
        name=support.NAME,
        team=team,
        **meter,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        graphmeter.flush()
        if tracer_provider is None:
            provider.shutdown()

    app = FastAPI(title="Chat, measured", lifespan=lifespan)

    @app.post("/chat")
    async def chat(body: Message) -> Answer:
        config: RunnableConfig = {"metadata": {"user_id": body.user} if body.user else {}}
        if body.thread:
            config["configurable"] = {"thread_id": body.thread}
        try:
            ticket = await graph.ainvoke({"question": body.message}, config)
        except talking.failures as error:
            raise HTTPException(503, f"the model provider failed: {error}") from error
        trace_id = trace.get_current_span().get_span_context().trace_id
        return Answer(answer=ticket["answer"], topic=ticket["topic"], trace_id=trace.format_trace_id(trace_id))

    # Spans per ASGI message say nothing that the request's own does not.
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["send", "receive"])
    return app


def _own_tracing() -> TracerProvider:
    """What an application sets up for itself; the destination follows Graphmeter's own variable, then OTLP's."""
    endpoint = os.environ.get("GRAPHMETER_ENDPOINT", "").rstrip("/")
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces") if endpoint else OTLPSpanExporter()
    service = os.environ.get("OTEL_SERVICE_NAME") or SERVICE
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    # Known to the whole process: Graphmeter reads from it in whose name it speaks.
    trace.set_tracer_provider(provider)
    return provider


def _default_models() -> Models:
    model = os.environ.get("GRAPHMETER_EXAMPLES_MODEL") or model_from_environment()
    _log.info("answers come from %s", model or "stand-in models")
    # Whoever tries the service for the first time should not meet a simulated outage.
    return choose_models(model, time_scale=1.0, trouble=NO_TROUBLE)


def __getattr__(name: str) -> Any:
    # Made when uvicorn asks for it: importing `create_app` must not start exporters.
    if name == "app":
        globals()["app"] = create_app()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
