"""The door of HTTP: requests in, those of known callers passed on with their caller, the others answered 401 or 403.

It stands before every route, so a route that is added is behind it. Which scope a path needs is decided here alone.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from graphmeter_collector.door.keyring import Keyring
from graphmeter_collector.errors import CollectorError, Permanent, Transient, Unauthenticated
from graphmeter_collector.keys import ADMIN, INGEST, READ
from graphmeter_collector.receive.answers import JSON, PROTOBUF, refuse

OPEN: Final = frozenset({"/health", "/ready"})
"""What load balancers and orchestrators ask, who have no keys; it tells nothing."""
METRICS: Final = "/metrics"
_OTLP: Final = "/v1/"
_RESERVING: Final = re.compile(r"/api/budgets/[^/]+/reservations(/[^/]+)?")
"""What applications ask of strict budgets, who have the key that they send with."""
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE: Final = 'Bearer realm="graphmeter", Basic realm="graphmeter", charset="UTF-8"'
"""A browser takes the second: it asks for user and password, and the key is the password."""


class Door:
    """ASGI middleware: puts the caller into `request.state.caller`, or refuses."""

    def __init__(self, app: ASGIApp, keyring: Keyring, *, open_metrics: bool = False) -> None:
        """With `open_metrics` the exposition needs no key."""
        self._app = app
        self._keyring = keyring
        self._open = OPEN | {METRICS} if open_metrics else OPEN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            headers = Headers(scope=scope)
            needed = _needed(scope)
            try:
                caller = self._keyring.admit(headers.get("authorization", ""), needed)
            except CollectorError as error:
                await _refusal(error, scope["path"], headers)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _needed(scope: Scope) -> str:
    if scope["path"].startswith(_OTLP):
        return INGEST
    if scope["method"] not in _READING and _RESERVING.fullmatch(scope["path"]):
        return INGEST
    return READ if scope["method"] in _READING else ADMIN


def _refusal(error: CollectorError, path: str, headers: Headers) -> Response:
    if path.startswith(_OTLP):
        protobuf = headers.get("content-type", "").lower().startswith(PROTOBUF)
        answer = refuse(error, PROTOBUF if protobuf else JSON)
    else:
        status = error.http_status if isinstance(error, (Permanent, Transient)) else 500
        answer = JSONResponse({"detail": str(error)}, status)
    if isinstance(error, Unauthenticated):
        answer.headers["www-authenticate"] = CHALLENGE
    return answer
