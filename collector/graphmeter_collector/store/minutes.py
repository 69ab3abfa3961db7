"""An objective and a range in, its events minute by minute out: what a look back at burn rates is made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, select

from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import facts_of
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.objectives import EventCounter
from graphmeter_config import Slo

_MINUTE_NS: Final = 60_000_000_000


async def by_minute(
    source: Rows, slo: Slo, since_ns: int, until_ns: int, lost_after_ns: int
) -> Mapping[tuple[str, ...], Mapping[int, tuple[int, int]]]:
    """Events that ended in [since, until), by what the SLO judges by itself: minute since the epoch → all, bad.

    Row by row and day by day, for as long as rows are kept. What took longer than `judged_lately` says is not found.
    """
    counter = EventCounter(slo)
    found: dict[tuple[str, ...], dict[int, tuple[int, int]]] = {}
    for index, facts in enumerate(facts_of(slo, lost_after_ns)):
        known = counter.chosen.dimensions(facts.dimensions)
        columns: list[ColumnElement[Any]] = [facts.dimensions[name].label(name) for name in known]
        minute = (facts.ended_ns // _MINUTE_NS).label("ended_minute")
        counts = func.count().label("total"), func.count().filter(facts.bad).label("bad")
        where = [facts.judged, *counter.chosen.narrowed(facts.dimensions)]
        asked: Select[Any] = select(minute, *columns, *counts).select_from(facts.rows).where(*where)
        for start_ns in range(since_ns, until_ns, DAY_NS):
            end_ns = min(start_ns + DAY_NS, until_ns)
            within = [facts.ended_ns >= start_ns, facts.ended_ns < end_ns]
            # Rows are found by their start.
            within += [facts.started_ns >= start_ns - facts.longest_ns, facts.started_ns < end_ns]
            # By its name: repeated, its parameters would be others to Postgres.
            for row in await source.rows(asked.where(*within).group_by("ended_minute", *columns)):
                group = counter.chosen.group({name: row[name] for name in known})
                if group is not None:
                    minutes = found.setdefault(group, {})
                    total, bad = minutes.get(row["ended_minute"], (0, 0))
                    minutes[row["ended_minute"]] = (total + (0 if index else row["total"]), bad + row["bad"])
    return found
