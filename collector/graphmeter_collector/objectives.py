"""Objectives of one collector: their state read from the database, kept for a few seconds for those who ask all the time.

Gauges and applications look every few seconds, and a look reads the rollups of whole windows: so it is shared, and the
dearer it is the longer it is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphmeter_collector.expose.slo_report import report
from graphmeter_collector.expose.slos import slos
from graphmeter_collector.reports import SloCounts, SloReports, SloRow
from graphmeter_config import Config

FRESH_S: Final = 5.0
"""How old a state that is asked for repeatedly may be."""
REST: Final = 50
"""A look that takes long is followed by none for so many times as long: 2 % of the database's time at most."""


@dataclass(frozen=True, slots=True)
class SloStates:
    """The objectives at one moment."""

    as_of_ns: int
    rows: Sequence[SloRow]
    body: bytes
    """As applications are told: JSON."""
    etag: str
    """Of what is told, but for when."""


class Objectives:
    """The objectives in `config`, counted by `counts`."""

    def __init__(self, counts: SloCounts, config: Callable[[], Config]) -> None:
        self._counts = counts
        self._config = config
        self._states = SloStates(0, (), b"", "")
        self._of: Config | None = None
        self._until = float("-inf")
        self._looking = asyncio.Lock()

    async def now(self, only: str = "") -> list[SloRow]:
        """As they are now, or the one of this name."""
        return await slos(self._counts, self._config(), only=only)

    async def report(self, since_ns: int, until_ns: int, only: str = "", *, leave_out: bool = True) -> SloReports:
        """What became of them in [since, until)."""
        return await report(self._counts, self._config(), since_ns, until_ns, only=only, leave_out=leave_out)

    async def recent(self) -> SloStates:
        """As they were when last looked at, 5 seconds ago, or longer where looking takes long.

        Raises:
            StoreUnavailable: the database is away.
        """
        async with self._looking:
            config = self._config()
            if self._of is config and time.monotonic() < self._until:
                return self._states
            began, now_ns = time.monotonic(), time.time_ns()
            rows = await slos(self._counts, config, now_ns)
            self._states, self._of = told(config, rows, now_ns), config
            ended = time.monotonic()
            self._until = ended + max(FRESH_S, REST * (ended - began))
            return self._states


def told(config: Config, rows: Sequence[SloRow], now_ns: int) -> SloStates:
    """Rows put into words once: many applications ask the same between two looks at the database."""
    said = {
        "slos": [_told(row) for row in rows],
        "definitions": [
            {"slo": slo.name, "per": slo.per, "objective_percent": f"{slo.objective:f}"} for slo in config.slos
        ],
    }
    text = _json(said)
    etag = hashlib.blake2b(text, digest_size=12).hexdigest()
    leads = [row.exhausted_at_ns for row in rows]
    for one, at_ns in zip(said["slos"], leads, strict=True):
        one["exhausted_at_ns"] = at_ns  # moves with the clock, and says nothing new by that
    return SloStates(now_ns, rows, _json({"as_of_ns": now_ns, **said}), etag)


def _told(row: SloRow) -> dict[str, Any]:
    return {
        "slo": row.slo,
        "scope": row.scope,
        "window": row.window,
        "good": row.good,
        "bad": row.bad,
        "achieved_ratio": row.achieved_ratio,
        "budget_remaining_ratio": row.budget_remaining_ratio,
        "burn_rate": row.burn_rate,
        "crossed": [burn.tier for burn in row.burn if burn.crossed],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
