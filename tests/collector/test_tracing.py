"""The collector's own requests as spans: they go to the destinations, never into its own database."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

from collector.receive.fronts import Destination
from collector.served import Served, served
from graphmeter import names
from graphmeter_collector import tracing
from support import otlp
from support.records import SECOND


@pytest.fixture
def destination() -> Iterator[Destination]:
    made = Destination()
    yield made
    made.close()


def own_spans(destination: Destination) -> list[str]:
    """Names of the collector's own spans that arrived."""
    found = []
    for path, headers, body in destination.received:
        assert "/v1/traces" == path
        raw = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
            resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
            if resource.get(names.SERVICE_NAME) == "graphmeter-collector":
                found += [span.name for scope in group.scope_spans for span in scope.spans]
    return found


async def ask_everything(it: Served) -> None:
    await it.send(*otlp.run(1, start_ns=time.time_ns() - 5 * SECOND))
    for path in ("/metrics", "/health", "/ready", "/api/nodes", "/api/runs/health", "/"):
        await it.http.get(path)
    for signal in ("logs", "metrics"):
        await it.http.post(f"/v1/{signal}", content=b"", headers={"content-type": "text/wrong"})


async def test_requests_of_people_are_traced_and_those_of_machines_are_not(
    sqlite_url: str, destination: Destination
) -> None:
    async with served(sqlite_url, forward=[destination.url]) as it:
        await ask_everything(it)
    assert ["GET /", "GET /api/nodes", "GET /api/runs/{reference}"] == sorted(own_spans(destination))


async def test_a_host_that_is_called_like_an_excluded_path_is_traced_all_the_same(
    sqlite_url: str, destination: Destination
) -> None:
    async with served(sqlite_url, forward=[destination.url]) as it:
        await it.http.get("/api/nodes", headers={"host": "metrics.health.example"})
    assert ["GET /api/nodes"] == own_spans(destination)


async def test_the_collector_never_stores_its_own_spans(sqlite_url: str, destination: Destination) -> None:
    async with served(sqlite_url, forward=[destination.url]) as it:
        await ask_everything(it)
    async with served(sqlite_url) as it:
        assert {"shop"} == {series["service"] for series in await it.get("/api/series")}
        assert 1 == len(await it.get("/api/runs"))


async def test_without_a_destination_requests_have_a_span_for_the_log_and_nothing_is_sent(sqlite_url: str) -> None:
    seen: list[bool] = []
    async with served(sqlite_url) as it:

        @it.collector.app.get("/seen")
        async def look() -> None:
            seen.append(get_current_span().get_span_context().is_valid)

        await it.http.get("/seen")
        await ask_everything(it)
    assert [True] == seen


async def test_a_destination_that_is_away_does_not_hold_up_the_end(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, shutdown = threading.Event(), TracerProvider.shutdown

    def retry_for_long(provider: TracerProvider) -> None:
        given_up.wait(60)
        shutdown(provider)

    monkeypatch.setattr(TracerProvider, "shutdown", retry_for_long)
    monkeypatch.setattr(tracing, "END_WITHIN_S", 0.05)
    async with served(sqlite_url, forward=["http://127.0.0.1:9"]) as it:
        await it.http.get("/api/nodes")
    [ending] = [thread for thread in threading.enumerate() if thread.name == "end-tracing"]
    given_up.set()
    ending.join()
