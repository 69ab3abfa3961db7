"""Where forwarded traces are read back from: a real Jaeger with the stack's configuration, or an OTLP receiver of our own.

Both say the same of a span, in the words of Jaeger's page, so that one test reads either.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from acceptance.processes import until
from acceptance.recording import Recorder, recorder
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "jaeger" / "config.yaml"
CHILD_OF, FOLLOWS_FROM = "CHILD_OF", "FOLLOWS_FROM"
"""How a span refers to its parent, and to what it is linked to."""


@dataclass(frozen=True)
class Shown:
    """A span as Jaeger's page shows it."""

    trace_id: str
    span_id: str
    name: str
    service: str
    tags: Mapping[str, Any]
    """Attributes, and what Jaeger makes tags of: `span.kind`, `otel.status_code`, `error`."""
    events: Sequence[Mapping[str, Any]]
    """Each with its name as `event`."""
    references: Sequence[tuple[str, str, str]]
    """Kind, trace and span."""


class Backend(Protocol):
    """What takes traces by OTLP/HTTP at `url` and tells them again."""

    url: str

    def services(self) -> set[str]: ...

    def spans(self, service: str, **tags: str) -> list[Shown]:
        """Every span of the traces in which one of the service has all these tags."""
        ...


def jaeger_binary() -> str:
    """Path of Jaeger 2, by JAEGER_BIN or on PATH; empty if there is none.

    Raises:
        FileNotFoundError: JAEGER_BIN names nothing that can be run.
    """
    named = os.environ.get("JAEGER_BIN", "")
    if named and shutil.which(named) is None:
        raise FileNotFoundError(f"JAEGER_BIN={named} cannot be run")
    return named or shutil.which("jaeger") or ""


@contextmanager
def backend(binary: str, folder: Path) -> Iterator[Backend]:
    """A running Jaeger, or where there is none a receiver that is no part of the collector."""
    if binary:
        with _jaeger(binary, folder) as found:
            yield found
    else:
        with recorder() as record:
            yield _Received(record)


class _Jaeger:
    def __init__(self, url: str, page: str) -> None:
        self.url = url
        self._page = page

    def services(self) -> set[str]:
        return set(self._get("/api/services") or [])

    def spans(self, service: str, **tags: str) -> list[Shown]:
        asked = {"service": service, "limit": 1500, "lookback": "1h", **({"tags": json.dumps(tags)} if tags else {})}
        found = self._get(f"/api/traces?{urllib.parse.urlencode(asked)}")
        return [_shown(span, trace["processes"]) for trace in found for span in trace["spans"]]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._page + path, timeout=60) as answer:
            return json.load(answer)["data"]


def _shown(span: dict[str, Any], processes: dict[str, Any]) -> Shown:
    return Shown(
        span["traceID"],
        span["spanID"],
        span["operationName"],
        processes[span["processID"]]["serviceName"],
        {tag["key"]: tag["value"] for tag in span["tags"]},
        [{field["key"]: field["value"] for field in event["fields"]} for event in span["logs"]],
        [(each["refType"], each["traceID"], each["spanID"]) for each in span["references"]],
    )


@contextmanager
def _jaeger(binary: str, folder: Path) -> Iterator[_Jaeger]:
    """Jaeger as the stack runs it, but for the ports."""
    page, otlp, health = (free_port() for _ in range(3))
    config = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    query = config["extensions"]["jaeger_query"]
    query["http"] = {"endpoint": f"127.0.0.1:{page}"}
    query["grpc"] = {"endpoint": "127.0.0.1:0"}
    protocols = config["receivers"]["otlp"]["protocols"]
    protocols["http"]["endpoint"] = f"127.0.0.1:{otlp}"
    protocols["grpc"]["endpoint"] = "127.0.0.1:0"
    config["extensions"]["healthcheckv2"]["http"]["endpoint"] = f"127.0.0.1:{health}"
    file, log = folder / "jaeger.yaml", folder / "jaeger.log"
    file.write_text(yaml.safe_dump(config))
    with log.open("wb") as output:
        process = subprocess.Popen([binary, "--config", str(file)], stdout=output, stderr=output, cwd=folder)
    try:

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{health}/status", timeout=10) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        until("a healthy Jaeger", healthy)
        yield _Jaeger(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{page}")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Received:
    """What a receiver has recorded, as Jaeger would show it."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self.url = record.url

    def services(self) -> set[str]:
        return {span.service for span in self._all()}

    def spans(self, service: str, **tags: str) -> list[Shown]:
        every = self._all()
        traces = {
            span.trace_id
            for span in every
            if span.service == service and all(str(span.tags.get(key)) == value for key, value in tags.items())
        }
        return [span for span in every if span.trace_id in traces]

    def _all(self) -> list[Shown]:
        with self._record.lock:
            return [
                _translated(span, _attributes(resource.resource.attributes))
                for request in self._record.requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]


def _translated(span: Span, resource: Mapping[str, Any]) -> Shown:
    kind = Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
    failed = {"error": True, "otel.status_code": "ERROR"} if span.status.code == Status.STATUS_CODE_ERROR else {}
    parent = [(CHILD_OF, span.trace_id.hex(), span.parent_span_id.hex())] if span.parent_span_id else []
    return Shown(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.name,
        str(resource.get("service.name")),
        {**_attributes(span.attributes), "span.kind": kind, **failed},
        [{"event": event.name, **_attributes(event.attributes)} for event in span.events],
        [*parent, *((FOLLOWS_FROM, link.trace_id.hex(), link.span_id.hex()) for link in span.links)],
    )


def _attributes(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(given: AnyValue) -> Any:
    if given.HasField("array_value"):
        return json.dumps([_value(each) for each in given.array_value.values])
    return getattr(given, given.WhichOneof("value") or "string_value")
