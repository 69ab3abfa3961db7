"""An objective and a range in, its events minute by minute out: what a look back at burn rates is made from."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func

from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import Chosen, facts_of
from graphmeter_collector.store.slices import Group, Source, histories
from graphmeter_config import Slo
from graphmeter_config.history import History
from graphmeter_config.measures import MINUTE_S


async def by_minute(
    source: Rows, slo: Slo, since_ns: int, until_ns: int, lost_after_ns: int
) -> Mapping[Group, History]:
    """Events that ended in [since, until), and the bad ones as a part, by what the SLO judges by itself.

    Row by row and day by day, for as long as rows are kept. What took longer than `judged_lately` says is not found.
    """
    events, *also = facts_of(slo, lost_after_ns)
    bad = func.count().filter((also[0] if also else events).bad)
    first = {0: func.count()} if also else {0: func.count(), 1: bad}
    sources = [Source.of(events, first), *(Source.of(facts, {1: bad}) for facts in also)]
    return await histories(source, sources, Chosen(slo.select.restricting(), slo.per), 1, since_ns, until_ns, MINUTE_S)
