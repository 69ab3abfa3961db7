"""What tests look for on a dashboard: panels by title, colours, links."""

from __future__ import annotations

from typing import Any

from graphmeter_dashboards.finalize import panels_of

Json = dict[str, Any]


def titles(dashboard: Json) -> list[str]:
    """Of rows and panels, from top to bottom."""
    return [panel["title"] for panel in dashboard["panels"]]


def panel(dashboard: Json, title: str) -> Json:
    """The panel of that title; a row may have the same."""
    return next(each for each in panels_of(dashboard) if each.get("title") == title and each["type"] != "row")


def steps(shown: Json) -> list[tuple[float | None, str]]:
    """Colours of a panel: from which value on which."""
    return [(step["value"], step["color"]) for step in shown["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def links_of(dashboard: Json) -> list[str]:
    """URLs that panels and their columns lead to."""
    found = []
    for shown in panels_of(dashboard):
        found += [link["url"] for link in shown.get("links") or []]
        found += [url for _, url in _column_links(shown)]
    return found


def columns_with_links(shown: Json) -> list[str]:
    """Columns of a table whose cells lead somewhere."""
    return [column for column, _ in _column_links(shown)]


def _column_links(shown: Json) -> list[tuple[str, str]]:
    return [
        (override["matcher"]["options"], link["url"])
        for override in (shown.get("fieldConfig") or {}).get("overrides", [])
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    ]
