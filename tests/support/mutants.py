"""Rules changed for the worse: the unit test that has to notice does."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

from support import promtool


class Mutant(NamedTuple):
    """A rule changed for the worse."""

    id: str
    file: str
    old: str
    new: str
    case: str
    """Part of the name of the unit test that has to notice."""


def assert_noticed(mutant: Mutant, built: Path) -> None:
    """The changed rules, written into the folder, are still rules to promtool, and the unit test fails for them."""
    rules, tests = built / f"{mutant.file}.rules.yml", built / f"{mutant.file}.test.yml"
    text = rules.read_text(encoding="utf-8")
    assert mutant.old in text
    rules.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    loaded = yaml.safe_load(tests.read_text(encoding="utf-8"))
    loaded["tests"] = [case for case in loaded["tests"] if mutant.case in case["name"]]
    assert 1 == len(loaded["tests"])
    tests.write_text(yaml.safe_dump(loaded), encoding="utf-8")
    accepted, tested = promtool.check_rules(rules), promtool.test_rules(tests)
    assert accepted.ok, accepted.output
    assert not tested.ok
    assert "FAILED" in tested.output
