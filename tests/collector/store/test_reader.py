"""What reports say, on both databases: against the truth recounted from the records that were stored."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from collector.store.dump import fresh
from graphmeter import names
from graphmeter_collector.errors import BadRequest, StartupError, StoreUnavailable
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.reports import COST_DIMENSIONS, NodeRow, Reader, RunCount, RunFilter
from graphmeter_collector.store import Store, histogram, tables
from graphmeter_collector.store.read import open_reader
from support.records import SECOND, T0_NS, call, priced, record, span_id, trace, whole_run

HOUR = 3600 * SECOND
ALL = (0, 1 << 62)


def run_id(of: int) -> str:
    return f"00000000-0000-0000-0000-{of:012d}"


async def fill_runs(store: Store) -> None:
    """Runs 1 to 6, a minute apart, each with something of its own."""
    records = [each for of in range(1, 7) for each in whole_run(of, at_s=of * 60)]
    for at, each in enumerate(records):
        if each.trace_id == trace(2):
            each.graph = "research"
        if each.trace_id == trace(3):
            each.team = "ops"
        if each.trace_id == trace(4) and each.kind == names.RUN:
            each.status, each.error_type = names.ERROR, "ValueError"
            records[at] = replace(each, end_ns=each.end_ns + 60 * SECOND)
    endless = [each for each in records if each.trace_id != trace(6) or each.kind != names.RUN]
    dear = call(50, of=5, at_s=301, nano=5_000_000)
    await store.write([*endless, dear])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param({}, [6, 5, 4, 3, 2, 1], id="newest first"),
        pytest.param({"limit": 2}, [6, 5], id="limit"),
        pytest.param({"graph": "research"}, [2], id="graph"),
        pytest.param({"graph": "no such"}, [], id="nothing"),
        pytest.param({"team": "ops"}, [3], id="team"),
        pytest.param({"status": "error"}, [4], id="status"),
        pytest.param({"status": "running"}, [6], id="running"),
        pytest.param({"min_cost_nano": 5_000_000}, [5], id="cost"),
        pytest.param({"min_duration_ns": 60 * SECOND}, [4], id="duration"),
        pytest.param({"since_ns": T0_NS + 300 * SECOND}, [6, 5], id="since includes its moment"),
        pytest.param({"until_ns": T0_NS + 120 * SECOND}, [1], id="until excludes its moment"),
        pytest.param({"graph": "support", "team": "cx", "status": "ok", "limit": 1}, [5], id="all together"),
    ],
)
async def test_runs_are_filtered(store: Store, where: dict[str, Any], expected: list[int]) -> None:
    await fill_runs(store)

    assert [run_id(of) for of in expected] == [row.run_id for row in await store.reader.runs(RunFilter(**where))]


async def test_a_run_says_everything_that_is_known_of_it(store: Store) -> None:
    await store.write(whole_run())

    row = await store.reader.run(run_id(1))

    assert row is not None
    assert (trace(1).hex(), "shop", "test", "support", "cx", "acme", "1.4.0", "thread-1", {"intent": "billing"}) == (
        row.trace_id,
        row.service,
        row.environment,
        row.graph,
        row.team,
        row.tenant,
        row.release,
        row.thread_id,
        row.tags,
    )
    assert ("ok", T0_NS, T0_NS + 2_700_000_000, 2_700_000_000, 2, 8) == (
        row.status,
        row.started_ns,
        row.ended_ns,
        row.duration_ns,
        row.steps,
        row.spans,
    )
    assert (3, 1, 2, 1, 200, 20, 1_701, 0) == (
        row.node_attempts,
        row.node_errors,
        row.model_calls,
        row.tool_calls,
        row.input_tokens,
        row.output_tokens,
        row.cost_nano,
        row.unpriced_calls,
    )


async def test_a_run_is_found_by_run_id_trace_id_or_enough_of_either(store: Store) -> None:
    one = [record(1, run_id="aaaabbbb-0000-0000-0000-000000000001", trace_id=bytes.fromhex("0123456789abcdef" * 2))]
    two = [record(2, run_id="aaaabbbb-0000-0000-0000-000000000002", trace_id=bytes.fromhex("0123456789abcdee" * 2))]
    await store.write([*one, *two])
    reader = store.reader

    async def found(reference: str) -> str | None:
        row = await reader.run(reference)
        return row.run_id if row else None

    for reference in (
        one[0].run_id,
        one[0].run_id.upper(),
        one[0].trace_id.hex(),
        "0123456789ABCDEF",
        "0123456789abcdef0",
    ):
        assert one[0].run_id == await found(reference), reference
    assert two[0].run_id == await found("0123456789abcdee01")
    for nothing in (
        "",
        "0123456",
        "aaaabbb",
        "%",
        "________",
        "f" * 32,
        "not a run",
        "aaaabbbb-0000-0000-0000-000000000003",
    ):
        assert await found(nothing) is None, nothing
    for ambiguous in ("01234567", "aaaabbbb", "aaaabbbb-0000-0000-0000-00000000000"):
        with pytest.raises(BadRequest, match="more characters"):
            await found(ambiguous)


async def test_the_runs_of_one_trace_are_named_by_the_first(store: Store) -> None:
    await store.write([record(1, at_s=5, run_id="second"), record(2, at_s=1, run_id="first")])

    row = await store.reader.run(trace(1).hex())

    assert row is not None
    assert "first" == row.run_id


async def test_a_trace_lists_its_spans_by_start_without_the_start_record(store: Store) -> None:
    await store.write([*whole_run(), *whole_run(2)])

    rows = await store.reader.spans(trace(1).hex())

    assert [1, 2, 5, 3, 4, 6, 7, 8] == [int(row.span_id, 16) for row in rows]
    retried = rows[3]
    assert ("error", "TimeoutError", 1, False) == (
        retried.status,
        retried.error_type,
        retried.attempt,
        retried.attempt_final,
    )
    root, hit, tool = rows[0], rows[6], rows[7]
    assert ("", None, 0) == (root.parent_id, root.cost_nano, root.input_tokens)
    assert (True, 0, 0, 0) == (hit.cache_hit, hit.cost_nano, hit.input_tokens, hit.output_tokens)
    assert ("search", span_id(4).hex()) == (tool.tool, tool.parent_id)
    assert [] == await store.reader.spans("f" * 32)
    with pytest.raises(BadRequest, match="not a trace id"):
        await store.reader.spans("xyz")


def durations(count: int) -> list[float]:
    """Seconds between 10 ms and 20 s, unevenly."""
    return [0.01 + (n * 7919 % count) ** 2 / count**2 * 20 for n in range(count)]


def attempts(over_s: float, count: int = 211) -> list[SpanRecord]:
    """Attempts of two nodes, and calls in one of them, spread over a time."""
    found = []
    for n, s in enumerate(durations(count)):
        facts: dict[str, Any] = {"of": n % 3, "at_s": n * over_s / count, "s": s}
        status = names.ERROR if n % 10 == 0 else names.OK
        found.append(record(n + 1, node="slow", status=status, attempt_final=n % 20 != 0, **facts))
        found.append(record(n + 10_000, node="fast", team="ops", of=n % 3, at_s=facts["at_s"], s=s / 10))
        found.append(
            call(
                n + 20_000,
                node="slow",
                response_id="",
                cache_hit=n % 7 == 0,
                cost=priced(0 if n % 7 == 0 else n),
                **facts,
            )
        )
    return found


def nearest_rank(values: Sequence[int], percent: int) -> int:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def truth(records: list[SpanRecord], node: str) -> NodeRow:
    tries = [each for each in records if each.kind == names.NODE and each.node == node]
    final = [each for each in tries if each.attempt_final]
    calls = [each for each in records if each.kind == names.MODEL and each.node == node and not each.cache_hit]
    lasted = [each.duration_ns for each in tries]
    return NodeRow(
        "shop",
        "test",
        "support",
        node,
        runs=len(final),
        attempts=len(tries),
        errors=sum(each.status == names.ERROR for each in final),
        p50_ns=nearest_rank(lasted, 50),
        p95_ns=nearest_rank(lasted, 95),
        p99_ns=nearest_rank(lasted, 99),
        percentile_error=0.0,
        model_calls=len(calls),
        input_tokens=sum(each.usage.total_input for each in calls),
        output_tokens=sum(each.usage.total_output for each in calls),
        cost_nano=sum(each.cost.total_nano for each in calls if each.cost),
    )


def assert_close(expected: Sequence[NodeRow], found: Sequence[NodeRow]) -> None:
    """Everything equal, but for percentiles, which may be off by what they say."""
    for wanted_row, row in zip(expected, found, strict=True):
        assert 0 < row.percentile_error < 0.05
        exact = replace(row, percentile_error=0.0)
        for column in NodeRow.__dataclass_fields__:
            wanted, got = getattr(wanted_row, column), getattr(exact, column)
            allowed = wanted * row.percentile_error + 1 if column in ("p50_ns", "p95_ns", "p99_ns") else 0
            assert wanted == (pytest.approx(got, abs=allowed) if allowed else got), column


async def test_nodes_of_up_to_a_day_are_exact(store: Store) -> None:
    records = attempts(3_000)
    await store.write(fresh(records))

    found = await store.reader.nodes(T0_NS, T0_NS + HOUR)

    assert [truth(records, "fast"), truth(records, "slow")] == found


async def test_a_day_until_now_is_still_a_day(store: Store) -> None:
    # What asks for "the last 24 h" reads the clock twice, and an hour counted whole would bring in what ran before.
    records = attempts(3_000)
    since = T0_NS + 500 * SECOND
    await store.write(fresh(records))

    found = await store.reader.nodes(since, since + 24 * HOUR + 5 * SECOND)

    within = [each for each in records if since <= each.start_ns]
    assert [truth(within, "fast"), truth(within, "slow")] == found


async def test_the_range_of_nodes_includes_its_start_and_excludes_its_end(store: Store) -> None:
    records = attempts(3_000)
    since, until = T0_NS + 500 * SECOND, T0_NS + 2_000 * SECOND
    await store.write(fresh(records))

    found = await store.reader.nodes(since, until)

    within = [each for each in records if since <= each.start_ns < until]
    assert [truth(within, "fast"), truth(within, "slow")] == found
    assert [] == await store.reader.nodes(until + HOUR, until + 2 * HOUR)


async def test_nodes_of_longer_ranges_have_exact_sums_and_close_percentiles(store: Store) -> None:
    records = attempts(70 * 3_600)
    for at in range(0, len(records), 100):
        await store.write(fresh(records[at : at + 100]))

    found = await store.reader.nodes(T0_NS - HOUR, T0_NS + 90 * HOUR)

    assert_close([truth(records, "fast"), truth(records, "slow")], found)


async def test_nodes_of_a_month_are_made_of_days_and_of_the_hours_around_them(store: Store) -> None:
    records = attempts(70 * 3_600)
    for at in range(0, len(records), 100):
        await store.write(fresh(records[at : at + 100]))
    # Begins in the middle of a day, and ends in one; 17 empty days after it, or before it.
    hour = T0_NS // HOUR * HOUR
    first, last = hour + 2 * HOUR, hour + 68 * HOUR

    for since, until in ((first, hour + 480 * HOUR), (hour - 480 * HOUR, last)):
        within = [each for each in records if since <= each.start_ns < until]
        assert len(within) < len(records)
        assert_close([truth(within, "fast"), truth(within, "slow")], await store.reader.nodes(since, until))


@pytest.mark.parametrize("hours", [1, 90])
async def test_nodes_are_filtered_by_graph_and_team(store: Store, hours: int) -> None:
    records = attempts(3_000)
    records[0].graph = "other"
    await store.write(fresh(records))
    since, until = T0_NS, T0_NS + hours * HOUR

    async def nodes(**where: str) -> list[tuple[str, str, int]]:
        return [(row.graph, row.node, row.attempts) for row in await store.reader.nodes(since, until, **where)]

    assert [("support", "fast", 211)] == await nodes(team="ops")
    assert [("other", "slow", 1)] == await nodes(graph="other")
    assert [] == await nodes(graph="other", team="ops")


@pytest.mark.parametrize("hours", [1, 90])
async def test_a_call_that_two_instrumentations_saw_counts_once_in_its_node(store: Store, hours: int) -> None:
    await store.write([record(1, node="answer"), call(2, response_id="r", nano=9), call(3, response_id="r", nano=9)])

    [row] = await store.reader.nodes(T0_NS, T0_NS + hours * HOUR)

    assert (1, 1, 9, 100) == (row.runs, row.model_calls, row.cost_nano, row.input_tokens)


async def fill_ledger(store: Store) -> None:
    missing = Cost(0, (0,) * 10, "usage_missing")
    await store.write(
        [
            call(1, nano=700, team="ops"),
            call(2, nano=300, node="plan"),
            call(3, nano=50, model="gpt-4o-mini", team="ops"),
            call(4, cost=Cost(0, (0,) * 10, "unpriced"), provider="local", model="mystery"),
            call(5, cost=missing, input_tokens=0, output_tokens=0),
            call(6, cache_hit=True, cost=priced(0, status="cached", saved_nano=42)),
            call(7, nano=1, at_s=7_200, team=""),
        ]
    )


async def test_spend_is_grouped_dearest_first_and_sums_to_the_total(store: Store) -> None:
    await fill_ledger(store)

    by_team = await store.reader.cost(["team"], *ALL)

    assert [("ops", 750, 2), ("cx", 300, 3), ("", 1, 1)] == [
        (row.group["team"], row.cost_nano, row.calls) for row in by_team
    ]
    assert [(1, 42), (1, 1)] == [
        (by_team[1].cache_hits, by_team[1].saved_nano),
        (by_team[1].unpriced_calls, by_team[1].usage_missing_calls),
    ]
    [total] = await store.reader.cost([], *ALL)
    assert ({}, 6, 1, 1, 1, 1_051, 42) == (
        total.group,
        total.calls,
        total.cache_hits,
        total.unpriced_calls,
        total.usage_missing_calls,
        total.cost_nano,
        total.saved_nano,
    )
    # Neither the cached answer's tokens nor those that were not reported.
    assert (500, 50, 0) == (total.tokens["input"], total.tokens["output"], total.tokens["cache_read"])
    for dimension in COST_DIMENSIONS:
        rows = await store.reader.cost([dimension], *ALL)
        assert (1_051, 6) == (sum(row.cost_nano for row in rows), sum(row.calls for row in rows)), dimension


async def test_spend_is_grouped_by_several_dimensions_within_a_range(store: Store) -> None:
    await fill_ledger(store)

    rows = await store.reader.cost(["team", "model"], T0_NS, T0_NS + HOUR)

    assert [("ops", "gpt-4o", 700), ("cx", "gpt-4o", 300), ("ops", "gpt-4o-mini", 50), ("cx", "mystery", 0)] == [
        (row.group["team"], row.group["model"], row.cost_nano) for row in rows
    ]
    [late] = await store.reader.cost(["team"], T0_NS + 7_200 * SECOND, T0_NS + 7_201 * SECOND)
    assert ({"team": ""}, 1) == (late.group, late.cost_nano)


async def test_no_spend_is_no_row(store: Store) -> None:
    assert [] == await store.reader.cost(["team"], *ALL)
    assert [] == await store.reader.cost([], *ALL)


async def test_an_unknown_dimension_is_refused_with_those_known(store: Store) -> None:
    with pytest.raises(BadRequest, match="cannot group spend by 'colour': choose from service, environment"):
        await store.reader.cost(["colour"], *ALL)


async def test_runs_are_counted_by_status_where_they_started(store: Store) -> None:
    await fill_runs(store)

    counts = await store.reader.run_counts(T0_NS + 60 * SECOND, T0_NS + 360 * SECOND)

    assert [
        RunCount("shop", "test", "research", "cx", "ok", 1),
        RunCount("shop", "test", "support", "cx", "error", 1),
        RunCount("shop", "test", "support", "cx", "ok", 2),
        RunCount("shop", "test", "support", "ops", "ok", 1),
    ] == sorted(counts, key=lambda row: (row.graph, row.team, row.status))
    [running] = await store.reader.run_counts(T0_NS + 360 * SECOND, 1 << 62)
    assert ("running", 1) == (running.status, running.count)


async def test_series_are_the_combinations_seen_since(store: Store) -> None:
    await store.write([*whole_run(1), record(70, node="later", at_s=7_200)])

    assert {
        ("run", "", "", ""),
        ("node", "plan", "", ""),
        ("node", "answer", "", ""),
        ("model", "plan", "openai", "gpt-4o"),
        ("model", "answer", "openai", "gpt-4o"),
        ("tool", "answer", "", "search"),
        ("node", "later", "", ""),
    } == {(row.kind, row.node, row.provider, row.model) for row in await store.reader.series(0)}
    [later] = await store.reader.series(T0_NS + 2 * HOUR)
    assert ("shop", "test", "support", "cx", "later") == (
        later.service,
        later.environment,
        later.graph,
        later.team,
        later.node,
    )


async def test_a_reader_needs_no_writer_lock_and_cannot_write(store: Store, database_url: str) -> None:
    await store.write(whole_run())

    async with open_reader(database_url) as reader:
        seen: Reader = reader
        assert 1 == len(await seen.runs(RunFilter()))
        with pytest.raises(StoreUnavailable, match=r"read.?only"):
            await reader.rows(delete(tables.run))  # type: ignore[arg-type]  # what it must refuse
    assert 1 == len(await store.reader.runs(RunFilter()))


async def test_a_reader_on_nothing_says_how_to_get_something(empty_database_url: str) -> None:
    with pytest.raises(StartupError, match="run `graphmeter serve` or `graphmeter migrate`"):
        async with open_reader(empty_database_url):
            pass


async def test_a_reader_of_a_missing_file_makes_none(empty_sqlite_url: str) -> None:
    with pytest.raises(StartupError):
        async with open_reader(empty_sqlite_url):
            pass
    with pytest.raises(StartupError):
        async with open_reader("sqlite:////proc/none/graphmeter.db"):
            pass

    assert not os.path.exists(empty_sqlite_url.removeprefix("sqlite:///"))  # noqa: ASYNC240, PTH110 - a test may block


async def test_a_reader_of_an_unreachable_server_says_so_without_the_password() -> None:
    with pytest.raises(StartupError, match="cannot read the database") as refused:
        async with open_reader("postgresql://nobody:secret@127.0.0.1:1/none"):
            pass
    assert "secret" not in str(refused.value)


def test_the_promised_error_of_long_ranges_is_that_of_the_histogram() -> None:
    assert histogram.RELATIVE_ERROR < 0.045
