"""Facts and runs on their own: rows fit their tables, merging is commutative, duplicates of a call bring nothing."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest

from graphmeter import names
from graphmeter_collector.records import TokenUsage
from graphmeter_collector.store import facts, histogram, runs, tables
from graphmeter_collector.store.batch import Batch
from support.records import SECOND, T0_NS, call, priced, record, whole_run

HOUR = T0_NS // facts.HOUR_NS


def as_row(table: str, row: facts.Row) -> dict[str, Any]:
    return dict(zip(tables.column_names(tables.metadata.tables[table]), row, strict=True))


def test_a_span_row_has_its_tables_columns_in_order() -> None:
    spoken = call(
        3, node="a.b", parent_id=b"p" * 8, ttft_ns=7, step=4, attempt=2, attempt_final=False, status_message="m",
        error_type="E", status=names.ERROR, usage=TokenUsage(*range(1, 11)), cost=priced(55), s=2, outer_attempts=b"o" * 8,
    )  # fmt: skip
    row = as_row("span", facts.span_row(spoken))

    assert {
        **{name: getattr(spoken, name) for name in row if hasattr(spoken, name)},
        "input_tokens": 21,
        "output_tokens": 34,
        "cost_nano": 55,
        "settled": True,
    } == row
    assert (T0_NS // facts.DAY_NS, 2 * SECOND) == (row["day"], row["duration_ns"])


def test_a_ledger_row_has_its_tables_columns_in_order() -> None:
    spoken = call(
        3, usage=TokenUsage(*range(10)), cost=priced(55), tags={"b": "ü", "a": "1"}, user_id="u", session_id="s",
        attempt_span=b"a" * 8, outer_attempts=b"o" * 8, reported_nano=54,
    )  # fmt: skip
    row = as_row("ledger", facts.ledger_row(spoken))

    same = [name for name in row if hasattr(spoken, name) and name != "tags"]
    assert {name: getattr(spoken, name) for name in same} == {name: row[name] for name in same}
    assert '{"a":"1","b":"\\u00fc"}' == row["tags"]
    assert [None, *range(1, 10)] == [row[f"{bucket}_tokens"] for bucket in names.TOKEN_TYPES]
    assert (18, 37, None) == (row["input_nano"], row["output_nano"], row["reasoning_nano"])
    assert ("priced", "genai-prices test", "openai/gpt-4o", 55, 0) == tuple(
        row[name] for name in ("price_status", "price_source", "price", "cost_nano", "saved_nano")
    )


@pytest.mark.parametrize(("table", "change"), [("run", runs.Run), ("run_node", runs.RunNode)])
def test_changes_have_their_tables_columns_in_order(table: str, change: Any) -> None:
    assert tables.column_names(tables.metadata.tables[table]) == [each.name for each in fields(change)]


def test_rollup_keys_and_sums_are_the_tables_columns_in_order() -> None:
    for name, period in (("rollup_hour", "hour"), ("rollup_day", "day")):
        expected = [period, *facts.ROLLUP_DIMENSIONS, "writer", *facts.ROLLUP_SUMS, "latency"]
        assert expected == tables.column_names(tables.metadata.tables[name])


def test_order_of_spans_does_not_change_what_they_add() -> None:
    spans = [*whole_run(1), *whole_run(2, at_s=5_000, status=names.ERROR)]
    expected = (runs.changes(spans), facts.rollups(spans), facts.daily(facts.rollups(spans)))
    for seed in range(20):
        random.Random(seed).shuffle(spans)
        assert expected == (
            runs.changes(spans),
            facts.rollups(spans),
            facts.daily(facts.rollups(spans)),
        )


def test_until_the_root_is_seen_attribution_is_the_greatest_said_and_then_the_roots() -> None:
    spans = [
        record(1, team="", at_s=3),
        record(2, team="Zoo", at_s=1, tags={"a": "1"}),
        record(3, team="apple", at_s=2),
    ]
    [[stub], _] = runs.changes(spans)
    [[ended], _] = runs.changes([*spans, record(4, kind=names.RUN, team="", at_s=0.5, s=1)])

    stub_row, ended_row = as_row("run", stub), as_row("run", ended)
    assert ("apple", '{"a":"1"}', T0_NS + SECOND, "running", None) == tuple(
        stub_row[name] for name in ("team", "tags", "started_ns", "status", "duration_ns")
    )
    assert ("", "{}", T0_NS + SECOND // 2, "ok", SECOND, T0_NS + 4 * SECOND) == tuple(
        ended_row[name] for name in ("team", "tags", "started_ns", "status", "duration_ns", "last_seen_ns")
    )


def test_no_tags_are_less_than_any() -> None:
    assert '{"a":"1"}' == runs.greatest_tags("{}", '{"a":"1"}') == runs.greatest_tags('{"a":"1"}', "{}")
    assert "{}" == runs.greatest_tags("{}", "{}")


def test_a_subgraphs_steps_are_not_the_graphs() -> None:
    spans = [
        record(1, node="a", step=3),
        record(2, node="a.inner", step=9),
        record(3, kind=names.SUBGRAPH, node="a", step=8),
        call(4, node="a", step=7),
    ]
    [[run], _] = runs.changes(spans)

    assert 3 == as_row("run", run)["steps"]


def test_the_root_says_how_many_steps_its_run_took() -> None:
    # Steps of a thread go on from run to run: this run took its eighth and ninth.
    spans = [record(1, node="a", step=8), record(3, kind=names.RUN, step=2), record(2, node="b", step=9)]
    for order in (spans, spans[::-1]):
        [[run], _] = runs.changes(order)
        assert 2 == as_row("run", run)["steps"]


def test_a_call_billed_elsewhere_brings_a_span_and_nothing_else() -> None:
    spoken = call(1)
    billed = {spoken.key}

    [[run], nodes] = runs.changes([spoken], billed)
    row = as_row("run", run)

    assert (1, 0, 0, 0) == tuple(row[name] for name in ("spans", "model_calls", "input_tokens", "cost_nano"))
    assert [] == nodes
    assert {} == facts.rollups([spoken], billed)


def test_a_day_is_the_sum_of_its_hours() -> None:
    spans = [record(n, at_s=1_800 * n, s=0.1 * n) for n in range(100)]
    daily = facts.daily(facts.rollups(spans))
    expected: dict[int, list[int]] = {}
    for span in spans:
        expected.setdefault(span.day, []).append(span.duration_ns)
    assert {day: (len(every), sum(every), histogram.of(every)) for day, every in expected.items()} == {
        key[0]: (rollup.sums[0], rollup.sums[facts.ROLLUP_SUMS.index("duration_ns")], rollup.latency)
        for key, rollup in daily.items()
    }


def test_rollups_tell_outcomes_retries_and_cache_apart() -> None:
    spans = [
        record(1, node="a"),
        record(2, node="a", status=names.ERROR, attempt_final=False),
        record(3, node="a", status=names.ERROR),
        record(4, node="a", status=names.INTERRUPTED),
        record(5, node="a", status=names.CANCELLED),
    ]
    [(key, rollup)] = facts.rollups(spans).items()

    assert (HOUR, "shop", "test", "support", "cx", "a", "node", "", "") == key
    sums = dict(zip(facts.ROLLUP_SUMS, rollup.sums, strict=True))
    assert (5, 1, 1, 1, 1, 1, 0, 5 * SECOND) == tuple(
        sums[name]
        for name in ("count", "ok", "error", "interrupted", "cancelled", "retries", "cache_hits", "duration_ns")
    )
    assert histogram.of([SECOND] * 5) == rollup.latency


def test_an_answer_from_a_cache_rolls_up_as_a_hit_that_nobody_waited_for_or_paid() -> None:
    hit = call(1, cache_hit=True, cost=priced(0, status="cached", saved_nano=42))
    [rollup] = facts.rollups([hit]).values()

    assert {"count": 1, "cache_hits": 1, "saved_nano": 42} == {
        name: value for name, value in zip(facts.ROLLUP_SUMS, rollup.sums, strict=True) if value
    }
    assert {} == rollup.latency


def test_start_records_leave_a_stub_and_no_body() -> None:
    start = whole_run()[0]
    assert names.START == start.kind

    [[run], nodes] = runs.changes([start])

    assert (0, names.RUNNING) == (as_row("run", run)["spans"], as_row("run", run)["status"])
    assert ([], [], {}, []) == (
        nodes,
        Batch.of([start]).bodies,
        facts.rollups([start]),
        facts.outbox_rows([start], ["jaeger"], 1),
    )
