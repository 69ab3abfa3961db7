"""How much room the tables take, indexes included, and how much of it a run: observing is itself observed.

Postgres adds up the sizes of files, a few hundred of them. SQLite keeps no sizes: its `dbstat` reads the head of every page,
so that asking takes the longer the larger the file is, seconds for gigabytes. Nobody waits for it: a job asks, and rests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, Select, Text, TextualSelect, column, func, select, text

from graphmeter import names
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store import tables
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.tables import rollup_day

FREE: Final = "(free)"
"""Stands among SQLite's tables for pages that hold nothing and will be used again: with it, they add up to the file."""
WHOLE: Final = "(all)"
"""Stands for the whole file, where SQLite was built without `dbstat`."""


def _bytes_by_table(statement: str) -> TextualSelect:
    return text(statement).columns(column("name", Text), column("bytes", BigInteger))


POSTGRES: Final = _bytes_by_table(
    """
    SELECT coalesce(whole.relname, part.relname)::text AS name, sum(pg_total_relation_size(part.oid))::bigint AS bytes
    FROM pg_class part
    LEFT JOIN pg_inherits ON inhrelid = part.oid
    LEFT JOIN pg_class whole ON whole.oid = inhparent
    WHERE part.relkind = 'r' AND part.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('run'))
    GROUP BY 1
    """
)
SQLITE: Final = _bytes_by_table(
    f"""
    SELECT coalesce(tbl_name, stat.name) AS name, sum(pgsize) AS bytes
    FROM dbstat stat LEFT JOIN sqlite_master made ON made.name = stat.name
    WHERE aggregate = TRUE GROUP BY 1
    UNION ALL SELECT '{FREE}', freelist_count * page_size FROM pragma_freelist_count, pragma_page_size
    """  # noqa: S608 - a constant
)
SQLITE_FILE: Final = _bytes_by_table(
    f"SELECT '{WHOLE}' AS name, page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size"  # noqa: S608
)
SQLITE_CAN: Final = text("SELECT count(*) AS can FROM pragma_module_list WHERE name = 'dbstat'").columns(
    column("can", BigInteger)
)


def ended_runs() -> Select[Any]:
    """Runs by the day of their start. Rollups know it without looking at every run."""
    days = rollup_day.c
    query = select(days.day, func.sum(days["count"]).label("runs")).where(days.kind == names.RUN)
    return query.group_by(days.day)


def per_run(table_bytes: Mapping[str, int], runs: Mapping[int, int], cutoffs: Cutoffs) -> dict[str, float]:
    """What each table keeps of a run, on average over the runs (by day) that it still holds something of."""
    by_run = [tables.run, tables.run_node, tables.wait, tables.outcome, tables.run_tag]
    oldest = {
        tables.span.name: cutoffs.spans_day,
        tables.span_body.name: cutoffs.bodies_day,
        **{table.name: (cutoffs.runs_ns or 0) // DAY_NS for table in by_run},
        **{
            table.name: (cutoffs.ledger_ns or 0) // DAY_NS
            for table in (tables.ledger, tables.ledger_price, tables.ledger_waste)
        },
        **{table.name: cutoffs.rollups_day or 0 for table in (tables.rollup_hour, rollup_day)},
    }
    found = {}
    for name, first in oldest.items():
        kept = sum(count for day, count in runs.items() if day >= first)
        if kept and name in table_bytes:
            found[name] = table_bytes[name] / kept
    return found
