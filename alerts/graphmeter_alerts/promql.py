"""A PromQL expression in, what it reads out: metrics with their matchers and ranges, and the labels that it groups by.

A lexer with a little memory, no parser: what is no PromQL at all is promtool's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from graphmeter_config.values import duration_ms

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
      |(?P<range>\[[^\]]*\])
      |(?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)
      |(?P<number>0x[0-9a-fA-F]+|\d*\.?\d+(?:[eE][+-]?\d+)?)
      |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      |(?P<sign>=~|!~|!=|==|>=|<=|.)""",
    re.VERBOSE | re.DOTALL,
)
_CLAUSES: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_GROUPING: Final = frozenset({"by", "without"})
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"})


@dataclass(slots=True)
class Selector:
    """One metric as an expression names it."""

    metric: str
    """Empty where only matchers say which."""
    matchers: list[tuple[str, str, str]] = field(default_factory=list)
    """Label, operator, value without its quotes."""
    window_s: float = 0.0
    """0: its last value."""
    offset_s: float = 0.0
    within: str = ""
    """The function or aggregation right around it."""

    @property
    def reach_s(self) -> float:
        """How far back it looks."""
        return self.window_s + self.offset_s


@dataclass(slots=True)
class Expression:
    """What an expression reads."""

    selectors: list[Selector] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    grouped_by: list[tuple[str, ...]] = field(default_factory=list)
    subquery_s: float = 0.0
    """The longest window of a subquery with its offset; it comes on top of what it reads."""


def read(expr: str) -> Expression:
    """What stands in an expression; whatever it cannot make sense of is left out."""
    return _Reader(expr).read()


def seconds(text: str) -> float:
    """`1h30m`, `2w`, `1y` → seconds; 0 for what is none."""
    try:
        return duration_ms(re.sub(r"(\d+)y", lambda found: f"{365 * int(found[1])}d", text)) / 1000
    except ValueError:
        return 0.0


class _Reader:
    def __init__(self, expr: str) -> None:
        self._tokens = list(_tokens(expr))
        self._at = 0
        self._found = Expression()
        self._around: list[str] = []
        self._last: Selector | None = None

    def read(self) -> Expression:
        while self._at < len(self._tokens):
            kind, text = self._tokens[self._at]
            self._at += 1
            if kind == "name":
                self._name(text)
            elif kind == "range":
                self._range(text)
            elif text == "{":
                self._last = self._selector("")
            elif text == "(":
                self._around.append("")
            elif text == ")" and self._around:
                self._around.pop()
                self._last = None
        return self._found

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _name(self, text: str) -> None:
        word = text.lower()
        if word in _CLAUSES:
            labels = self._labels()
            if word in _GROUPING:
                self._found.grouped_by.append(labels)
                # `sum by (x) (…)`: what follows is what the aggregation is around.
                if self._next()[1] == "(" and self._at:
                    self._at += 1
                    self._around.append(self._found.functions[-1] if self._found.functions else "")
        elif word == "offset":
            self._offset()
        elif word in _WORDS:
            return
        elif self._next()[1] == "(":
            self._at += 1
            self._found.functions.append(text)
            self._around.append(text)
        elif self._next()[1].lower() in _GROUPING:
            self._found.functions.append(text)
        else:
            self._last = self._selector(text)

    def _labels(self) -> tuple[str, ...]:
        labels = []
        if self._next()[1] == "(":
            self._at += 1
            while self._next()[1] not in (")", ""):
                kind, text = self._next()
                self._at += 1
                if kind == "name":
                    labels.append(text)
            self._at += 1
        return tuple(labels)

    def _selector(self, metric: str) -> Selector:
        found = Selector(metric, within=self._around[-1] if self._around else "")
        if not metric or self._next()[1] == "{":
            self._at += bool(metric)
            self._matchers(found)
        for label, how, value in found.matchers:
            if label == "__name__" and how == "=":
                found.metric = value
        self._found.selectors.append(found)
        return found

    def _matchers(self, into: Selector) -> None:
        while self._next()[1] not in ("}", ""):
            kind, text = self._next()
            self._at += 1
            if kind == "name" and self._next()[1] in ("=", "!=", "=~", "!~"):
                how = self._next()[1]
                self._at += 1
                value = self._next()[1]
                self._at += 1
                into.matchers.append((text, how, value[1:-1].replace('\\"', '"').replace("\\\\", "\\")))
        self._at += 1

    def _range(self, text: str) -> None:
        window = seconds(text[1:-1].partition(":")[0].strip())
        if self._last is not None and ":" not in text:
            self._last.window_s = window
        else:
            self._found.subquery_s = max(self._found.subquery_s, window)

    def _offset(self) -> None:
        if self._next()[1] == "-":
            self._at += 2
            return
        by = seconds(self._next()[1])
        self._at += 1
        if self._last is not None:
            self._last.offset_s = by
        else:
            self._found.subquery_s += by


def _tokens(expr: str) -> Iterator[tuple[str, str]]:
    for found in _TOKEN.finditer(expr):
        kind = found.lastgroup or ""
        if kind != "skip":
            yield kind, found[0]
