"""Input that is wrong, over a real socket to a real collector: refused by name, counted, and nothing of it stored."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from acceptance.processes import Collector, collector
from collector.store.dump import dump
from graphmeter import names
from graphmeter_collector.settings import default_database_url
from support import otlp
from support.records import SECOND, span_id

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MIB = 1024 * 1024
REFUSED = names.COLLECTOR_REQUESTS_REFUSED.name
REJECTED = names.COLLECTOR_REJECTED.name
REPAIRED = names.COLLECTOR_REPAIRED.name

_traces = itertools.count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Collector]:
    """One collector for the whole module: after everything that it was sent, it has to live."""
    with collector(folder) as started:
        yield started
        assert started.ready()


@pytest.fixture
def facts(running: Collector, folder: Path) -> Iterator[Facts]:
    """Good input goes in before the test and after it, and all of it is kept."""
    stored = Facts(default_database_url(folder))
    before = send_good_run(running)
    yield stored
    after = send_good_run(running)
    assert {before, after} <= stored.runs()


@dataclass(frozen=True)
class Facts:
    """What a collector's database holds."""

    database_url: str

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        return asyncio.run(dump(self.database_url))

    def runs(self) -> set[str]:
        """Run ids of runs that are whole."""
        return {row["run_id"] for row in self.tables()["run"] if row["status"] == names.OK}

    def spans(self) -> dict[str, dict[str, Any]]:
        """Rows by span name; the tests' names are unique."""
        return {row["name"]: row for row in self.tables()["span"]}


def send_good_run(to: Collector) -> str:
    """Send a whole run, see it accepted, and return its id."""
    of = next(_traces)
    assert (200, b"") == to.post(otlp.request(*good_spans(of)).SerializeToString())
    return f"00000000-0000-0000-0000-{of:012d}"


def good_spans(of: int) -> list[Span]:
    return otlp.run(of, start_ns=time.time_ns() - 3 * SECOND)


def good_json() -> dict[str, Any]:
    return otlp.as_dict(otlp.request(*good_spans(next(_traces))))


def json_with(path: tuple[str | int, ...], wrong: object) -> bytes:
    """A request whose first spans are good and one value of whose third span has a wrong type."""
    document = good_json()
    place: Any = document["resourceSpans"][0]["scopeSpans"][0]["spans"][2]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    return json.dumps(document).encode()


