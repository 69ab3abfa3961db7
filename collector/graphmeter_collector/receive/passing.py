"""OTLP logs and metrics in, the same bytes to the sibling endpoints of the forward destinations out.

This collector keeps neither, but an application has one OTLP endpoint: what it sends besides traces must neither fail nor
vanish when a destination could take it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from graphmeter_collector.errors import Transient

if TYPE_CHECKING:
    import aiohttp

_log = structlog.stdlib.get_logger(__name__)

_TIMEOUT_S: Final = 10.0
_HEADERS: Final = ("content-type", "content-encoding")
_RETRYABLE: Final = frozenset({429, 502, 503, 504})


class Target(NamedTuple):
    """Where signals go: base URL (`http://host:4318`) and headers of one destination, and whom it is trusted to be."""

    endpoint: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None = None
    """None: as the system trusts."""


class Passing:
    """Hands logs and metrics on. One HTTP session, opened on first use; close it."""

    def __init__(self, targets: Sequence[Target] = ()) -> None:
        self._targets = tuple(targets)
        self._session: aiohttp.ClientSession | None = None
        self._refused: set[tuple[str, str]] = set()

    async def send(self, signal: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send to every target; without one there is nothing to do.

        A target that refuses for good (Jaeger takes traces only) counts as served: asking the sender to repeat would
        change nothing.

        Raises:
            Transient: no target took it, and one of them may do so later.
        """
        if not self._targets:
            return
        sent = {name: headers[name] for name in _HEADERS if name in headers}
        results = await asyncio.gather(*(self._post(target, signal, body, sent) for target in self._targets))
        if "taken" not in results and "later" in results:
            raise Transient(f"no destination could take the {signal}: send again later")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, target: Target, signal: str, body: bytes, headers: Mapping[str, str]) -> str:
        # Imported here: where nothing is passed on, starting need not wait for an HTTP client.
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        url = f"{target.endpoint.rstrip('/')}/v1/{signal}"
        trust = target.ssl if target.ssl is not None else True
        sent = {**target.headers, **headers}
        try:
            # A POST that follows a redirect becomes a GET, whose 200 would pass for a delivery.
            async with self._session.post(url, data=body, headers=sent, allow_redirects=False, ssl=trust) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            return "later"
        if status < 300:
            return "taken"
        if status in _RETRYABLE:
            return "later"
        if (target.endpoint, signal) not in self._refused:
            self._refused.add((target.endpoint, signal))
            _log.warning("signal_refused", signal=signal, destination=target.endpoint, status=status)
        return "refused"
