"""OTLP attribute values in, clean Python values out: no NUL, no number that a database column cannot hold, bounded length.

A dialect is a table from attribute key to reader; `pick` takes from a span only what the table names. A reader that had
to change a value says so in `repairs`, which become a metric: nothing is altered in silence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

LABEL_BYTES = 255
"""Longest dimension in UTF-8 bytes. Eight of them stand in a rollup's primary key, and a Postgres index row must stay
below 2,704 bytes: https://www.postgresql.org/docs/current/btree.html"""
SHORT = LABEL_BYTES // 4
"""Characters that no label is cut for, whatever their size in UTF-8."""
TEXT_BYTES = 1024
"""Longest free text: status messages."""
MAX_COUNT = 10_000_000_000
"""Largest token count believed; keeps sums of them far inside 64 bits."""
MAX_USD = 1_000_000.0
"""Largest cost of one call that is believed."""
NANO = 1_000_000_000
MAX_ORDINAL = 2**31 - 1
"""Largest step or attempt: their columns have 32 bits."""
MOST_OUTER = 32
"""Graphs within graphs that are believed."""
_NS_PER_S = 1_000_000_000
_LONGEST_NUMBER = 40
_MAX_SECONDS = 30 * 86_400.0

Repairs: TypeAlias = Counter[str]
"""How many values had to be changed, by reason: `cut`, `clamped`, `wrong_type`, `not_finite` …"""
Reader: TypeAlias = Callable[[AnyValue, Repairs], Any]
Table: TypeAlias = Mapping[str, Reader]
"""A dialect: attribute key → how its value is read. A reader returns None for what it cannot use."""


def pick(attributes: Iterable[KeyValue], table: Table, repairs: Repairs) -> dict[str, Any]:
    """The values of the attributes that `table` names, read and clean; the last one wins, as in OpenTelemetry."""
    found: dict[str, Any] = {}
    for pair in attributes:
        key = pair.key
        reader = table.get(key)
        if reader is not None:
            value = reader(pair.value, repairs)
            if value is not None:
                found[key] = value
    return found


def pick_tags(attributes: Iterable[KeyValue], prefix: str, repairs: Repairs, *, limit: int = 64) -> dict[str, str]:
    """Attributes under `prefix` as a flat dictionary without it, at most `limit` of them."""
    tags: dict[str, str] = {}
    for pair in attributes:
        if pair.key.startswith(prefix) and len(pair.key) > len(prefix):
            if len(tags) >= limit:
                repairs["too_many_tags"] += 1
                break
            value = label(pair.value, repairs)
            if value is not None:
                tags[clean(pair.key[len(prefix) :], LABEL_BYTES, repairs)] = value
    return tags


