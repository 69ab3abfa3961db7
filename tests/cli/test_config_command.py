"""init, config check, config show, migrate: files and databases of a user's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from cli.running import failure, json_of, run
from graphmeter_collector.store.migrate import current, head
from graphmeter_config import Config, load


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_file_that_means_the_defaults(here: Path) -> None:
    assert 0 == run("init").exit_code
    assert Config.default().hash == load(here / "graphmeter.yaml").hash


def test_init_takes_a_file_or_a_folder(here: Path) -> None:
    (here / "deploy").mkdir()

    assert "wrote other.yaml" in run("init", "other.yaml").stdout
    assert f"wrote deploy{os.sep}graphmeter.yaml" in run("init", "deploy").stdout


def test_init_never_overwrites_unless_told(here: Path) -> None:
    (here / "graphmeter.yaml").write_text("version: 1\n")

    assert "graphmeter.yaml exists: --force overwrites it" == failure(1, "init")
    assert "version: 1\n" == (here / "graphmeter.yaml").read_text()
    assert 0 == run("init", "--force").exit_code
    assert Config.default().hash == load(here / "graphmeter.yaml").hash


def test_init_into_a_folder_that_is_not_there_is_said(here: Path) -> None:
    assert "cannot write nowhere/graphmeter.yaml: No such file or directory" == failure(
        1, "init", "nowhere/graphmeter.yaml"
    )


def test_check_sums_up_a_good_file(here: Path) -> None:
    run("init")

    summary = f"1 SLO, 1 budget, 0 forward destinations; hash {Config.default().hash}"

    assert f"OK graphmeter.yaml: {summary}\n" == run("config", "check").stdout
    assert {"ok": True, "problems": [], "warnings": [], "hash": Config.default().hash} == json_of("config", "check")


def test_check_names_every_fault_with_file_line_field_value_and_remedy(here: Path) -> None:
    (here / "bad.yaml").write_text("version: 1\nslos:\n  - name: quick\n    objective: 0.99\nbudgts: []\n")
    result = run("config", "check", "bad.yaml")

    assert (1, "") == (result.exit_code, result.stdout)
    assert [
        "bad.yaml:4: slos[0].objective is 0.99: looks like a ratio (write a percentage: 99%)",
        "bad.yaml:5: budgts: unknown key (did you mean `budgets`?)",
    ] == result.stderr.splitlines()


def test_what_prometheus_cannot_hold_is_a_warning(here: Path) -> None:
    (here / "graphmeter.yaml").write_text(
        "version: 1\nslos:\n  - {name: quarter, objective: 99.9, window: 90d}\n  - {name: month, objective: 99.9}\n"
        "anomalies:\n  traffic_drop: {needs_weeks: 4}\nprometheus: {retention: 20d}\n"
    )
    checked, asked = run("config", "check"), json_of("config", "check")
    short = "Prometheus keeps 20d: the budget is counted over no more than that"
    expected = [
        f"graphmeter.yaml:{line}: {field} is {value}: {fault} "
        f"(start it with --storage.tsdb.retention.time={days} and write `prometheus: {{retention: {days}}}`)"
        for line, field, value, fault, days in (
            (3, "slos[0].window", "90d", short, "91d"),
            (4, "slos[1].window", "30d", short, "31d"),
            (6, "anomalies.traffic_drop.needs_weeks", "4", "Prometheus keeps 20d: the alert can never fire", "29d"),
        )
    ]
    assert (0, [f"warning: {each}" for each in expected]) == (checked.exit_code, checked.stderr.splitlines())
    assert (True, 3) == (asked["ok"], len(asked["warnings"]))
    assert expected[0] in run("rules", "build", "--out", "rules").stderr
    assert "" == run("prices", "show", "gpt-4o").stderr


def test_check_gives_the_same_faults_as_json(here: Path) -> None:
    (here / "bad.yaml").write_text("budgts: []\n")
    result = run("config", "check", "bad.yaml", "--json")

    assert 1 == result.exit_code
    [problem] = json.loads(result.stdout)["problems"]
    assert ("bad.yaml", 1, "budgts") == (problem["file"], problem["line"], problem["field"])


def test_check_of_a_missing_file_says_how_to_write_one(here: Path) -> None:
    result = run("config", "check")

    assert 1 == result.exit_code
    assert "graphmeter init graphmeter.yaml" in result.stderr


def test_show_prints_what_is_in_force_without_secrets(here: Path) -> None:
    (here / "graphmeter.yaml").write_text(
        "forward:\n  destinations:\n    - {name: jaeger, endpoint: http://j:4318, headers: {Authorization: Bearer hush}}\n"
    )
    output = run("config", "show").stdout

    assert "hush" not in output
    assert "jaeger" == yaml.safe_load(output)["forward"]["destinations"][0]["name"]
    assert yaml.safe_load(output) == json_of("config", "show")


def test_show_without_a_file_shows_the_defaults(here: Path) -> None:
    assert json.loads(json.dumps(Config.default().shown())) == json_of("config", "show")


def test_a_faulty_file_stops_whatever_reads_it(here: Path) -> None:
    (here / "graphmeter.yaml").write_text("version: 2\n")

    for arguments in (["config", "show"], ["dashboards", "build", "--out", "out"], ["rules", "build", "--out", "out"]):
        assert failure(1, *arguments).startswith("graphmeter.yaml:1: version is 2")
    assert not (here / "out").exists()


@pytest.mark.parametrize(("command", "suffix"), [("dashboards", ".json"), ("rules", ".yml")])
def test_build_writes_files_and_names_them(here: Path, command: str, suffix: str) -> None:
    result = run(command, "build", "--out", "out")

    written = [Path(line) for line in result.stdout.splitlines()]
    assert 0 == result.exit_code
    assert any(path.suffix == suffix for path in written)
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize("command", ["dashboards", "rules"])
def test_defaults_win_over_the_file_when_asked_for(here: Path, command: str) -> None:
    run(command, "build", "--out", "expected")
    (here / "graphmeter.yaml").write_text("slos: []\nbudgets: []\n")
    run(command, "build", "--out", "out", "--defaults")

    assert {path.name: path.read_text() for path in (here / "expected").iterdir() if path.is_file()} == {
        path.name: path.read_text() for path in (here / "out").iterdir() if path.is_file()
    }


@pytest.mark.parametrize("command", ["dashboards", "rules"])
def test_a_folder_that_cannot_be_written_is_said(here: Path, command: str) -> None:
    (here / "taken").touch()

    assert "taken" in failure(1, command, "build", "--out", "taken/below")


def test_migrate_brings_the_schema_to_the_newest_revision(empty_database_url: str) -> None:
    assert f"schema at {head()}\n" == run("migrate", "--database-url", empty_database_url).stdout
    assert {"revision": head()} == json_of("migrate", "--database-url", empty_database_url)
    assert head() == current(empty_database_url)


def test_migrate_takes_the_embedded_database_of_a_folder(tmp_path: Path) -> None:
    assert 0 == run("migrate", "--data-dir", str(tmp_path / "data")).exit_code
    assert [] == json_of("runs", "--data-dir", str(tmp_path / "data"))


def test_migrate_says_when_the_database_is_away() -> None:
    assert "cannot use the database" in failure(1, "migrate", "--database-url", "postgresql://localhost:1/x")


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_a_database_that_nobody_knows_is_refused_without_repeating_its_password(command: str) -> None:
    sentence = failure(2, command, "--database-url", "mysql://me:hush@db/x")

    assert sentence.startswith("--database-url (or GRAPHMETER_DATABASE_URL): not a database URL this collector knows")
    assert "hush" not in sentence


def test_serve_names_the_flag_that_is_wrong() -> None:
    assert (
        "--forward (or GRAPHMETER_FORWARD): 'jaeger:4318' is not an OTLP/HTTP URL: write http://host:4318"
        == failure(2, "serve", "--forward", "jaeger:4318")
    )
