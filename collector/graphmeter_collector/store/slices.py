"""Events of a kind and a range in, what they add to each slice of time out: what a look back at rules is made from.

The database adds up; what comes here is a row for each slice, and whoever is judged by himself. Day by day, in order, so
that no more than a day of slices is held beside the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Select, select

from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import Chosen, Condition, Facts
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_config.history import History, Slices
from graphmeter_config.slices import NS

Group = tuple[str, ...]


class Source(NamedTuple):
    """Rows that add to some columns: 0 is the whole, the others are its parts. No two sources add to one column."""

    rows: FromClause
    dimensions: Mapping[str, ColumnElement[str]]
    started_ns: ColumnElement[int]
    """By this rows are found."""
    at_ns: ColumnElement[int]
    """In its slice they count."""
    longest_ns: int | None
    """Between the two, at most; None: all rows are looked at in one go."""
    where: Sequence[Condition]
    amounts: Mapping[int, ColumnElement[int]]

    @classmethod
    def of(cls, facts: Facts, amounts: Mapping[int, ColumnElement[int]], *where: Condition) -> Source:
        """Events that count when they end."""
        at_ns, wanted = facts.ended_ns, (facts.judged, *where)
        return cls(facts.rows, facts.dimensions, facts.started_ns, at_ns, facts.longest_ns, wanted, amounts)


async def histories(
    reader: Rows, sources: Iterable[Source], chosen: Chosen, parts: int, since_ns: int, until_ns: int, slice_s: int
) -> dict[Group, History]:
    """What sources add to the slices of [since, until), by what is judged by itself."""
    found: dict[Group, History] = {}
    for source in sources:
        known = chosen.dimensions(source.dimensions)
        columns: list[ColumnElement[Any]] = [source.dimensions[name].label(name) for name in known]
        # By its name: repeated, its parameters would be others to Postgres.
        at = (source.at_ns // (slice_s * NS)).label("slice_of_time")
        amounts = [amount.label(f"amount{column}") for column, amount in source.amounts.items()]
        shown: list[ColumnElement[Any]] = [at, *columns, *amounts]
        asked: Select[Any] = (
            select(*shown)
            .select_from(source.rows)
            .where(*source.where, *chosen.narrowed(source.dimensions))
            .group_by("slice_of_time", *columns)
            .order_by("slice_of_time")
        )
        adding: dict[tuple[str, ...], list[Slices]] = {}
        for start_ns, end_ns in _days(since_ns, until_ns, at_once=source.longest_ns is None):
            within = [source.at_ns >= start_ns, source.at_ns < end_ns, source.started_ns < end_ns]
            if source.longest_ns is not None:
                within.append(source.started_ns >= start_ns - source.longest_ns)
            for row in await reader.rows(asked.where(*within)):
                # By position: names would be looked up a million times.
                cells: tuple[Any, ...] = tuple(row.values())
                values = cells[1 : len(known) + 1]
                adds_to = adding.get(values)
                if adds_to is None:
                    adds_to = adding[values] = _columns(
                        found, chosen, dict(zip(known, values, strict=True)), source, parts
                    )
                for slices, amount in zip(adds_to, cells[len(known) + 1 :], strict=False):
                    if amount:
                        # Sums of integers are decimals to Postgres.
                        slices.add(cells[0], int(amount))
    return found


def _days(since_ns: int, until_ns: int, *, at_once: bool) -> list[tuple[int, int]]:
    if at_once:
        return [(since_ns, until_ns)]
    return [(start_ns, min(start_ns + DAY_NS, until_ns)) for start_ns in range(since_ns, until_ns, DAY_NS)]


def _columns(
    found: dict[Group, History], chosen: Chosen, said: Mapping[str, str], source: Source, parts: int
) -> list[Slices]:
    """What rows with these dimensions add to; nothing where nobody looks at them."""
    group = chosen.group(said)
    if group is None:
        return []
    history = found.get(group) or found.setdefault(group, History.empty(parts))
    return [history.column(number) for number in source.amounts]
