"""What deploying other rules changes, in words."""

from __future__ import annotations

from decimal import Decimal

from graphmeter_alerts import rulefiles
from graphmeter_alerts.diff import diff
from graphmeter_config import Config, Slo

RULES = """\
groups:
  - name: own
    rules:
      - record: own:x
        expr: rate(x[5m]) > 0.1
      - alert: A
        expr: own:x > 5
        for: 2m
        labels: {severity: page, slo: s}
        annotations: {summary: a}
      - alert: A
        expr: own:x > 6
        labels: {severity: page, slo: t}
"""


def said(old: str, new: str) -> list[str]:
    return [str(change) for change in diff(rulefiles.read(old, "a").rules, rulefiles.read(new, "b").rules)]


def test_rules_that_only_stand_elsewhere_are_the_same() -> None:
    assert [] == said(
        RULES, "# made again\n" + RULES.replace("name: own", "name: other").replace("x > 5", "x   >\n          5")
    )


def test_each_change_is_said() -> None:
    for old, new, expected in (
        ("> 5", "> 7", "changed alert A (slo=s): 5 becomes 7"),
        ("for: 2m", "for: 5m", "changed alert A (slo=s): waits 5m instead of 2m"),
        ("        for: 2m\n", "", "changed alert A (slo=s): waits no time instead of 2m"),
        ("page, slo: s", "ticket, slo: s", "changed alert A (slo=s): severity is ticket instead of page"),
        ("page, slo: s", "page, slo: s, owner: x", "changed alert A (slo=s): owner is x instead of none"),
        ("summary: a", "summary: b", "changed alert A (slo=s): says something else in summary"),
        ("rate(x[5m]) > 0.1", "rate(x[1h]) > 0.1", "changed record own:x: 5m becomes 1h"),
        (
            "rate(x[5m]) > 0.1",
            "sum(y)",
            "changed record own:x: its expression was `rate(x[5m]) > 0.1` and is `sum(y)`",
        ),
    ):
        assert [expected] == said(RULES, RULES.replace(old, new))


def test_what_is_another_slo_is_added_and_removed() -> None:
    expected = ["added alert A (slo=u): page, after 2m", "removed alert A (slo=s)"]
    assert expected == said(RULES, RULES.replace("slo: s", "slo: u"))


def test_a_stricter_objective_changes_thresholds(config: Config) -> None:
    stricter = config.model_copy(update={"slos": (Slo(name="runs-availability", objective=Decimal("99.5")),)})
    changes = diff(rulefiles.of_config(config), rulefiles.of_config(stricter))
    words = {change.about: change.words[0] for change in changes if change.name == "GraphmeterErrorBudgetBurnFast"}
    assert {
        "burn=page-fast, slo=runs-availability": "0.144 becomes 0.072",
        "burn=page-slow, slo=runs-availability": "0.06 becomes 0.03",
    } == words
