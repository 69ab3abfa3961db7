"""Where signals go: a destination of graphmeter.yaml or of a flag, ready to be called.

Shared by everybody who sends (spans from the outbox, logs and metrics in passing, the collector's own traces), so that
all of them present the same headers, certificates and trust.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graphmeter_collector.errors import StartupError
from graphmeter_config import Destination as Configured
from graphmeter_config import Tls


@dataclass(frozen=True, slots=True)
class Destination:
    """A backend, and how to talk to it."""

    name: str
    endpoint: str
    """Base URL; the path of a signal is added."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Tls = field(default_factory=Tls)
    ssl: ssl.SSLContext | None = None
    """None: as the system trusts."""
    gzip: bool = True
    timeout_s: float = 30.0
    sampled: bool = True
    """Gets the traces that `sampling` keeps, not all."""


def outbound(configured: Configured) -> Destination:
    """A destination of graphmeter.yaml.

    Raises:
        StartupError: a certificate or key cannot be used.
    """
    return Destination(
        configured.name,
        configured.endpoint,
        dict(configured.headers),
        configured.tls,
        _context(configured),
        configured.compression == "gzip",
        configured.timeout_s,
        configured.sampled,
    )


def _context(configured: Configured) -> ssl.SSLContext | None:
    tls = configured.tls
    if tls == Tls():
        return None
    context = ssl.create_default_context()
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.ca_file is not None:
        # Only these: whoever names a CA does not mean all others as well.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _use(configured, "ca_file", tls.ca_file, lambda: context.load_verify_locations(tls.ca_file))
    if tls.cert_file is not None:
        certificate = tls.cert_file
        # An empty password: one that is asked for on the terminal would keep the collector from starting.
        _use(
            configured,
            "cert_file and key_file",
            " and ".join(filter(None, (certificate, tls.key_file))),
            lambda: context.load_cert_chain(certificate, tls.key_file, password=""),
        )
    return context


def _use(configured: Configured, setting: str, files: str, load: Callable[[], object]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if error.filename or not isinstance(error, ssl.SSLError) else error.reason
        raise StartupError(
            f"forward destination {configured.name!r}: {setting} ({files}) cannot be used: {why or error}; "
            "name PEM files that this process may read and that belong together"
        ) from error
