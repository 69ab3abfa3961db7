"""runs, trace, nodes and cost on real databases: what they print is what the reader says."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cli.running import failure, json_of, run
from graphmeter import names
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.reports import Reader, RunFilter
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from graphmeter_collector.store.read import open_reader
from support.records import call, priced, whole_run

NOVEMBER = (1_793_491_200_000_000_000, 1_796_083_200_000_000_000)
"""[since, until) of 2026-11 in UTC, where `support.records` puts its runs."""
FIRST_RUN = "00000000-0000-0000-0000-000000000001"

_Answer = TypeVar("_Answer")


def fill(url: str, records: Sequence[SpanRecord]) -> None:
    """Store records as a collector would."""

    async def write() -> None:
        store = await open_store(url)
        await store.write(records)
        await store.close()

    asyncio.run(write())


def read(url: str, question: Callable[[Reader], Awaitable[_Answer]]) -> _Answer:
    """Ask the database directly."""

    async def answer() -> _Answer:
        async with open_reader(url) as reader:
            return await question(reader)

    return asyncio.run(answer())


def plain(rows: Sequence[Any]) -> list[Any]:
    """Rows as JSON has them."""
    result: list[Any] = json.loads(json.dumps([asdict(row) for row in rows]))
    return result


@pytest.fixture
def filled(database_url: str) -> str:
    """A database with three runs (one failed, one of nobody's team), an unpriced call and one without usage."""
    of_nobody = [*whole_run(3, at_s=20)]
    for record in of_nobody:
        record.team = ""
    more = [
        call(21, of=2, at_s=11, model="mystery", response_id="m", cost=Cost(0, (0,) * 10, "unpriced")),
        call(22, of=2, at_s=11, response_id="n", usage_missing=True, cost=Cost(0, (0,) * 10, "usage_missing")),
        call(23, of=2, at_s=11, response_id="dear", cost=priced(2_000_000_000)),
    ]
    fill(database_url, [*whole_run(1), *whole_run(2, at_s=10, status=names.ERROR), *of_nobody, *more])
    return database_url


def test_runs_in_json_are_the_readers_rows(filled: str) -> None:
    assert plain(read(filled, lambda reader: reader.runs(RunFilter()))) == json_of("runs", "--database-url", filled)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [3, 2, 1]),
        (["--status", "error"], [2]),
        (["--team", "cx"], [2, 1]),
        (["--min-cost", "0.05"], [2]),
        (["--min-cost", "$2"], [2]),
        (["--min-duration", "2s"], [3, 2, 1]),
        (["--min-duration", "1h"], []),
        (["--since", "2026-11-18T11:06:45"], [3, 2]),
        (["--since", "2026-11-18T12:06:45+01:00"], [3, 2]),
        (["--graph", "other"], []),
        (["--limit", "1"], [3]),
    ],
    ids=str,
)
def test_runs_are_filtered(sqlite_url: str, filters: list[str], expected: list[int]) -> None:
    test_data = [*whole_run(1), *whole_run(2, at_s=10, status=names.ERROR), *whole_run(3, at_s=20)]
    for record in test_data[-len(whole_run()) :]:
        record.team = ""
    fill(sqlite_url, [*test_data, call(23, of=2, at_s=11, response_id="dear", cost=priced(2_000_000_000))])

    found = json_of("runs", "--database-url", sqlite_url, *filters)

    assert expected == [int(row["run_id"][-1]) for row in found]


def test_runs_are_listed_with_what_one_asks_for_next(filled: str) -> None:
    output = run("runs", "--database-url", filled).stdout

    assert all(f"00000000-0000-0000-0000-00000000000{number}" in output for number in (1, 2, 3))
    assert "$2.00000" in output
    assert "+?" in output
    assert "have no price" in output


def test_no_run_is_said(sqlite_url: str) -> None:
    result = run("runs", "--database-url", sqlite_url)

    assert (0, "No runs match.\n") == (result.exit_code, result.stdout)


