"""Where committed spans go next, and the only settings that may hold secrets."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from graphmeter_config.section import Section
from graphmeter_config.values import Name, wrong

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
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


def _expanded(written: str) -> str:
    """Replace each `${VARIABLE}` by its value in the environment."""
    for variable in VARIABLE.findall(written):
        if variable not in os.environ:
            raise wrong(f"the environment has no variable {variable}", f"export {variable}, or write the value")
    return VARIABLE.sub(lambda found: os.environ[found[1]], written)


def _endpoint(value: Any) -> Secret:
    remedy = "write the base URL of an OTLP/HTTP receiver: http://jaeger:4318"
    if not isinstance(value, str):
        raise wrong("not text", remedy)
    if isinstance(value, Secret):
        return value
    expanded = _expanded(value)
    try:
        url = urlsplit(expanded)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise wrong("not an http or https URL", remedy)
    return Secret(url.geturl().rstrip("/"), shown_url(value))


def shown_url(written: str) -> str:
    """A URL as written, without user, password and query, which may be secrets."""
    without_user = re.sub(r"(?<=://)[^/?#]*@", f"{HIDDEN}@", written)
    return re.sub(r"\?.*", f"?{HIDDEN}", without_user, flags=re.DOTALL)


def _header(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise wrong("not text", 'put the value in quotes: "Bearer ${TOKEN}"')
    expanded = _expanded(value)
    if not expanded.isprintable():
        raise wrong("holds characters that no HTTP header can carry", "write one line of printable text")
    return Secret(expanded, value if VARIABLE.search(value) else HIDDEN)


def _header_name(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise wrong("not the name of an HTTP header", "write a name such as Authorization or X-Api-Key")
    return value


def _shown(value: str) -> str:
    return value.shown if isinstance(value, Secret) else HIDDEN


_TEXT: Final = WithJsonSchema({"type": "string"})
_HeaderName = Annotated[str, PlainValidator(_header_name), _TEXT]
_HeaderValue = Annotated[str, PlainValidator(_header), PlainSerializer(_shown), _TEXT]


class Destination(Section):
    """One OTLP/HTTP backend."""

    name: Name
    endpoint: Annotated[str, PlainValidator(_endpoint), PlainSerializer(_shown), _TEXT]
    """Base URL; `/v1/traces` is added. `${VARIABLE}` is read from the environment."""
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict)
    """Sent with every request. `${VARIABLE}` is read from the environment."""


class Forward(Section):
    """Backends that get every committed span."""

    destinations: tuple[Destination, ...] = ()
