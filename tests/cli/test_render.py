"""Rows in, tables and trees out."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import asdict, replace

import pytest
from rich.console import Console, RenderableType

from cli.rows import NODE, RUN, span, spend
from graphmeter import names
from graphmeter_cli import render
from graphmeter_cli.tree import trace_tree
from graphmeter_collector.reports import RunRow, SpanRow


def printed(what: RenderableType, width: int = 200) -> list[str]:
    """The lines a plain, wide terminal shows, without trailing spaces and empty lines."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(what)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]


def cells(line: str) -> list[str]:
    """A table line, cut where the gaps are."""
    return re.split(r"\s{2,}", line.strip())


def tree(*spans: SpanRow, run: RunRow = RUN) -> list[str]:
    return printed(trace_tree(run, spans))[1:]


def test_a_run_is_one_line_of_its_facts() -> None:
    heading, _, line = printed(render.run_table([RUN]))

    assert cells(heading)[:5] == ["started (UTC)", "run", "graph", "team", "status"]
    assert [
        "2026-11-21 04:03:50",
        RUN.run_id,
        "support",
        "cx",
        "ok",
        "1.23 s",
        "3",
        "2",
        "1,234",
        "0.0123",
    ] == [cell.removeprefix("$") for cell in cells(line)]


def test_a_run_with_unpriced_calls_says_that_it_cost_more() -> None:
    line = printed(render.run_table([replace(RUN, unpriced_calls=1)]))[-1]

    assert "$0.0123+?" in line


def test_a_node_is_one_line_with_latency_retries_and_spend() -> None:
    line = printed(render.node_table([NODE]))[-1]

    assert cells(line) == [
        "support",
        "classify",
        "10",
        "1",
        "2",
        "45.2 ms",
        "1.23 s",
        "2m 05s",
        "10",
        "12,000",
        "345",
        "$1.50",
    ]


def test_the_service_is_shown_only_where_there_are_several() -> None:
    other = replace(NODE, service="shop", environment="dev")

    assert "shop" not in "".join(printed(render.node_table([NODE])))
    assert [cells(line)[0] for line in printed(render.node_table([NODE, other]))[2:]] == ["shop (dev)", "shop (prod)"]


def test_unattributed_spend_is_a_line_of_its_own_before_the_total() -> None:
    rows = [spend(7_000_000_000, team=""), spend(3_000_000_000, calls=2, team="cx")]
    lines = [cells(line) for line in printed(render.cost_table(rows, ["team"]))]

    assert lines[2] == ["cx", "2", "0", "120", "37", "$3.00", "30.0 %"]
    assert lines[3] == ["unattributed", "1", "0", "120", "37", "$7.00", "70.0 %"]
    assert lines[-1] == ["total", "3", "0", "240", "74", "$10.00"]


def test_no_spend_has_no_shares() -> None:
    lines = [cells(line) for line in printed(render.cost_table([spend(0, model="llama")], ["model"]))]

    assert lines[2] == ["llama", "1", "0", "120", "37", "$0.00", "-"]


def test_what_the_sums_leave_out_is_said() -> None:
    assert render.cost_notes([spend(1, team="cx")]) == []

    unpriced, missing = render.cost_notes([spend(1, unpriced=2, team="cx"), spend(1, missing=1, team="")])

    assert unpriced.startswith("2 calls could not be priced")
    assert missing.startswith("1 call reported no token usage")


def test_what_was_for_nothing_is_said_by_reason() -> None:
    rows = [
        replace(spend(10**9, team="cx"), wasted_nano={"retry": 250_000_000}),
        replace(spend(10**9, team="ops"), wasted_nano={"error": 500_000_000, "retry": 250_000_000}),
    ]
    [note] = render.cost_notes(rows)
    lines = [cells(line) for line in printed(render.cost_table(rows, ["team"]))]

    assert note.startswith("$1.00 was for nothing (error $0.500, retry $0.500):")
    assert [["50.0 %", "$0.25"], ["50.0 %", "$0.75"]] == [line[-2:] for line in lines[2:4]]
    assert "$1.00" == lines[-1][-1]


