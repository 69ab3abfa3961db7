"""The ledger by the prices in force: what a call costs by its effective version in `ledger_price`, else as billed.

In most databases nothing was ever priced again. So every question asks first whether a call of its time has a version, and
reads the ledger alone if none has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, func, literal, select
from sqlalchemy.engine import RowMapping

from graphmeter_collector.reports import BILLED, View
from graphmeter_collector.store.tables import is_effective, ledger, ledger_price

Columns = Mapping[str, ColumnElement[Any]]

SAME_CALL: Final = and_(
    ledger_price.c.trace_id == ledger.c.trace_id, ledger_price.c.span_id == ledger.c.span_id, is_effective
)
REPRICED: Final = ledger_price.join(ledger, SAME_CALL)
"""Calls that cost something else than the ledger says, with what they cost."""
VERSIONED: Final = tuple(name for name in ledger_price.c.keys() if name in ledger.c)[3:]  # noqa: SIM118 - no mapping
"""What a version says anew of a call, in the order of its columns: the price's status, source and name, and amounts."""


class Rows(Protocol):
    """Who runs statements."""

    async def rows(self, statement: Select[Any]) -> Sequence[RowMapping]: ...


async def any_version(reader: Rows, since_ns: int, until_ns: int) -> bool:
    """Whether a call of that time was priced again."""
    within = (ledger_price.c.start_ns >= since_ns, ledger_price.c.start_ns < until_ns)
    return bool(await reader.rows(select(ledger_price.c.version).where(*within).limit(1)))


async def ledger_in(
    reader: Rows, view: View, since_ns: int, until_ns: int, calls: FromClause = ledger
) -> tuple[FromClause, Columns]:
    """The ledger as a view shows it: its rows, and each of its columns by name; `calls` joins it with what picks some.

    There are more: `version`, 0 where a call counts as billed, and what was billed: `billed_nano`, `billed_status`.
    """
    billed = {"billed_nano": ledger.c.cost_nano, "billed_status": ledger.c.price_status}
    if view == BILLED or not await any_version(reader, since_ns, until_ns):
        return calls, {**ledger.c, "version": literal(0), **billed}
    again = ledger_price.c.version.is_not(None)
    # A part that is NULL is one of nothing, in either.
    versioned = {name: case((again, ledger_price.c[name]), else_=ledger.c[name]) for name in VERSIONED}
    columns = {**ledger.c, **versioned, "version": func.coalesce(ledger_price.c.version, 0), **billed}
    return calls.outerjoin(ledger_price, SAME_CALL), columns


def corrections() -> list[ColumnElement[int]]:
    """Of `REPRICED`: by how much sums over the ledger change."""

    def moved(status: str) -> ColumnElement[int]:
        return func.count().filter(ledger_price.c.price_status == status) - func.count().filter(
            ledger.c.price_status == status
        )

    def more(name: str) -> ColumnElement[int]:
        return func.coalesce(func.sum(ledger_price.c[name] - ledger.c[name]), 0).label(name)

    return [
        more("cost_nano"),
        more("saved_nano"),
        moved("unpriced").label("unpriced"),
        moved("usage_missing").label("usage_missing"),
    ]
