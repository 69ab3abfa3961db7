"""The keys in force: an Authorization header in, the caller it belongs to out, or a refusal that is counted.

No request waits for the database: keys are read again every two seconds, so a revoked one stops within `STOPS_WITHIN_S`
on every collector. While the database is away the keys known before stay in force, or no spool could fill.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError, Forbidden, StoreUnavailable, Unauthenticated
from graphmeter_collector.keys import ADMIN, BadKeys, Key, id_in
from graphmeter_collector.records import ANONYMOUS, Caller
from graphmeter_collector.telemetry import Metrics

_log = structlog.stdlib.get_logger(__name__)

REFRESH_EVERY_S: Final = 2.0
STOPS_WITHIN_S: Final = 5
"""A promise: after so many seconds a revoked key opens nothing, a new one works."""
USED_EVERY_NS: Final = 60_000_000_000
"""How exactly the last use of a key is written down."""
_MOST_CREDENTIALS: Final = 4096
"""Bytes of an Authorization header that are looked at."""


class Table(Protocol):
    """The database's keys."""

    async def all(self) -> list[Key]: ...

    async def used(self, at_ns: dict[str, int]) -> None: ...


class Keyring:
    """Keys of the environment and of the database. `admit` judges credentials; every receiver asks the same one."""

    def __init__(
        self,
        table: Table,
        configured: Callable[[], Sequence[Key]],
        metrics: Metrics,
        *,
        allow_anonymous: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`configured` reads the keys that stand in variables and files; it may raise BadKeys."""
        self._table = table
        self._configured = configured
        self._metrics = metrics
        self._allow_anonymous = allow_anonymous
        self._clock = clock
        self._written: list[Key] = []
        self._stored: dict[str, Key] = {}
        self._used: dict[str, int] = {}
        self._read = False
        """Whether the database's keys are known: a collector may start while it is away."""
        self._problem = ""

    @property
    def exist(self) -> bool:
        """Whether there are keys at all; revoked ones count, so that revoking the last one opens nothing."""
        return bool(self._written or self._stored)

    @property
    def required(self) -> bool:
        """Whether who has no key is refused."""
        return self.exist and not self._allow_anonymous

    def admit(self, authorization: str, scope: str) -> Caller:
        """The caller whose Authorization header this is, if it may do what `scope` names.

        Raises:
            Unauthenticated, Forbidden: it may not; counted.
            StoreUnavailable: it may, if its key is one of the database, which was not reached since the start; counted.
        """
        try:
            return self._admit(authorization, scope)
        except CollectorError as refusal:
            self._metrics.inc(names.COLLECTOR_REQUESTS_REFUSED, refusal.reason)
            raise

    def _admit(self, authorization: str, scope: str) -> Caller:
        if self._read and not self.exist:
            return ANONYMOUS
        token = token_of(authorization)
        if not token:
            if self._allow_anonymous and not (scope == ADMIN and self._guards(ADMIN)):
                return ANONYMOUS
            if not self.exist:
                raise StoreUnavailable(
                    "whether API keys are needed is in the database, which is away: send again later"
                )
            raise Unauthenticated(
                f"an API key with scope {scope} is needed: send `Authorization: Bearer KEY` "
                f"(GRAPHMETER_API_KEY in Graphmeter's own programs); `graphmeter keys create --scope {scope}` makes one",
                reason="no_key",
            )
        key = self._find(token)
        if key is None and not self._read:
            # Not a refusal: an exporter would throw its spans away.
            raise StoreUnavailable("this API key may be in the database, which is away: send again later")
        if key is None:
            raise Unauthenticated("this API key is not known here: `graphmeter keys list` shows those that are")
        now_ns = self._clock()
        if (state := key.state(now_ns)) != "active":
            raise Unauthenticated(f"the API key {key.id} is {state}: use another one", reason=f"{state}_key")
        if scope not in key.scopes:
            raise Forbidden(f"the API key {key.id} has not the scope {scope}, which this needs: use one that has")
        if key.id in self._stored and now_ns - max(key.used_ns, self._used.get(key.id, 0)) >= USED_EVERY_NS:
            self._used[key.id] = now_ns
        return Caller(key.id, key.team)

    def _guards(self, scope: str) -> bool:
        """Whether somebody was given a key for just this: then nobody does it without one, where others may come in."""
        return any(scope in key.scopes for key in (*self._written, *self._stored.values()))

    def _find(self, token: str) -> Key | None:
        stored = self._stored.get(id_in(token))
        if stored is not None and stored.fits(token):
            return stored
        # All of them, whichever fits: how long it takes tells nothing.
        fitting = [key for key in self._written if key.fits(token)]
        return fitting[0] if fitting else None

    async def refresh(self) -> None:
        """Read all keys again, and write down which were used.

        Raises:
            StoreUnavailable: the database is away; what was known before stays in force.
            BadKeys: those in variables and files cannot be read; what was known before stays in force.
        """
        self._written = list(await asyncio.to_thread(self._configured))
        self._stored = {key.id: key for key in await self._table.all()}
        self._read = True
        if used := dict(self._used):
            await self._table.used(used)
            self._used = {key: at for key, at in self._used.items() if used.get(key) != at}

    async def keep_fresh(self, stopping: asyncio.Event) -> None:
        """Refresh until told to stop. What keeps it from that is logged once, and when it has passed."""
        while not await _set_within(stopping, REFRESH_EVERY_S):
            problem = ""
            try:
                await self.refresh()
            except (CollectorError, BadKeys) as error:
                problem = str(error)
                self._metrics.inc(names.COLLECTOR_JOB_FAILURES, "keys")
            if problem and problem != self._problem:
                _log.warning("keys_not_refreshed", error=problem, in_force=len(self._stored) + len(self._written))
            elif self._problem and not problem:
                _log.info("keys_refreshed", in_force=len(self._stored) + len(self._written))
            self._problem = problem


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def token_of(authorization: str) -> str:
    """The key in an Authorization header: `Bearer KEY`, or `Basic` with the key as password (or as user, alone).

    Basic is what every browser can ask its user for. Anything else is no key.
    """
    scheme, _, credentials = authorization[:_MOST_CREDENTIALS].strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() != "basic":
        return ""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password or user
