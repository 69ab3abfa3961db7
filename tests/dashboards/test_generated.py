"""dashboards/generated/: what is committed is what the code builds, byte for byte, and the SDK reads it back unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from graphmeter_config import Config
from graphmeter_dashboards import build, check, write
from graphmeter_dashboards.sdk import JSONEncoder, dashboard, register_default_plugins
from support import promtool


def test_committed_files_are_what_the_code_builds(files: dict[str, str], generated: Path) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in generated.glob("*.json")}
    assert files == committed, "run `make dashboards` and commit what it changes"


def test_two_builds_give_the_same_bytes(config: Config, files: dict[str, str]) -> None:
    assert files == build(config)


def test_files_are_named_after_their_dashboards(files: dict[str, str]) -> None:
    assert {f"{json.loads(text)['uid']}.json" for text in files.values()} == set(files)


def test_write_makes_the_folder_and_says_what_it_wrote(config: Config, files: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    written = write(config, out)
    assert [out / name for name in files] == written
    assert files == {path.name: path.read_text(encoding="utf-8") for path in written}


def test_the_sdk_reads_every_dashboard_back_unchanged(files: dict[str, str]) -> None:
    register_default_plugins()
    for text in files.values():
        before = json.loads(text)
        restored = dashboard.Dashboard.from_json(json.loads(text))
        after = json.loads(JSONEncoder().encode(restored))
        for shown in (*after["links"], *after["annotations"]["list"]):
            del shown["placement"]  # what the SDK adds and we take away
        assert before == after


def test_prometheus_itself_accepts_every_expression(files: dict[str, str], tmp_path: Path) -> None:
    # As recording rules that nobody loads: promtool checks types too, where a parser checks the grammar alone.
    asked = [query.expr for text in files.values() for query in check.panel_queries(text) if query.expr]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    checked = promtool.check_rules(path)
    assert checked.ok, checked.output
    assert f"{len(rules)} rules found" in checked.output
