"""Any Python value in, plain JSON data out: a snapshot that the value's owner can no longer change.

Runs in the application's thread, so it is bounded in items and depth and never calls code of the value's class: no `repr`,
no `__str__`, no properties, no iterators. Texts are shared, not copied. Secrets stay hidden; arrays, tables and bytes
appear by their shape.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import re
import uuid
from collections import deque
from typing import Any, Final

MOST_ITEMS: Final = 2_000
"""Of one value, over all levels."""
_MOST_IN_ONE: Final = 200
"""Of one list or mapping."""
_DEEPEST: Final = 12
_NUMBERS: Final = 32
"""A list of at least so many numbers is a vector: its length tells more than its content."""
_BASE64_FROM: Final = 1_024
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{512}")

PRINTED: Final = (
    uuid.UUID,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    pathlib.PurePath,
)
_ARRAYS: Final = frozenset({"ndarray", "DataFrame", "Series", "Tensor"})
_ARRAY_MODULES: Final = frozenset({"numpy", "pandas", "polars", "torch"})
_HIDDEN: Final = "[hidden]"


class Named(dict[str, Any]):
    """A mapping whose keys are the user's own words; keys of plain dicts are ours."""


class Walk:
    """One snapshot being taken."""

    __slots__ = ("_above", "_items", "_room")

    def __init__(self, items: int = MOST_ITEMS, characters: int = 1 << 20) -> None:
        self._items = items
        self._room = characters
        self._above: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether so much was seen that more of a list (older messages) would not be sent anyway."""
        return self._items <= 0 or self._room <= 0

    def count(self) -> None:
        """One item more was seen."""
        self._items -= 1

    def plain(self, value: Any, depth: int = 0) -> Any:
        """`value` as JSON data."""
        kind = type(value)
        if kind is str:
            self._room -= len(value)
            return base64_as_size(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            return value if math.isfinite(value) else str(value)
        self._items -= 1
        if self._items < 0 or depth > _DEEPEST:
            return f"…[cut: {_name(kind)}]"
        if id(value) in self._above:
            return "[recursion]"
        self._above.add(id(value))
        try:
            return self._compound(value, kind, depth + 1)
        finally:
            self._above.discard(id(value))

    def _compound(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, dict):
            return self._mapping(list(dict.items(value)), depth)
        if isinstance(value, list | tuple | set | frozenset | deque):
            if isinstance(value, tuple) and hasattr(kind, "_fields"):
                return self._mapping(list(zip(kind._fields, tuple(value), strict=False)), depth)
            return self._listed(list(value), depth)
        if isinstance(value, enum.Enum):
            return self.plain(value._value_, depth)
        if isinstance(value, str):
            return base64_as_size(str.__str__(value))
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"[{_name(kind)}: {memoryview(value).nbytes} bytes]"
        if kind in PRINTED:
            return str(value)
        if isinstance(value, pathlib.PurePath):
            return str(value)
        return self._object(value, kind, depth)

    def _mapping(self, items: list[tuple[Any, Any]], depth: int) -> Named:
        said = Named()
        for key, value in items[:_MOST_IN_ONE]:
            said[key if type(key) is str else str(self.plain(key, depth))] = self.plain(value, depth)
        if len(items) > _MOST_IN_ONE:
            said["…"] = f"…[cut: {len(items) - _MOST_IN_ONE} of {len(items)} keys]"
        return said

    def _listed(self, items: list[Any], depth: int) -> Any:
        if len(items) >= _NUMBERS and all(type(item) in (int, float) for item in items[:_NUMBERS]):
            return f"[{len(items)} numbers]"
        said = [self.plain(item, depth) for item in items[:_MOST_IN_ONE]]
        if len(items) > _MOST_IN_ONE:
            said.append(f"…[cut: {len(items) - _MOST_IN_ONE} of {len(items)} items]")
        return said

    def _object(self, value: Any, kind: type, depth: int) -> Any:
        if hasattr(kind, "get_secret_value"):
            return "**********"
        if is_message(value):
            from graphmeter.capture import messages

            return messages.message(value, self)
        if (fields := fields_of(value, kind)) is not None:
            return self._mapping(fields, depth)
        if (shape := shape_of(value, kind)) is not None:
            return f"[{_name(kind)}: {'×'.join(map(str, shape))}]"
        if isinstance(value, BaseException):
            return self._mapping([("error", _name(kind)), ("args", value.args)], depth)
        return f"[{_name(kind)}]"


def plain(value: Any) -> Any:
    """A snapshot of `value`."""
    return Walk().plain(value)


def is_message(value: Any) -> bool:
    """Whether `value` is a LangChain message, by its shape: importing the class costs more than asking."""
    fields = getattr(type(value), "__pydantic_fields__", None)
    return fields is not None and "content" in fields and "response_metadata" in fields and "type" in fields


def fields_of(value: Any, kind: type) -> list[tuple[str, Any]] | None:
    """Fields of a pydantic model or dataclass instance, secret ones hidden; None if it is neither.

    Read from where they are stored: a property or a lazy attribute is never evaluated.
    """
    declared = getattr(kind, "__pydantic_fields__", None)
    if declared is not None:
        stored = getattr(value, "__dict__", {})
        return [
            (name, stored[name] if field.repr and not field.exclude else _HIDDEN)
            for name, field in declared.items()
            if name in stored
        ]
    if dataclasses.is_dataclass(kind):
        found = []
        for one in dataclasses.fields(kind):
            try:
                stored_value = object.__getattribute__(value, one.name)
            except AttributeError:
                continue
            # `repr=False` is how a dataclass says that a field is not to be shown.
            found.append((one.name, stored_value if one.repr else _HIDDEN))
        return found
    return None


def shape_of(value: Any, kind: type) -> tuple[int, ...] | None:
    """Shape of an array or table that lies in memory; None for everything else, lazy ones included."""
    if kind.__name__ in _ARRAYS and kind.__module__.partition(".")[0] in _ARRAY_MODULES:
        return tuple(int(length) for length in value.shape)
    return None


def base64_as_size(text: str) -> str:
    """`text`, unless it looks like a file in base64."""
    if len(text) >= _BASE64_FROM and _BASE64.match(text):
        return f"[base64: {len(text)} characters]"
    if text.startswith("data:") and ";base64," in text[:128]:
        return f"[{text[: text.index(',')]}: {len(text)} characters]"
    return text


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
