"""An OTLP trace request in, as bytes or as a message; the same request out, parsed no further than nearly every span needs.

A request holds a dozen attributes for each span, and almost every one was on the span before it. So requests are parsed
with a copy of the OTLP schema in which an attribute is a `bytes` field: protobuf's own parser does the work, and no
message is made for an attribute whose bytes are known. The spans' own bytes, which are kept, come from a second copy in
which a span is a `bytes` field. Both together take a fifth of what one parsing into messages and writing them again takes.

What is inside of those bytes is not looked at here: whoever reads an attribute may find text that is no UTF-8, or values
nested deeper than protobuf takes, and raises `DecodeError` then. Everything else is known to be sound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_MODULES: Final = (common_pb2, resource_pb2, trace_pb2, trace_service_pb2)


class RawSpan(Protocol):
    """A span whose attributes are bytes. Fields are named as in OTLP."""

    @property
    def trace_id(self) -> bytes: ...
    @property
    def span_id(self) -> bytes: ...
    @property
    def parent_span_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def start_time_unix_nano(self) -> int: ...
    @property
    def end_time_unix_nano(self) -> int: ...
    @property
    def attributes(self) -> Sequence[bytes]: ...
    @property
    def status(self) -> Status: ...
    def HasField(self, name: str) -> bool: ...  # noqa: N802 - protobuf's name


class Scope(NamedTuple):
    """Spans of one scope, with what they share."""

    resource: Resource
    scope: InstrumentationScope
    resource_schema_url: str
    schema_url: str
    spans: Sequence[RawSpan]
    bodies: Sequence[bytes]
    """The spans' own OTLP bytes, as they were sent."""


class Request(NamedTuple):
    """A request that was parsed."""

    body: bytes
    scopes: Sequence[Scope]

    @property
    def size(self) -> int:
        """How many spans it holds."""
        return sum([len(scope.spans) for scope in self.scopes])


AnyRequest: TypeAlias = Request | ExportTraceServiceRequest


def read(body: bytes) -> Request:
    """Parse a request.

    Raises:
        google.protobuf.message.DecodeError: it is none, or holds text that is no UTF-8 elsewhere than in attributes.
    """
    scopes = []
    for raw, whole in zip(
        _RAW_ATTRIBUTES.FromString(body).resource_spans, _RAW_SPANS.FromString(body).resource_spans, strict=True
    ):
        # Of a class of another pool: whoever changes a resource or a scope needs the real one.
        resource = Resource.FromString(raw.resource.SerializeToString())
        for spans, bodies in zip(raw.scope_spans, whole.scope_spans, strict=True):
            scope = InstrumentationScope.FromString(spans.scope.SerializeToString())
            scopes.append(Scope(resource, scope, raw.schema_url, spans.schema_url, spans.spans, bodies.spans))
    return Request(body, scopes)


def of(given: AnyRequest) -> Request:
    """The request in a message, or the one that was parsed already."""
    return given if isinstance(given, Request) else read(given.SerializeToString())


class _Parsing(Protocol):
    def FromString(self, data: bytes) -> Any: ...  # noqa: N802 - protobuf's name


def _request(left: Mapping[str, Collection[str]]) -> _Parsing:
    """A class like OTLP's request, in which some fields, by the name of their message, stay as they came."""
    pool = DescriptorPool()
    for module in _MODULES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            for field in message.field:
                if field.name in left.get(message.name, ()):
                    field.type = FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    name = ExportTraceServiceRequest.DESCRIPTOR.full_name
    return cast("_Parsing", GetMessageClass(pool.FindMessageTypeByName(name)))


_RAW_ATTRIBUTES: Final = _request({"Span": ("attributes",)})
_RAW_SPANS: Final = _request({"ScopeSpans": ("spans",)})
