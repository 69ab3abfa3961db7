"""Exports as providers document them beside a ledger: drift, what explains it, and what becomes of bad files."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cli.running import failure, json_of, run
from collector.store.test_spend import fill
from graphmeter_collector.records import Cost
from support.records import T0_NS, call

assert date.fromordinal(719_163 + T0_NS // (86_400 * 10**9)).isoformat() == "2026-11-18"

COST_HEADER = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,"
    "user_id,api_key_id,project_id,organization_id,project_name,organization_name,user_email,api_source\n"
)
DAY = 1_794_960_000
"""2026-11-18, in Unix seconds."""


def cost_line(amount: str, item: str, *, day: int = 0, currency: str = "usd") -> str:
    start = DAY + day * 86_400
    return f'{start},{start + 86_400},,,{amount},{currency},,,"{item}",,,,,,,,\n'


USAGE_HEADER = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "input_tokens,output_tokens,input_cached_tokens\n"
)


def usage_line(requests: str, model: str, tokens_in: int, tokens_out: int) -> str:
    return f"{DAY},{DAY + 60},,,proj,{requests},,key,{model},,{tokens_in},{tokens_out},0\n"


@pytest.fixture
def ledger(sqlite_url: str) -> str:
    fill(
        sqlite_url,
        [
            call(1, model="gpt-4o-2024-08-06", nano=1_000_000_000),
            call(2, model="gpt-4o-2024-08-06", nano=500_000_000),
            call(3, model="gpt-4o-mini", cost=Cost(0, (0,) * 10, "unpriced")),
            call(4, model="claude-sonnet-4-5-20250929", provider="anthropic", nano=2_000_000_000),
        ],
    )
    return sqlite_url


def written(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def rows_of(ledger: str, provider: str, *files: str, code: int = 0) -> list[dict[str, Any]]:
    named = [argument for file in files for argument in ("--file", file)]
    result = run("reconcile", "--provider", provider, *named, "--database-url", ledger, "--json")
    assert code == result.exit_code, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_openais_cost_export_is_compared_by_day_and_model(ledger: str, tmp_path: Path) -> None:
    text = COST_HEADER + cost_line("1.2", "gpt-4o-2024-08-06, input") + cost_line("0.3", "gpt-4o-2024-08-06, output")
    text += cost_line("", "") + cost_line("0.01", "gpt-4o-mini-2024-07-18, input")
    rows = rows_of(ledger, "openai", written(tmp_path, "cost.csv", text))

    assert [
        ("2026-11-18", "gpt-4o", 1_500_000_000, 1_500_000_000, 0, []),
        ("2026-11-18", "gpt-4o-mini", 0, 10_000_000, -10_000_000, ["1 unpriced calls of ours"]),
    ] == [
        (row["day"], row["model"], row["ours_nano"], row["theirs_nano"], row["drift_nano"], row["because"])
        for row in rows
    ]


def test_with_the_usage_export_calls_that_we_never_saw_are_told(ledger: str, tmp_path: Path) -> None:
    cost = COST_HEADER + cost_line("1.8", "gpt-4o-2024-08-06, input")
    usage = USAGE_HEADER + usage_line("3.0", "gpt-4o-2024-08-06", 300, 30) + usage_line("1", "gpt-4o-mini", 100, 10)
    files = written(tmp_path, "cost.csv", cost), written(tmp_path, "usage.csv", usage)
    gpt, mini = rows_of(ledger, "openai", *files, code=1)

    assert (2, 3, 200, 300) == (
        gpt["ours_calls"],
        gpt["theirs_calls"],
        gpt["ours_tokens_in"],
        gpt["theirs_tokens_in"],
    )
    assert ["1 calls we never saw"] == gpt["because"]
    assert (1, 1, 0) == (mini["ours_calls"], mini["theirs_calls"], mini["theirs_nano"])


def test_openais_api_answers_are_read_as_they_come(ledger: str, tmp_path: Path) -> None:
    def page(results: list[dict[str, Any]], *, more: bool = False) -> dict[str, Any]:
        bucket = {"object": "bucket", "start_time": DAY, "end_time": DAY + 86_400, "results": results}
        return {"object": "page", "data": [bucket], "has_more": more, "next_page": None}

    money = {"amount": {"value": 1.5, "currency": "usd"}, "line_item": "gpt-4o-2024-08-06, input", "project_id": None}
    file = written(tmp_path, "costs.json", json.dumps([page([money], more=True), page([])]))
    rows = rows_of(ledger, "openai", file)
    assert [("gpt-4o", 0)] == [(row["model"], row["drift_nano"]) for row in rows if row["theirs_nano"]]

    unfinished = written(tmp_path, "first.json", json.dumps(page([money], more=True)))
    said = failure(1, "reconcile", "--provider", "openai", "--file", unfinished, "--database-url", ledger)
    assert "is not all: its last page has has_more" in said


@pytest.mark.parametrize("form", ["console", "api"])
def test_anthropics_figures_are_compared_too(ledger: str, tmp_path: Path, form: str) -> None:
    if form == "console":
        text = (
            "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type\n"
            "2026-11-18,Claude Sonnet 4.5,Default,key,message,≤ 200k,input_no_cache,1.50,1.50,token\n"
            "2026-11-18,Claude Sonnet 4.5,Default,key,message,≤ 200k,output,0.5,0.5,token\n"
        )
        file = written(tmp_path, "cost.csv", text)
    else:
        result = {"currency": "USD", "amount": "200.0", "model": "claude-sonnet-4-5-20250929", "cost_type": "tokens"}
        bucket = {"starting_at": "2026-11-18T00:00:00Z", "ending_at": "2026-11-19T00:00:00Z", "results": [result]}
        file = written(tmp_path, "cost.json", json.dumps({"data": [bucket], "has_more": False}))
    [row] = rows_of(ledger, "anthropic", file)
    assert ("claude-sonnet-4-5", 2_000_000_000, 0, None) == (
        row["model"],
        row["theirs_nano"],
        row["drift_nano"],
        row["theirs_calls"],
    )


def test_a_call_that_moved_over_midnight_is_told_from_lost_money(ledger: str, tmp_path: Path) -> None:
    text = COST_HEADER + cost_line("0.5", "gpt-4o, input") + cost_line("1", "gpt-4o, input", day=1)
    rows = rows_of(ledger, "openai", written(tmp_path, "cost.csv", text))
    because = {row["day"]: row["because"] for row in rows if row["model"] == "gpt-4o"}
    assert "the other way round on 2026-11-19: a day's edge" in because["2026-11-18"]
    assert "the other way round on 2026-11-18: a day's edge" in because["2026-11-19"]


def test_a_bad_row_is_told_with_its_place_and_the_others_are_compared(ledger: str, tmp_path: Path) -> None:
    text = COST_HEADER + cost_line("1.5", "gpt-4o, input") + cost_line("lots", "gpt-4o, output")
    text += cost_line("1", "gpt-4o, input", currency="eur")
    file = written(tmp_path, "cost.csv", text)
    result = run("reconcile", "--provider", "openai", "--file", file, "--database-url", ledger, "--format", "csv")
    assert [
        f"Error: {file}:3: column amount_value is 'lots': write an amount such as 1.25",
        f"Error: {file}:4: column amount_currency is 'eur': only USD can be compared",
    ] == result.stderr.splitlines()
    assert 1 == result.exit_code
    assert "2026-11-18,gpt-4o,1.500000000,1.500000000,0.000000000" in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "is no cost or usage export of openai that is known here: it has a, b, but needs"),
        ("nothing", "has no columns"),
        ('{"data": 5}', "has no list `data`"),
        ("[1", "is not JSON"),
        (COST_HEADER, "the files name no day"),
    ],
    ids=["columns", "text", "shape", "json", "empty"],
)
def test_a_file_that_is_no_export_is_refused(ledger: str, tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, "x", text)
    assert said in failure(1, "reconcile", "--provider", "openai", "--file", file, "--database-url", ledger)
    missing = str(tmp_path / "no.csv")
    assert "cannot be read: No such file" in failure(
        1, "reconcile", "--provider", "openai", "--file", missing, "--database-url", ledger
    )


def test_the_table_has_a_total(ledger: str, tmp_path: Path) -> None:
    file = written(tmp_path, "cost.csv", COST_HEADER + cost_line("1.5", "gpt-4o, input"))
    shown = run("reconcile", "--provider", "openai", "--file", file, "--database-url", ledger).stdout
    assert "total" in shown
    assert "+0.00 %" in shown
    assert json_of("reconcile", "--provider", "openai", "--file", file, "--database-url", ledger)
