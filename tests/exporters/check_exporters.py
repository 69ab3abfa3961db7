"""OpenTelemetry's own exporters, unmodified, against a real collector: what it stored is what they were given.

`make test-exporters` runs this; `make test` does not, for the programs beside this file have to be fetched and built. They
all send the same trace, with attributes of every type, an event and a link.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import select

from acceptance.processes import Collector, collector
from graphmeter_collector.store import tables
from graphmeter_collector.store.engine import parse, read_engine
from support.ports import free_port

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / ".tools" / "exporters"
MS = 1_000_000
WITHIN_S = 540.0


class Language(NamedTuple):
    """How a program is built and run."""

    name: str
    needs: tuple[str, ...]
    """Commands of its tool chain."""
    build: tuple[str, ...]
    run: tuple[str, ...]
    protocols: tuple[str, ...]
    empty: str | None = ""
    """What arrives of an empty text."""


HTTP, JSON, GRPC = "http/protobuf", "http/json", "grpc"
LANGUAGES = (
    Language("python", (), (), (sys.executable, "send.py"), (HTTP, GRPC)),
    Language(
        "javascript",
        ("node", "npm"),
        ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock"),
        ("node", "send.js"),
        (HTTP, JSON, GRPC),
    ),
    Language("go", ("go",), ("go", "build", "-o", "send", "."), ("./send",), (HTTP, GRPC)),
    Language(
        "java",
        ("java", "javac", "mvn"),
        ("mvn", "-q", "-B", "package"),
        ("java", "-cp", "target/exporter-1.jar:target/dependency/*", "Send"),
        (HTTP, GRPC),
        None,  # its exporter leaves out what is empty, the kind of the value with it
    ),
)
CASES = [
    pytest.param(language, protocol, compression, id=f"{language.name} {protocol} {compression}")
    for language in LANGUAGES
    for protocol in language.protocols
    for compression in ("none", "gzip")
]


def built(language: Language) -> Path:
    """The folder where the program can be run; fails naming the tool that is missing."""
    missing = [command for command in language.needs if shutil.which(command) is None]
    assert not missing, f"the tool chain of {language.name} is missing: no {' and no '.join(missing)} on PATH"
    folder = BUILT / language.name
    shutil.copytree(HERE / language.name, folder, dirs_exist_ok=True)
    if language.build:
        done = subprocess.run(language.build, cwd=folder, capture_output=True, text=True, check=False, timeout=WITHIN_S)
        assert 0 == done.returncode, f"cannot build the program of {language.name}:\n{done.stdout}{done.stderr}"
    return folder


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    """Folders by language, built when they are first asked for."""
    return {}


@contextmanager
def listening(folder: Path) -> Iterator[tuple[Collector, int]]:
    """A collector, and its port for gRPC."""
    port = free_port()
    with collector(folder, "--grpc-port", str(port)) as running:
        yield running, port


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[tuple[Collector, int]]:
    with listening(place) as it:
        yield it


@pytest.mark.parametrize(("language", "protocol", "compression"), CASES)
def test_what_an_exporter_sends_is_stored(
    language: Language,
    protocol: str,
    compression: str,
    programs: dict[str, Path],
    running: tuple[Collector, int],
    place: Path,
) -> None:
    if language.name not in programs:
        programs[language.name] = built(language)
    it, grpc_port = running
    before = it.metric("graphmeter_collector_requests_total", protocol=protocol)
    start_ms = time.time_ns() // MS - 5_000
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    endpoint = f"http://127.0.0.1:{grpc_port}" if protocol == GRPC else it.url
    said = subprocess.run(
        language.run,
        cwd=programs[language.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
        env={
            **clean,
            "START_MS": str(start_ms),
            "OTEL_SERVICE_NAME": "exporter-test",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            # Left out where there is none: Python's gRPC exporter does not know the word.
            **({"OTEL_EXPORTER_OTLP_COMPRESSION": compression} if compression != "none" else {}),
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
    )
    assert 0 == said.returncode, said.stderr
    trace_id = bytes.fromhex(said.stdout.strip().splitlines()[-1])
    assert 1 == it.metric("graphmeter_collector_requests_total", protocol=protocol) - before
    # As text, which keeps what == forgives: 1, 1.0 and True are three values.
    sent = expected(trace_id, start_ms)
    sent["checkout"]["attributes"]["empty"] = language.empty
    assert pformat(sent) == pformat(asyncio.run(stored(f"sqlite:///{place / 'graphmeter.db'}", trace_id)))


def expected(trace_id: bytes, start_ms: int) -> dict[str, Any]:
    """What the programs send."""
    at = start_ms * MS
    shared = {
        "service": "exporter-test",
        "instance": 7,
        "scope": ("shop", "1.2.3"),
        "trace": trace_id,
    }
    return {
        "checkout": {
            **shared,
            "root": True,
            "kind": Span.SPAN_KIND_SERVER,
            "start": at,
            "end": at + 50 * MS,
            "status": (1, ""),
            "attributes": {
                "text": "ä€😀",
                "empty": "",
                "yes": True,
                "no": False,
                "whole": 42,
                "negative": -7,
                "large": 2**53 - 1,
                "fraction": 0.25,
                "texts": ["a", "b"],
                "wholes": [1, 2, 3],
                "fractions": [0.5, 1.5],
                "booleans": [True, False],
            },
            "events": [("paid", at + 20 * MS, {"amount": 9.5, "currency": "EUR"})],
            "links": [("0123456789abcdef0123456789abcdef", "fedcba9876543210", {"why": "retry"})],
        },
        "charge": {
            **shared,
            "root": False,
            "kind": Span.SPAN_KIND_CLIENT,
            "start": at + 10 * MS,
            "end": at + 30 * MS,
            "status": (2, "declined"),
            "attributes": {},
            "events": [],
            "links": [],
        },
    }


async def stored(database_url: str, trace_id: bytes) -> dict[str, Any]:
    """What the collector keeps of a trace, by name of its spans."""
    body, envelope = tables.span_body, tables.span_envelope
    query = (
        select(body.c.body, envelope.c.resource, envelope.c.scope)
        .join(envelope, envelope.c.envelope_id == body.c.envelope_id)
        .where(body.c.trace_id == trace_id)
    )
    engine = read_engine(parse(database_url))
    try:
        async with engine.connect() as connection:
            rows = (await connection.execute(query)).all()
    finally:
        await engine.dispose()
    spans = [Span.FromString(row.body) for row in rows]
    parents = {span.span_id for span in spans}
    return {span.name: _plain(span, row, parents) for span, row in zip(spans, rows, strict=True)}


def _plain(span: Span, row: Any, parents: set[bytes]) -> dict[str, Any]:
    resource = _attributes(Resource.FromString(row.resource).attributes)
    scope = InstrumentationScope.FromString(row.scope)
    assert not span.parent_span_id or span.parent_span_id in parents
    return {
        "service": resource["service.name"],
        "instance": resource["service.instance"],
        "scope": (scope.name, scope.version),
        "trace": span.trace_id,
        "root": not span.parent_span_id,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "status": (span.status.code, span.status.message),
        "attributes": _attributes(span.attributes),
        "events": [(event.name, event.time_unix_nano, _attributes(event.attributes)) for event in span.events],
        "links": [(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes)) for link in span.links],
    }


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
