"""Runs that ended in, the first run of every release out: what dashboards mark deployments by.

A process remembers which releases it has told of, so that a run costs a look into a dictionary; the database remembers for
all collectors and all time, so that a restart is no deployment.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter_collector.records import WriteResult
from graphmeter_collector.store.releases import Release, ReleaseTable
from graphmeter_collector.telemetry import Metrics

MOST_SHOWN: Final = 200
"""Releases that have a series, those that came last."""
_MOST_KNOWN: Final = 10_000
_NS: Final = 1_000_000_000


class Releases:
    """Notices releases, and shows those of all collectors."""

    def __init__(self, table: ReleaseTable, metrics: Metrics) -> None:
        self._table = table
        self._metrics = metrics
        self._known: dict[Release, int] = {}
        """When the earliest run began that was told of."""
        self._untold: dict[Release, int] = {}

    def notice(self, result: WriteResult) -> None:
        """Look which releases ended runs are of."""
        for totals in result.finished:
            record = totals.record
            if not record.release:
                continue
            release = (record.service, record.environment, record.release)
            known = self._known.get(release)
            if known is None or record.start_ns < known:
                self._known[release] = self._untold[release] = record.start_ns

    async def look(self) -> None:
        """Tell of what was noticed, and show what all have told.

        Raises:
            StoreUnavailable: the database is away; nothing is forgotten, call again.
        """
        told = dict(self._untold)
        await self._table.saw(told)
        # What was noticed meanwhile is told next time.
        self._untold = {release: ns for release, ns in self._untold.items() if told.get(release) != ns}
        if len(self._known) > _MOST_KNOWN:
            self._known = dict(self._untold)
        newest = await self._table.newest(MOST_SHOWN)
        self._metrics.replace(names.RELEASE_SEEN, {release: ns / _NS for release, ns in newest.items()})
