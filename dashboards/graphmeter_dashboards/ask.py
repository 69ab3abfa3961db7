"""What dashboards show, without a Grafana: their questions in, asked of a real Prometheus and a real database, answers out.

For tests, and for whoever wants to know whether a dashboard will be empty before anybody opens it.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from graphmeter_dashboards.check import PanelQuery, TimeRange, annotation_queries, panel_queries, variable_queries
from graphmeter_dashboards.datasources import POSTGRES_TYPE, PROMETHEUS_TYPE
from graphmeter_dashboards.finalize import Json

PANEL: Final = "panel"
ANNOTATION: Final = "annotation"
VARIABLE: Final = "variable"

_MOST_STEPS: Final = 200
_LONGEST: Final = 80

Row = Mapping[str, Any]
Sql = Callable[[str], Sequence[Row]]
"""Runs a query on the database. Raises `Refused` if that does not understand it."""


class Refused(Exception):
    """A question that was not answered, and why."""


class Answer(NamedTuple):
    """What became of one question of a dashboard."""

    kind: str
    """`panel`, `annotation` or `variable`."""
    name: str
    """Of the panel, annotation or variable."""
    ref: str
    """Which of its questions: `A` and so on; of a variable the label."""
    source: str
    """Plugin type of the data source."""
    found: int
    """Series with a number, rows, or choices."""
    first: str
    """The first of them, for people."""
    fault: str = ""
    """Why there is no answer; empty where there is one, if of nothing."""
    asked: bool = True
    """False where nobody was there to be asked."""


class Prometheus:
    """A server by its URL. Methods raise `Refused`."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s

    def at(self, expr: str, at_s: float) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every series of an instant query."""
        data = self._get("query", query=expr, time=str(at_s))
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def over(self, expr: str, time_range: TimeRange) -> list[tuple[dict[str, str], float]]:
        """Labels and last number of every series that has one within the range."""
        step_s = max((time_range.end_s - time_range.start_s) / _MOST_STEPS, 1.0)
        window = {"start": str(time_range.start_s), "end": str(time_range.end_s), "step": f"{step_s:g}"}
        found = []
        for line in self._get("query_range", query=expr, **window)["result"]:
            numbers = [float(value) for _, value in line["values"]]
            finite = [number for number in numbers if math.isfinite(number)]
            if finite:
                found.append((line["metric"], finite[-1]))
        return found

    def choices(self, label: str, series: str, time_range: TimeRange) -> list[str]:
        """Values of a label among series."""
        window = {"start": str(time_range.start_s), "end": str(time_range.end_s)}
        values: list[str] = self._get(f"label/{label}/values", **{"match[]": series}, **window)
        return values

    def _get(self, path: str, **parameters: str) -> Any:
        # Some expressions are longer than some proxies take in a URL, but only queries may be posted.
        encoded = urllib.parse.urlencode(parameters)
        posted = path.startswith("query")
        url = f"{self.url}/api/v1/{path}" + ("" if posted else f"?{encoded}")
        request = urllib.request.Request(url, data=encoded.encode() if posted else None)  # noqa: S310 - the user's own
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Refused(_said(error)) from error
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise Refused(f"{self.url}: {error}") from error


def _said(error: urllib.error.HTTPError) -> str:
    body = error.read().decode("utf-8", "replace")
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: {body[:_LONGEST]}"


def ask(
    dashboard: str | Json, prometheus: Prometheus | None, sql: Sql | None, time_range: TimeRange | None = None
) -> Iterator[Answer]:
    """Ask everything that a dashboard asks: its panels from top to bottom, annotations, variables.

    Args:
        dashboard: JSON text, or what it parses to.
        prometheus: None: its questions are not asked.
        sql: None likewise.
        time_range: Default: the last hour.
    """
    over = time_range or TimeRange.last()
    for kind, queries in ((PANEL, panel_queries), (ANNOTATION, annotation_queries)):
        for query in queries(dashboard, over):
            yield _answered(kind, query, prometheus, sql, over)
    for variable in variable_queries(dashboard):
        base = Answer(VARIABLE, variable.name, variable.label, PROMETHEUS_TYPE, 0, "", asked=prometheus is not None)
        try:
            values = prometheus.choices(variable.label, variable.series, over) if prometheus else []
        except Refused as refused:
            yield base._replace(fault=str(refused))
        else:
            yield base._replace(found=len(values), first=", ".join(values)[:_LONGEST])


def _answered(kind: str, query: PanelQuery, prometheus: Prometheus | None, sql: Sql | None, over: TimeRange) -> Answer:
    asked = (sql if query.datasource == POSTGRES_TYPE else prometheus) is not None
    base = Answer(kind, query.panel, query.ref, query.datasource, 0, "", asked=asked)
    if not asked:
        return base
    try:
        if query.datasource == POSTGRES_TYPE and sql is not None:
            rows = sql(query.sql)
            return base._replace(found=len(rows), first=_shown(rows[0]) if rows else "")
        if prometheus is None:  # pragma: no cover - asked says so
            return base
        found = prometheus.at(query.expr, over.end_s) if query.instant else prometheus.over(query.expr, over)
    except Refused as refused:
        return base._replace(fault=str(refused))
    numbers = [(labels, value) for labels, value in found if math.isfinite(value)]
    return base._replace(found=len(numbers), first=_series(*numbers[0]) if numbers else "")


def _series(labels: Mapping[str, str], value: float) -> str:
    told = {name: said for name, said in labels.items() if name != "__name__" and said}
    return f"{value:.6g}" + (f"  {_shown(told)}" if told else "")


def _shown(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items() if value not in (None, ""))[:_LONGEST]
