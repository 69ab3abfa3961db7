"""How much room the tables take, indexes included, and how much of it a run: observing is itself observed.

Postgres adds up the sizes of files, a few hundred of them. SQLite keeps no sizes: its `dbstat` reads the head of every page,
half a minute of processor time for ten million spans, and meanwhile the write-ahead log cannot begin anew. So it is asked
for one tree of pages after another (a table without its indexes, or an index), with rests in between. Nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, RowMapping, Select, Text, TextualSelect, column, func, select, text

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
_TREES: Final = text(
    # The schema's own tree is called by the second name before SQLite 3.33, and not in this list.
    "SELECT name, tbl_name FROM sqlite_master WHERE rootpage > 0 "
    "UNION ALL VALUES ('sqlite_schema', 'sqlite_schema'), ('sqlite_master', 'sqlite_schema')"
).columns(column("name", Text), column("tbl_name", Text))
_TREE: Final = text(
    # Pages, not `pgsize`, which is a number of 32 bits: 1.7 GB for a table of 6.
    "SELECT coalesce(sum(pageno), 0) AS pages FROM dbstat WHERE aggregate = TRUE AND name = :name"
).columns(column("pages", BigInteger))
_PAGES: Final = text("SELECT page_size, freelist_count FROM pragma_page_size, pragma_freelist_count").columns(
    column("page_size", BigInteger), column("freelist_count", BigInteger)
)
_FILE: Final = _bytes_by_table(
    f"SELECT '{WHOLE}' AS name, page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size"  # noqa: S608
)
_CAN: Final = text("SELECT count(*) AS can FROM pragma_module_list WHERE name = 'dbstat'").columns(
    column("can", BigInteger)
)


async def of_sqlite(
    rows: Callable[[TextualSelect], Awaitable[Sequence[RowMapping]]], rest: float = 0.0
) -> dict[str, int]:
    """Bytes by table. `rows` answers a statement; after each tree, pause `rest` times as long as it took to be read."""
    [said] = await rows(_CAN)
    if not said["can"]:
        return {row["name"]: row["bytes"] for row in await rows(_FILE)}
    [file] = await rows(_PAGES)
    found = {FREE: file["freelist_count"]}
    for tree in await rows(_TREES):
        began = time.monotonic()
        [read] = await rows(_TREE.bindparams(name=tree["name"]))
        found[tree["tbl_name"]] = found.get(tree["tbl_name"], 0) + read["pages"]
        await asyncio.sleep(rest * (time.monotonic() - began))
    return {name: pages * file["page_size"] for name, pages in found.items()}


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
