"""Settings that may hold secrets: written with `${VARIABLE}` or `${file:/path}`, expanded for the wire, never shown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from graphmeter_config.values import wrong

VARIABLE: Final = re.compile(r"\$\{(?:file:([^{}]+)|([A-Za-z_][A-Za-z0-9_]*))\}")
"""`${file:/path}` or `${VARIABLE}`."""
HIDDEN: Final = "***"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Secret(str):
    """Text for the wire whose `repr` tells no more than the file does: `'Bearer ${TOKEN}'`, or nothing."""

    __slots__ = ("shown",)
    shown: str
    """What may be printed."""

    def __new__(cls, value: str, shown: str) -> Secret:
        made = super().__new__(cls, value)
        made.shown = shown
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.shown

    def __repr__(self) -> str:
        return repr(self.shown)


def expanded(written: str) -> str:
    """Replace each `${VARIABLE}` by its value in the environment, each `${file:/path}` by the text of the file."""
    return VARIABLE.sub(lambda found: _text_of(found[1]) if found[1] else _value_of(found[2]), written)


def _value_of(variable: str) -> str:
    if variable not in os.environ:
        raise wrong(f"the environment has no variable {variable}", f"export {variable}, or write the value")
    return os.environ[variable]


def _text_of(file: str) -> str:
    remedy = "name a file of one line that this process may read"
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise wrong(f"the file {file} cannot be read: {error.strerror}", remedy) from None
    except UnicodeDecodeError:
        raise wrong(f"the file {file} is not text in UTF-8", remedy) from None


def shown_url(written: str) -> str:
    """A URL as written, without user, password and query, which may be secrets."""
    without_user = re.sub(r"(?<=://)[^/?#]*@", f"{HIDDEN}@", written)
    return re.sub(r"\?.*", f"?{HIDDEN}", without_user, flags=re.DOTALL)


def _header(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise wrong("not text", 'put the value in quotes: "Bearer ${TOKEN}"')
    text = expanded(value)
    if not text.isprintable():
        raise wrong("holds characters that no HTTP header can carry", "write one line of printable text")
    return Secret(text, value if VARIABLE.search(value) else HIDDEN)


def _header_name(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise wrong("not the name of an HTTP header", "write a name such as Authorization or X-Api-Key")
    return value


def shown(value: str) -> str:
    """What may be printed of a value, whether or not somebody took care to make it a `Secret`."""
    return value.shown if isinstance(value, Secret) else HIDDEN


TEXT: Final = WithJsonSchema({"type": "string"})
HeaderName = Annotated[str, PlainValidator(_header_name), TEXT]
HeaderValue = Annotated[str, PlainValidator(_header), PlainSerializer(shown), TEXT]