def test_a_trace_in_json_is_the_run_and_its_spans(filled: str) -> None:
    trace = json_of("trace", FIRST_RUN, "--database-url", filled)
    row = read(filled, lambda reader: reader.run(FIRST_RUN))
    assert row is not None

    assert plain([row])[0] == trace["run"]
    assert plain(read(filled, lambda reader: reader.spans(row.trace_id))) == trace["spans"]


def test_a_trace_is_found_by_run_id_trace_id_or_the_beginning_of_one(filled: str) -> None:
    row = read(filled, lambda reader: reader.run(FIRST_RUN))
    assert row is not None

    for reference in (FIRST_RUN, FIRST_RUN.upper(), row.trace_id, row.trace_id[:12]):
        output = run("trace", reference, "--database-url", filled).stdout
        assert FIRST_RUN in output.splitlines()[0]
        assert "✗ node 3  400 ms  attempt 1, retried  TimeoutError" in output
        assert "✓ node 4  1.3 s  110 tokens  $0.00000100  attempt 2" in output


def test_an_unknown_run_is_answered_with_a_sentence(filled: str) -> None:
    assert "no run 'deadbeef': `graphmeter runs` lists them" == failure(
        1, "trace", "deadbeef", "--database-url", filled
    )


def test_an_ambiguous_prefix_is_answered_with_a_sentence(filled: str) -> None:
    assert "give more characters" in failure(1, "trace", "00000000-0000", "--database-url", filled)


def test_a_prefix_that_is_too_short_is_refused(filled: str) -> None:
    assert "give 8 characters or more" in failure(2, "trace", "0000", "--database-url", filled)


def test_nodes_in_json_are_the_readers_rows(filled: str) -> None:
    expected = read(filled, lambda reader: reader.nodes(NOVEMBER[0], NOVEMBER[1], graph="support", team="cx"))

    printed = json_of("nodes", "--database-url", filled, "--since", "2026-11-01", "--graph", "support", "--team", "cx")

    assert plain(expected) == printed
    assert {"plan", "answer"} == {row["node"] for row in printed}


def test_percentiles_that_are_not_exact_say_so(filled: str) -> None:
    assert (
        "Percentiles of more than a day are within ±4.4%."
        in run("nodes", "--database-url", filled, "--since", "2026-11-01").stdout
    )


def test_no_node_is_said(sqlite_url: str) -> None:
    assert "No node has run" in run("nodes", "--database-url", sqlite_url).stdout


@pytest.mark.parametrize("by", ["team", "graph,node", "model", "provider,model,team"])
def test_cost_in_json_is_the_readers_rows(filled: str, by: str) -> None:
    expected = read(filled, lambda reader: reader.cost(by.split(","), *NOVEMBER))

    assert plain(expected) == json_of("cost", "--database-url", filled, "--by", by, "--month", "2026-11")


def test_cost_says_what_is_unattributed_unpriced_and_unknown(filled: str) -> None:
    lines = run("cost", "--database-url", filled, "--month", "2026-11").stdout.splitlines()
    starts = [line.split()[0] for line in lines if line.strip()]

    assert ["team", "cx", "unattributed", "total"] == [
        start for start in starts if start.isalpha() and start != "calls"
    ][:4]
    assert any(line.startswith("1 call could not be priced") for line in lines)
    assert any(line.startswith("1 call reported no token usage") for line in lines)


def test_cost_in_csv_has_all_digits_and_sums_to_the_ledger(filled: str) -> None:
    arguments = ("--database-url", filled, "--month", "2026-11", "--by", "team,model,tag:plan")
    rows = list(csv.DictReader(run("cost", *arguments, "--format", "csv").stdout.splitlines()))
    [total] = read(filled, lambda reader: reader.cost([], *NOVEMBER))

    assert ["team", "model", "tag:plan", "calls"] == list(rows[0])[:4]
    assert total.cost_nano == sum(int(Decimal(row["cost_usd"]) * 10**9) for row in rows)
    assert total.tokens["input"] == sum(int(row["input_tokens"]) for row in rows)


