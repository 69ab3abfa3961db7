"""A protobuf body with broken text in, the same message with U+FFFD where the text was broken out.

Protobuf refuses a whole message over one string that is not UTF-8, which C++, Rust and older Go senders do produce (cut in
the middle of a character, Latin-1). A batch of good spans must not be lost to one of them. Strings and bytes look alike on
the wire, so a copy of the OTLP schema in which every string is bytes can read what the real one refuses.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_MODULES: Final = (common_pb2, resource_pb2, trace_pb2, trace_service_pb2)


def with_valid_text(body: bytes) -> tuple[ExportTraceServiceRequest, int]:
    """The message, and how many strings had to be repaired.

    Raises:
        google.protobuf.message.DecodeError: the body is not protobuf at all.
    """
    schema, strings = _lenient()
    message = schema.FromString(body)
    repaired = _mend(message, strings)
    return ExportTraceServiceRequest.FromString(message.SerializeToString()), repaired


@functools.cache
def _lenient() -> tuple[type[Message], frozenset[str]]:
    """The lenient class, and the full names of the fields that are text in the real one."""
    pool = DescriptorPool()
    strings: set[str] = set()
    for module in _MODULES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _text_to_bytes(message, f"{file.package}.{message.name}", strings)
        pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName(ExportTraceServiceRequest.DESCRIPTOR.full_name)
    return GetMessageClass(descriptor), frozenset(strings)


def _text_to_bytes(message: DescriptorProto, full_name: str, strings: set[str]) -> None:
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_STRING:
            field.type = FieldDescriptorProto.TYPE_BYTES
            strings.add(f"{full_name}.{field.name}")
    for nested in message.nested_type:
        _text_to_bytes(nested, f"{full_name}.{nested.name}", strings)


def _mend(message: Message, strings: frozenset[str]) -> int:
    """Replace what is not UTF-8, in the message and all below; depth is bounded by the parser."""
    repaired = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if field.is_repeated else (value,):
                repaired += _mend(child, strings)
        elif field.full_name in strings:
            if field.is_repeated:
                for index, item in enumerate(value):
                    value[index] = _valid(item)
                    repaired += value[index] != item
            else:
                mended = _valid(value)
                if mended != value:
                    setattr(message, field.name, mended)
                    repaired += 1
    return repaired


def _valid(text: Any) -> bytes:
    encoded: bytes = text
    return encoded.decode(errors="replace").encode()
