"""Requests that a model call waits for: JSON to the collector and back, over connections that stay open between calls.

Standard library only. A connection serves one request at a time, so threads take one each; few stay open. Behind a proxy,
which urllib finds and we do not, every request opens its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from graphmeter import forks
from graphmeter.budget.source import Silent, explained
from graphmeter.send import LOOPBACK, opener

MOST_IDLE: Final = 8
"""Connections that stay open."""
_MOST_BYTES: Final = 1024 * 1024


class Pool:
    """Connections to one collector. Any thread may use it; a forked child opens its own."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._owner = os.getpid()
        self._url = base_url
        self._target = urlsplit(base_url)
        self._proxied = _proxied(base_url)
        self._headers = {**headers, "accept": "application/json", "user-agent": "graphmeter-client"}
        self._context: Any = None

    def ask(self, method: str, path: str, body: object, timeout_s: float) -> tuple[int, Any]:
        """Status and JSON of the answer; None where there is no body.

        A connection that the collector has closed meanwhile is replaced, and the request repeated: so it must be one that
        may be made twice.

        Raises:
            Silent: there is none, or it refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "content-type": "application/json"}
        if self._proxied:
            return _by_itself(self._url + path, method, data, headers, timeout_s)
        path = self._target.path.rstrip("/") + path
        while True:
            connection = self._take()
            used = connection is not None
            if connection is None:
                connection = self._open(timeout_s)
            try:
                connection.timeout = timeout_s
                if connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                text = answer.read(_MOST_BYTES)
            except TimeoutError:
                connection.close()
                raise Silent(f"no answer within {timeout_s:g} s") from None
            except (OSError, HTTPException, ValueError) as error:
                connection.close()
                if used:
                    continue  # closed while it was idle
                raise Silent(str(error) or type(error).__name__) from None
            if answer.will_close or not answer.isclosed():
                connection.close()
            else:
                self._give_back(connection)
            return _read(answer.status, text)

    def close(self) -> None:
        """Close what is idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        # Nobody asks any more: sockets are not left to chance.
        if self._owner == os.getpid():
            self.close()

    def _take(self) -> HTTPConnection | None:
        if self._owner != os.getpid():
            self._after_fork()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _after_fork(self) -> None:
        # The parent goes on with its connections: neither used here nor closed in a way that the collector would hear of.
        self._lock = threading.Lock()
        for connection in self._idle:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    os.close(connection.sock.detach())
        self._idle = []
        self._owner = os.getpid()

    def _open(self, timeout_s: float) -> HTTPConnection:
        host, port = self._target.hostname or "", self._target.port
        if self._target.scheme != "https":
            return HTTPConnection(host, port, timeout=timeout_s)
        if self._context is None:
            import ssl

            with forks.gate:
                self._context = ssl.create_default_context()
        return HTTPSConnection(host, port, timeout=timeout_s, context=self._context)


def _read(status: int, text: bytes) -> tuple[int, Any]:
    if status >= 400:
        raise Silent(explained(status, text[:300].decode("utf-8", "replace").strip(), "ingest"))
    try:
        return status, json.loads(text) if text else None
    except ValueError as error:
        raise Silent(f"its answer is no JSON: {error}") from None


def _proxied(url: str) -> bool:
    target = urlsplit(url)
    host = target.hostname or ""
    return (
        host not in LOOPBACK and target.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    )


def _by_itself(
    url: str, method: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, Any]:
    """A request through urllib, which knows proxies."""
    request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310 - http and https only
    try:
        with opener(url).open(request, timeout=timeout_s) as answer:
            return _read(answer.status, answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return _read(error.code, error.read(300))
    except (OSError, HTTPException) as error:
        raise Silent(str(getattr(error, "reason", error)) or type(error).__name__) from None
