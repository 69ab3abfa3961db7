"""Whom a collector on loopback answers: requests in, those that a strange web page made refused.

Loopback keeps other machines out, not the browser on this one. A page from anywhere may give its own name the address
127.0.0.1 once it is loaded (DNS rebinding); the browser then lets it read whatever listens here. What such a page cannot
change is the name it was loaded from, and that name is in the Host header.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Names that nobody can register. Containers on a desktop call their host `host.docker.internal`.
_PRIVATE: Final = (".localhost", ".internal", ".local")
_NOT_OURS: Final = 421  # Misdirected Request


class KnownHosts:
    """ASGI middleware: refuses requests whose Host is a name that somebody may own on the internet."""

    def __init__(self, app: ASGIApp, applies: Callable[[], bool] = lambda: True) -> None:
        """`applies` is asked at each request: who must show a key may call us by any name, for no page has that key."""
        self._app = app
        self._applies = applies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._applies():
            host = Headers(scope=scope).get("host", "")
            if not is_private(host):
                detail = (
                    f"this collector serves this machine only, and {host[:80]!r} may be anybody's name for it: use "
                    "localhost, give the collector API keys, or start it with --allow-anonymous if a proxy in front of "
                    "it guards the door"
                )
                await JSONResponse({"detail": detail}, _NOT_OURS)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_private(host: str) -> bool:
    """Whether a Host header holds no name that could be registered: an address, a name without a dot, a reserved one."""
    name = host.strip().lower()
    bracketed = name.startswith("[")
    # What is not a port belongs to the name, so that nothing hides behind a colon.
    before, colon, port = name.rpartition("]:" if bracketed else ":")
    if colon and port.isdecimal():
        name = before
    name = name.strip("[]").removesuffix(".")
    if "." not in name and ":" not in name:
        return True
    if name.endswith(_PRIVATE):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
