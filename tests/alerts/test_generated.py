"""alerts/generated/: what is committed is what the code builds, byte for byte; and how files are written."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from graphmeter_alerts import build, write
from graphmeter_config import Budget, Config, Slo
from graphmeter_config.alerting import Alerting


def test_committed_files_are_what_the_code_builds(files: dict[str, str], committed: Path) -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in committed.iterdir()}
    assert files == found, "run `make rules` and commit what it changes"


def test_two_builds_give_the_same_bytes(config: Config, files: dict[str, str]) -> None:
    assert files == build(config)
    assert list(files) == list(build(config))


def test_every_file_says_what_made_it_from_which_configuration(config: Config, files: dict[str, str]) -> None:
    expected = f"# Made by `graphmeter rules build` from configuration {config.hash}:"
    assert [] == [name for name, text in files.items() if not text.startswith(expected)]


def test_each_rule_file_has_its_unit_tests_beside_it(files: dict[str, str]) -> None:
    rules = {name.removesuffix(".rules.yml") for name in files if name.endswith(".rules.yml")}
    tests = {name.removesuffix(".test.yml") for name in files if name.endswith(".test.yml")}
    burning, unusual = {"budgets", "budget-burn"}, {"anomalies", "anomaly-traffic"}
    expected = {"slo-runs-availability", "spend", "thresholds", "health"} | burning | unusual
    assert expected == rules == tests


def test_write_makes_the_folder_and_says_what_it_wrote(config: Config, files: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    written = write(config, out)
    assert [out / name for name in files] == written
    assert files == {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


def test_write_removes_what_an_earlier_configuration_left_and_nothing_else(config: Config, built: Path) -> None:
    (built / "mine.rules.yml").write_text("groups: []\n", encoding="utf-8")
    (built / "notes.txt").write_text("keep", encoding="utf-8")
    without = config.model_copy(update={"budgets": ()})
    write(without, built)
    left = {path.name for path in built.iterdir()}
    assert {"mine.rules.yml", "notes.txt", *build(without)} == left


def test_a_write_that_fails_leaves_everything_as_it_was(
    config: Config, files: dict[str, str], built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_text

    def full_disk(path: Path, text: str, encoding: str) -> int:
        if "alertmanager" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, text, encoding=encoding)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(config.model_copy(update={"slos": ()}), built)
    assert files == {path.name: path.read_text(encoding="utf-8") for path in built.iterdir()}


def test_without_slos_and_budgets_the_measuring_itself_is_watched() -> None:
    files = build(Config(slos=(), budgets=(), thresholds=None, anomalies=None, alerting=Alerting(unattributed=None)))
    assert ["health.rules.yml", "health.test.yml", "alertmanager.yml"] == list(files)


def test_what_is_unusual_about_an_slo_is_said_in_its_file() -> None:
    slo = Slo(name="lenient", objective=Decimal(90), window_s=86_400)
    head = build(Config(slos=(slo,)))["slo-lenient.rules.yml"].split("groups:")[0]
    assert "ticket-slow is left out: its window of 3d is more than half of the period of 1d" in head


def test_names_cannot_lead_out_of_the_folder() -> None:
    for name in ("../a", "a/b", "", "."):
        with pytest.raises(ValueError, match="not a name"):
            Slo(name=name, objective=Decimal(99))
        with pytest.raises(ValueError, match="not a name"):
            Budget(name=name, limit_usd=Decimal(1))
