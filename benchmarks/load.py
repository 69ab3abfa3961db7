"""A load of OTLP requests, and the process that sends it: `python benchmarks/load.py URL --spans 100000`.

Whole runs as the client sends them: a start record, a root, ten nodes, five model calls, each span attributed by itself.
Every run has ids and times of its own, one after the other, the last has just ended. All else repeats as in an application,
unless `--unique` or `--content` say otherwise. Requests are made before the clock starts. Prints one JSON object: spans per
second, latencies of the acknowledgements, CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import resource
import struct
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from urllib.parse import urlsplit

import ids
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from graphmeter import names

NODES = 10
CALLS = 5
SPANS_PER_RUN = 2 + NODES + CALLS
RUNS_PER_REQUEST = 30
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4o-mini"))
CONTENT_BYTES = 2_048
_TEMPLATES = 60
"""Runs that differ in more than their ids and times."""
_RUN_NS, _GAP_NS = 100_000_000 * NODES, 500_000
"""How long a run takes, and how soon after it the next one begins."""
_FIXED64 = struct.Struct("<Q")
_UNIQUE = 4
"""Attributes per span whose values never repeat, with `unique`."""
NO_ATTRIBUTES: Mapping[str, str | int] = {}


@dataclass(frozen=True)
class Shape:
    """What the spans are like."""

    unique: bool = False
    """Four attributes of every span have values that no other span has."""
    content: bool = False
    """Every model call carries 2 KB of messages."""


def requests(shape: Shape, spans: int, *, seed: int = 0) -> Iterator[bytes]:
    """Requests of `RUNS_PER_REQUEST` whole runs each, of at least so many spans in all; another seed gives other ids."""
    rng = random.Random(seed)  # noqa: S311 - ids of a benchmark
    head = _head()
    runs = -(-spans // SPANS_PER_RUN)
    began_ns = time.time_ns() - _RUN_NS - runs * _GAP_NS
    for first in range(0, runs, RUNS_PER_REQUEST):
        numbers = range(first, first + RUNS_PER_REQUEST)
        body = b"".join(_run(shape, number, began_ns + number * _GAP_NS, rng) for number in numbers)
        scope_spans = head[1] + body
        yield _field(0x0A, head[0] + _field(0x12, scope_spans))


def _field(tag: int, data: bytes) -> bytes:
    """One length-delimited protobuf field."""
    size, length = bytearray(), len(data)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes((tag, *size)) + data


def _head() -> tuple[bytes, bytes]:
    """Resource, and scope, as the fields of their parents."""
    request = ExportTraceServiceRequest()
    whole = request.resource_spans.add()
    whole.resource.attributes.add(key=names.SERVICE_NAME).value.string_value = "shop"
    scope = ScopeSpans()
    scope.scope.name = names.SCOPE
    return whole.SerializeToString(), scope.SerializeToString()


def _run(shape: Shape, number: int, began_ns: int, rng: random.Random) -> bytes:
    """Spans of one run: a template with times, and ids of the same length, put in."""
    old, template, times = _template(shape, number % _TEMPLATES)
    new = ids.run_id(rng, began_ns)
    moved = bytearray(template)
    for place, after_ns in times:
        _FIXED64.pack_into(moved, place, began_ns + after_ns)
    body = moved.replace(old.bytes, new.bytes).replace(old.bytes[8:14], new.bytes[8:14])
    body = bytes(body.replace(str(old).encode(), str(new).encode()))
    if shape.unique:
        first, *rest = body.split(_PLACE)
        body = first + b"".join(b"%0*x" % (len(_PLACE), rng.getrandbits(48)) + part for part in rest)
    return body


_PLACE = b"<unique-id->"


@cache
def _template(shape: Shape, number: int) -> tuple[uuid.UUID, bytes, list[tuple[int, int]]]:
    """Id and spans of a run, and where its times stand, each with the nanoseconds since its beginning."""
    rng = random.Random(number)  # noqa: S311
    began = time.time_ns()
    run_id = ids.run_id(rng, began)
    scope = ScopeSpans()
    common: dict[str, str | int] = {
        names.RUN_ID: str(run_id),
        names.GRAPH: ("support", "research")[number % 2],
        names.TEAM: ("cx", "ops", "growth")[number % 3],
        names.TENANT: f"tenant {number % 20}",
        names.CONVERSATION_ID: f"thread {run_id}",
        names.STATUS: names.OK,
    }

    def add(
        identity: int,
        kind: str,
        name: str,
        ms: tuple[int, int],
        parent: int,
        own: Mapping[str, str | int] = NO_ATTRIBUTES,
    ) -> None:
        span = scope.spans.add(name=name, trace_id=run_id.bytes, span_id=_span_id(run_id, identity))
        span.parent_span_id = _span_id(run_id, parent) if parent else b""
        span.start_time_unix_nano, span.end_time_unix_nano = (began + at * 1_000_000 for at in ms)
        _describe(span, {names.KIND: kind, **common, **own})
        if shape.unique:
            extra = (names.USER, names.SESSION, f"{names.TAG_PREFIX}order", "http.request.id")
            _describe(span, dict.fromkeys(extra[:_UNIQUE], _PLACE.decode()))

    add(99, names.START, names.OP_START, (0, 0), 1)
    add(1, names.RUN, f"{names.OP_WORKFLOW} support", (0, 100 * NODES), 0)
    for node in range(NODES):
        where: dict[str, str | int] = {names.NODE_PATH: f"node {node}", names.LANGGRAPH_STEP: node + 1}
        add(10 + node, names.NODE, f"{names.OP_NODE} node {node}", (100 * node, 100 * node + 90 + number % 7), 1, where)
        if node < CALLS:
            provider, model = MODELS[(number + node) % len(MODELS)]
            call = {
                **where,
                names.OPERATION: names.OP_CHAT,
                names.PROVIDER: provider,
                names.REQUEST_MODEL: model,
                names.RESPONSE_MODEL: model,
                names.RESPONSE_ID: f"chatcmpl-{run_id}-{node}",
                names.USAGE_INPUT: 1_200 + number,
                names.USAGE_CACHE_READ: 400,
                names.USAGE_OUTPUT: 250,
            }
            if shape.content:
                text = "".join(rng.choices("etaoin shrdlu", k=CONTENT_BYTES // 2))
                call |= {names.INPUT_MESSAGES: text, names.OUTPUT_MESSAGES: text[::-1]}
            add(50 + node, names.MODEL, f"chat {model}", (100 * node + 1, 100 * node + 80), 10 + node, call)
    body = scope.SerializeToString()
    said = {at for span in scope.spans for at in (span.start_time_unix_nano, span.end_time_unix_nano)}
    return run_id, body, [(place, at - began) for at in said for place in _places(body, _FIXED64.pack(at))]


def _places(body: bytes, wanted: bytes) -> Iterator[int]:
    place = body.find(wanted)
    while place >= 0:
        yield place
        place = body.find(wanted, place + 1)


def _span_id(run_id: uuid.UUID, identity: int) -> bytes:
    """Six bytes of the run's id and two of its own."""
    return run_id.bytes[8:14] + identity.to_bytes(2, "big")