def clean(text: str, max_bytes: int, repairs: Repairs) -> str:
    """Text that any UTF-8 database column takes: NUL replaced, cut at a character boundary."""
    if "\x00" in text:
        # Postgres refuses NUL in text; the replacement character shows that something stood there.
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        repairs["nul"] += 1
    if len(text) * 4 > max_bytes:
        encoded = text.encode()
        if len(encoded) > max_bytes:
            ellipsis = "…"
            text = encoded[: max_bytes - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
            repairs["cut"] += 1
    return text


def label(value: AnyValue, repairs: Repairs) -> str | None:
    """A short text: a name, an id. Numbers and booleans become text, as a sender may type an id as a number."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return clean(value.string_value, LABEL_BYTES, repairs)
    if kind == "int_value":
        return str(value.int_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "double_value":
        return repr(value.double_value)
    _unusable(kind, repairs)
    return None


def count(value: AnyValue, repairs: Repairs) -> int | None:
    """A number of things, 0 to MAX_COUNT; also from doubles and digits, which JavaScript and older SDKs send."""
    return _whole(value, MAX_COUNT, repairs)


def ordinal(value: AnyValue, repairs: Repairs) -> int | None:
    """A step or an attempt, 0 to MAX_ORDINAL."""
    return _whole(value, MAX_ORDINAL, repairs)


def _whole(value: AnyValue, most: int, repairs: Repairs) -> int | None:
    kind = value.WhichOneof("value")
    number: float
    if kind == "int_value":
        number = value.int_value
    elif kind == "double_value" and math.isfinite(value.double_value):
        number = value.double_value
    elif kind == "string_value" and value.string_value.isascii() and value.string_value.isdigit():
        # int() refuses absurdly long digits with an error of its own; no count needs them.
        number = int(value.string_value[:20])
    else:
        _unusable(kind, repairs)
        return None
    if 0 <= number <= most:
        return int(number)
    repairs["clamped"] += 1
    return 0 if number < 0 else most


def flag(value: AnyValue, repairs: Repairs) -> bool | None:
    kind = value.WhichOneof("value")
    if kind == "bool_value":
        return value.bool_value
    if kind == "string_value" and value.string_value.lower() in ("true", "false"):
        return value.string_value.lower() == "true"
    _unusable(kind, repairs)
    return None


def seconds(value: AnyValue, repairs: Repairs) -> int | None:
    """Seconds, as nanoseconds; never negative."""
    kind = value.WhichOneof("value")
    if kind == "double_value":
        number = value.double_value
    elif kind == "int_value":
        number = float(value.int_value)
    else:
        _unusable(kind, repairs)
        return None
    if not 0.0 <= number <= _MAX_SECONDS:  # also false for NaN
        repairs["clamped"] += 1
        return None
    return round(number * _NS_PER_S)


def number(value: AnyValue, repairs: Repairs) -> float | None:
    """Any finite number."""
    kind = value.WhichOneof("value")
    found = value.double_value if kind == "double_value" else float(value.int_value) if kind == "int_value" else None
    if found is None:
        _unusable(kind, repairs)
    elif not math.isfinite(found):
        repairs["not_finite"] += 1
        found = None
    return found


def usd(value: AnyValue, repairs: Repairs) -> int | None:
    """An amount in USD, as nano-USD; also from text. Never negative, and no larger than anybody would believe."""
    if value.WhichOneof("value") == "string_value":
        try:
            found: float | None = float(value.string_value[:_LONGEST_NUMBER])
        except ValueError:
            _unusable("string_value", repairs)
            return None
    else:
        found = number(value, repairs)
    return None if found is None else nano_of(found, repairs)


def nano_of(amount: float, repairs: Repairs) -> int | None:
    """USD as nano-USD."""
    if not 0.0 <= amount <= MAX_USD:  # also false for NaN
        repairs["clamped"] += 1
        return None
    return round(amount * NANO)


def raw(value: AnyValue, repairs: Repairs) -> str | None:
    """A text of any length as it came: whoever reads it judges it."""
    if value.WhichOneof("value") == "string_value":
        return value.string_value
    _unusable(value.WhichOneof("value"), repairs)
    return None


def span_id(value: AnyValue, repairs: Repairs) -> bytes | None:
    """A span id written as 16 hex digits."""
    if value.WhichOneof("value") == "string_value" and len(value.string_value) == 16:
        try:
            return bytes.fromhex(value.string_value)
        except ValueError:
            pass
    _unusable("span_id", repairs)
    return None


def span_ids(value: AnyValue, repairs: Repairs) -> bytes | None:
    """At most `MOST_OUTER` span ids, each 16 hex digits, with spaces in between: 8 bytes each."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        found = value.string_value.split(" ", MOST_OUTER)
        if len(found) > MOST_OUTER:
            del found[MOST_OUTER:]
            repairs["cut"] += 1
        try:
            ids = [bytes.fromhex(each) for each in found if len(each) == 16]
        except ValueError:
            ids = []
        if len(ids) == len(found):
            return b"".join(ids)
    _unusable(kind, repairs)
    return None


def _unusable(kind: str | None, repairs: Repairs) -> None:
    if kind is not None:  # an empty AnyValue is null: nothing was said, nothing is wrong
        repairs["wrong_type"] += 1
