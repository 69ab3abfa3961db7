"""What a node was given and what it wrote: sizes, keys and, on request, the values.

A size is that of the value as compact JSON (text in UTF-8, objects as their fields, bytes in base64, arrays as their bytes),
found by walking the value, not by serialising it: LangGraph's own serialiser would be exact for what a checkpointer stores,
but it copies everything, calls code of the application, fails on what it does not know, and takes as long as the state is
large. The walk is bounded; a size it could not complete is said to be partial.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from graphmeter.capture import plain

_MOST_ITEMS: Final = 10_000
_SAMPLE: Final = 32
_LISTS: Final = (list, tuple, set, frozenset, deque)
_WHOLE_TEXT: Final = 65_536
"""Characters up to which a text that is not ASCII is measured; what is longer is extrapolated."""


class Size:
    """A size in bytes, being measured."""

    __slots__ = ("_stack", "bytes", "partial")

    def __init__(self, value: Any) -> None:
        self.bytes = 0
        self.partial = False
        """Whether more is there than was counted."""
        self._stack = [value]
        left = _MOST_ITEMS
        while self._stack:
            left -= 1
            if left < 0:
                self.partial = True
                return
            self.bytes += self._own(self._stack.pop(), left)

    def _own(self, value: Any, left: int) -> int:
        """Bytes of `value` without what is inside, which is put on the stack."""
        kind = type(value)
        if kind is str:
            return 2 + _text_bytes(value)
        if value is None or value is True:
            return 4
        if value is False:
            return 5
        if kind is int:
            return len(str(value)) if -(10**18) < value < 10**18 else value.bit_length() * 3 // 10 + 1
        if kind is float:
            return len(repr(value))
        if isinstance(value, dict):
            return self._mapping(list(dict.items(value)), left) if value else 2
        if isinstance(value, _LISTS):
            return self._listed(value, left) if value else 2
        if hasattr(kind, "__pydantic_fields__") and not hasattr(kind, "get_secret_value"):
            # Nothing is shown: no need to ask which fields are hidden.
            return self._mapping(list(value.__dict__.items()), left)
        return self._object(value, kind, left)

    def _mapping(self, items: Sequence[tuple[Any, Any]], left: int) -> int:
        if len(items) > left:
            self.partial = True
            items = items[:left]
        size = 2 + max(2 * len(items) - 1, 0)
        push = self._stack.append
        for key, value in items:
            size += 2 + (_text_bytes(key) if type(key) is str else len(str(key)) if type(key) is int else 0)
            # The small change of messages is counted at once: there is much of it.
            if type(value) is str:
                size += 2 + (len(value) if value.isascii() else _text_bytes(value))
            elif value is None:
                size += 4
            else:
                push(value)
        return size

    def _listed(self, values: Any, left: int) -> int:
        count = len(values)
        size = 2 + max(count - 1, 0)
        sample = list(islice(values, _SAMPLE))
        if count > _SAMPLE and all(type(one) in (int, float) for one in sample):  # a vector
            return size + sum(len(repr(one)) for one in sample) * count // _SAMPLE
        if count > left:
            self.partial = True
        self._stack.extend(islice(values, left))
        return size

    def _object(self, value: Any, kind: type, left: int) -> int:
        if isinstance(value, str):
            return 2 + _text_bytes(str.__str__(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return 2 + (memoryview(value).nbytes + 2) // 3 * 4
        if hasattr(kind, "get_secret_value"):
            return 2 + 10  # as it is shown
        if isinstance(value, enum.Enum):
            self._stack.append(value._value_)
            return 0
        if (fields := plain.fields_of(value, kind)) is not None:
            return self._mapping(fields, left)
        if kind in plain.PRINTED:
            return 2 + len(str(value))
        if (shape := plain.shape_of(value, kind)) is not None:
            size = getattr(value, "nbytes", None)
            if isinstance(size, int):
                return size
            cells = 1
            for length in shape:
                cells *= length
            return cells * 8
        self.partial = True
        return 2


def _text_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    if len(text) <= _WHOLE_TEXT:
        return len(text.encode("utf-8", "replace"))
    return len(text[:_WHOLE_TEXT].encode("utf-8", "replace")) * len(text) // _WHOLE_TEXT


def written(output: Any) -> tuple[Any, list[str] | None]:
    """What a node's return value writes to the state, read as LangGraph reads it, and the keys of that; None for the keys
    where there are none (a task of the functional API, a state that is one value)."""
    updates = _updates(output)
    if not updates:
        return None, []
    keys: dict[str, None] = {}
    for update in updates:
        if not isinstance(update, dict):
            return output if len(updates) == 1 else updates, None
        keys.update(dict.fromkeys(str(key) for key in update))
    return updates[0] if len(updates) == 1 else updates, list(keys)


def _updates(output: Any) -> list[Any]:
    if output is None:
        return []
    kind = type(output)
    if is_command(output):
        update = output.update
        if isinstance(update, list | tuple) and all(isinstance(one, tuple) and len(one) == 2 for one in update):
            return [dict(update)] if update else []
        return _updates(update)
    if isinstance(output, list | tuple) and any(map(is_command, output)):
        return [update for one in output for update in _updates(one)]
    if isinstance(output, dict):
        return [output]
    fields = plain.fields_of(output, kind)
    if fields is not None and not plain.is_message(output):
        # As LangGraph: a field that is None was not written, unless it was set in so many words.
        named: set[str] = getattr(output, "__pydantic_fields_set__", set())
        return [{name: value for name, value in fields if value is not None or name in named}]
    return [output]


def is_command(value: Any) -> bool:
    """Whether `value` is a LangGraph Command, without importing it."""
    kind = type(value)
    return kind.__name__ == "Command" and kind.__module__.startswith("langgraph.")
