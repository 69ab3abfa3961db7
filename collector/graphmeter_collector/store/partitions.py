"""Days in, partitions of `span` and `span_body` out: made when the store first meets a day, dropped when it is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

PARTITION_LOCK = 0x6772_6D06
"""Advisory lock key: two collectors may meet a new day at the same time."""
LAST_DAY = (1 << 63) // 86_400_000_000_000 - 1
"""Beyond it a start does not fit its column."""
PARTITIONED = ("span", "span_body")
DROP_WAITS = "3s"
"""How long a drop waits for readers, and writers behind it; longer than that it tries another time."""


def partition(table: str, day: int) -> str:
    """Name of a day's partition: `span_p20261121`."""
    return f"{table}_p{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y%m%d}"


async def ensure(connection: asyncpg.Connection[asyncpg.Record], day: int) -> None:
    """Make a day's partitions unless they are there, in a transaction of their own.

    Raises:
        OverflowError: no span can start on such a day.
    """
    if not 0 <= day <= LAST_DAY:
        raise OverflowError(f"day {day} since the epoch does not fit a time in nanoseconds")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)
        for table in PARTITIONED:
            name = partition(table, day)
            if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                continue
            # Made aside and attached: CREATE … PARTITION OF would wait for every reader of the table, and everybody
            # else behind it, while ATTACH lets reads and writes go on.
            await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            bounds = f"FOR VALUES FROM ({day}) TO ({day + 1})"
            await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} {bounds}")


async def drop_before(connection: asyncpg.Connection[asyncpg.Record], table: str, day: int) -> set[int]:
    """Drop a table's partitions of earlier days, each in a transaction of its own; returns their days.

    A partition that somebody reads for longer than the lock waits stays until the next time.
    """
    names = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", table
    )
    old = {found: row["name"] for row in names if (found := _day_of(table, row["name"])) is not None and found < day}
    dropped = set()
    for found, name in sorted(old.items()):
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{DROP_WAITS}'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)
            await connection.execute(f"DROP TABLE IF EXISTS {name}")
        dropped.add(found)
    return dropped


def _day_of(table: str, name: str) -> int | None:
    """Day of a partition that `ensure` made; None for one of somebody else's."""
    prefix, _, date = name.rpartition("_p")
    if prefix.rpartition(".")[2] != table:
        return None
    try:
        return (datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    except ValueError:
        return None