THIRD = "resourceSpans[0].scopeSpans[0].spans[2]"
PROTOBUF_RUN = otlp.request(*otlp.run(10_000, start_ns=time.time_ns())).SerializeToString()
GZIPPED_RUN = gzip.compress(PROTOBUF_RUN)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "status", "message", "reason"),
    [
        pytest.param(
            b"this is no protobuf",
            otlp.PROTOBUF,
            "",
            400,
            "not an OTLP ExportTraceServiceRequest in protobuf",
            "bad_protobuf",
            id="not protobuf",
        ),
        pytest.param(
            PROTOBUF_RUN[: len(PROTOBUF_RUN) - 40],
            otlp.PROTOBUF,
            "",
            400,
            "not an OTLP ExportTraceServiceRequest in protobuf",
            "bad_protobuf",
            id="protobuf cut short",
        ),
        pytest.param(
            GZIPPED_RUN[: len(GZIPPED_RUN) // 2],
            otlp.PROTOBUF,
            "gzip",
            400,
            "the gzip body ends early",
            "bad_compression",
            id="gzip cut short",
        ),
        pytest.param(
            PROTOBUF_RUN,
            otlp.PROTOBUF,
            "gzip",
            400,
            "the gzip body is damaged",
            "bad_compression",
            id="said to be gzip and is not",
        ),
        pytest.param(
            gzip.compress(bytes(200 * MIB), 1),
            otlp.PROTOBUF,
            "gzip",
            413,
            f"decompressed body is larger than {128 * MIB} bytes",
            "too_large",
            id="gzip that inflates to 200 MiB",
        ),
        pytest.param(
            PROTOBUF_RUN,
            otlp.PROTOBUF,
            "br",
            415,
            "content encoding 'br' is not known: send gzip",
            "unsupported_media_type",
            id="unknown encoding",
        ),
        pytest.param(
            PROTOBUF_RUN,
            "text/html",
            "",
            415,
            "content type 'text/html' is not known: send application/x-protobuf or application/json",
            "unsupported_media_type",
            id="unknown content type",
        ),
        pytest.param(
            b'{"resourceSpans": [', otlp.JSON, "", 400, "the body is not JSON", "bad_json", id="JSON cut short"
        ),
        pytest.param(
            b'{"resourceSpans": "all of them"}',
            otlp.JSON,
            "",
            400,
            "resourceSpans: expected an array, got 'all of them'",
            "bad_json",
            id="JSON with text for an array",
        ),
        pytest.param(
            json_with(("startTimeUnixNano",), {"seconds": 1}),
            otlp.JSON,
            "",
            400,
            f"{THIRD}.startTimeUnixNano: expected an integer, got an object",
            "bad_json",
            id="JSON with an object for a time",
        ),
        pytest.param(
            json_with(("attributes", 0, "value"), {"stringValue": 7}),
            otlp.JSON,
            "",
            400,
            f"{THIRD}.attributes[0].value.stringValue: expected a string, got 7",
            "bad_json",
            id="JSON with a number for text",
        ),
        pytest.param(
            json_with(("traceId",), "not hex"),
            otlp.JSON,
            "",
            400,
            f"{THIRD}.traceId: expected hex digits, got 'not hex'",
            "bad_json",
            id="JSON with an id that is not hex",
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_whole(
    body: bytes,
    content_type: str,
    encoding: str,
    status: int,
    message: str,
    reason: str,
    running: Collector,
    facts: Facts,
) -> None:
    before, refused = facts.tables(), running.metric(REFUSED, reason=reason)

    answered, answer = running.post(body, content_type, encoding)

    assert status == answered
    assert message in said(answer, content_type)
    assert refused + 1 == running.metric(REFUSED, reason=reason)
    assert before == facts.tables()


def said(answer: bytes, content_type: str) -> str:
    """The message of a refusal, which has the content type of the request where that is one of OTLP's."""
    if content_type == otlp.PROTOBUF:
        return str(Status.FromString(answer).message)
    return str(json.loads(answer)["message"])


def test_a_missing_content_type_is_named(running: Collector, facts: Facts) -> None:
    before = facts.tables()
    connection = connect(running)
    connection.request("POST", "/v1/traces", PROTOBUF_RUN)
    answer = connection.getresponse()

    assert 415 == answer.status
    assert "the content type is missing" in said(answer.read(), "")
    connection.close()
    assert before == facts.tables()


@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
def test_spans_that_cannot_be_stored_are_told_apart_from_good_ones(
    content_type: str, running: Collector, facts: Facts
) -> None:
    of, now = next(_traces), time.time_ns()
    bad = {
        "no_ids": otlp.span(21, of=of, name="without ids", span_id=b"", start_ns=now),
        "no_start": otlp.span(22, of=of, name="without start", start_time_unix_nano=0),
        "ends_before_start": otlp.span(23, of=of, name="backwards", start_ns=now, s=-5),
        "in_the_future": otlp.span(24, of=of, name="tomorrow", start_ns=now + 3 * 86_400 * SECOND),
        "too_old": otlp.span(25, of=of, name="yesteryear", start_ns=now - 400 * 86_400 * SECOND),
    }
    good = good_spans(of)
    request = otlp.request(*good[:2], *bad.values(), *good[2:])
    before = {reason: running.metric(REJECTED, reason=reason) for reason in bad}
    spans_before = len(facts.tables()["span"])

    body = otlp.as_json(request) if content_type == otlp.JSON else request.SerializeToString()
    status, answer = running.post(body, content_type)

    assert 200 == status
    rejected, message = partial_success(answer, content_type)
    assert len(bad) == rejected
    assert "span 'without ids' (id missing) needs a span id of 8 bytes, not all zero" in message
    for span in bad.values():
        assert repr(span.name) in message
    assert {reason: count + 1 for reason, count in before.items()} == {
        reason: running.metric(REJECTED, reason=reason) for reason in bad
    }
    assert spans_before + len(good) == len(facts.tables()["span"])
    assert f"00000000-0000-0000-0000-{of:012d}" in facts.runs()


def partial_success(answer: bytes, content_type: str) -> tuple[int, str]:
    """How many spans were rejected, and why."""
    if content_type == otlp.JSON:
        partial = json.loads(answer)["partialSuccess"]
        return int(partial["rejectedSpans"]), partial["errorMessage"]
    parsed = ExportTraceServiceResponse.FromString(answer).partial_success
    return parsed.rejected_spans, parsed.error_message


def test_one_poisoned_span_costs_no_other_span_on_either_database(database_url: str, tmp_path: Path) -> None:
    poison = {
        "nul\0key": "nul\0value",
        names.NODE_PATH: "no\0de" + "x" * 100_000,
        names.TEAM: 7,
        names.LANGGRAPH_STEP: 2**63 - 1,
        names.ATTEMPT: -(2**63),
        names.ATTEMPT_SPAN: "not hex",
        names.OPERATION: names.OP_CHAT,
        names.REQUEST_MODEL: "\0",
        names.USAGE_INPUT: 2**63 - 1,
        names.USAGE_OUTPUT: -1,
        names.USAGE_REASONING: float("nan"),
        names.TIME_TO_FIRST_CHUNK: float("inf"),
        names.TAG_PREFIX + "\0": "\0",
        "deep": {"list": [{"and": [1, None, b"\xff\0"]}] * 100},
    }
    of = next(_traces)
    good = good_spans(of)
    sick = otlp.own(20, names.MODEL, poison, of=of, start_ns=good[0].start_time_unix_nano, name="po\0ison")
    sick.parent_span_id = sick.span_id
    sick.status.message = "\0" * 10
    sound = otlp.own(30, names.TOOL, {}, of=of, start_ns=good[0].start_time_unix_nano, name="in\ufffdvalid")
    body = otlp.request(*good[:2], sick, sound, *good[2:]).SerializeToString()
    # A sender that cuts text in the middle of a character: protobuf itself would not write that.
    assert 1 == body.count("\ufffd".encode())
    body = body.replace("\ufffd".encode(), b"\xe2\x82\xff")
    with collector(tmp_path, database_url=database_url) as running:
        status, _ = running.post(body)

        assert 200 == status
        facts = Facts(database_url)
        assert {span.span_id for span in good} | {sound.span_id} <= {row["span_id"] for row in facts.tables()["span"]}
        assert f"00000000-0000-0000-0000-{of:012d}" in facts.runs()
        assert 1 <= running.metric(REPAIRED, reason="bad_utf8")
        [run] = running.get("/api/runs")
        shown = {span["span_id"]: span for span in running.get(f"/api/runs/{run['run_id']}/trace")}
        assert "answer" == shown[span_id(2).hex()]["node"]
        if span_id(20).hex() in shown:
            assert "poison" in shown[span_id(20).hex()]["name"].replace("\ufffd", "")
        assert 0 < running.metric("graphmeter_cost_usd_total") < 1
        assert (200, b"") == running.post(otlp.request(*good_spans(next(_traces))).SerializeToString())


@pytest.mark.parametrize("declared", [True, False], ids=["length declared", "chunked"])
def test_a_body_of_100_mb_is_refused_at_once_and_not_held_in_memory(
    declared: bool, running: Collector, facts: Facts
) -> None:
    before, refused = facts.tables(), running.metric(REFUSED, reason="too_large")
    piece, pieces = bytes(MIB), 100
    with peak_memory(running) as memory:
        connection = connect(running)
        connection.putrequest("POST", "/v1/traces")
        connection.putheader("Content-Type", otlp.PROTOBUF)
        if declared:
            connection.putheader("Content-Length", str(len(piece) * pieces))
        else:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        if not declared:
            # The limit is 64 MiB: nobody knows before.
            send_until_refused(connection, (b"%x\r\n%b\r\n" % (MIB, piece) for _ in range(pieces)))
        answer = connection.getresponse()
        message = said(answer.read(), otlp.PROTOBUF)
        connection.close()

    assert (413, f"the body is larger than {64 * MIB} bytes: send smaller batches") == (answer.status, message)
    assert refused + 1 == running.metric(REFUSED, reason="too_large")
    # Chunked: what was read up to the limit, and not one limit more for growing the buffer.
    assert memory.grown_mib < (10 if declared else 100)
    assert before == facts.tables()


def test_a_sender_that_does_not_listen_while_it_sends_still_reads_the_refusal(running: Collector, facts: Facts) -> None:
    """As exporters do: the whole body first, on a connection that is kept, and then the answer."""
    with peak_memory(running) as memory:
        connection = connect(running)
        for _ in range(2):
            connection.request("POST", "/v1/traces", bytes(100 * MIB), {"Content-Type": otlp.PROTOBUF})
            answer = connection.getresponse()
            assert (413, True) == (answer.status, "send smaller batches" in said(answer.read(), otlp.PROTOBUF))
        connection.request("POST", "/v1/traces", PROTOBUF_RUN, {"Content-Type": otlp.PROTOBUF})
        assert 200 == connection.getresponse().status
        connection.close()
    assert memory.grown_mib < 10


def connect(to: Collector) -> http.client.HTTPConnection:
    address = urlsplit(to.url)
    assert address.hostname is not None
    return http.client.HTTPConnection(address.hostname, address.port, timeout=60)


def send_until_refused(connection: http.client.HTTPConnection, chunks: Iterator[bytes]) -> None:
    try:
        for chunk in chunks:
            connection.send(chunk)
        connection.send(b"0\r\n\r\n")
    except ConnectionError:
        return


class Memory:
    """Resident memory of a process over a block, in MiB."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._before = self._peak = self._now()

    @property
    def grown_mib(self) -> float:
        return self._peak - self._before

    def look(self) -> None:
        self._peak = max(self._peak, self._now())

    def _now(self) -> float:
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(self._process_id)])) / 1024


@contextmanager
def peak_memory(of: Collector) -> Iterator[Memory]:
    """Watch a collector's memory while the block runs."""
    memory, ended = Memory(of.process.pid), threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            memory.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        ended.set()
        watcher.join()
        memory.look()


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression], ids=lambda each: each.value)
def test_the_official_exporter_needs_nothing_from_us(
    compression: Compression, running: Collector, facts: Facts
) -> None:
    provider = TracerProvider(resource=Resource({names.SERVICE_NAME: "theirs"}))
    exporter = OTLPSpanExporter(f"{running.url}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("an application")
    outer, inner = f"outer, {compression.value}", f"inner, {compression.value}"
    with tracer.start_as_current_span(outer), tracer.start_as_current_span(inner) as span:
        span.set_attribute("text", "ünïcödé \N{SNOWMAN}")
        span.record_exception(ValueError("no harm"))
    assert provider.force_flush(10_000)
    provider.shutdown()

    stored = facts.spans()
    assert ("theirs", names.SPAN) == (stored[outer]["service"], stored[outer]["kind"])
    assert stored[outer]["span_id"] == stored[inner]["parent_id"]
    assert stored[outer]["trace_id"] == stored[inner]["trace_id"]
