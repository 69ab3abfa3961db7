"""Where a collector listens, and whether it may: beyond this machine only with keys, and never as its own destination."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from graphmeter_collector.errors import StartupError, StoreUnavailable
from graphmeter_collector.keys import BadKeys
from graphmeter_collector.outbound import Destination
from graphmeter_collector.settings import Settings
from graphmeter_collector.store.keys import KeyTable


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A socket bound to the address.

    Raises:
        StartupError: it is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without, the body of an answer waits for the sender's receipt of its head: 40 ms on Linux.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what listens there, or choose another {option}"
        ) from error
    return listener


async def check_exposure(settings: Settings) -> None:
    """Raises StartupError if the collector would listen beyond this machine, and nobody had to show a key."""
    if settings.allow_anonymous or _is_loopback(settings.host):
        return
    keys = KeyTable(settings.database())
    try:
        if settings.keys() or await keys.exist():
            return
    except (BadKeys, StoreUnavailable) as problem:
        raise StartupError(str(problem)) from problem
    finally:
        await keys.close()
    raise StartupError(
        f"--host {settings.host} would let everybody who reaches this machine read and write without a key: "
        "make keys with `graphmeter keys create` or set GRAPHMETER_API_KEYS, listen on 127.0.0.1, or say "
        "--allow-anonymous where something else guards the door"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_itself(destinations: Sequence[Destination], own_host: str, own_ports: Sequence[int | None]) -> None:
    """Raises StartupError if a destination is this very collector: what comes in would go round for ever."""
    for destination in destinations:
        parts = urlsplit(destination.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port in own_ports and _same_machine(parts.hostname or "", own_host):
            raise StartupError(
                f"forward destination {destination.name!r} is this collector itself: "
                "name the backend that is to get the traces, or leave it out"
            )


def _same_machine(host: str, own_host: str) -> bool:
    """Whether connecting to `host` arrives at a socket bound to `own_host` (numeric). Other names are not looked up."""
    own = ipaddress.ip_address(own_host)
    if host == "localhost":
        return own.is_loopback or own.is_unspecified
    try:
        other = ipaddress.ip_address(host)
    except ValueError:
        return False
    # To connect to 0.0.0.0 or :: is to connect to this machine.
    return other == own or other.is_unspecified or (own.is_unspecified and other.is_loopback)


def shown_host(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
