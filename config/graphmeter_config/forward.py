"""Where committed spans go next."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator

from graphmeter_config.secret import TEXT, HeaderName, HeaderValue, Secret, expanded, shown, shown_url
from graphmeter_config.section import Section
from graphmeter_config.values import Name, Seconds, wrong

_LONGEST_TIMEOUT_S: Final = 300.0


def _endpoint(value: Any) -> Secret:
    remedy = "write the base URL of an OTLP/HTTP receiver: http://jaeger:4318"
    if not isinstance(value, str):
        raise wrong("not text", remedy)
    if isinstance(value, Secret):
        return value
    text = expanded(value)
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise wrong("not an http or https URL", remedy)
    return Secret(url.geturl().rstrip("/"), shown_url(value))


def _timeout(value: float) -> float:
    if value > _LONGEST_TIMEOUT_S:
        raise wrong("longer than 5m", "write 30s: what takes longer is tried again")
    return value


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
    endpoint: Annotated[str, PlainValidator(_endpoint), PlainSerializer(shown), TEXT]
    """Base URL; `/v1/traces` is added. `${VARIABLE}` and `${file:/path}` are read from environment and files."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
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
