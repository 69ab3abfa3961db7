"""Statements for both databases from the tables' own columns; what standard SQL does not spell is in `Dialect`.

SQLite takes one row per statement, Postgres one array per column: one round trip for any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, LargeBinary, SmallInteger, Table, Text

from graphmeter_collector.store import facts, runs, tables


@dataclass(frozen=True)
class Dialect:
    """How a database spells what standard SQL does not."""

    rows: Callable[[Table], str]
    """What follows `INSERT INTO table (columns)`: the rows, as parameters in the order of the columns."""
    greatest: str
    least: str
    by_code_point: str
    """Makes text compare as Python compares it, whatever language the database sorts by."""
    json_text: Callable[[str], str]
    """An expression for a JSON column as text."""
    json_value: Callable[[str], str]
    """An expression that turns such text into a value for the column."""


def _one_row(table: Table) -> str:
    return f"VALUES ({', '.join('?' for _ in table.columns)})"


def _arrays(table: Table) -> str:
    columns = list(table.columns)
    chosen = ", ".join(f"{quoted(c.name)}::json" if isinstance(c.type, JSON) else quoted(c.name) for c in columns)
    arrays = ", ".join(f"${n}::{array_type(column)}" for n, column in enumerate(columns, start=1))
    names = ", ".join(quoted(column.name) for column in columns)
    return f"SELECT {chosen} FROM unnest({arrays}) AS given({names})"  # noqa: S608 - names of our own tables


SQLITE = Dialect(_one_row, "max", "min", "", lambda column: column, lambda text: text)
POSTGRES = Dialect(
    _arrays,
    "GREATEST",
    "LEAST",
    ' COLLATE "C"',
    lambda column: f"{column}::text",
    lambda text: f"({text})::json",
)


def array_type(column: Column[object]) -> str:
    """Postgres's name for an array of a column's values; JSON travels as text."""
    for kind, name in (
        (LargeBinary, "bytea"),
        (JSON, "text"),
        (Text, "text"),
        (Boolean, "boolean"),
        (Double, "double precision"),
        (BigInteger, "bigint"),
        (SmallInteger, "smallint"),
        (Integer, "integer"),
    ):
        if isinstance(column.type, kind):
            return f"{name}[]"
    raise TypeError(f"column {column} has a type that no statement carries yet: {column.type}")


def insert(table: Table, dialect: Dialect, *, ignore_conflicts: bool = False) -> str:
    """INSERT; rows that are there already are an error, or left alone."""
    columns = ", ".join(map(quoted, tables.column_names(table)))
    statement = f"INSERT INTO {table.name} ({columns}) {dialect.rows(table)}"
    return statement + (" ON CONFLICT DO NOTHING" if ignore_conflicts else "")


def merge_run(dialect: Dialect) -> str:
    """Add to a run. Root fields come from the root; until it is seen, attribution is the greatest said."""
    text = dialect.by_code_point

    def rooted(column: str, otherwise: str) -> str:
        said = f"WHEN run.root_seen THEN run.{column} WHEN excluded.root_seen THEN excluded.{column}"
        return f"CASE {said} ELSE {otherwise} END"

    def filled(side: str) -> str:
        return f"coalesce(nullif({dialect.json_text(side + '.tags')}, '{{}}'), ''){text}"

    greatest_tags = dialect.json_value(
        f"coalesce(nullif({dialect.greatest}({filled('run')}, {filled('excluded')}), ''), '{{}}')"
    )
    merges = {
        **{
            column: rooted(column, f"{dialect.greatest}(run.{column}{text}, excluded.{column}{text})")
            for column in runs.ATTRIBUTION
        },
        "tags": rooted("tags", greatest_tags),
        # A sign of life does not bring a lost run back; its end does.
        "status": rooted("status", "run.status"),
        "error_type": rooted("error_type", "''"),
        "status_message": rooted("status_message", "''"),
        "root_seen": "run.root_seen OR excluded.root_seen",
        "started_ns": rooted("started_ns", f"{dialect.least}(run.started_ns, excluded.started_ns)"),
        "ended_ns": "coalesce(run.ended_ns, excluded.ended_ns)",
        "duration_ns": "coalesce(run.duration_ns, excluded.duration_ns)",
        "last_seen_ns": f"{dialect.greatest}(run.last_seen_ns, excluded.last_seen_ns)",
        "steps": rooted("steps", f"{dialect.greatest}(run.steps, excluded.steps)"),
        **{column: f"run.{column} + excluded.{column}" for column in runs.RUN_SUMS},
        **{column: rooted(column, "''") for column in ("checkpoint_id", "resumed_from", "resumed_run_id")},
        "heartbeat_ns": f"{dialect.greatest}(run.heartbeat_ns, excluded.heartbeat_ns)",
    }
    return _upsert(tables.run, dialect, merges)


def merge_run_node(dialect: Dialect) -> str:
    """Add to a node of a run."""
    merges = {
        "first_ns": f"{dialect.least}(run_node.first_ns, excluded.first_ns)",
        "last_ns": f"{dialect.greatest}(run_node.last_ns, excluded.last_ns)",
        **{column: f"run_node.{column} + excluded.{column}" for column in runs.RUN_NODE_SUMS},
    }
    return _upsert(tables.run_node, dialect, merges)


def merge_run_tag(dialect: Dialect) -> str:
    """A tag of a run; what was said last stands."""
    text = dialect.by_code_point
    later = f"(excluded.at_ns, excluded.value{text}) > (run_tag.at_ns, run_tag.value{text})"
    return f"{_upsert(tables.run_tag, dialect, _given('value', 'at_ns'))}\nWHERE {later}"


def merge_topology(dialect: Dialect) -> str:
    """A shape of a graph: when it was seen first and last."""
    merges = {
        "first_ns": f"{dialect.least}(graph_topology.first_ns, excluded.first_ns)",
        "last_ns": f"{dialect.greatest}(graph_topology.last_ns, excluded.last_ns)",
    }
    return _upsert(tables.graph_topology, dialect, merges)


def put_report(dialect: Dialect) -> str:
    """A client's report, unless a later one is there."""
    columns = [name for name in tables.column_names(tables.client_report) if name != "client_id"]
    newer = "excluded.sequence > client_report.sequence"
    return f"{_upsert(tables.client_report, dialect, _given(*columns))}\nWHERE {newer}"


def _given(*columns: str) -> dict[str, str]:
    return {column: f"excluded.{quoted(column)}" for column in columns}


def put_rollup(table: Table, dialect: Dialect) -> str:
    """Write a rollup row whole: the caller has read it in this transaction, and nobody else writes it."""
    return _upsert(table, dialect, _given(*facts.ROLLUP_SUMS, "latency"))


def _upsert(table: Table, dialect: Dialect, merges: dict[str, str]) -> str:
    key = ", ".join(quoted(column.name) for column in table.primary_key.columns)
    changes = ",\n  ".join(f"{quoted(column)} = {expression}" for column, expression in merges.items())
    return f"{insert(table, dialect)}\nON CONFLICT ({key}) DO UPDATE SET\n  {changes}"


def quoted(column: str) -> str:
    """A column name that may be a word of SQL's, such as `count`."""
    return f'"{column}"'
