"""What requests take together: memory for their bodies, and time."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

from acceptance import processes
from collector.receive.fronts import LIMITS, Front, front
from collector.waiting import until
from graphmeter import names
from graphmeter_collector.receive.body import Room
from support import otlp

ROOM = 10_000
LARGE = otlp.request(otlp.own(1, names.NODE, {"text": "x" * 6_000})).SerializeToString()
HUGE = otlp.request(otlp.own(1, names.NODE, {"text": "x" * 15_000})).SerializeToString()


async def slowly(body: bytes, rest: asyncio.Event) -> AsyncIterator[bytes]:
    """All but the last byte at once, that one when told."""
    yield body[:-1]
    await rest.wait()
    yield body[-1:]


def refused(routes: Front, reason: str) -> float:
    return routes.metrics.value(names.COLLECTOR_REQUESTS_REFUSED, reason)


async def test_bodies_that_find_no_room_are_to_come_again_and_room_is_given_back() -> None:
    room, rest = Room(ROOM), asyncio.Event()
    routes, passing = front([], room=room)
    async with routes.http:
        first = asyncio.create_task(routes.post(slowly(LARGE, rest)))
        await until(lambda: room.taken == len(LARGE) - 1)
        for path, body, encoding in (
            ("/v1/traces", LARGE, ""),
            ("/v1/traces", gzip.compress(LARGE), "gzip"),
            ("/v1/logs", LARGE, ""),
        ):
            answer = await routes.post(body, path=path, content_encoding=encoding)
            assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        assert 3 == refused(routes, "no_room")
        assert 200 == (await routes.post(LARGE[:0])).status_code

        rest.set()
        assert (200, 0) == ((await first).status_code, room.taken)
        assert (200, 200) == ((await routes.post(LARGE)).status_code, (await routes.post(HUGE)).status_code)
        assert [400, 0] == [(await routes.post(b"\xff" * 6_000)).status_code, room.taken]
    await passing.close()


async def test_a_body_that_trickles_is_refused_when_its_time_is_over() -> None:
    routes, passing = front([], LIMITS._replace(seconds=0.05))
    async with routes.http:
        answers = [
            await routes.post(slowly(body, asyncio.Event()), path=path, content_encoding=encoding)
            for path, body, encoding in (
                ("/v1/traces", LARGE, ""),
                ("/v1/traces", gzip.compress(LARGE), "gzip"),
                ("/v1/metrics", LARGE, ""),
            )
        ]
        assert [(408, "close")] * 3 == [(answer.status_code, answer.headers["connection"]) for answer in answers]
        assert (3, []) == (refused(routes, "slow_body"), routes.accepted)
    await passing.close()


def test_a_trickling_sender_loses_its_connection_and_nobody_else_notices(tmp_path: Path) -> None:
    with processes.collector(tmp_path, GRAPHMETER_BODY_TIMEOUT_S="1") as it:
        head = (
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
            "content-length: 1000000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(it.url.rpartition(":")[2])), timeout=60) as slow:
            slow.sendall(head.encode() + b"x")
            assert (200, b"") == it.post(otlp.request(otlp.span(1, start_ns=time.time_ns())).SerializeToString())
            said = b""
            while piece := slow.recv(65536):
                said += piece
        assert said.startswith(b"HTTP/1.1 408 ")
        assert 1 == it.metric(names.COLLECTOR_REQUESTS_REFUSED.name, reason="slow_body")