def test_a_trace_is_a_tree_with_durations_tokens_and_cost() -> None:
    lines = tree(
        span(1),
        span(2, 1, kind=names.NODE, name="invoke_node classify", node="classify", duration_ns=45_200_000),
        span(
            3,
            2,
            kind=names.MODEL,
            name="chat gpt-4o",
            input_tokens=1000,
            output_tokens=200,
            cost_nano=4_500_000,
            ttft_ns=12_000_000,
        ),
        span(4, 1, kind=names.TOOL, name="execute_tool search", duration_ns=2_000_000),
    )

    assert lines == [
        "└── ✓ invoke_workflow support  1.23 s  1,200 tokens  $0.00450",
        "    ├── ✓ invoke_node classify  45.2 ms  1,200 tokens  $0.00450",
        "    │   └── ✓ chat gpt-4o  1.23 s  first token 12 ms  1,200 tokens  $0.00450",
        "    └── ✓ execute_tool search  2 ms",
    ]


def test_a_failed_attempt_and_its_retry_are_told_apart() -> None:
    failed = span(2, 1, name="invoke_node search", status=names.ERROR, error_type="TimeoutError", attempt_final=False)
    failed = replace(failed, status_message="no answer in 5 s")
    lines = tree(span(1), failed, span(3, 1, name="invoke_node search", attempt=2))

    assert "✗ invoke_node search  1.23 s  attempt 1, retried  TimeoutError: no answer in 5 s" in lines[1]
    assert lines[2].endswith("✓ invoke_node search  1.23 s  attempt 2")


def test_an_interrupted_span_says_so() -> None:
    assert "‖ invoke_workflow support  1.23 s  interrupted" in tree(span(1, status=names.INTERRUPTED))[0]


def test_a_cached_answer_and_an_unpriced_call_are_marked() -> None:
    cached = span(2, 1, kind=names.MODEL, name="chat gpt-4o", cache_hit=True, cost_nano=0)
    unpriced = span(3, 1, kind=names.MODEL, name="chat mystery", input_tokens=5, cost_nano=None)
    lines = tree(span(1), cached, unpriced)

    assert lines[1].endswith("$0.00  from cache")
    assert lines[2].endswith("5 tokens  unpriced")


def test_a_span_whose_parent_was_never_stored_hangs_from_the_top() -> None:
    assert tree(span(1, 99, name="POST /chat"), span(2)) == [
        "├── ✓ POST /chat  1.23 s",
        "└── ✓ invoke_workflow support  1.23 s",
    ]


def test_spans_that_are_their_own_ancestors_are_shown_once() -> None:
    lines = tree(span(1), span(2, 3, name="snake"), span(3, 2, name="tail"), span(4, 4, name="own parent"))

    assert len(lines) == 4
    assert {"snake", "tail", "own parent"} == {
        name for line in lines for name in ("snake", "tail", "own parent") if name in line
    }


def test_a_very_deep_trace_is_shown_whole() -> None:
    spans = [
        span(number, number - 1, kind=names.MODEL, cost_nano=1) for number in range(1, sys.getrecursionlimit() + 50)
    ]

    assert len(spans) == len(printed(trace_tree(RUN, spans), width=5_000)) - 1


def test_names_from_other_programs_cannot_paint_the_terminal() -> None:
    hostile = span(1, name="[red]chat[/red] \x1b[2J\x07")

    assert "[red]chat[/red] \\x1b[2J\\x07" in tree(hostile)[0]


def test_terminals_without_unicode_get_plain_marks() -> None:
    lines = printed(trace_tree(RUN, [span(1, status=names.ERROR)], ascii_only=True))

    assert "x invoke_workflow support" in lines[1]


def test_json_is_the_dataclasses_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json({"run": RUN, "spans": [span(1)]})

    expected = json.loads(json.dumps({"run": asdict(RUN), "spans": [asdict(span(1))]}))
    assert expected == json.loads(capsys.readouterr().out)
