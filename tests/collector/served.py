"""A whole collector within the test: everything `serve` makes, asked over HTTP without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter_collector.app import Collector, running
from graphmeter_collector.settings import Settings
from support import otlp


class Served(NamedTuple):
    """A running collector and a client for it."""

    collector: Collector
    http: httpx.AsyncClient

    async def send(self, *spans: Span, **how: Any) -> httpx.Response:
        """Deliver spans; `how` goes to the request."""
        body = otlp.request(*spans, **how).SerializeToString()
        return await self.http.post("/v1/traces", content=body, headers={"content-type": otlp.PROTOBUF})

    async def get(self, path: str) -> Any:
        """The JSON of a path that must answer 200."""
        answer = await self.http.get(path)
        assert (200, path) == (answer.status_code, path), answer.text
        return answer.json()

    async def problem(self, path: str) -> tuple[int, str]:
        """Status and sentence of a path that must refuse."""
        answer = await self.http.get(path)
        detail = answer.json()["detail"]
        assert isinstance(detail, str)
        return answer.status_code, detail

    async def scrape(self) -> dict[str, float]:
        """All samples as a Prometheus server would read them now."""
        answer = await self.http.get("/metrics", headers={"accept": "text/plain; version=0.0.4"})
        return samples(answer.text)


def samples(exposition: str) -> dict[str, float]:
    """Series as written → value."""
    lines = (line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


@asynccontextmanager
async def served(database_url: str, **settings: Any) -> AsyncIterator[Served]:
    """Run a collector on a database until the block ends."""
    async with (
        running(Settings(database_url=database_url, **settings)) as collector,
        httpx.AsyncClient(transport=httpx.ASGITransport(collector.app), base_url="http://collector:4318") as http,
    ):
        yield Served(collector, http)


def configured(folder: Path, text: str) -> str:
    """The path of a graphmeter.yaml with this text."""
    file = folder / "graphmeter.yaml"
    file.write_text(text)
    return str(file)
