"""Error budgets as exact fractions, and what a selector selects."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_config import Config, Selector, Slo, slo_status
from graphmeter_config.exhaustion import exhausted_in_s
from graphmeter_config.indicators import KINDS, Indicator, Of
from graphmeter_config.slo import EventSelector
from graphmeter_config.values import duration_text


def slo(objective: str = "99", **fields: Any) -> Slo:
    return Slo(name="a", objective=Decimal(objective), **fields)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("99", Fraction(1, 100)), ("99.9", Fraction(1, 1000)), ("99.95", Fraction(1, 2000)), ("50", Fraction(1, 2))],
)
def test_the_error_budget_is_exact(objective: str, expected: Fraction) -> None:
    assert expected == slo(objective).error_budget


@pytest.mark.parametrize(
    ("good", "bad", "achieved", "remaining", "burn_rate", "met"),
    [
        (0, 0, None, None, None, True),
        (100, 0, Fraction(1), Fraction(1), Fraction(0), True),
        (199, 1, Fraction(199, 200), Fraction(1, 2), Fraction(1, 2), True),
        (99, 1, Fraction(99, 100), Fraction(0), Fraction(1), True),
        (98, 2, Fraction(98, 100), Fraction(-1), Fraction(2), False),
        (0, 5, Fraction(0), Fraction(-99), Fraction(100), False),
    ],
)
def test_status(
    good: int, bad: int, achieved: Fraction | None, remaining: Fraction | None, burn_rate: Fraction | None, met: bool
) -> None:
    status = slo_status(slo(), good, bad)
    assert (achieved, remaining) == (status.achieved, status.budget_remaining)
    assert (burn_rate, met) == (status.burn_rate, status.met)
    assert slo().status(good, bad) == status


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative: good=-1, bad=0"):
        slo().status(-1, 0)


counts = st.integers(min_value=0, max_value=10**9)


@given(counts, counts, counts)
def test_another_bad_event_never_adds_budget(good: int, bad: int, more: int) -> None:
    before, after = slo().status(good, bad).budget_remaining, slo().status(good, bad + more).budget_remaining
    assert before is None or after is None or after <= before


@given(counts, counts)
def test_the_objective_is_met_exactly_when_budget_is_left(good: int, bad: int) -> None:
    status = slo("99.9").status(good, bad)
    assert status.met == (bad * 1000 <= good + bad)


@pytest.mark.parametrize(
    ("glob", "value", "expected"),
    [
        ("*", "", True),
        ("*", "anything at all\n", True),
        ("support", "support", True),
        ("support", "support-eu", False),
        ("support*", "support-eu", True),
        ("*-eu", "support-eu", True),
        ("v?", "v1", True),
        ("v?", "v10", False),
        ("a.c", "abc", False),
        ("a[b]c", "a[b]c", True),
        ("a|b", "b", False),
        (["a", "b*"], "bc", True),
        (["a", "b*"], "c", False),
        ("Support", "support", False),
        ("support", "", False),
    ],
)
def test_globs(glob: str | list[str], value: str, expected: bool) -> None:
    selector = Selector.model_validate({"graph": glob})
    assert expected == selector.matches({"graph": value})


def test_every_field_of_a_selector_has_to_match() -> None:
    selector = Selector(graph=("support",), team=("cx", "sales"))
    assert {"graph": ("support",), "team": ("cx", "sales")} == selector.restricting()
    assert [True, False, False] == [
        selector.matches({"graph": "support", "team": "sales", "service": "s"}),
        selector.matches({"graph": "support", "team": "ops"}),
        selector.matches({"graph": "support"}),
    ]


def of_kind(key: tuple[Indicator, Of], **fields: Any) -> Slo:
    indicator, of = key
    threshold = {"threshold_usd": Decimal("0.5")} if indicator == "cost" else {"threshold_s": 1.0}
    return slo(indicator=indicator, of=of, **(threshold if KINDS[key].bounds else {}), **fields)


@pytest.mark.parametrize("key", KINDS)
def test_a_kind_asks_only_for_what_is_measured(key: tuple[Indicator, Of]) -> None:
    kind = KINDS[key]
    assert (kind.bad is None, kind.bad is None) == (bool(kind.bounds), not kind.events.label)
    for part in (kind.events, kind.bad):
        if part is not None:
            # Beside its dimensions, a metric is divided by nothing but what says how an event turned out.
            assert {part.label} - {""} == set(part.metric.labels) - set(kind.selectable)
    assert set(kind.selectable) <= set(EventSelector.model_fields)
    assert set(kind.per) < set(kind.dimensions) <= set(kind.selectable)
    assert kind is of_kind(key).kind


@pytest.mark.parametrize("key", KINDS)
def test_every_bound_of_a_kind_can_be_written_as_its_remedy_says(key: tuple[Indicator, Of]) -> None:
    indicator, of = key
    field = "threshold_usd" if indicator == "cost" else "threshold"
    about = {"name": "a", "objective": "99", "indicator": indicator, "of": of}
    for bound in KINDS[key].bounds:
        text = duration_text(bound) if field == "threshold" else str(Decimal(repr(bound)))
        loaded = Slo.model_validate({**about, field: text}, context={"file": True})
        assert (bound, loaded.threshold_text) == (
            loaded.bound,
            text.removesuffix(".0") + " USD" * (indicator == "cost"),
        )


def test_the_documented_bounds_are_those_that_are_accepted() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "slos.md").read_text(encoding="utf-8")
    table = page.split("| of | bounds |\n|---|---|\n")[1].split("\n\n")[0]
    keys = [key for key in KINDS if KINDS[key].bounds]
    texts = [
        [
            str(Decimal(repr(bound))).removesuffix(".0") if indicator == "cost" else duration_text(bound)
            for bound in KINDS[indicator, of].bounds
        ]
        for indicator, of in keys
    ]
    assert texts == [row.split("|")[2].split() for row in table.splitlines()]


def test_what_is_judged_by_itself_is_usual_for_the_kind_unless_it_is_said() -> None:
    assert (("graph",), ("graph", "node")) == (slo().per, slo(of="nodes").per)
    assert () == slo(of="nodes", per=()).per
    # One meaning, one order: the hash of a configuration is that of its meaning.
    assert slo(of="models", per=("team", "model", "provider")) == slo(of="models", per=("provider", "model", "team"))


def test_a_loaded_value_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        slo().name = "b"  # type: ignore[misc]


def test_code_may_use_the_names_with_units() -> None:
    assert slo(window="7d") == slo(window_s=7 * 86_400)


MONTHLY = Slo.model_validate({"name": "m", "objective": "99", "window": "calendar_month"})


@pytest.mark.parametrize(
    ("now", "start", "end", "factor"),
    [
        ("2026-02-28T23:59:59", "2026-02-01", "2026-03-01", "13.44"),
        ("2028-02-29T12:00:00", "2028-02-01", "2028-03-01", "13.92"),
        ("2026-11-01T00:00:00", "2026-11-01", "2026-12-01", "14.4"),
        ("2026-12-31T23:59:59", "2026-12-01", "2027-01-01", "14.88"),
    ],
)
def test_a_calendar_month_begins_with_the_first_and_has_factors_of_its_length(
    now: str, start: str, end: str, factor: str
) -> None:
    at_ns = ns(now)
    assert (ns(start), ns(end)) == MONTHLY.period_at(at_ns)
    assert Fraction(factor) == MONTHLY.plan_at(at_ns).tiers[0].factor


def test_a_calendar_month_is_no_window_of_31_days() -> None:
    rolling = Slo.model_validate({"name": "m", "objective": "99", "window": "31d"})
    assert (True, False, "calendar month", "31d") == (
        MONTHLY.calendar,
        rolling.calendar,
        MONTHLY.window_text,
        rolling.window_text,
    )
    assert MONTHLY != rolling
    assert copy.deepcopy(MONTHLY) == MONTHLY
    assert Slo.model_validate(MONTHLY.model_dump(mode="json", by_alias=True)) == MONTHLY
    assert Config(slos=(MONTHLY,)).hash != Config(slos=(rolling,)).hash


@pytest.mark.parametrize(
    ("left", "burn", "elapsed_s", "expected"),
    [
        ("1/2", "5", None, 1000),  # half of 10,000 s at five times the speed
        ("1/2", "1", None, None),
        ("0", "5", None, 0),
        ("-1", "5", None, 0),
        ("1/2", "2", 4000, 2000),  # what was spent so far weighs as much as what comes
        ("1/2", "2", 7000, None),  # the month is over first
    ],
)
def test_when_a_budget_will_be_spent(left: str, burn: str, elapsed_s: int | None, expected: int | None) -> None:
    assert expected == exhausted_in_s(Fraction(left), Fraction(burn), 10_000, elapsed_s=elapsed_s)


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
