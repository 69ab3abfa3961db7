"""SLOs over calendar months: generated unit tests pass, also over the ends of months, and find a rule that is wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from graphmeter_alerts import build, slo_month
from graphmeter_alerts.slo_rules import burn_plan
from graphmeter_config import Config, Slo
from support import promtool

MONTHLY: Final = Config(
    slos=(
        Slo.model_validate({"name": "monthly", "objective": "99", "window": "calendar_month"}),
        # So lenient that page-fast could never fire in months of 31 days: mended, and differently in each.
        Slo.model_validate(
            {
                "name": "lenient",
                "objective": "93.1",
                "window": "calendar_month",
                "indicator": "latency",
                "of": "models",
                "threshold": "10s",
                "select": {"provider": "openai"},
            }
        ),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("months")
    for name, text in build(MONTHLY).items():
        if name.startswith("slo-"):
            (found / name).write_text(text)
    return found


def test_rules_of_months_pass_promtool_and_their_own_unit_tests(folder: Path) -> None:
    checked = promtool.check_rules(*sorted(folder.glob("*.rules.yml")))
    assert checked.ok, checked.output
    tests = sorted(folder.glob("*.test.yml"))
    assert ["slo-lenient.months", "slo-lenient", "slo-monthly.months", "slo-monthly"] == [
        file.name.removesuffix(".test.yml") for file in tests
    ]
    # What holds for any window is tested with the others; of the lenient one only what months change.
    result = promtool.test_rules(tests[0], *tests[2:])
    assert result.ok, result.output


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (slo_month.NOT_THE_FIRST, "(day_of_month() > 0)"),
        ("days_in_month() * ", "30 * "),
        ("sum_over_time(slo:events:increase5m_slice_month2", "sum_over_time(slo:events:increase5m_slice_month1"),
        ("% 3 ==", "% 2 =="),
        ("time() - 150", "time()"),
    ],
    ids=["silent on the first", "length of the month", "which name is read", "two names", "where a slice belongs"],
)
def test_a_rule_that_is_wrong_at_the_end_of_a_month_fails(folder: Path, tmp_path: Path, right: str, wrong: str) -> None:
    rules = (folder / "slo-monthly.rules.yml").read_text()
    assert right in rules
    (tmp_path / "slo-monthly.rules.yml").write_text(rules.replace(right, wrong))
    test = tmp_path / "slo-monthly.months.test.yml"
    test.write_text((folder / test.name).read_text())
    assert not promtool.test_rules(test).ok


def test_thresholds_are_those_of_the_month_whichever_length_it_has() -> None:
    monthly, lenient = MONTHLY.slos
    [fast, *_] = slo_month.thresholds(monthly)
    # 2 % of the budget in an hour: 0.48 times the days of the month, of one hundredth.
    assert ("days_in_month() * 0.0048", {"slo": "monthly", "burn": "page-fast"}) == (fast.expr, fast.labels)
    [mended, *_] = slo_month.thresholds(lenient)
    assert 4 == mended.expr.count("days_in_month() ==")
    assert Fraction("0.1488") == burn_plan(monthly).tiers[0].threshold
