"""Questions that nobody waits for any more: the driver of an embedded database is left in peace."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import Select, func, literal, select

from graphmeter_collector.store.engine import parse
from graphmeter_collector.store.read import SqlReader


def counting_to(last: int) -> Select[Any]:
    """Takes SQLite a while."""
    number = select(literal(1).label("n")).cte("number", recursive=True)
    number = number.union_all(select(number.c.n + 1).where(number.c.n < last))
    return select(func.count().label("n")).select_from(number)


async def test_a_question_that_is_given_up_is_finished_before_the_end(sqlite_url: str) -> None:
    threads = set(threading.enumerate())
    reader = SqlReader(parse(sqlite_url))
    asked = asyncio.create_task(reader.rows(counting_to(200_000)))
    await asyncio.sleep(0.02)
    # Twice: the end of a process cancels what is already being cancelled.
    for _ in range(2):
        asked.cancel()
        await asyncio.sleep(0)
    assert [True] == [
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(asked, return_exceptions=True)
    ]
    await reader.close()
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # it has been told to end
    assert set() == set(threading.enumerate()) - threads


async def test_the_next_question_is_answered_as_ever(sqlite_url: str) -> None:
    reader = SqlReader(parse(sqlite_url))
    asked = asyncio.create_task(reader.rows(counting_to(200_000)))
    await asyncio.sleep(0.02)
    asked.cancel()
    assert [{"n": 3}] == [dict(row) for row in await reader.rows(counting_to(3))]
    await reader.close()