def test_cost_in_markdown_is_a_table_for_a_ticket(filled: str) -> None:
    lines = run("cost", "--database-url", filled, "--month", "2026-11", "--format", "markdown").stdout.splitlines()

    assert lines[0].startswith("| team | calls | cache")
    assert lines[1].startswith("| --- | ---: |")


def test_filters_choose_the_spend_that_counts(filled: str) -> None:
    def spent(*filters: str) -> int:
        return sum(
            row["cost_nano"] for row in json_of("cost", "--database-url", filled, "--month", "2026-11", *filters)
        )

    assert spent() == spent("--team", "cx") + spent("--team", "")
    assert spent("--team", "cx") == spent("--where", "team=cx")
    assert 0 == spent("--team", "cx", "--graph", "nowhere")


def test_movers_say_what_is_new_against_the_month_before(filled: str) -> None:
    shown = run("cost", "movers", "--database-url", filled, "--month", "2026-11", "--by", "team").stdout
    rows = json_of("cost", "movers", "--database-url", filled, "--month", "2026-11", "--by", "team")

    assert {"new"} == {row["state"] for row in rows}
    assert "new" in shown
    assert "total" in shown


def test_what_was_for_nothing_is_shown_by_node_and_reason(filled: str) -> None:
    asked = ("--database-url", filled, "--month", "2026-11")
    rows = json_of("cost", "waste", *asked)
    shown = run("cost", "waste", *asked).stdout

    # The failed attempts of three runs, each of which was followed by another one.
    assert [({"graph": "support", "node": "answer"}, "retry", 3, 3_003)] == [
        (row["group"], row["reason"], row["calls"], row["cost_nano"]) for row in rows
    ]
    assert "retry" in shown
    lines = list(csv.DictReader(run("cost", "waste", *asked, "--format", "csv").stdout.splitlines()))
    assert [("answer", "retry", "0.000003003")] == [(row["node"], row["reason"], row["cost_usd"]) for row in lines]
    assert ["0.000003003"] == [
        row["wasted_retry_usd"]
        for row in csv.DictReader(run("cost", *asked, "--by", "graph", "--format", "csv").stdout.splitlines())
    ]
    said = run("cost", *asked).stdout
    assert "was for nothing (retry $" in " ".join(said.split())
    assert "wasted USD" in said


def test_what_providers_say_is_shown_with_the_drift_and_in_the_trace(filled: str) -> None:
    fill(filled, [call(31, at_s=12, nano=40_000_000, reported_nano=50_000_000, provider="openrouter", response_id="r")])
    asked = ("--database-url", filled, "--month", "2026-11")
    [row] = json_of("cost", "reported", *asked)
    shown = " ".join(run("cost", "reported", *asked).stdout.split())

    assert ({"provider": "openrouter", "model": "gpt-4o"}, 1, -10_000_000) == (
        row["group"], row["calls"], row["drift_nano"]
    )  # fmt: skip
    assert "openrouter gpt-4o 1 $0.0400 $0.0500 -$0.0100 -20.00 %" in shown
    assert "by the provider" in run("trace", "00000000-0000-0000-0000-000000000001", *asked[:2]).stdout
    assert "no provider said" in run("cost", "reported", "--month", "2025-01", *asked[:2]).stdout


def test_the_dearest_runs_come_first_with_what_is_known_of_them(filled: str) -> None:
    rows = json_of("cost", "runs", "--database-url", filled, "--month", "2026-11", "--top", "2")
    shown = run("cost", "runs", "--database-url", filled, "--month", "2026-11").stdout

    assert sorted((row["cost"]["cost_nano"] for row in rows), reverse=True) == [
        row["cost"]["cost_nano"] for row in rows
    ]
    assert rows[0]["run"]["run_id"] == rows[0]["cost"]["group"]["run_id"]
    assert rows[0]["run"]["run_id"] in shown
    assert "support" in run("cost", "runs", "--database-url", filled, "--month", "2026-11", "--format", "csv").stdout


