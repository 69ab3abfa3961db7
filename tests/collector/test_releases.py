"""Releases: the first run of each is known to all collectors, whichever saw it, and however often they restart."""

from __future__ import annotations

import time

from collector.served import Served, served
from collector.waiting import until_true
from graphmeter import names
from graphmeter_collector.store.releases import ReleaseTable
from support import otlp
from support.records import SECOND

SHOP = {names.SERVICE_NAME: "shop", names.DEPLOYMENT_ENVIRONMENT: "prod"}


async def test_the_earliest_run_stands_whoever_tells_it_and_the_newest_releases_are_told(database_url: str) -> None:
    table, other = ReleaseTable(database_url), ReleaseTable(database_url)
    try:
        assert {} == await table.newest(10)
        await table.saw({("shop", "prod", "1"): 30, ("shop", "prod", "2"): 40})
        await other.saw({("shop", "prod", "1"): 20, ("shop", "prod", "2"): 50, ("till", "", "1"): 10})
        await other.saw({})
        expected = {("shop", "prod", "2"): 40, ("shop", "prod", "1"): 20}
        assert expected == await table.newest(2)
    finally:
        await table.close()
        await other.close()


async def test_the_first_run_of_each_release_is_shown_also_after_a_restart(database_url: str) -> None:
    began = time.time_ns() // SECOND * SECOND - 600 * SECOND
    later = began + 60 * SECOND

    async def send(it: Served, of: int, start_ns: int, release: str) -> None:
        resource = {**SHOP, names.SERVICE_VERSION: release} if release else SHOP
        await it.send(*otlp.run(of, start_ns=start_ns), resource=resource)

    async def show(it: Served, first_ns: dict[str, int]) -> None:
        async def shown() -> bool:
            # The job may be looking, too, and show what was there before.
            await it.collector.releases.look()
            value = it.collector.metrics.value
            found = {release: value(names.RELEASE_SEEN, "shop", "prod", release) for release in ("1.4", "1.5", "")}
            return found == {"1.4": 0.0, "1.5": 0.0, "": 0.0} | {name: ns / SECOND for name, ns in first_ns.items()}

        await until_true(shown)

    async with served(database_url) as it:
        await send(it, 2, later, "1.4")
        await show(it, {"1.4": later})
        await send(it, 1, began, "1.4")
        await send(it, 3, began, "")
        await show(it, {"1.4": began})
    async with served(database_url) as it:
        await show(it, {"1.4": began})
        await send(it, 4, later, "1.5")
        await send(it, 5, later, "1.4")
        await show(it, {"1.4": began, "1.5": later})
