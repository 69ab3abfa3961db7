"""OTLP/HTTP on a real socket: connections that are kept, requests sent before the last answer, bodies in chunks."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from acceptance import processes
from graphmeter import names
from support import otlp
from support.records import SECOND


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Collector]:
    with processes.collector(tmp_path_factory.mktemp("collector")) as it:
        yield it


@pytest.fixture
def connection(running: processes.Collector) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port(running)), timeout=60) as one:
        yield one


def port(running: processes.Collector) -> int:
    return int(running.url.rpartition(":")[2])


def request(number: int) -> bytes:
    message: ExportTraceServiceRequest = otlp.request(otlp.span(number, start_ns=time.time_ns() - SECOND))
    return message.SerializeToString()


def head(*lines: str) -> bytes:
    first = ("POST /v1/traces HTTP/1.1", "host: localhost", f"content-type: {otlp.PROTOBUF}")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers on one connection."""
    found = []
    for _ in range(count):
        answer = http.client.HTTPResponse(connection, method="POST")
        # With a buffer it would read ahead, and take the next answer with it.
        answer.fp = connection.makefile("rb", buffering=0)  # type: ignore[assignment]
        answer.begin()
        found.append((answer.status, answer.read()))
    return found


def test_one_connection_carries_request_after_request(running: processes.Collector) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port(running), timeout=60)
    connection.connect()
    first = connection.sock
    for body, status in ((request(1), 200), (request(2), 200), (b"\xff", 400), (request(3), 200)):
        connection.request("POST", "/v1/traces", body, {"content-type": otlp.PROTOBUF})
        answer = connection.getresponse()
        assert status == answer.status
        answer.read()
    assert first is connection.sock
    connection.close()


def test_requests_sent_before_the_last_answer_are_answered_in_order(
    running: processes.Collector, connection: socket.socket
) -> None:
    stored = running.metric(names.COLLECTOR_STORED.name)
    bodies = [request(11), b"\xff\xff", request(12)]
    connection.sendall(b"".join(head(f"content-length: {len(body)}") + body for body in bodies))
    assert [200, 400, 200] == [status for status, _ in answers(connection, 3)]
    assert stored + 2 == running.metric(names.COLLECTOR_STORED.name)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_body_in_chunks_is_a_body(running: processes.Collector, connection: socket.socket, size: int) -> None:
    connection.sendall(head("transfer-encoding: chunked") + chunked(request(20), size))
    assert [(200, b"")] == answers(connection, 1)


def test_whoever_asks_before_sending_is_told_to_go_on(connection: socket.socket) -> None:
    body = request(30)
    connection.sendall(head(f"content-length: {len(body)}", "expect: 100-continue"))
    said = connection.recv(1_000)
    assert said.startswith(b"HTTP/1.1 100 ")
    connection.sendall(body)
    assert [(200, b"")] == answers(connection, 1)
