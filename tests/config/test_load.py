"""graphmeter.yaml and graphmeter.d/: what is read, what is merged, what the environment gives, what is never shown."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from graphmeter_config import Config, ConfigError, load

SLO = "{name: %s, objective: 95%%}"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """Path of a graphmeter.yaml that each test writes."""
    return tmp_path / "graphmeter.yaml"


def _part(main: Path, name: str, text: str) -> None:
    folder = main.with_suffix(".d")
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_no_file_means_the_defaults() -> None:
    assert Config.default() == load(None)


@pytest.mark.parametrize("text", ["", "# nothing\n", "version: 1\n", "runs:\n  lost_after: 30m\n"])
def test_what_a_file_leaves_out_has_the_default(main: Path, text: str) -> None:
    main.write_text(text, encoding="utf-8")
    assert Config.default() == load(main)


def test_an_empty_list_replaces_the_default_list(main: Path) -> None:
    main.write_text("slos: []\nbudgets: []\n", encoding="utf-8")
    assert ((), ()) == (load(main).slos, load(main).budgets)


@pytest.mark.parametrize("written", ["99.95", "99.95%", "'99.95'", "'99.950 %'"])
def test_percents_are_exact_however_they_are_written(main: Path, written: str) -> None:
    main.write_text(f"slos: [{{name: a, objective: {written}}}]", encoding="utf-8")
    (slo,) = load(main).slos
    assert Decimal("99.95") == slo.objective


@pytest.mark.parametrize("written", ["0.1", "'0.1'", "$0.1", "0.100"])
def test_money_is_exact_however_it_is_written(main: Path, written: str) -> None:
    main.write_text(f"budgets: [{{name: a, limit_usd: {written}}}]", encoding="utf-8")
    (budget,) = load(main).budgets
    assert (Decimal("0.1"), 100_000_000) == (budget.limit_usd, budget.limit_nano)


def test_lists_of_further_files_are_appended_in_order_of_their_names(main: Path) -> None:
    main.write_text(f"slos: [{SLO % 'main'}]", encoding="utf-8")
    _part(main, "20-b.yaml", f"slos: [{SLO % 'b1'}, {SLO % 'b2'}]")
    _part(main, "10-a.yml", f"version: 1\nslos: [{SLO % 'a'}]\nruns: {{lost_after: 1h}}")
    _part(main, "README.txt", "not: [yaml")
    config = load(main)
    assert ["main", "a", "b1", "b2"] == [slo.name for slo in config.slos]
    assert 3600 == config.runs.lost_after_s


def test_a_fault_of_a_further_file_names_that_file_and_its_line(main: Path) -> None:
    main.write_text(f"slos: [{SLO % 'main'}]", encoding="utf-8")
    _part(main, "team.yaml", "slos:\n  - name: ok\n    objective: 99\n  - name: worse\n    objective: 100\n")
    with pytest.raises(ConfigError) as caught:
        load(main)
    (problem,) = caught.value.problems
    assert (str(main.with_suffix(".d") / "team.yaml"), 5) == (problem.file, problem.line)


def test_faults_of_all_files_are_told_at_once(main: Path) -> None:
    main.write_text("slos: [", encoding="utf-8")
    _part(main, "a.yaml", "- x")
    _part(main, "b.yaml", "x: {a: 1, a: 2}")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert ["graphmeter.yaml", "a.yaml", "b.yaml"] == [Path(problem.file).name for problem in caught.value.problems]


def test_one_name_in_two_files_is_an_error_that_names_both(main: Path) -> None:
    main.write_text(f"slos:\n  - {SLO % 'same'}\n", encoding="utf-8")
    _part(main, "a.yaml", f"slos:\n\n  - {SLO % 'same'}\n")
    with pytest.raises(ConfigError) as caught:
        load(main)
    (problem,) = caught.value.problems
    assert ("a.yaml", 3) == (Path(problem.file).name, problem.line)
    assert f"choose another; the first is in {main}:2" == problem.remedy


def test_a_setting_made_in_two_files_is_an_error(main: Path) -> None:
    main.write_text("runs:\n  lost_after: 10m\n", encoding="utf-8")
    _part(main, "a.yaml", "runs:\n  lost_after: 10m\n")
    with pytest.raises(ConfigError, match=rf"a.yaml:2: runs.lost_after: set twice .keep one; the first is in {main}:2"):
        load(main)


def test_anchors_and_merge_keys_work(main: Path) -> None:
    main.write_text(
        "slos:\n  - &base {name: a, objective: 99%, window: 7d}\n  - {<<: *base, name: b}\n", encoding="utf-8"
    )
    assert [("a", 604800.0), ("b", 604800.0)] == [(slo.name, slo.window_s) for slo in load(main).slos]


FORWARD = """\
forward:
  destinations:
    - name: jaeger
      endpoint: https://user:hunter2@${HOST}:4318/?key=hunter2
      headers: {Authorization: "Bearer ${TOKEN}", X-Key: hunter2}