def _describe(span: Span, attributes: Mapping[str, str | int]) -> None:
    for key, value in attributes.items():
        into = span.attributes.add(key=key).value
        if isinstance(value, str):
            into.string_value = value
        else:
            into.int_value = value


# --- sending ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """What the sender saw. Seconds, but for the latencies."""

    spans: int
    wall_s: float
    cpu_s: float
    """Of this process."""
    p50_ms: float
    p99_ms: float
    refused: int
    """Requests that were answered with anything but 200; they were sent again."""


async def send(url: str, bodies: Sequence[bytes], *, senders: int, compressed: bool, spans: int) -> Sent:
    """Send every body once, over as many connections that stay open; a refused one again after a moment."""
    parts = urlsplit(url)
    lines = f"POST /v1/traces HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-protobuf\r\n"
    lines += "Content-Encoding: gzip\r\n" if compressed else ""
    ready = [f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    waiting = iter(ready)
    took: list[float] = []
    refused = 0

    async def sender() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for request in waiting:
            began = time.perf_counter()
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        await reader.readexactly(int(line[15:]))
                if head.split(b" ", 2)[1] == b"200":
                    break
                refused += 1
                await asyncio.sleep(0.05)
            took.append(time.perf_counter() - began)
        writer.close()

    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(senders):
            tasks.create_task(sender())
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    took.sort()
    p50_ms, p99_ms = (took[min(int(share * len(took)), len(took) - 1)] * 1e3 for share in (0.5, 0.99))
    return Sent(spans, wall_s, cpu_s, p50_ms, p99_ms, refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--spans", type=int, default=50_000)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--unique", action="store_true")
    parser.add_argument("--content", action="store_true")
    parser.add_argument("--twice", action="store_true", help="send all of it again: a second line of JSON")
    given = parser.parse_args()
    bodies = list(requests(Shape(given.unique, given.content), given.spans, seed=given.seed))
    spans = len(bodies) * RUNS_PER_REQUEST * SPANS_PER_RUN
    if given.gzip:
        bodies = [gzip.compress(body, 1) for body in bodies]
    for _ in range(1 + given.twice):
        sent = asyncio.run(send(given.url, bodies, senders=given.senders, compressed=given.gzip, spans=spans))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**asdict(sent), "peak_mb": peak_mb}), flush=True)


if __name__ == "__main__":
    main()
