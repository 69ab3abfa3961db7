"""`graphmeter prices reprice` and `simulate` on real databases: what they show, store and refuse."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli.running import failure, json_of, run
from cli.test_reports import fill
from collector.store.dump import dump
from graphmeter_collector.records import Cost, TokenUsage
from support.records import call

UNPRICED = Cost(0, (0,) * 10, "unpriced")
USAGE = TokenUsage(input=1_000_000, output=100_000)
OWN = "prices:\n  overrides: [{name: ours, model: mystery, rates: {input: 3, output: 12}}]\n"
MONTH = ("--month", "2026-11")


@pytest.fixture
def filled(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two calls of a model that nobody knew, one that nobody knows, and one as the catalogue has it."""
    monkeypatch.chdir(tmp_path)
    mystery = [call(number, model="mystery", request_model="", usage=USAGE, cost=UNPRICED) for number in (1, 2)]
    listed = Cost(3_500_000_000, (2_500_000_000, *[0] * 5, 1_000_000_000, 0, 0, 0), "priced")
    others = [
        call(3, model="riddle", request_model="", usage=USAGE, cost=UNPRICED),
        call(4, usage=USAGE, cost=listed),
    ]
    fill(database_url, [*mystery, *others])
    (tmp_path / "graphmeter.yaml").write_text(OWN)
    return database_url


def test_what_would_change_is_shown_then_done_then_nothing_is_left_to_do(filled: str) -> None:
    at = ("prices", "reprice", *MONTH, "--database-url", filled)
    before = asyncio.run(dump(filled))
    tried = run(*at, "--dry-run")
    assert 0 == tried.exit_code, tried.output
    assert "2 of 4 calls would cost something else, by graphmeter.yaml " in tried.stdout
    assert "nothing is stored (--dry-run)" in tried.stdout
    assert "1 call of openai/riddle: no price is known; what they cost stays as it is." in tried.stdout
    assert before == asyncio.run(dump(filled))

    done = json_of(*at, "--reason", "it was missing")
    [mystery] = [row for row in done["models"] if row["model"] == "mystery"]
    assert (2, 2, 0, 8_400_000_000) == tuple(
        mystery[name] for name in ("calls", "repriced", "before_nano", "after_nano")
    )
    assert "All calls cost what they did" in run(*at).stdout
    cost = ("cost", *MONTH, "--database-url", filled)
    assert [11_900_000_000] == [row["cost_nano"] for row in json_of(*cost)]
    assert "Effective prices; as billed it was $3.50 (--view billed)." in run(*cost).stdout
    assert "As billed." in run(*cost, "--view", "billed").stdout
    [billed] = json_of(*cost, "--view", "billed")
    assert (3_500_000_000, "billed", 3) == (billed["cost_nano"], billed["view"], billed["unpriced_calls"])
    focus = run(*cost, "--format", "focus").stdout.splitlines()
    assert {"x_View", "effective"} == {line.rpartition(",")[2] for line in focus}


def test_only_what_had_no_price_is_priced_again(filled: str) -> None:
    at = ("prices", "reprice", *MONTH, "--database-url", filled, "--only-unpriced")
    assert 3 == sum(row["calls"] for row in json_of(*at)["models"])
    assert ["riddle"] == [row["model"] for row in json_of(*at)["models"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say since when: --since 2026-11-01, --since 30d, or --month last"),
        (("--since", "2026-11-20", "--until", "2026-11-01"), "--until 2026-11-01 is not after --since 2026-11-20"),
        ((*MONTH, "--only-unpriced", "--price-status", "priced"), "contradict each other"),
        ((*MONTH, "--url", "http://localhost:1"), "leave --url (GRAPHMETER_URL) out, or give --database-url"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in failure(2, "prices", "reprice", *arguments)


def test_nothing_that_matches_is_said_with_what_there_is(filled: str) -> None:
    at = ("prices", "reprice", "--database-url", filled)
    said = failure(1, *at, *MONTH, "--model", "mysterie")
    assert said.startswith("no call of that time is what was asked for: widen the selection; called were then: gpt-4o")
    assert "choose another --since or --until" in failure(1, *at, "--month", "2026-10")


def test_prices_of_ones_own_are_not_forgotten_by_mistake(filled: str, tmp_path: Path) -> None:
    at = ("prices", "reprice", *MONTH, "--database-url", filled)
    own = call(9, usage=USAGE, cost=Cost(7, (7, *[0] * 9), "priced", 0, "graphmeter.yaml ab12", "deal"))
    fill(filled, [own])
    (tmp_path / "graphmeter.yaml").unlink()
    assert "calls of gpt-4o were billed by graphmeter.yaml ab12" in failure(1, *at)
    assert 1 == sum(row["repriced"] for row in json_of(*at, "--defaults")["models"])


def test_what_another_model_would_have_cost_is_shown(filled: str) -> None:
    at = ("prices", "simulate", *MONTH, "--database-url", filled)
    before = asyncio.run(dump(filled))
    found = json_of(*at, "--replace", "gpt-4o=gpt-4o-mini", "--replace", "myst*=gpt-4o-mini", "--node", "answer")
    [row] = found["rows"]
    assert ({"model": "gpt-4o"}, "gpt-4o-mini", 1, 3_500_000_000, 210_000_000) == tuple(
        row[name] for name in ("group", "replacement", "calls", "before_nano", "after_nano")
    )
    [left] = found["left_out"]
    assert ("mystery", 2, "what it cost is not known (unpriced)") == (left["model"], left["calls"], left["why"])
    shown = run(*at, "--replace", "gpt-4o=gpt-4o-mini", "--replace", "mystery=gpt-4o-mini", "--by", "team,node").stdout
    assert "$0.21" in shown
    assert "-94.0 %" in shown
    assert "Not in these sums: 2 calls of mystery by gpt-4o-mini: what it cost is not known (unpriced)." in shown
    lines = run(*at, "--replace", "gpt-4o=gpt-4o-mini", "--format", "csv").stdout.splitlines()
    assert "model,replacement,calls,before_usd,after_usd,change_usd,change_ratio" == lines[0]
    assert "gpt-4o,gpt-4o-mini,1,3.500000000,0.210000000,-3.290000000,-0.94" == lines[1]
    assert before == asyncio.run(dump(filled))


@pytest.mark.parametrize(
    ("code", "arguments", "sentence"),
    [
        (2, (), "Missing option '--replace'"),
        (2, ("--replace", "gpt-4o"), "'gpt-4o' replaces nothing: write gpt-4o=gpt-4o-mini"),
        (1, ("--replace", "gpt-5=gpt-4o"), "no call of 'gpt-5' is in that time and selection: called were gpt-4o, "),
        (1, ("--replace", "gpt-4o=gpt-4o-minni"), "no price of 'gpt-4o-minni' is known: did you mean gpt-4o-mini"),
        (1, ("--replace", "gpt-4o=o3", "--team", "nobody"), "choose another time, or fewer conditions"),
    ],
)
def test_a_question_that_has_no_answer_is_explained(
    filled: str, code: int, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in failure(code, "prices", "simulate", *MONTH, "--database-url", filled, *arguments)
