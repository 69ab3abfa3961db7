"""A snapshot in, the text of an attribute out: redacted first, then cut to size, and valid JSON throughout.

Runs in the exporter's thread. A text is redacted with a margin beyond what can be sent, so that a cut never falls into a
secret and leaves a half that no pattern knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from graphmeter.capture.plain import Named
from graphmeter.redact import Redactor, Where

_MARGIN: Final = 4_096
"""Characters beyond the limit that are redacted and thrown away: longer than any secret but a key file."""
_SHORTEST_CUT: Final = 32
_MARK: Final = 64
"""Bytes that the mark of a cut may take."""
# Ours, not the application's words.
_STRUCTURE: Final = frozenset({"type", "role", "modality"})
_LONG_NUMBER: Final = 10**7
"""Numbers from here on may be card or phone numbers."""


class _Cut(str):
    """The beginning of a text."""

    __slots__ = ("total",)
    total: int
    """Bytes of the whole."""


def text(value: str, redactor: Redactor, where: Where, limit: int) -> str:
    """A text that is an attribute by itself."""
    said = _redacted_text(value.replace("\0", ""), redactor, where, limit)
    return _shortened(said, limit - _MARK).encode("utf-8", "replace").decode()


def as_json(value: Any, redactor: Redactor, where: Where, limit: int) -> str:
    """JSON text of `value`, at most `limit` bytes."""
    return _fit(_redacted(value, redactor, where, limit), limit)


def conversation(messages: list[Any], older: int, redactor: Redactor, where: Where, limit: int) -> str:
    """JSON text of the newest of `messages` that fit into `limit` bytes; a first message tells how many are not there.

    `older`: messages that were left out already.
    """
    kept: list[str] = []
    room = limit - _bytes(_dump([_older(10**6)]))
    for message in reversed(messages):
        # One by one, newest first: what will not fit is not even redacted, but for the one that shows it.
        clean = _redacted(message, redactor, where, limit)
        said = _dump(_shortened_all(clean, limit))
        size = _bytes(said) + 1
        if size > room:
            if not kept:
                said = _fit(clean, room)
                kept.append(said if said != "{}" else _dump({"role": clean["role"], "parts": []}))
            break
        kept.append(said)
        room -= size
    missing = older + len(messages) - len(kept)
    if missing:
        kept.append(_dump(_older(missing)))
    return "[" + ",".join(reversed(kept)) + "]"


def _older(count: int) -> dict[str, Any]:
    plural = "s" if count != 1 else ""
    return {
        "role": "graphmeter",
        "parts": [{"type": "text", "content": f"…[cut: {count} older message{plural}]"}],
    }


def _redacted(value: Any, redactor: Redactor, where: Where, limit: int) -> Any:
    if isinstance(value, str):
        return _redacted_text(value, redactor, where, limit)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if -_LONG_NUMBER < value < _LONG_NUMBER or isinstance(value, float):
            return value
        masked = redactor.name(str(value))
        return value if masked == str(value) else masked
    if isinstance(value, list):
        return [_redacted(one, redactor, where, limit) for one in value]
    if not isinstance(value, Named):
        return {key: one if key in _STRUCTURE else _redacted(one, redactor, where, limit) for key, one in value.items()}
    said = {}
    for key, one in value.items():
        name = _shortened(_redacted_name(key, redactor, limit), 256)
        while name in said:
            name += "'"
        hide = isinstance(one, str | int) and not isinstance(one, bool) and redactor.secret(key)
        said[name] = "[redacted:key]" if hide else _redacted(one, redactor, where, limit)
    return said


def _redacted_text(value: str, redactor: Redactor, where: Where, limit: int) -> str:
    return _window(value, limit, lambda part: redactor.text(part, where)) if value else value


def _redacted_name(value: str, redactor: Redactor, limit: int) -> str:
    return _window(value, limit, redactor.name)


def _window(value: str, limit: int, redact: Callable[[str], str]) -> str:
    if len(value) <= limit + _MARGIN:
        return redact(value)
    redacted = redact(value[: limit + _MARGIN])
    cut = _Cut(redacted[: max(len(redacted) - _MARGIN, 0)])
    cut.total = len(value.encode("utf-8", "replace"))
    return cut


def _fit(value: Any, limit: int) -> str:
    """JSON of `value`: whole, or with long texts cut, or (many small things) with the rest left out."""
    longest = limit
    while longest >= _SHORTEST_CUT:
        said = _dump(_shortened_all(value, longest))
        if _bytes(said) <= limit:
            # Halving overshoots: take back some of what it took away.
            for more in (7, 6, 5) if longest < limit else ():
                larger = _dump(_shortened_all(value, longest * more // 4))
                if _bytes(larger) <= limit:
                    return larger
            return said
        longest //= 2
    for most in (64, 16, 4, 1):
        said = _dump(_thinned(_shortened_all(value, _SHORTEST_CUT), most))
        if _bytes(said) <= limit:
            return said
    return "[]" if isinstance(value, list) else "{}" if isinstance(value, dict) else '"…[cut]"'


def _shortened_all(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return _shortened(value, longest)
    if isinstance(value, list):
        return [_shortened_all(one, longest) for one in value]
    if isinstance(value, dict):
        return {key: _shortened_all(one, longest) for key, one in value.items()}
    return value


def _shortened(value: str, longest: int) -> str:
    """`value` in at most `longest` bytes of UTF-8 and a mark of what is missing."""
    cut = type(value) is _Cut
    if not cut and len(value) * 4 <= longest:
        return value
    encoded = value.encode("utf-8", "replace")
    if not cut and len(encoded) <= longest:
        return value
    kept = encoded[:longest].decode("utf-8", "ignore")
    total = value.total if isinstance(value, _Cut) else len(encoded)
    return f"{kept}…[cut: {total - len(kept.encode())} of {total} bytes]"


def _thinned(value: Any, most: int) -> Any:
    if isinstance(value, list):
        said = [_thinned(one, most) for one in value[:most]]
        if len(value) > most:
            mark = f"…[cut: {len(value) - most} of {len(value)} items]"
            of_parts = isinstance(value[0], dict) and "type" in value[0]
            said.append({"type": "text", "content": mark} if of_parts else mark)
        return said
    if isinstance(value, dict):
        said_keys = {key: _thinned(one, most) for key, one in list(value.items())[:most]}
        if len(value) > most:
            said_keys["…"] = f"…[cut: {len(value) - most} of {len(value)} keys]"
        return said_keys
    return value


def _bytes(said: str) -> int:
    return len(said) if said.isascii() else len(said.encode())


def _dump(value: Any) -> str:
    # Half a surrogate pair is no text to protobuf.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode()
