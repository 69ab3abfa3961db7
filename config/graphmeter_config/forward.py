"""Where committed spans go next, and the only settings that may hold secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from graphmeter_config.section import Section
from graphmeter_config.values import Name, Seconds, wrong

VARIABLE: Final = re.compile(r"\$\{(?:file:([^{}]+)|([A-Za-z_][A-Za-z0-9_]*))\}")
"""`${file:/path}` or `${VARIABLE}`."""
HIDDEN: Final = "***"
_LONGEST_TIMEOUT_S: Final = 300.0
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


def _timeout(value: float) -> float:
    if value > _LONGEST_TIMEOUT_S:
        raise wrong("longer than 5m", "write 30s: what takes longer is tried again")
    return value


def _shown(value: str) -> str:
    return value.shown if isinstance(value, Secret) else HIDDEN


_TEXT: Final = WithJsonSchema({"type": "string"})
_HeaderName = Annotated[str, PlainValidator(_header_name), _TEXT]
_HeaderValue = Annotated[str, PlainValidator(_header), PlainSerializer(_shown), _TEXT]


class Tls(Section):
    """How to trust a backend behind https, and how to be trusted by it. Files are read when the collector starts."""

    ca_file: str | None = None
    """Certificates (PEM) that vouch for the backend; left out, those of the system do."""
    cert_file: str | None = None
    """Our own certificate (PEM), for backends that ask for one."""
    key_file: str | None = None
    """Its key; left out, it is in `cert_file`."""
    insecure_skip_verify: bool = False
    """Take any certificate: whoever is in between can read and change the traces."""

    @model_validator(mode="after")
    def _belong_together(self) -> Tls:
        if self.key_file is not None and self.cert_file is None:
            raise wrong("a key without its certificate", "add cert_file, or leave key_file out")
        if self.insecure_skip_verify and self.ca_file is not None:
            raise wrong("ca_file and insecure_skip_verify contradict each other", "keep one of them")
        return self


class Destination(Section):
    """One OTLP/HTTP backend."""

    name: Name
    endpoint: Annotated[str, PlainValidator(_endpoint), PlainSerializer(_shown), _TEXT]
    """Base URL; `/v1/traces` is added. `${VARIABLE}` and `${file:/path}` are read from environment and files."""
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict)
    """Sent with every request. `${VARIABLE}` and `${file:/path}` are read from environment and files."""
    tls: Tls = Tls()
    compression: Literal["gzip", "none"] = "gzip"
    timeout_s: Annotated[Seconds, AfterValidator(_timeout)] = Field(30.0, alias="timeout")
    """How long a request may take."""
    sampled: bool = True
    """Whether `sampling` holds for this backend; false: it gets every trace, and at once."""

    @model_validator(mode="after")
    def _tls_needs_https(self) -> Destination:
        if self.tls != Tls() and not self.endpoint.startswith("https:"):
            raise wrong("tls for an endpoint that is not https", "write https:// in endpoint, or leave tls out")
        return self


class Forward(Section):
    """Backends that get committed spans."""

    destinations: tuple[Destination, ...] = ()
