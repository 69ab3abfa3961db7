"""A chat service around the support graph: `POST /chat` in, an answer and its trace id out.

    uvicorn graphmeter_examples.app:app

The service traces itself as any FastAPI application does, with a tracer provider of its own; one call of
`graphmeter.meter` measures the graph. A trace reads `POST /chat → invoke_workflow support → invoke_node … → chat …`, and a
billing question shows `SELECT invoice` nested under the node that ran the query. With `GRAPHMETER_EXAMPLES_BILLING_URL` the
node asks a second service (`graphmeter_examples.billing`) for that, whose spans are in the same trace.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableConfig
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel, Field

from graphmeter_examples import support
from graphmeter_examples.invoices import Invoices
from graphmeter_examples.model import NO_TROUBLE
from graphmeter_examples.models import Models, choose_models, model_from_environment
from graphmeter_examples.remote import RemoteInvoices
from graphmeter_examples.tracing import own_tracing

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
    billing_url: str = "",
    **meter: Any,
) -> FastAPI:
    """The service. `models` defaults to a real provider if its key is in the environment, else to stand-ins.

    `tracer_provider` carries the service's own spans; by default they go to the collector that the graph's spans go to,
    and end when the service does. `billing_url` is the second service, if there is to be one. `meter` is passed on to
    `graphmeter.meter`.
    """
    # Whoever only runs the graphs needs no client.
    import graphmeter

    provider = tracer_provider or own_tracing(SERVICE)
    remote = RemoteInvoices(billing_url, provider) if billing_url else None
    invoices = remote or Invoices(provider.get_tracer("graphmeter_examples.app"))
    talking = models or _default_models()
    graph = graphmeter.meter(
        support.build(talking, invoices),
        name=support.NAME,
        team=team,
        **meter,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if remote is not None:
            await remote.aclose()
        graphmeter.flush()
        if tracer_provider is None:
            provider.shutdown()

    app = FastAPI(title="Chat, measured", lifespan=lifespan)

    @app.post("/chat")
    async def chat(body: Message) -> Answer:
        try:
            ticket = await graph.ainvoke({"question": body.message}, _config(body))
        except talking.failures as error:
            raise HTTPException(503, f"the model provider failed: {error}") from error
        trace_id = trace.get_current_span().get_span_context().trace_id
        return Answer(answer=ticket["answer"], topic=ticket["topic"], trace_id=trace.format_trace_id(trace_id))

    @app.post("/chat/stream")
    async def stream(body: Message) -> StreamingResponse:
        """What each node adds to the state, one JSON object a line, as soon as it is there."""

        async def updates() -> AsyncIterator[str]:
            async for update in graph.astream({"question": body.message}, _config(body), stream_mode="updates"):
                yield json.dumps(update) + "\n"

        return StreamingResponse(updates(), media_type="application/x-ndjson")

    # Spans per ASGI message say nothing that the request's own does not.
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["send", "receive"])
    return app


def _config(body: Message) -> RunnableConfig:
    config: RunnableConfig = {"metadata": {"user_id": body.user} if body.user else {}}
    if body.thread:
        config["configurable"] = {"thread_id": body.thread}
    return config


def _default_models() -> Models:
    model = os.environ.get("GRAPHMETER_EXAMPLES_MODEL") or model_from_environment()
    _log.info("answers come from %s", model or "stand-in models")
    # Whoever tries the service for the first time should not meet a simulated outage.
    return choose_models(model, time_scale=1.0, trouble=NO_TROUBLE)


def __getattr__(name: str) -> Any:
    # Made when uvicorn asks for it: importing `create_app` must not start exporters.
    if name == "app":
        globals()["app"] = create_app(billing_url=os.environ.get("GRAPHMETER_EXAMPLES_BILLING_URL", ""))
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
