"""Where `graphmeter budget` reads and writes: a database, or a collector's API. Both answer the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import aiohttp
import click

from graphmeter_cli.api import HttpReader, bearer, detail
from graphmeter_collector.expose import state
from graphmeter_collector.reports import BudgetRow
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_config import Budget

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Known:
    """A budget in force."""

    name: str
    source: str
    since_ns: int
    changed_ns: int
    definition: dict[str, Any]
    counted: bool = True
    """False: what was spent before it was in force is being counted."""


class BudgetSource(Protocol):
    """What the commands need."""

    async def known(self) -> list[Known]: ...

    async def states(self) -> list[BudgetRow]: ...

    async def put(self, one: Budget) -> bool: ...

    async def remove(self, name: str) -> bool: ...


class OnDatabase:
    """The budgets of a database."""

    def __init__(self, database_url: str) -> None:
        self._table = BudgetTable(database_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._table.close()

    async def known(self) -> list[Known]:
        return [
            Known(one.budget.name, one.source, one.since_ns, one.changed_ns, one.budget.definition(), one.counted)
            for one in await self._table.in_force()
        ]

    async def states(self) -> list[BudgetRow]:
        while True:
            version, now_ns, in_force = await self._table.version(), time.time_ns(), await self._table.in_force()
            held = await self._table.reserved(now_ns)
            spent = await self._table.spent(state.asked(in_force, now_ns))
            if version == await self._table.version():
                return state.budgets(in_force, spent, held, now_ns)

    async def put(self, one: Budget) -> bool:
        return await self._table.put(one, time.time_ns())

    async def remove(self, name: str) -> bool:
        return await self._table.remove(name, time.time_ns())

    async def recount(self, name: str) -> int:
        """Sum the ledger anew; of every budget where `name` is empty."""
        return await self._table.recount(time.time_ns(), name)


class OverHttp:
    """The budgets of a collector."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._headers = bearer(api_key)
        self._reader = HttpReader(url, api_key)

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._reader.__aexit__(kind, value, trace)

    async def known(self) -> list[Known]:
        return [Known(**item) for item in await self._reader.get("/api/budgets/definitions")]

    async def states(self) -> list[BudgetRow]:
        return await self._reader.budgets()

    async def put(self, one: Budget) -> bool:
        return await self._ask("POST", "/api/budgets", json=one.definition()) == 201

    async def remove(self, name: str) -> bool:
        return await self._ask("DELETE", f"/api/budgets/{quote(name, safe='')}") != 404

    async def _ask(self, method: str, path: str, **how: Any) -> int:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.request(method, self._url + path, **how) as answer,
            ):
                if answer.status >= 400 and answer.status != 404:
                    raise click.ClickException(f"{self._url} answers {answer.status}: {await detail(answer)}")
                return answer.status
        except (aiohttp.ClientConnectionError, TimeoutError) as problem:
            raise click.ClickException(
                f"no collector answers at {self._url}: start one with `graphmeter serve`, or check the address"
            ) from problem