"""


@pytest.fixture
def forwarding(main: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration with secrets in the file and in the environment."""
    monkeypatch.setenv("HOST", "traces.example")
    monkeypatch.setenv("TOKEN", "hunter2")
    main.write_text(FORWARD, encoding="utf-8")
    return load(main)


def test_endpoint_and_headers_read_the_environment(forwarding: Config) -> None:
    (destination,) = forwarding.forward.destinations
    assert "https://user:hunter2@traces.example:4318/?key=hunter2" == destination.endpoint
    assert {"Authorization": "Bearer hunter2", "X-Key": "hunter2"} == destination.headers


def test_a_header_may_be_read_from_a_file(main: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hush\n")
    main.write_text(
        "forward:\n  destinations:\n    - name: tempo\n      endpoint: https://tempo\n"
        f"      headers: {{Authorization: 'Bearer ${{file:{secret}}}'}}\n"
    )
    (destination,) = load(main).forward.destinations
    assert "Bearer hush" == destination.headers["Authorization"]
    assert "hush" not in repr(destination)


def test_secrets_are_shown_nowhere(forwarding: Config) -> None:
    shown = [repr(forwarding), str(forwarding), json.dumps(forwarding.shown()), repr(forwarding.forward.destinations)]
    assert not [text for text in shown if "hunter2" in text]
    expected = {"Authorization": "Bearer ${TOKEN}", "X-Key": "***"}
    assert expected == forwarding.shown()["forward"]["destinations"][0]["headers"]


def test_the_hash_does_not_depend_on_secrets(main: Path, forwarding: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "another")
    assert forwarding.hash == load(main).hash


def test_a_variable_that_is_not_set_is_named_and_its_header_is_not_shown(main: Path) -> None:
    main.write_text(FORWARD.replace("${HOST}", "h").replace("TOKEN", "NO_SUCH_VARIABLE"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert "no variable NO_SUCH_VARIABLE (export NO_SUCH_VARIABLE" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_endpoint_is_shown_without_its_secrets(main: Path) -> None:
    main.write_text(FORWARD.replace("https://", "ftp://").replace("${", "$"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert "ftp://***@$HOST}:4318/?***" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("slos: [{name: a, objective: 99}]", "slos: [{objective: '99.00%', name: a, window: 720h}]", True),
        ("slos: [{name: a, objective: 99}]", "slos: [{name: a, objective: 98}]", False),
        ("budgets: [{name: a, limit_usd: 1}]", "budgets: [{name: a, limit_usd: 1.0, thresholds: [100%, 80%]}]", True),
        ("budgets: [{name: a, limit_usd: 1}]", "budgets: [{name: a, limit_usd: 1, per_team: true}]", False),
    ],
)
def test_the_hash_is_that_of_the_meaning(tmp_path: Path, one: str, other: str, same: bool) -> None:
    hashes = []
    for name, text in (("one.yaml", one), ("other.yaml", other)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        hashes.append(load(tmp_path / name).hash)
    assert same == (hashes[0] == hashes[1])


def test_what_is_shown_can_be_loaded_again(main: Path) -> None:
    main.write_text(yaml.safe_dump(Config.default().shown()), encoding="utf-8")
    assert Config.default() == load(main)
