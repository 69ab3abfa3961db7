"""Prices of one's own: what a file says, which of several wins, and every fault told with its place and remedy."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_config import Config, ConfigError, Problem, load
from graphmeter_config.dated import moment_ns
from graphmeter_config.matching import Names, Pattern, meet, patterns
from graphmeter_config.prices import Override, Prices, Rates

GPT = """\
prices:
  overrides:
    - name: gpt
      model: gpt-4o
      rates: {input: 2, output: 8}
"""
EUR = """\
  currencies:
    - currency: EUR
      rates:
        - {from: 2026-01-01, usd_per_unit: "1.08"}
"""


class Bad(NamedTuple):
    """A file and its one fault."""

    id: str
    text: str
    line: int
    field: str
    value: str
    message: str
    remedy: str


def gpt(more: str) -> str:
    return f"{GPT}      {more}\n"


def second(more: str) -> str:
    return f"{GPT}    - {{name: two, {more}}}\n"


OVER, TWO = "prices.overrides[0]", "prices.overrides[1]"
RATES = "rates: {input: 1, output: 1}"
TABLE = [
    Bad("overlap", second(f"model: gpt-4o, {RATES}"), 6, f"{TWO}.model", "'gpt-4o'", "overlaps with 'gpt'", "narrower"),
    Bad("overlap of patterns", GPT.replace("gpt-4o", '"gpt-4*"') + f'    - {{name: two, model: "gpt*-o", {RATES}}}\n',
        6, f"{TWO}.model", "'gpt*-o'", "overlaps with 'gpt'", "end one"),
    Bad("no output", GPT.replace(", output: 8", ""), 5, f"{OVER}.rates", "{", "without an output", "add `output:`"),
    Bad("no input", GPT.replace("input: 2, ", ""), 5, f"{OVER}.rates", "{'output': 8}", "without an input", "add `input:`"),
    Bad("negative", GPT.replace("8}", "-8}"), 5, f"{OVER}.rates.output", "-8", "negative", "write what a million"),
    Bad("absurd", GPT.replace("8}", "200001}"), 5, f"{OVER}.rates.output", "200001", "more than 100000", "not a billion"),
    Bad("text", GPT.replace("8}", "lots}"), 5, f"{OVER}.rates.output", "'lots'", "not a number", "2.50"),
    Bad("bucket", GPT.replace("output: 8", "outputs: 8"), 5, f"{OVER}.rates.outputs", "", "unknown key", "`output`?"),
    Bad("negative fee", second("tool: t, per_call: -1"), 6, f"{TWO}.per_call", "-1", "negative", "0.008"),
    Bad("unknown currency", gpt("currency: EUR"), 6, f"{OVER}.currency", "'EUR'", "no rate of EUR is known", "currencies"),
    Bad("no currency", gpt("currency: euro"), 6, f"{OVER}.currency", "'euro'", "not a currency", "letters: EUR"),
    Bad("currency too late", gpt("currency: EUR\n      valid_from: 2025-12-31") + EUR, 6, f"{OVER}.currency", "'EUR'",
        "no rate of EUR before 2026-01-01", "earlier rate"),
    Bad("worth nothing", GPT + EUR.replace("1.08", "0"), 9, "prices.currencies[0].rates[0].usd_per_unit", "'0'",
        "worth nothing", "1.08"),
    Bad("worth less", GPT + EUR.replace("1.08", "-1"), 9, "prices.currencies[0].rates[0].usd_per_unit", "'-1'",
        "negative", "1.08"),
    Bad("no worth", GPT + "  currencies:\n    - {currency: EUR, rates: []}\n", 7, "prices.currencies[0].rates", "[]",
        "empty", "at least one"),
    Bad("unknown zone", gpt("timezone: Europe/Atlantis"), 6, f"{OVER}.timezone", "'Europe/Atlantis'", "unknown time", "UTC"),
    Bad("no date", gpt("valid_from: soon"), 6, f"{OVER}.valid_from", "'soon'", "not a date", "2026-01-01"),
    Bad("backwards", gpt("valid_from: 2026-02-01\n      valid_to: 2026-02-01"), 7, f"{OVER}.valid_to", "'2026-02-01'",
        "not after valid_from", "later valid_to"),
    Bad("nothing", GPT.replace("rates: {input: 2, output: 8}", "currency: USD"), 3, f"{OVER}.name", "'gpt'", "says no price",
        "free: true"),
    Bad("free and not", gpt("free: true"), 5, f"{OVER}.rates", "{", "free price with an amount", "keep one"),
    Bad("of nothing", GPT.replace("model: gpt-4o", "provider: openai"), 3, OVER, "{", "a price of nothing", "`model:`"),
    Bad("of both", gpt("tool: search"), 6, f"{OVER}.tool", "'search'", "of model and of tool", "an override for each"),
    Bad("tool with rates", GPT.replace("model:", "tool:"), 5, f"{OVER}.rates", "{", "a tool has no rates", "`model:`"),
    Bad("tiers back", gpt("tiers: [{above: 9, rates: {input: 1}}, {above: 9, rates: {input: 2}}]"), 6,
        f"{OVER}.tiers[1].above", "9", "not above the tier before", "ascending"),
    Bad("tiers of none", second("model: m, per_call: 1, tiers: [{above: 9, rates: {input: 1}}]"), 6, f"{TWO}.tiers", "[",
        "there are none", "add `rates:`"),
    Bad("bare share", gpt("service_tiers: {batch: 0.5}"), 6, f"{OVER}.service_tiers.batch", "0.5", "percentage", "80%"),
    Bad("no share", gpt("service_tiers: {batch: 0%}"), 6, f"{OVER}.service_tiers.batch", "'0%'", "not above 0%", "50%"),
    Bad("all off", gpt("discount: 100%"), 6, f"{OVER}.discount", "'100%'", "below 100%", "free: true"),
    Bad("name twice", second(f"model: x, {RATES}").replace("name: two", "name: gpt"), 6, f"{TWO}.name", "'gpt'",
        "the name is taken", "the first is in graphmeter.yaml:3"),
    Bad("discounts", "prices:\n  discounts:\n    - {name: a, percent: 5}\n    - {name: b, percent: 6}\n", 4,
        "prices.discounts[1].name", "'b'", "overlaps with 'a'", "narrower"),
]  # fmt: skip


@pytest.fixture
def problems_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Problem, ...]]:
    monkeypatch.chdir(tmp_path)

    def load_it(text: str) -> tuple[Problem, ...]:
        Path("graphmeter.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(Path("graphmeter.yaml"))
        return caught.value.problems

    return load_it


@pytest.mark.parametrize("bad", TABLE, ids=[bad.id for bad in TABLE])
def test_a_fault_names_file_line_field_value_and_remedy(
    bad: Bad, problems_of: Callable[[str], tuple[Problem, ...]]
) -> None:
    (problem,) = problems_of(bad.text)
    assert ("graphmeter.yaml", bad.line, bad.field) == (problem.file, problem.line, problem.field)
    assert problem.value.startswith(bad.value)
    assert bad.message in problem.message
    assert bad.remedy in problem.remedy


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "graphmeter.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_one_price_may_follow_another(tmp_path: Path) -> None:
    text = gpt("valid_to: 2026-07-01") + f"    - {{name: two, model: gpt-4o, valid_from: 2026-07-01, {RATES}}}\n"
    first, second = loaded(tmp_path, text).prices.overrides
    assert first.until_ns == second.since_ns == 1_782_864_000_000_000_000


def test_a_date_begins_at_midnight_of_its_zone_and_an_instant_says_itself() -> None:
    def at(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000

    assert at("2026-06-30T22:00") == moment_ns("2026-07-01", "Europe/Berlin")
    assert at("2026-07-01T04:00") == moment_ns("2026-07-01T06:00", "Europe/Berlin")
    assert at("2026-07-01T05:00") == moment_ns("2026-07-01T06:00+01:00", "Europe/Berlin")


def test_what_a_price_leaves_out_is_billed_as_what_contains_it() -> None:
    override = Override(
        name="a",
        model="m",
        rates=Rates(input=2, cache_read="0.5", output=8),
        tiers=[{"above": 10, "rates": {"input": 4}}],
    )
    two, half, eight, four = Decimal(2), Decimal("0.5"), Decimal(8), Decimal(4)
    assert (two, half, two, two, two, two, eight, eight, eight, eight) == override.rates_above(None)
    assert (four, half, four, four, four, four, eight, eight, eight, eight) == override.rates_above(10)


def test_without_prices_there_is_no_hash_and_with_them_it_is_of_their_meaning() -> None:
    one = Override(name="a", model="m", per_call="0.10")
    assert "" == Prices().hash
    assert Prices(overrides=[one]).hash == Prices(overrides=[Override(name="a", model=["m"], per_call="0.1")]).hash
    assert Prices(overrides=[one]).hash != Prices(overrides=[Override(name="a", model="m", per_call="0.2")]).hash


def test_rank_goes_by_deployment_then_model_then_region_then_provider() -> None:
    ascending = [
        Pattern(),
        Pattern(provider="open*"),
        Pattern(provider="openai"),
        Pattern(region="eu-*", provider="openai"),
        Pattern(model="gpt-*"),
        Pattern(model="gpt-4*"),
        Pattern(model="gpt-4*", region="eu-*"),
        Pattern(model="gpt-4o"),
        Pattern(model="gpt-4o", provider="azure"),
        Pattern(deployment="prod-*"),
    ]
    assert ascending == sorted(sorted(ascending, key=repr), key=lambda pattern: pattern.rank)


def test_a_provider_is_known_by_any_of_its_names() -> None:
    (pattern,) = patterns(provider=["azure_openai"])
    assert "" == pattern.mismatch(Names(provider=("azure", "azure-ai-openai")))
    assert "provider" == pattern.mismatch(Names(provider=("openai",)))


texts = st.text("ab", max_size=6)
globs = st.text("ab*?", max_size=5)


@given(one=globs, other=globs, text=texts)
def test_two_patterns_that_match_one_text_are_known_to_meet(one: str, other: str, text: str) -> None:
    if fnmatch.fnmatchcase(text, one) and fnmatch.fnmatchcase(text, other):
        assert meet(one, other)


@given(one=globs, other=globs)
def test_patterns_that_meet_have_a_text_in_common(one: str, other: str) -> None:
    def common(a: str, b: str, depth: int = 14) -> bool:
        if not a and not b:
            return True
        if depth == 0:
            return False
        if a[:1] == "*" and (common(a[1:], b, depth - 1) or (b != "" and b[0] != "*" and common(a, b[1:], depth - 1))):
            return True
        if b[:1] == "*" and (common(a, b[1:], depth - 1) or (a != "" and a[0] != "*" and common(a[1:], b, depth - 1))):
            return True
        if not a or not b or "*" in (a[0], b[0]):
            return False
        return ("?" in (a[0], b[0]) or a[0] == b[0]) and common(a[1:], b[1:], depth - 1)

    assert common(one, other) == meet(one, other)