@pytest.mark.parametrize("unit", ["run", "thread", "user", "outcome"])
def test_what_one_of_something_costs_is_shown(filled: str, unit: str) -> None:
    arguments = ("cost", "per", unit, "--database-url", filled, "--month", "2026-11", "--by", "graph")

    assert 0 == run(*arguments).exit_code
    assert isinstance(json_of(*arguments), list)


def test_another_month_has_no_spend(filled: str) -> None:
    assert [] == json_of("cost", "--database-url", filled, "--month", "2026-10")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runs", "--min-duration", "2"], "'2' is not a duration: write 500ms, 2s, 15m, 24h or 30d"),
        (["runs", "--since", "yesterday"], "'yesterday' is neither a duration nor a date"),
        (["runs", "--min-cost", "free"], "'free' is not an amount in USD: write 0.05"),
        (["runs", "--min-cost", "nan"], "'nan' is not an amount in USD: write 0.05"),
        (["runs", "--min-cost", "-1"], "'-1' is not an amount in USD: write 0.05"),
        (["runs", "--limit", "0"], "0 is not in the range"),
        (["runs", "--status", "fine"], "'fine' is not one of"),
        (["cost", "--month", "2026-13"], "'2026-13' is not a month: write 2026-11"),
        (["cost", "--month", "9999-12"], "'9999-12' is not a month: write 2026-11"),
        (["cost", "--by", "colour"], "cannot group spend by 'colour': choose from service"),
        (["cost", "--month", "2261-01"], "the month 2261-01 has not begun in UTC: write 20"),
        (["cost", "--week", "2026-47"], "'2026-47' is not a week: write 2026-W47"),
        (["cost", "--day", "today"], "'today' is not a day: write 2026-11-20, `this` or `last`"),
        (["cost", "--timezone", "Mars/X"], "'Mars/X' is an unknown time zone: write a name such as UTC"),
        (
            ["cost", "--since", "2026-11-20", "--until", "2026-11-01"],
            "--until 2026-11-01 is not after --since 2026-11-20",
        ),
        (["cost", "--where", "plan"], "'plan' is no condition: write --where tag:plan=pro"),
        (["cost", "--team", "cx", "runs"], "options go behind the command: graphmeter cost runs"),
        (["cost", "runs", "--by", "team"], "runs are not grouped"),
        (["cost", "--since", "1d", "--month", "2026-11"], "contradict each other"),
        (["runs", "--url", "http://localhost:1", "--database-url", "sqlite:///x"], "give one of them"),
        (["runs", "--database-url", "secret"], "--database-url is not a URL"),
    ],
    ids=str,
)
def test_bad_input_is_answered_with_one_sentence(arguments: list[str], expected: str) -> None:
    assert expected in failure(2, *arguments)


def test_a_missing_database_is_said_and_not_created(tmp_path: Path) -> None:
    sentence = failure(1, "runs", "--data-dir", str(tmp_path))

    assert sentence.startswith(f"no database at {tmp_path / 'graphmeter.db'}: run `graphmeter serve`")
    assert [] == list(tmp_path.iterdir())


def test_a_database_without_tables_is_said(tmp_path: Path) -> None:
    (tmp_path / "graphmeter.db").touch()

    assert "no such table" in failure(1, "runs", "--data-dir", str(tmp_path))


def test_a_collector_that_is_away_is_said() -> None:
    assert "no collector answers at http://127.0.0.1:1" in failure(1, "runs", "--url", "http://127.0.0.1:1")


def test_an_address_without_scheme_is_said() -> None:
    assert "write http://host:4318" in failure(1, "runs", "--url", "collector:4318")


def test_what_is_typed_beats_the_environment(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMETER_URL", "http://127.0.0.1:1")

    assert [] == json_of("runs", "--database-url", sqlite_url)


def test_the_environment_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(f"sqlite:///{tmp_path / 'graphmeter.db'}")
    monkeypatch.setenv("GRAPHMETER_DATA_DIR", str(tmp_path))

    assert [] == json_of("runs")
