"""A range of the ledger in, its spend by slices of time and attributions out: what a look back at budgets is made from.

At the prices in force; answers from a cache cost nothing and are left out, as budgets do.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, cast, func, literal, select

from graphmeter import names
from graphmeter_collector.reports import EFFECTIVE
from graphmeter_collector.store.effective import Rows, ledger_in
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_config.slices import NS
from graphmeter_config.spend import COLUMNS, TAG


class SpendSlice(NamedTuple):
    """Spend of calls that are alike."""

    at: int
    """Slice since the epoch."""
    attributions: dict[str, str]
    nano: int
    tokens: int


async def spend_slices(
    source: Rows, wanted: Sequence[str], since_ns: int, until_ns: int, slice_s: int, *, ended: bool = False
) -> AsyncIterator[SpendSlice]:
    """Spend of calls that started in [since, until), by the wanted attributions (`team`, `tag:plan`), day by day.

    Args:
        source: Who runs statements.
        wanted: What spend is told apart by.
        since_ns: In ns since the epoch.
        until_ns: The same.
        slice_s: Length of a slice, in seconds.
        ended: Calls count when they ended; else when they began, which says whose period they are in.
    """
    plain = [name for name in wanted if not name.startswith(TAG)]
    tags = [name for name in wanted if name.startswith(TAG)]
    for start_ns in range(since_ns, until_ns, DAY_NS):
        end_ns = min(start_ns + DAY_NS, until_ns)
        calls, columns = await ledger_in(source, EFFECTIVE, start_ns, end_ns)
        keys: list[ColumnElement[Any]] = [columns[COLUMNS[name]].label(name) for name in plain]
        if tags:
            # JSON of Postgres cannot be grouped by.
            keys.append(cast(columns["tags"], Text).label("tags_text"))
        moment = columns["start_ns"] + columns["duration_ns"] if ended else columns["start_ns"]
        at = (moment // (slice_s * NS)).label("slice_of_time")
        tokens: ColumnElement[Any] = literal(0)
        for bucket in names.TOKEN_TYPES:
            tokens = tokens + func.coalesce(func.sum(columns[f"{bucket}_tokens"]), 0)
        asked: Select[Any] = (
            select(at, func.sum(columns["cost_nano"]).label("nano"), tokens.label("tokens"), *keys)
            .select_from(calls)
            .where(columns["start_ns"] >= start_ns, columns["start_ns"] < end_ns, columns["cache_hit"].is_(False))
            .group_by("slice_of_time", *([] if not keys else [key.name for key in keys]))
        )
        for row in await source.rows(asked):
            said = {name: row[name] for name in plain}
            if tags:
                given = json.loads(row["tags_text"] or "{}")
                said |= {name: str(given.get(name.removeprefix(TAG), "")) for name in tags}
            yield SpendSlice(row["slice_of_time"], said, int(row["nano"] or 0), int(row["tokens"] or 0))
