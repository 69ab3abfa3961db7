"""How a provider's API spells usage, as data: which counts add up to which attribute.

In: a usage as the provider sent it. Out: inclusive token attributes; nothing negative, nothing invented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from graphmeter import guard, names

_MOST_TOKENS: Final = 1 << 53
"""Beyond any real call; a larger number is garbage, and would not survive JSON either."""
_NOTHING: Final[Mapping[str, Any]] = {}
_TOTALS: Final = frozenset({names.USAGE_INPUT, names.USAGE_OUTPUT})


class Shape(NamedTuple):
    """Usage of one provider's API."""

    name: str
    source: str
    """Where the provider documents it."""
    marks: tuple[frozenset[str], ...]
    """Sets of keys; a usage that has all of one of them is spelled like this, unless it has one of `without`."""
    counts: Mapping[str, tuple[str, ...]]
    """Attribute → what it is the sum of: keys, or `details.key` one level down. Totals that leave parts out (Anthropic's
    input excludes what was cached) name those parts too."""
    without: frozenset[str] = frozenset()
    spelled: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """Turns a usage that is more than counts and one level of details into such."""

    def fits(self, usage: Mapping[str, Any]) -> bool:
        """Whether `usage` is spelled like this."""
        keys = usage.keys()
        for marks in self.marks:
            if keys >= marks:
                return self.without.isdisjoint(usage)
        return False


def read(shape: Shape, usage: Mapping[str, Any]) -> dict[str, int]:
    """Attributes of `usage`: the totals that it names, and the parts that are not zero."""
    if shape.spelled is not None:
        usage = shape.spelled(usage)
    attributes = {}
    for attribute, paths in shape.counts.items():
        tokens = sum(_at(usage, path) for path in paths)
        if tokens or (attribute in _TOTALS and any(_names(usage, path) for path in paths)):
            attributes[attribute] = tokens
    return attributes


def details(usage: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`; an empty one where there is none."""
    value = usage.get(key)
    return _NOTHING if value is None or not is_mapping(value) else value


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether `value` is a mapping; nearly every one is a dict, and asking an abstract class takes ten times longer."""
    return type(value) is dict or isinstance(value, Mapping)


def count(usage: Mapping[str, Any], key: str) -> int:
    """A token count: never negative, never a float; absent and None are 0, garbage is 0 and counted."""
    value = usage.get(key)
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    if value is None:
        return 0
    if isinstance(value, float) and 0 <= value <= _MOST_TOKENS and value == int(value):
        return int(value)
    guard.noticed(f"unusable token count {key}", repr(value)[:80])
    return 0


def _at(usage: Mapping[str, Any], path: str) -> int:
    outer, dot, key = path.partition(".")
    return count(details(usage, outer), key) if dot else count(usage, outer)


def _names(usage: Mapping[str, Any], path: str) -> bool:
    outer, dot, key = path.partition(".")
    return (details(usage, outer).get(key) if dot else usage.get(outer)) is not None
