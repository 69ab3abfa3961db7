"""Rules changed for the worse: the unit tests that have to notice do.

Changed by hand, to say which unit test has to notice what; and by rote, every alert in every way that always matters. All of
one kind go through promtool in one call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Changed(NamedTuple):
    """A changed rule file, and the unit tests that are run on it."""

    rules: Mapping[str, Any]
    tests: Mapping[str, Any]


def unnoticed(mutants: Sequence[Mutant], built: Path, out: Path) -> list[str]:
    """Those of the mutants for which the unit test does not fail."""
    return _unnoticed({mutant.id: _by_hand(mutant, built) for mutant in mutants}, out)


def unnoticed_by_rote(stems: Sequence[str], built: Path, out: Path) -> list[str]:
    """Every alert of these files that was changed in any way that always matters, and whose unit tests pass."""
    return _unnoticed({name: changed for stem in stems for name, changed in _by_rote(stem, built)}, out)


def _unnoticed(changed: Mapping[str, Changed], out: Path) -> list[str]:
    out.mkdir()
    ids = {}
    for number, (name, (rules, tests)) in enumerate(changed.items()):
        rule_file, test_file = out / f"{number}.rules.yml", out / f"{number}.test.yml"
        rule_file.write_text(yaml.safe_dump(rules), encoding="utf-8")
        test_file.write_text(yaml.safe_dump({**tests, "rule_files": [rule_file.name]}), encoding="utf-8")
        ids[str(test_file)] = name
    accepted = promtool.check_rules(*sorted(out.glob("*.rules.yml")))
    assert accepted.ok, accepted.output
    tested = promtool.test_rules(*map(Path, ids))
    verdicts = re.findall(r"^Unit Testing:  (.*)\n  (SUCCESS|FAILED)", tested.output, flags=re.MULTILINE)
    assert list(ids) == [file for file, _ in verdicts], tested.output
    return [ids[file] for file, verdict in verdicts if verdict == "SUCCESS"]


def _by_hand(mutant: Mutant, built: Path) -> Changed:
    text, tests = _read(mutant.file, built)
    assert mutant.old in text, mutant.id
    cases = [case for case in tests["tests"] if mutant.case in case["name"]]
    assert 1 == len(cases), mutant.id
    return Changed(_needed(yaml.safe_load(text.replace(mutant.old, mutant.new)), cases[0]), {**tests, "tests": cases})


def _needed(rules: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """The alerts that a unit test looks at, and the records that they are made of: promtool evaluates all it is given."""
    looked_at = {check["alertname"] for check in case.get("alert_rule_test", ())}
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    kept = [rule for rule in every if rule.get("alert") in looked_at]
    asked = [each["expr"] for each in case.get("promql_expr_test", ())]
    return _only(rules, kept, *asked)


def _only(rules: Mapping[str, Any], kept: list[dict[str, Any]], *asked: str) -> dict[str, Any]:
    """These rules and the records that they, or what is asked besides, are made of."""
    read = " ".join([*(rule["expr"] for rule in kept), *asked])
    if "__name__" in read:
        return dict(rules)
    every = [rule for group in rules["groups"] for rule in group["rules"] if "record" in rule]
    while more := [rule for rule in every if rule not in kept and rule["record"] in read]:
        kept = kept + more
        read = " ".join(rule["expr"] for rule in more)
    groups = [{**group, "rules": [rule for rule in group["rules"] if rule in kept]} for group in rules["groups"]]
    return {"groups": [group for group in groups if group["rules"]]}


def _by_rote(stem: str, built: Path) -> Iterator[tuple[str, Changed]]:
    text, tests = _read(stem, built)
    rules = yaml.safe_load(text)
    for alert in [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]:
        of_it = {**tests, "tests": list(_cases_of(alert, tests))}
        told = " ".join(f"{name}={value}" for name, value in alert["labels"].items() if name != "product")
        needed = _only(rules, [alert])
        for how, changed in _ways(alert):
            groups = [
                {**group, "rules": [changed if rule == alert else rule for rule in group["rules"]]}
                for group in needed["groups"]
            ]
            yield f"{alert['alert']} {told}: {how}", Changed({"groups": groups}, of_it)


def _ways(alert: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    expr = alert["expr"]
    yield "never fires", {**alert, "expr": f"({expr}) and on () (vector(0) > 0)"}
    if "for" in alert:
        yield "does not wait", {key: value for key, value in alert.items() if key != "for"}
    # Below or above nothing at all changes little: counts have no halves.
    for found in re.finditer(r"([<>]=? )(\d*\.?\d*[1-9]\d*)\b", expr):
        for threshold in _thresholds(float(found[2]), expr[: found.start()]):
            changed = f"{expr[: found.start(2)]}{threshold:g}{expr[found.end() :]}"
            yield f"{found[0]} is {threshold:g}", {**alert, "expr": changed}
    for found in re.finditer(r" ([<>])(?==? )", expr):
        other = "<" if found[1] == ">" else ">"
        said = expr[: found.end()].rpartition("\n")[2][-40:]
        yield f"{other} after {said}", {**alert, "expr": f"{expr[: found.start(1)]}{other}{expr[found.end(1) :]}"}


def _thresholds(right: float, of: str) -> tuple[float, float]:
    """A higher one and a lower one, so far away that it matters."""
    if right % 1 == 0.5:
        return right + 3, right - 1  # whole events
    # A quantile is known as finely as the buckets are.
    factor = 3 if re.search(r":seconds(\{.*\})? $", of) else 1.5
    return right * factor, right / factor


def _cases_of(alert: Mapping[str, Any], tests: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Unit tests with what they check of one alert only."""
    for case in tests["tests"]:
        checks = [check for check in case.get("alert_rule_test", ()) if check["alertname"] == alert["alert"]]
        if any(_is_of(alert, check) for check in checks) or any(not check["exp_alerts"] for check in checks):
            of_it = [_only_of(alert, check) for check in checks]
            yield {key: value for key, value in case.items() if key != "promql_expr_test"} | {"alert_rule_test": of_it}


def _is_of(alert: Mapping[str, Any], check: Mapping[str, Any]) -> bool:
    return bool(_only_of(alert, check)["exp_alerts"])


def _only_of(alert: Mapping[str, Any], check: Mapping[str, Any]) -> dict[str, Any]:
    """What is expected of the one alert of several that have its name."""
    mine = [one for one in check["exp_alerts"] if alert["labels"].items() <= one["exp_labels"].items()]
    return {**check, "exp_alerts": mine}


def _read(stem: str, built: Path) -> tuple[str, dict[str, Any]]:
    text = (built / f"{stem}.rules.yml").read_text(encoding="utf-8")
    return text, yaml.safe_load((built / f"{stem}.test.yml").read_text(encoding="utf-8"))
