"""Faults of a dashboard that no schema catches: dashboard JSON in, findings out; a good dashboard has none.

The rules of grafana/dashboard-linter under their own names, less those in `EXCLUDED`, and a few of ours (`grid`, `ids`,
`variables`, `placement`, `target-datasource`) for what the SDK gets wrong. The linter itself is a Go program; this runs in
the tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Final, NamedTuple

from graphmeter_dashboards import check, datasources
from graphmeter_dashboards.finalize import COLUMNS, Json, panels_of
from graphmeter_dashboards.sdk import units

EXCLUDED: Final = {
    "template-job-rule": "Our metrics carry our prefix; under which job collectors are scraped is the user's choice.",
    "template-instance-rule": "Collectors share the load of all graphs; a page per collector would show random parts.",
    "target-job-rule": "See template-job-rule.",
    "target-instance-rule": "See template-instance-rule.",
    "target-logql-rule": "No panel reads Loki.",
    "target-logql-auto-rule": "No panel reads Loki.",
}
"""Rules of dashboard-linter that we do not follow, and why."""

Parse = Callable[[str], object]
"""A PromQL parser that raises ValueError on a fault, such as `promql_parser.parse`."""

_NEED_TARGETS: Final = {"stat", "timeseries", "table", "bargauge", "gauge", "heatmap", "state-timeline", "nodeGraph"}
_UNITS: Final = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
_COUNTER: Final = re.compile(r"\b\w+_total\b(?:\{[^}]*\})?(\[)?")
_RATE: Final = re.compile(r"\bi?rate\([^\[]*\[([^\]]+)\]")
_DEFAULT_WINDOWS: Final = ("$__rate_interval", "$__range")


class Finding(NamedTuple):
    """What is wrong, and where."""

    rule: str
    where: str
    what: str


def lint(dashboard: Json, parse: Parse | None = None) -> list[Finding]:
    """Every fault found. Without `parse` PromQL is not parsed: the parser is no dependency of this package."""
    return [finding for rule in _RULES for finding in rule(dashboard)] + list(_promql(dashboard, parse))


def _panels(dashboard: Json) -> Iterator[Json]:
    return (panel for panel in panels_of(dashboard) if panel["type"] not in ("row", "text"))


def _dashboard_is_fixed(dashboard: Json) -> Iterator[Finding]:
    if dashboard.get("editable", True):
        yield Finding(
            "uneditable-dashboard-rule", "dashboard", "an edit in Grafana would be lost at the next provisioning"
        )
    if not str(dashboard.get("uid") or "").startswith("graphmeter-"):
        yield Finding("uid", "dashboard", "links need a uid that stays, starting with graphmeter-")


def _sources(dashboard: Json) -> Iterator[Finding]:
    found = {v["name"]: v for v in dashboard["templating"]["list"] if v["type"] == "datasource"}
    if not any(variable["query"] == datasources.PROMETHEUS_TYPE for variable in found.values()):
        yield Finding("template-datasource-rule", "variables", "no Prometheus data source variable")
    for name, variable in found.items():
        # For Postgres the rule would ask for `grafana-postgresql-datasource_datasource`; we use the database's name.
        plugin = name.removesuffix("_datasource")
        if not name.endswith("_datasource") or plugin not in variable["query"]:
            yield Finding("template-datasource-rule", name, "name is not <type>_datasource")
        elif variable["label"] != f"{plugin.capitalize()} data source":
            yield Finding("template-datasource-rule", name, f"label is {variable['label']!r}")


def _variables_reload(dashboard: Json) -> Iterator[Finding]:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable.get("refresh") != 2:
            yield Finding("template-on-time-change-reload-rule", variable["name"], "refresh is not 2")


def _panels_are_said(dashboard: Json) -> Iterator[Finding]:
    variables = {f"${{{v['name']}}}" for v in dashboard["templating"]["list"] if v["type"] == "datasource"}
    for panel in _panels(dashboard):
        title = panel.get("title") or ""
        if not title or not panel.get("description"):
            yield Finding("panel-title-description-rule", title, "needs a title and a description")
        if panel["type"] in _NEED_TARGETS and not panel.get("targets"):
            yield Finding("panel-no-targets-rule", title, "asks nothing")
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in _UNITS:
            yield Finding("panel-units-rule", title, f"unit {unit!r} is not one of Grafana's")
        if (panel.get("datasource") or {}).get("uid") not in variables:
            yield Finding("panel-datasource-rule", title, "data source is not a variable")
        for target in panel.get("targets") or []:
            if target.get("datasource") != panel.get("datasource"):
                yield Finding("target-datasource", title, f"query {target.get('refId')} asks another data source")


def _rates(dashboard: Json) -> Iterator[Finding]:
    for panel in _panels(dashboard):
        for target in panel.get("targets") or []:
            expr = target.get("expr") or ""
            for window in _RATE.findall(expr):
                if window not in _DEFAULT_WINDOWS:
                    yield Finding("target-rate-interval-rule", panel["title"], f"rate over {window}")
            for found in _COUNTER.finditer(expr):
                if found[1] is None:
                    yield Finding("target-counter-agg-rule", panel["title"], f"{found[0]} without rate or increase")


def _names_are_known(dashboard: Json) -> Iterator[Finding]:
    ask = (check.panel_queries, check.annotation_queries, check.variable_queries)
    for queries in ask:
        try:
            queries(dashboard)
        except check.UnknownVariable as unknown:
            yield Finding("variables", queries.__name__, str(unknown))


def _numbers_are_unique(dashboard: Json) -> Iterator[Finding]:
    ids = Counter(panel.get("id") for panel in panels_of(dashboard))
    for number, times in ids.items():
        if times > 1 or not number:
            yield Finding("ids", "dashboard", f"panel id {number} occurs {times} times")
    for panel in _panels(dashboard):
        refs = Counter(target.get("refId") for target in panel.get("targets") or [])
        for ref, times in refs.items():
            if times > 1 or not ref:
                yield Finding("ids", panel["title"], f"refId {ref} occurs {times} times")


def _grid(dashboard: Json) -> Iterator[Finding]:
    places = [(panel.get("title") or "", panel["gridPos"]) for panel in dashboard["panels"]]
    for title, place in places:
        if place["x"] < 0 or place["w"] < 1 or place["h"] < 1 or place["x"] + place["w"] > COLUMNS:
            yield Finding("grid", title, f"x={place['x']} w={place['w']} leaves the {COLUMNS} columns")
    for (title, one), (other_title, other) in combinations(places, 2):
        if (
            one["x"] < other["x"] + other["w"]
            and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"]
            and other["y"] < one["y"] + one["h"]
        ):
            yield Finding("grid", title, f"lies upon {other_title!r}")


def _nothing_is_hidden(dashboard: Json) -> Iterator[Finding]:
    shown = [*(dashboard.get("links") or []), *dashboard["annotations"]["list"]]
    shown += [link for panel in panels_of(dashboard) for link in panel.get("links") or []]
    for item in shown:
        if "placement" in item:
            yield Finding("placement", item.get("title") or item.get("name") or "", "hidden in the controls menu")


def _promql(dashboard: Json, parse: Parse | None) -> Iterator[Finding]:
    if parse is None:
        return
    try:
        asked = [("target-promql-rule", q.panel, q.expr) for q in check.panel_queries(dashboard) if q.expr]
        asked += [("target-promql-rule", q.panel, q.expr) for q in check.annotation_queries(dashboard)]
        asked += [("template-label-promql-rule", v.name, v.series) for v in check.variable_queries(dashboard)]
    except check.UnknownVariable:
        return  # a finding of `_names_are_known` already
    for rule, where, expr in asked:
        try:
            parse(expr)
        except ValueError as fault:
            yield Finding(rule, where, f"{fault}: {expr}")


_RULES: Final[tuple[Callable[[Json], Iterator[Finding]], ...]] = (
    _dashboard_is_fixed,
    _sources,
    _variables_reload,
    _panels_are_said,
    _rates,
    _names_are_known,
    _numbers_are_unique,
    _grid,
    _nothing_is_hidden,
)
