"""How fast budgets and providers' limits are used: rules of many of them are accepted, pass their tests, notice changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from graphmeter_alerts import build, write
from graphmeter_config import Config
from graphmeter_config.burn import spend_tiers
from support import promtool
from support.mutants import Mutant, unnoticed, unnoticed_by_rote

CONFIG = Config.model_validate(
    {
        "slos": [],
        "thresholds": None,
        "anomalies": None,
        "budgets": [
            {"name": "cx", "limit_usd": 700, "period": "week", "per": ["team", "graph"], "hard": True},
            {"name": "window", "limit_usd": 12, "rolling": 8 * 86_400},
            # Nothing tells their speed.
            {"name": "tokens", "limit_tokens": 5},
            {"name": "people", "limit_usd": 5, "per": ["user"]},
            {"name": "hourly", "limit_usd": 5, "rolling": 3600},
        ],
        "provider_limits": [
            {
                "name": "openai",
                "provider": "openai",
                "model": ["gpt-4o*", "o1"],
                "key": "prod",
                "select": {"environment": "prod"},
                "tokens_per_minute": 10_000,
                "requests_per_minute": 500,
            },
            {
                "name": "claude",
                "provider": "*",
                "per": [],
                "input_tokens_per_minute": 7,
                "output_tokens_per_minute": 3,
                "count_cache_reads": False,
                "warn_at": 1,
                "window": 600,
                "for": 120,
                "severity": "page",
            },
        ],
    }
)
BURN = "budget-burn"
OPENAI = "provider-limit-openai"
CLAUDE = "provider-limit-claude"
STEMS = (BURN, OPENAI, CLAUDE)
BY = "by (budget, team, scope)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speed")
    write(CONFIG, out)
    return out


def test_rules_are_accepted_and_pass_their_tests(built: Path) -> None:
    accepted = promtool.check_rules(*(built / f"{stem}.rules.yml" for stem in STEMS))
    assert accepted.ok, accepted.output
    tested = promtool.test_rules(*(built / f"{stem}.test.yml" for stem in STEMS))
    assert tested.ok, tested.output


LIMIT = f"{BY} (graphmeter_budget_limit"

MUTANTS = [
    Mutant("one collector's spend", BURN, f"sum {BY} (inc", f"max {BY} (inc", "cx is spent a little faster than page-f"),
    Mutant("limits added up", BURN, "max " + LIMIT, "sum " + LIMIT, "cx is spent a little faster than page-slow"),
    Mutant("spent already", BURN, f"and\n          max {BY}", f"or 0 *\n          max {BY}", "window is spent, which"),
    Mutant("a tier too early", BURN, "> 0.02 *", "> 0.012 *", "cx is spent a little more slowly than page-fast"),
    Mutant("a tier too late", BURN, "> 0.02 *", "> 0.03 *", "cx is spent a little faster than page-fast"),
    Mutant("no short window", BURN, "[5m]", "[1h]", "window is spent a little faster than page-fast"),
    Mutant("its page", BURN, "severity: page", "severity: ticket", "cx is spent a little faster than page-fast"),
    Mutant("two days are soon", BURN, "< 24", "< 48", "window lasts another 30"),
    Mutant("a period that ends", BURN, "- time()", "- 0 * time()", "cx lasts until its period ends"),
    Mutant("told at once", BURN, "for: 15m\n", "for: 6h\n", "window lasts another 30"),
    Mutant("another key", OPENAI, ',environment="prod"', "", "openai: tokens of another environment"),
    Mutant("other models", OPENAI, 'model=~', 'model!~', "openai: requests of another model"),
    Mutant("all models together", OPENAI, "by (provider, model)", "by (provider)", "openai: tokens come near"),
    Mutant("a minute is five", OPENAI, "/ 50000", "/ 10000", "openai: tokens come near"),
    Mutant("cached input", CLAUDE, '"input|cache_write', '"input|cache_read|cache_write', "claude: input_tokens come near"),
    Mutant("calls that fail", OPENAI, "llm_calls_total{", 'llm_calls_total{status="ok",', "openai: requests come near"),
]  # fmt: skip


def test_a_change_of_a_rule_fails_a_unit_test(built: Path, tmp_path: Path) -> None:
    assert [] == unnoticed(MUTANTS, built, tmp_path / "mutants")


def test_no_alert_of_a_provider_can_be_silenced_hurried_turned_or_given_another_threshold_unnoticed(
    built: Path, tmp_path: Path
) -> None:
    # Those of budgets take days of samples each: `make prove-mutants`.
    assert [] == unnoticed_by_rote((OPENAI, CLAUDE), built, tmp_path / "mutants")


def test_only_budgets_whose_speed_is_known_have_such_alerts(built: Path) -> None:
    text = (built / f"{BURN}.rules.yml").read_text(encoding="utf-8")
    watched = [name for name in ("cx", "window", "tokens", "people", "hourly") if f"budget: {name}\n" in text]
    assert ["cx", "window"] == watched


def test_neither_leaves_a_file_where_there_is_none() -> None:
    files = build(Config(slos=(), budgets=(), thresholds=None))
    assert [] == [name for name in files if name.startswith((BURN, "provider-limit"))]


def test_tiers_of_money_are_those_of_slos_without_the_slowest() -> None:
    found = {tier.name: (tier.share, tier.long_s) for tier in spend_tiers(30 * 86_400)}
    expected = {
        "page-fast": (Fraction(1, 50), 3600),
        "page-slow": (Fraction(1, 20), 6 * 3600),
        "ticket-fast": (Fraction(1, 10), 86_400),
    }
    assert expected == found
