"""What the state of budgets takes to answer, with a long ledger beside it: `make bench-budgets ARGS="postgresql://…"`.

Fills an empty database: a ledger of the current month (`--calls`), budgets divided by team, graph and user, and their
spend, counted from that ledger as the collector counts it. Then asks for the state of one limit and of all, from the
database, and of a collector over HTTP, which reads all of them once a second while it is asked, and tells quantiles of wall
time. The ledger is read only when budgets are taken into force.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from sqlalchemy import text

from graphmeter_collector.expose import state
from graphmeter_collector.store.budgets import BudgetTable
from graphmeter_collector.store.engine import is_sqlite, parse, schema_engine
from graphmeter_collector.store.migrate import migrate
from graphmeter_config import Budget

_FILL = """
INSERT INTO ledger (trace_id, span_id, start_ns, service, environment, graph, team, node, user_id, provider, model,
                    price_status, cost_nano, input_tokens)
SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), decode('0000000000000001', 'hex'),
       CAST(:since AS bigint) + (n * 9973000007) % CAST(:length AS bigint),
       'shop', 'prod', 'graph-' || n % 40, 'team-' || n % 50, 'node-' || n % 7, 'user-' || n % 200, 'openai', 'gpt-4o',
       'priced', 1000 + n % 977, 100
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""


def budgets() -> list[Budget]:
    """Budgets of every kind: 350 states of 50 teams, 40 graphs and 200 users, and 20 of one state each."""
    made = [
        Budget.model_validate({"name": "teams", "limit_usd": 100, "per": ["team"]}),
        Budget.model_validate({"name": "graphs", "limit_usd": 100, "per": ["graph"], "period": "week"}),
        Budget.model_validate({"name": "users", "limit_tokens": 10**9, "per": ["user"], "period": "day"}),
        Budget.model_validate({"name": "rolling", "limit_usd": 100, "per": ["team"], "rolling": 86400.0}),
    ]
    return made + [
        Budget.model_validate({"name": f"t{n}", "limit_usd": 9, "match": {"team": f"team-{n}"}}) for n in range(20)
    ]


async def main() -> None:
    """Fill, ask, tell."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("database_url", help="an empty Postgres database, or one that this has filled")
    arguments.add_argument("--calls", type=int, default=1_000_000)
    arguments.add_argument("--times", type=int, default=1000)
    given = arguments.parse_args()
    url = parse(given.database_url)
    if is_sqlite(url):
        raise SystemExit("this fills a Postgres database: name one that is empty")
    await asyncio.to_thread(migrate, given.database_url)
    now_ns = time.time_ns()
    calls = await _fill(given.database_url, given.calls, now_ns)
    table = BudgetTable(given.database_url)
    began = time.perf_counter()
    await table.take(budgets(), now_ns)
    taken_s = time.perf_counter() - began
    in_force = await table.in_force()
    teams = [one for one in in_force if one.budget.name == "teams"]
    rows = 0

    async def everything(_: int) -> None:
        nonlocal rows
        await table.version()
        rows = len(
            state.budgets(
                in_force, await table.spent(state.asked(in_force, now_ns)), await table.reserved(now_ns), now_ns
            )
        )

    async def one_limit(n: int) -> None:
        state.budgets(teams, await table.spent(state.asked(teams, now_ns), (f"team-{n % 50}",)), (), now_ns)

    took = [await _times(given.times, one_limit), await _times(max(given.times // 4, 100), everything)]
    await table.close()
    print(f"{calls:,} calls on the ledger, {len(in_force)} budgets, {rows} states; into force in {taken_s:.1f} s\n")
    print(f"{'ms':<58} {'p50':>7} {'p99':>7}")
    _tell("one team's state of one budget, from the database", took[0])
    _tell(f"all {rows} states, from the database", took[1])
    with _serving(given.database_url) as port:
        for what, path, known in [
            ("GET /api/budgets/status?budget=teams&scope=team:team-7", "?budget=teams&scope=team:team-7", False),
            ("GET /api/budgets/status", "", False),
            ("the same, nothing spent since: 304", "", True),
        ]:
            _tell(what, await asyncio.to_thread(_asking, port, f"/api/budgets/status{path}", given.times, known))


async def _fill(database_url: str, calls: int, now_ns: int) -> int:
    month = budgets()[0].stretch_at(now_ns)
    engine = schema_engine(parse(database_url))
    async with engine.connect() as connection:
        found = (await connection.execute(text("SELECT count(*) FROM ledger"))).scalar_one()
    for first in () if found else range(0, calls, 250_000):
        last = min(first + 250_000, calls) - 1
        async with engine.begin() as connection:
            span = {"since": month.start_ns, "length": now_ns - month.start_ns, "first": first, "last": last}
            await connection.execute(text(_FILL), span)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE ledger"))
    await engine.dispose()
    return int(found) or calls


async def _times(times: int, ask: Callable[[int], Awaitable[None]]) -> list[float]:
    took = []
    for n in range(-10, times):
        began = time.perf_counter()
        await ask(n % 50)
        if n >= 0:
            took.append((time.perf_counter() - began) * 1e3)
    return took


@contextmanager
def _serving(database_url: str) -> Iterator[int]:
    """A collector on the database, as `graphmeter serve` is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        # The budgets are those of a configuration: without one it would take them out of force.
        config = Path(folder, "graphmeter.yaml")
        config.write_text(json.dumps({"budgets": [each.definition() for each in budgets()]}))
        command = [sys.executable, "-m", "graphmeter_cli", "serve", "--database-url", database_url, "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--data-dir", folder, "--config", str(config)], stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            while not _ready(port):
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _asking(port: int, path: str, times: int, known: bool) -> list[float]:
    """What a guard waits for, over a connection that stays open, a few hundred times a second."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    took, headers = [], {}
    for n in range(-10, times):
        time.sleep(0.003)
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if n >= 0:
            took.append((time.perf_counter() - began) * 1e3)
        if known:
            headers = {"if-none-match": answer.headers["etag"]}
    connection.close()
    return took


def _tell(what: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100)
    print(f"{what:<58} {cuts[49]:>7.2f} {cuts[98]:>7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
