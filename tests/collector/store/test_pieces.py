"""Calls of tools, retrievers and reranks that have a price: on the ledger, in runs, nodes, rollups and metrics."""

from __future__ import annotations

from typing import Any

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector.expose.counts import Counts
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.telemetry import Metrics
from support.records import T0_NS, priced, record, whole_run

DAY_NS = 86_400_000_000_000


def tool(number: int, nano: int | None = 8_000, **facts: Any) -> SpanRecord:
    cost = None if nano is None else priced(nano)
    made = {"kind": names.TOOL, "tool": "tavily", "node": "answer", "cost": cost, "operation": names.OP_TOOL, **facts}
    return record(number, **made)


def batch() -> list[SpanRecord]:
    return fresh(
        [
            *whole_run(),
            tool(20),
            tool(21),
            tool(22, None, tool="free"),
            tool(23, 16, kind=names.RETRIEVER, tool="pinecone", operation=""),
            tool(24, 2_000, kind=names.RETRIEVER, tool="rerank-v3.5", operation=names.OP_RERANK, images=2),
        ]
    )


async def test_a_piece_that_has_a_price_is_a_row_on_the_ledger_with_its_attribution(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(batch())
        assert 0 == len((await store.write(batch())).new)
        [total] = await store.reader.cost([], T0_NS, T0_NS + DAY_NS)
    stored = await dump(database_url)
    pieces = {
        (row["operation"], row["model"], row["provider"], row["graph"], row["node"], row["cost_nano"], row["images"])
        for row in stored["ledger"]
        if row["operation"] in names.PIECE_OPERATIONS
    }
    assert {
        ("execute_tool", "tavily", "", "support", "answer", 8_000, 0),
        ("retrieval", "pinecone", "", "support", "answer", 16, 0),
        ("rerank", "rerank-v3.5", "", "support", "answer", 2_000, 2),
    } == pieces
    assert {1_000_000_000} == {row["duration_ns"] for row in stored["ledger"] if row["operation"] == "execute_tool"}
    spent = 1_701 + 18_016
    assert spent == total.cost_nano
    assert spent == sum(row["cost_nano"] for row in stored["ledger"])
    assert [spent] == [row["cost_nano"] for row in stored["run"]]
    assert spent == sum(row["cost_nano"] for row in stored["run_node"])
    assert spent == sum(row["cost_nano"] for row in stored["rollup_hour"])
    assert {2} == {row["model_calls"] for row in stored["run"]}


async def test_nodes_show_the_money_of_their_tools_in_short_and_long_ranges(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(batch())
        for since in (T0_NS - 1, T0_NS - 20 * DAY_NS):
            rows = await store.reader.nodes(since, T0_NS + 3_600_000_000_000)
            of_nodes = {row.node: (row.model_calls, row.cost_nano) for row in rows}
            assert {"plan": (1, 700), "answer": (1, 1_001 + 18_016)} == of_nodes


async def test_a_tool_of_others_without_a_run_counts_its_money_only(database_url: str) -> None:
    foreign = tool(30, run_id="", foreign=True)
    metrics = Metrics()
    async with opened(database_url) as store:
        Counts(metrics).count(await store.write([foreign]))
    stored = await dump(database_url)
    assert [8_000] == [row["cost_nano"] for row in stored["ledger"]]
    assert [8_000] == [row["cost_nano"] for row in stored["rollup_day"]]
    text = metrics.render("")[0].decode()
    assert 'model="tavily",node="answer",provider=""' in text.replace(" ", "")
    assert "graphmeter_tool_calls_total{" not in text


async def test_a_tool_that_waited_for_its_ancestors_is_billed_when_it_is_settled(database_url: str) -> None:
    waiting = tool(31, run_id="", foreign=True, parent_id=b"\x09" * 8)
    async with opened(database_url) as store:
        await store.write([waiting])
        assert [] == (await dump(database_url))["ledger"]
        await store.settle(1 << 62, 100)
    stored = await dump(database_url)
    assert [8_000] == [row["cost_nano"] for row in stored["ledger"]]
    assert [8_000] == [row["cost_nano"] for row in stored["span"]]


def test_pieces_count_money_per_tool_beside_their_calls() -> None:
    metrics = Metrics()
    from graphmeter_collector.records import WriteResult

    result = WriteResult(new=[tool(1), tool(2), tool(3, None)], duplicates=0, finished=[])
    Counts(metrics, lambda _: [("b", "", "")]).count(result)
    lines = [line for line in metrics.render("")[0].decode().splitlines() if not line.startswith("#")]
    found = {line.split("{")[0]: float(line.split()[-1]) for line in lines if "tavily" in line or "budget_cost" in line}
    assert 16_000 / 1e9 == found["graphmeter_cost_usd_total"]
    assert 16_000 / 1e9 == found["graphmeter_budget_cost_usd_total"]
    assert 'status="ok"' in next(
        line for line in lines if line.startswith("graphmeter_tool_calls_total") and " 3" in line
    )
