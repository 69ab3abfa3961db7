"""OTLP/JSON in, the same protobuf message as from a protobuf body out.

OTLP/JSON is the proto3 JSON mapping with exceptions (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding):
ids are hex, enums are numbers. Real senders also write enum names and 64-bit integers as numbers or as strings, so all of
these are taken. Unknown fields are ignored, as the specification demands; a value of the wrong type is refused with the
path of its field, which `google.protobuf.json_format` does not tell.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections import Counter
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from graphmeter_collector.errors import BadRequest

_MessageT = TypeVar("_MessageT", bound=Message)

_MAX_DEPTH: Final = 80
"""Nested messages; protobuf itself refuses to read more than 100."""
_MAX_PATH: Final = 300
_HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FLOATS: Final = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})


class _WrongValue(Exception):
    """Collects its path while it rises: innermost part first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.path: list[str] = []


def message_from_json(body: bytes, message: _MessageT, repairs: Counter[str]) -> _MessageT:
    """Fill `message` from a JSON body.

    Raises:
        BadRequest: not JSON, or a field of the wrong type; the message names its path.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode(errors="replace")
        repairs["bad_utf8"] += 1
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}", reason="bad_json") from error
    try:
        _fill(message, document, _MAX_DEPTH, repairs)
    except _WrongValue as wrong:
        path = "".join(reversed(wrong.path)).lstrip(".") or "the body"
        if len(path) > _MAX_PATH:
            path = "…" + path[-_MAX_PATH:]
        raise BadRequest(f"{path}: {wrong}", reason="bad_json", field=path) from wrong
    return message


def _fill(message: Message, document: Any, depth: int, repairs: Counter[str]) -> None:
    if not isinstance(document, dict):
        _wrong("an object", document)
    if depth == 0:
        raise _WrongValue(f"nested more than {_MAX_DEPTH} levels deep")
    fields = _fields(message.DESCRIPTOR)
    for key, value in document.items():
        field = fields.get(key)
        if field is None or value is None:
            continue
        try:
            if field.is_repeated:
                _extend(getattr(message, field.name), field, value, depth, repairs)
            elif field.message_type is not None:
                child = getattr(message, field.name)
                child.SetInParent()
                _fill(child, value, depth - 1, repairs)
            else:
                setattr(message, field.name, _scalar(field, value, repairs))
        except _WrongValue as wrong:
            wrong.path.append(f".{key}")
            raise


def _extend(target: Any, field: FieldDescriptor, values: Any, depth: int, repairs: Counter[str]) -> None:
    if not isinstance(values, list):
        _wrong("an array", values)
    for index, value in enumerate(values):
        try:
            if field.message_type is not None:
                _fill(target.add(), value, depth - 1, repairs)
            else:
                target.append(_scalar(field, value, repairs))
        except _WrongValue as wrong:
            wrong.path.append(f"[{index}]")
            raise


@functools.cache
def _fields(descriptor: Descriptor) -> MappingProxyType[str, FieldDescriptor]:
    """Fields by both names that proto3 JSON allows: `startTimeUnixNano` and `start_time_unix_nano`."""
    fields = {field.name: field for field in descriptor.fields}
    fields.update({field.json_name: field for field in descriptor.fields})
    return MappingProxyType(fields)


def _scalar(field: FieldDescriptor, value: Any, repairs: Counter[str]) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        if not isinstance(value, str):
            _wrong("a string", value)
        return value if value.isascii() else _without_surrogates(value, repairs)
    if kind == FieldDescriptor.TYPE_BYTES:
        return _bytes(field, value)
    if kind == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            _wrong("true or false", value)
        return value
    if kind in _FLOATS:
        return _float(value)
    if field.enum_type is not None and isinstance(value, str) and not _is_digits(value):
        member = field.enum_type.values_by_name.get(value)
        if member is None:
            raise _WrongValue(f"{value[:80]!r} is none of {', '.join(field.enum_type.values_by_name)}")
        return member.number
    return _integer(field, value)


def _without_surrogates(text: str, repairs: Counter[str]) -> str:
    r"""JSON may escape half a character, `\ud83e`, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        repairs["bad_utf8"] += 1
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def _integer(field: FieldDescriptor, value: Any) -> int:
    number: int
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, str) and _is_digits(value)) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    else:
        _wrong("an integer", value)
    low, high = _RANGES[field.cpp_type]
    if not low <= number <= high:
        raise _WrongValue(f"{str(number)[:40]} is not between {low} and {high}")
    return number


_RANGES: Final = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    }
)


def _is_digits(value: str) -> bool:
    return len(value) <= 40 and value.isascii() and value.removeprefix("-").isdigit()


def _float(value: Any) -> float:
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        _wrong("a number", value)
    try:
        return float(value)  # also "NaN" and "Infinity", as proto3 JSON writes them
    except (ValueError, OverflowError):
        _wrong("a number", value)


def _bytes(field: FieldDescriptor, value: Any) -> bytes:
    if not isinstance(value, str):
        _wrong("a string", value)
    if field.name in _HEX_FIELDS:
        try:
            return bytes.fromhex(value)
        except ValueError:
            _wrong("hex digits", value)
    try:
        padded = value + "=" * (-len(value) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        _wrong("base64", value)


def _wrong(expected: str, value: Any) -> NoReturn:
    shown = {dict: "an object", list: "an array", bool: str(value).lower(), type(None): "null"}.get(
        type(value)
    ) or repr(value)[:80]
    raise _WrongValue(f"expected {expected}, got {shown}")
