"""Questions that nobody waits for any more: the driver of an embedded database is left in peace."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Select, event, func, literal, select

from graphmeter_collector.store.aside import Aside
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.engine import parse
from graphmeter_collector.store.keys import KeyTable
from graphmeter_collector.store.notifications import NotificationTable
from graphmeter_collector.store.read import SqlReader

BESIDE: list[type[Aside]] = [KeyTable, BudgetTable, NotificationTable]


def counting_to(last: int) -> Select[Any]:
    """Takes SQLite a while."""
    number = select(literal(1).label("n")).cte("number", recursive=True)
    number = number.union_all(select(number.c.n + 1).where(number.c.n < last))
    return select(func.count().label("n")).select_from(number)


async def give_up(asked: asyncio.Task[Any]) -> None:
    """Twice: the end of a process cancels what is already being cancelled."""
    for _ in range(2):
        asked.cancel()
        await asyncio.sleep(0)
    assert [True] == [
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(asked, return_exceptions=True)
    ]


def all_but(threads: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that run beside those, once the ones that were told to end have ended."""
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    return set(threading.enumerate()) - threads


async def test_a_question_that_is_given_up_is_finished_before_the_end(sqlite_url: str) -> None:
    threads = set(threading.enumerate())
    reader = SqlReader(parse(sqlite_url))
    asked = asyncio.create_task(reader.rows(counting_to(200_000)))
    await asyncio.sleep(0.02)
    await give_up(asked)
    await reader.close()
    assert set() == all_but(threads)


async def test_the_next_question_is_answered_as_ever(sqlite_url: str) -> None:
    reader = SqlReader(parse(sqlite_url))
    asked = asyncio.create_task(reader.rows(counting_to(200_000)))
    await asyncio.sleep(0.02)
    asked.cancel()
    assert [{"n": 3}] == [dict(row) for row in await reader.rows(counting_to(3))]
    await reader.close()


@pytest.mark.parametrize(
    ("make", "question"),
    [(KeyTable, KeyTable.all), (BudgetTable, BudgetTable.in_force), (NotificationTable, NotificationTable.waiting)],
    ids=lambda each: each.__name__,
)
async def test_what_tables_beside_the_store_are_asked_is_finished_as_well(
    sqlite_url: str, make: Callable[[str], Aside], question: Callable[[Any], Awaitable[Any]]
) -> None:
    threads = set(threading.enumerate())
    table, connected = make(sqlite_url), asyncio.Event()

    def take_long(connection: Any, _record: object) -> None:
        connected.set()
        connection.cursor().execute(str(counting_to(200_000).compile(compile_kwargs={"literal_binds": True})))

    event.listen(table._reading.sync_engine, "connect", take_long)
    asked = asyncio.ensure_future(question(table))
    await connected.wait()
    await give_up(asked)
    await table.close()
    assert set() == all_but(threads)


@pytest.mark.parametrize("table", BESIDE)
def test_all_they_can_be_asked_is_asked_so(table: type[Aside]) -> None:
    public = {
        name: method
        for name, method in inspect.getmembers(table, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "close"
    }
    assert public
    assert [] == [name for name, method in public.items() if not hasattr(method, "__wrapped__")]
