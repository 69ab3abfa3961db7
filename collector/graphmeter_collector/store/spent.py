"""Rows of the ledger that count: which they are, with what each of them cost and to which group it belongs.

Every answer on spend (see `store.spend`) is made from one such table. So the totals of any two groupings agree to the
nano-USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from sqlalchemy import ColumnElement, FromClause, Select, Subquery, Text, and_, case, func, literal, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.reports import COST_PERIODS, TAG, View, Where, dimension
from graphmeter_collector.store import effective
from graphmeter_collector.store.tables import ledger, ledger_waste, run_tag
from graphmeter_config import periods
from graphmeter_config.periods import NoZone, Period

MOST_PERIODS: Final = 400
"""Days, weeks or months that one answer tells apart."""
_COUNTED: Final = (
    "cache_hit",
    "operation",
    "status",
    "price_status",
    "cost_nano",
    "saved_nano",
    "billed_nano",
    *(f"{bucket}_{what}" for bucket in names.TOKEN_TYPES for what in ("tokens", "nano")),
)


class _TagValue(FunctionElement[str]):
    """The value of a key in a JSON object of texts; NULL where there is none."""

    type = Text()
    inherit_cache = True


@compiles(_TagValue, "postgresql")
def _on_postgres(element: _TagValue, compiler: SQLCompiler, **how: Any) -> str:
    tags, name = (compiler.process(clause, **how) for clause in element.clauses)
    return f"({tags} ->> CAST({name} AS TEXT))"


@compiles(_TagValue, "sqlite")
def _on_sqlite(element: _TagValue, compiler: SQLCompiler, **how: Any) -> str:
    # Not json_extract: before 3.45 it compares a key with the text as it is stored, where é is \\u00e9.
    tags, name = (compiler.process(clause, **how) for clause in element.clauses)
    return f"(SELECT value FROM json_each({tags}) WHERE key = {name})"  # noqa: S608 - columns and parameters only


class Rows(Protocol):
    """Who runs statements."""

    async def rows(self, statement: Select[Any]) -> Sequence[RowMapping]: ...


# From the few to the many: without a condition of its own on their time, no database reads the ledger first.
_WASTED: Final = ledger_waste.join(
    ledger, and_(ledger.c.trace_id == ledger_waste.c.trace_id, ledger.c.span_id == ledger_waste.c.span_id)
)


class Spent(NamedTuple):
    """Rows of the ledger that count, as a table."""

    table: Subquery
    groups: list[ColumnElement[Any]]


async def rows_of(
    reader: Rows,
    by: Sequence[str],
    since_ns: int,
    until_ns: int,
    where: Where,
    timezone: str,
    view: View,
    wanted: Sequence[str] = _COUNTED,
    *,
    wasted: bool = False,
) -> Spent:
    """Rows of the ledger in a time range, each with its groups (`g0`, `g1`, …) and what is wanted, as the view has it.

    With `wasted` only those that were for nothing, each with its `reason`.

    A table of its own, because Postgres takes an expression with parameters for another one when it is said again.
    """
    rows, columns = await effective.ledger_in(reader, view, since_ns, until_ns, _WASTED if wasted else ledger)
    start_ns = ledger_waste.c.start_ns if wasted else ledger.c.start_ns
    expressions: dict[str, ColumnElement[Any]] = {}
    for name in dict.fromkeys((*by, *map(dimension, where))):
        if name in COST_PERIODS:
            expressions[name] = _calendar(cast(Period, name), since_ns, until_ns, timezone)
        elif name.startswith(TAG):
            rows, expressions[name] = _tag(rows, name.removeprefix(TAG))
        else:
            expressions[name] = columns[name]
    conditions = [expressions[dimension(name)].in_(values) for name, values in where.items()]
    table = (
        select(
            *(expressions[name].label(f"g{place}") for place, name in enumerate(by)),
            *(columns[name].label(name) for name in wanted),
            *([ledger_waste.c.reason] if wasted else []),
        )
        .select_from(rows)
        .where(start_ns >= since_ns, start_ns < until_ns, *conditions)
        .subquery("spent")
    )
    return Spent(table, [table.c[f"g{place}"] for place in range(len(by))])


def canonical(by: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dimension(name) for name in by))


def group_key(row: Mapping[Any, Any], by: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[f"g{place}"] for place in range(len(by)))


def summed(column: ColumnElement[Any], where: ColumnElement[bool] | None = None) -> ColumnElement[int]:
    total = func.sum(column)
    return func.coalesce(total.filter(where) if where is not None else total, 0)


def _tag(rows: FromClause, name: str) -> tuple[FromClause, ColumnElement[str]]:
    """A tag's value: what the run was tagged with by its id, else what the call itself says."""
    late = run_tag.alias()
    joined = rows.outerjoin(late, and_(late.c.run_id == ledger.c.run_id, late.c.name == name))
    return joined, func.coalesce(late.c.value, _TagValue(ledger.c.tags, literal(name)), "")


def _calendar(period: Period, since_ns: int, until_ns: int, timezone: str) -> ColumnElement[str]:
    """The label of the calendar period that a call began in."""
    labels: list[tuple[int, str]] = []
    try:
        for stretch in periods.between(period, since_ns, until_ns, timezone):
            labels.append((stretch.until_ns, stretch.label))
            if len(labels) > MOST_PERIODS:
                raise BadRequest(
                    f"more than {MOST_PERIODS} {period}s: ask for less time, or for longer periods",
                    reason="too_many_periods",
                )
    except NoZone as problem:
        raise BadRequest(str(problem), reason="unknown_timezone") from problem
    if not labels:
        return literal("")
    *others, (_, last) = labels
    if not others:
        return literal(last)
    return case(*((ledger.c.start_ns < until, label) for until, label in others), else_=last)
