"""Logs and metrics are acknowledged, counted and handed on, byte by byte, to whoever takes them."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from collector.receive.fronts import Destination, Front, front
from graphmeter import names
from graphmeter_collector.receive.passing import Target
from support import otlp

BODY = gzip.compress(b"whatever the sender wrote")
UNREACHABLE = Target("http://127.0.0.1:9", {})


@pytest.fixture
async def passed(destinations: list[Destination]) -> AsyncIterator[Front]:
    """Routes before two destinations, the second with a header of its own and a slash too many."""
    first, second = destinations
    made, passing = front([Target(first.url, {}), Target(second.url + "/", {"authorization": "Bearer t"})])
    async with made.http:
        yield made
    await passing.close()


@pytest.mark.parametrize("signal", ["logs", "metrics"])
@pytest.mark.parametrize(("content_type", "empty"), [(otlp.PROTOBUF, b""), (otlp.JSON, b"{}")])
async def test_without_a_destination_they_are_acknowledged_and_counted(
    routes: Front, signal: str, content_type: str, empty: bytes
) -> None:
    answer = await routes.post(b"anything", content_type, path=f"/v1/{signal}")
    assert (200, content_type, empty, 1) == (
        answer.status_code,
        answer.headers["content-type"],
        answer.content,
        routes.metrics.value(names.COLLECTOR_PASSED, signal),
    )


@pytest.mark.parametrize("signal", ["logs", "metrics"])
async def test_every_destination_gets_the_bytes_as_they_were_sent(
    passed: Front, destinations: list[Destination], signal: str
) -> None:
    answer = await passed.post(BODY, path=f"/v1/{signal}", content_encoding="gzip")
    assert 200 == answer.status_code
    for destination, token in zip(destinations, (None, "Bearer t"), strict=True):
        [(path, headers, body)] = destination.received
        assert (f"/v1/{signal}", BODY, "gzip", otlp.PROTOBUF, token) == (
            path,
            body,
            headers["content-encoding"],
            headers["content-type"],
            headers.get("authorization"),
        )


async def test_what_a_destination_refuses_for_good_is_acknowledged_and_told_once(
    passed: Front, destinations: list[Destination]
) -> None:
    for each in destinations:
        each.status = 404
    with capture_logs() as logged:
        answers = [(await passed.post(BODY, path="/v1/metrics")).status_code for _ in range(3)]
    assert [200, 200, 200] == answers
    assert ["signal_refused", "signal_refused"] == [line["event"] for line in logged]


@pytest.mark.parametrize(("one", "other", "expected"), [(503, 503, 503), (503, 404, 503), (503, 200, 200)])
async def test_the_sender_is_asked_again_only_if_nobody_took_it_and_somebody_may(
    passed: Front, destinations: list[Destination], one: int, other: int, expected: int
) -> None:
    destinations[0].status, destinations[1].status = one, other
    answer = await passed.post(BODY, path="/v1/logs")
    assert (expected, "1" if expected == 503 else None) == (answer.status_code, answer.headers.get("retry-after"))
    assert float(expected == 200) == passed.metrics.value(names.COLLECTOR_PASSED, "logs")


async def test_a_destination_that_does_not_answer_may_do_so_later() -> None:
    routes, passing = front([UNREACHABLE])
    async with routes.http:
        answer = await routes.post(BODY, path="/v1/logs")
    await passing.close()
    assert (503, 1) == (answer.status_code, routes.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, "transient"))


@pytest.mark.parametrize(("content_type", "size", "expected"), [("text/plain", 10, 415), (otlp.PROTOBUF, 30_000, 413)])
async def test_limits_and_types_hold_for_them_too(routes: Front, content_type: str, size: int, expected: int) -> None:
    answer = await routes.post(b"x" * size, content_type, path="/v1/logs")
    assert (expected, 0) == (answer.status_code, routes.metrics.value(names.COLLECTOR_PASSED, "logs"))
