"""Every alert of budgets, their speed, providers' limits and thresholds, changed by rote: `make prove-mutants`.

The suite does so where it takes seconds; the speed of budgets takes days of samples.
"""

from __future__ import annotations

from pathlib import Path

from alerts import test_speed, test_thresholds
from graphmeter_alerts import write
from graphmeter_config import Config
from support.every_alert import EVERY_ALERT
from support.mutants import unnoticed_by_rote


def test_no_alert_of_the_speed_of_budgets_can_be_changed_unnoticed(tmp_path: Path) -> None:
    write(test_speed.CONFIG, tmp_path / "rules")
    assert [] == unnoticed_by_rote(test_speed.STEMS, tmp_path / "rules", tmp_path / "mutants")


def test_no_limit_of_anybody_can_be_changed_unnoticed(tmp_path: Path) -> None:
    write(test_thresholds.config_of(**test_thresholds.OVERRIDDEN), tmp_path / "rules")
    assert [] == unnoticed_by_rote((test_thresholds.FILE,), tmp_path / "rules", tmp_path / "mutants")


def test_no_alert_of_the_defaults_can_be_changed_unnoticed(tmp_path: Path) -> None:
    stems = ("budgets", "budget-burn", "spend", "thresholds", "health")
    for number, config in enumerate((Config.default(), EVERY_ALERT)):
        write(config, tmp_path / f"rules{number}")
        assert [] == unnoticed_by_rote(stems, tmp_path / f"rules{number}", tmp_path / f"mutants{number}")
