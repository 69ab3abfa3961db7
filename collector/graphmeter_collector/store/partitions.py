"""Days in, partitions of `span` and `span_body` out, made when the store first meets a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

PARTITION_LOCK = 0x6772_6D03
"""Advisory lock key: two collectors may meet a new day at the same time."""
LAST_DAY = (1 << 63) // 86_400_000_000_000 - 1
"""Beyond it a start does not fit its column."""
PARTITIONED = ("span", "span_body")


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
