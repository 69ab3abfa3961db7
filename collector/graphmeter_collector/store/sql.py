"""The statements that both databases share, from the tables' own column names; `?` or `$1` and max or GREATEST differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Table

from graphmeter_collector.store import facts, tables


@dataclass(frozen=True)
class Dialect:
    """How a database spells what standard SQL does not."""

    parameter: Callable[[int], str]
    """Placeholder of the n-th parameter, from 1."""
    greatest: str
    least: str
    by_code_point: str
    """Makes text compare as Python compares it, whatever language the database sorts by."""
    json_text: Callable[[str], str]
    """An expression for a JSON column as text."""
    json_value: Callable[[str], str]
    """An expression that turns such text into a value for the column."""


POSTGRES = Dialect(
    lambda n: f"${n}",
    "GREATEST",
    "LEAST",
    ' COLLATE "C"',
    lambda column: f"{column}::text",
    lambda text: f"({text})::json",
)
SQLITE = Dialect(lambda n: "?", "max", "min", "", lambda column: column, lambda text: text)


def insert(table: Table, dialect: Dialect, *, ignore_conflicts: bool = False, columns: Sequence[str] = ()) -> str:
    """INSERT of one row, parameters in the order of the table's columns (or of `columns`)."""
    chosen = list(columns) or tables.column_names(table)
    values = ", ".join(dialect.parameter(n) for n in range(1, len(chosen) + 1))
    statement = f"INSERT INTO {table.name} ({', '.join(map(quoted, chosen))}) VALUES ({values})"  # noqa: S608
    return statement + (" ON CONFLICT DO NOTHING" if ignore_conflicts else "")


def merge_run(dialect: Dialect) -> str:
    """Add to a run. Root fields come from the root; until it is seen, attribution is the greatest said."""
    return _upsert(tables.run, dialect, _run_merges(dialect))


def _run_merges(dialect: Dialect) -> dict[str, str]:
    text = dialect.by_code_point

    def rooted(column: str, otherwise: str) -> str:
        said = f"WHEN run.root_seen THEN run.{column} WHEN excluded.root_seen THEN excluded.{column}"
        return f"CASE {said} ELSE {otherwise} END"

    def filled(side: str) -> str:
        return f"coalesce(nullif({dialect.json_text(side + '.tags')}, '{{}}'), ''){text}"

    greatest_tags = dialect.json_value(
        f"coalesce(nullif({dialect.greatest}({filled('run')}, {filled('excluded')}), ''), '{{}}')"
    )
    return {
        **{
            column: rooted(column, f"{dialect.greatest}(run.{column}{text}, excluded.{column}{text})")
            for column in facts.ATTRIBUTION
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
        "steps": f"{dialect.greatest}(run.steps, excluded.steps)",
        **{column: f"run.{column} + excluded.{column}" for column in facts.RUN_SUMS},
    }


def merge_run_node(dialect: Dialect) -> str:
    """Add to a node of a run."""
    return _upsert(
        tables.run_node,
        dialect,
        {
            "first_ns": f"{dialect.least}(run_node.first_ns, excluded.first_ns)",
            "last_ns": f"{dialect.greatest}(run_node.last_ns, excluded.last_ns)",
            **{column: f"run_node.{column} + excluded.{column}" for column in facts.RUN_NODE_SUMS},
        },
    )


def put_rollup(table: Table, dialect: Dialect) -> str:
    """Write a rollup row whole: the caller has read it, in this transaction, under its lock."""
    return _upsert(table, dialect, {column: f"excluded.{quoted(column)}" for column in (*facts.ROLLUP_SUMS, "latency")})


def _upsert(table: Table, dialect: Dialect, merges: dict[str, str]) -> str:
    key = ", ".join(quoted(column.name) for column in table.primary_key.columns)
    changes = ",\n  ".join(f"{quoted(column)} = {expression}" for column, expression in merges.items())
    return f"{insert(table, dialect)}\nON CONFLICT ({key}) DO UPDATE SET\n  {changes}"


def quoted(column: str) -> str:
    """A column name that may be a word of SQL's, such as `count`."""
    return f'"{column}"'
