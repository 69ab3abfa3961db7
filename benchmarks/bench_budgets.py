"""What the state of budgets takes to answer, with a long ledger beside it: `make bench-budgets ARGS="postgresql://…"`.

Fills an empty database: a ledger of the current month (`--calls`), budgets divided by team, graph and user, and their
spend, counted from that ledger as the collector counts it. Then reads all states, as `/api/budgets/status` does once a
second, and tells the quantiles of wall time. The ledger is read only when budgets are taken into force.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

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
    arguments.add_argument("database_url", help="an empty Postgres database")
    arguments.add_argument("--calls", type=int, default=1_000_000)
    arguments.add_argument("--times", type=int, default=300)
    given = arguments.parse_args()
    url = parse(given.database_url)
    if is_sqlite(url):
        raise SystemExit("this fills a Postgres database: name one that is empty")
    await asyncio.to_thread(migrate, given.database_url)
    now_ns = time.time_ns()
    month = budgets()[0].stretch_at(now_ns)
    engine = schema_engine(url)
    for first in range(0, given.calls, 250_000):
        last = min(first + 250_000, given.calls) - 1
        async with engine.begin() as connection:
            span = {"since": month.start_ns, "length": now_ns - month.start_ns, "first": first, "last": last}
            await connection.execute(text(_FILL), span)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE ledger"))
    await engine.dispose()
    table = BudgetTable(given.database_url)
    began = time.perf_counter()
    await table.take(budgets(), now_ns)
    taken_s = time.perf_counter() - began
    in_force = await table.in_force()
    rows = state.budgets(in_force, await table.spent(state.asked(in_force, now_ns)), now_ns)
    took = []
    for _ in range(given.times):
        began = time.perf_counter()
        await table.version()
        state.budgets(in_force, await table.spent(state.asked(in_force, now_ns)), now_ns)
        took.append((time.perf_counter() - began) * 1e3)
    await table.close()
    cuts = statistics.quantiles(took, n=100)
    print(f"{given.calls:,} calls on the ledger, {len(in_force)} budgets, {len(rows)} states")
    print(f"into force: {taken_s:.2f} s; states read and made: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")


if __name__ == "__main__":
    asyncio.run(main())
