"""What leaves the process in words passes here first: text in, redacted text out, or nothing at all.

The user's function sees a text first, the built-in patterns see what it returns: nothing that they know leaves, whatever the
function does. Where the function fails there is no value; a text is never sent unredacted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from traceback import extract_tb
from typing import Final, NamedTuple

from graphmeter import guard

_log = logging.getLogger("graphmeter")

PATTERNS: Final = ("pem", "token", "key", "aws", "email", "iban", "card", "phone", "ip")
"""Names of the built-in patterns, in the order in which they are applied; see `graphmeter.patterns`."""


class Where(NamedTuple):
    """Where a text comes from."""

    attribute: str
    """The span attribute that it becomes part of: `gen_ai.input.messages`, `exception.message` …"""
    graph: str
    """Name of the root graph; empty if it is named after the service."""
    node: str
    """Path of the node through subgraphs; empty outside of nodes."""
    name: str
    """Name of the graph, node, model, tool or retriever that the span stands for."""


Function = Callable[[str, Where], str | None]
"""`redact(text, where)`: the text to send instead, or None to send none. Called in the exporter's thread, for every text
inside a value (a message, an argument, a key) on its own."""

WITHHELD: Final = "[redacted]"
"""Stands where the user's function returned None."""


class Unusable(Exception):
    """The user's function returned something that is no text."""


class Redactor:
    """Masks texts.

    Args:
        function: The user's own.
        patterns: Names of built-in patterns; default all.
    """

    def __init__(self, function: Function | None = None, patterns: Iterable[str] = PATTERNS) -> None:
        self._function = function
        self._patterns = frozenset(patterns)

    def text(self, text: str, where: Where) -> str:
        """`text` as it may leave.

        Raises:
            Exception: Whatever the user's function raised, or Unusable: nothing may be sent.
        """
        if self._function is not None:
            answer = self._function(text, where)
            if answer is None:
                return WITHHELD
            if not isinstance(answer, str):
                raise Unusable(f"redact() returned {type(answer).__name__}; return the text to send, or None for none")
            text = answer
        return self._mask(text)

    def name(self, text: str) -> str:
        """A name of the user's (a key), masked by the built-in patterns alone."""
        return self._mask(text)

    def _mask(self, text: str) -> str:
        if self._patterns and len(text) >= _SHORTEST:
            from graphmeter import patterns

            for name, mask in patterns.MASKS.items():
                if name in self._patterns:
                    text = mask(text)
        return text

    def message(self, text: str, where: Where) -> str:
        """`text` as it may leave; empty if there is no safe form of it. Never raises."""
        try:
            return self.text(text, where) if text else ""
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything; it is counted and logged
            failed(where.attribute, error)
            return ""

    def secret(self, name: str) -> bool:
        """Whether a value of this name is a secret whatever it looks like: `password`, `api_key` …"""
        if "key" not in self._patterns:
            return False
        from graphmeter import patterns

        return patterns.SECRET_NAME.fullmatch(name) is not None


_SHORTEST: Final = 6
"""Nothing shorter is of any pattern."""


def failed(attribute: str, error: Exception) -> None:
    """Count a value that is not sent, because `error` kept it from being redacted; log the first of its kind.

    Without the error's own words: they may quote what should have been redacted, and logs travel, too.
    """
    frames = extract_tb(error.__traceback__)
    at = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    reason = f" ({error})" if isinstance(error, Unusable) else ""
    guard.noticed(f"redact {attribute}: {type(error).__name__}", f"not sent, redacting it failed{at}{reason}")


def choose(said: str, variable: str = "GRAPHMETER_REDACT") -> frozenset[str]:
    """Names of patterns from `email,card`, `-ip,-phone` (all but these), `all` or `off`; empty means all.

    A name that is not known is said in the log and makes it all: a typo must not let anything through.
    """
    names_ = {part.strip().lower() for part in said.split(",")} - {""}
    if names_ & {"off", "none", "0", "false"} and len(names_) == 1:
        return frozenset()
    unknown = sorted(name for name in names_ if name.removeprefix("-") not in (*PATTERNS, "all"))
    if unknown:
        _log.warning("%s: no pattern %s; using all of %s", variable, ", ".join(unknown), ", ".join(PATTERNS))
        return frozenset(PATTERNS)
    wanted = {name for name in names_ if not name.startswith("-")}
    chosen = frozenset(PATTERNS) if not wanted or "all" in wanted else frozenset(wanted)
    return chosen - {name[1:] for name in names_ if name.startswith("-")}
