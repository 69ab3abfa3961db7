"""finalize(): panels fill the 24 columns line by line, everything has a number, nothing is hidden."""

from __future__ import annotations

from typing import Any

from graphmeter_dashboards.finalize import finalize, panels_of


def _panel(w: int, h: int, kind: str = "stat", **more: Any) -> dict[str, Any]:
    return {"type": kind, "gridPos": {"x": 0, "y": 0, "w": w, "h": h}, **more}


def _row(**more: Any) -> dict[str, Any]:
    return _panel(24, 1, "row", **more)


def _finalized(*panels: dict[str, Any]) -> dict[str, Any]:
    return finalize({"panels": list(panels), "annotations": {"list": []}})


def _places(dashboard: dict[str, Any]) -> list[tuple[int, int]]:
    return [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels_of(dashboard)]


def test_panels_fill_a_line_and_then_the_next() -> None:
    dashboard = _finalized(_panel(12, 4), _panel(12, 6), _panel(8, 4))
    assert _places(dashboard) == [(0, 0), (12, 0), (0, 6)]


def test_a_panel_that_does_not_fit_starts_a_line() -> None:
    dashboard = _finalized(_panel(18, 4), _panel(12, 4))
    assert _places(dashboard) == [(0, 0), (0, 4)]


def test_a_row_starts_a_line_below_everything_above() -> None:
    dashboard = _finalized(_panel(6, 4), _row(), _panel(6, 4), _row())
    assert _places(dashboard) == [(0, 0), (0, 4), (0, 5), (0, 9)]


def test_panels_of_a_collapsed_row_have_places_and_take_no_room() -> None:
    row = _row(panels=[_panel(12, 4), _panel(12, 4)])
    dashboard = _finalized(row, _panel(6, 4))
    assert _places(dashboard) == [(0, 0), (0, 1), (12, 1), (0, 1)]


def test_panels_and_queries_are_numbered() -> None:
    dashboard = _finalized(_panel(6, 4, targets=[{}, {}]), _row(panels=[_panel(6, 4)]), _panel(6, 4))
    assert [panel["id"] for panel in panels_of(dashboard)] == [1, 2, 3, 4]
    assert [target["refId"] for target in dashboard["panels"][0]["targets"]] == ["A", "B"]


def test_links_and_annotations_are_not_hidden_in_the_controls_menu() -> None:
    hidden = {"placement": "inControlsMenu"}
    dashboard = finalize(
        {
            "panels": [_panel(6, 4, links=[dict(hidden)])],
            "links": [dict(hidden)],
            "annotations": {"list": [dict(hidden)]},
        }
    )
    assert [{}] == dashboard["links"] == dashboard["annotations"]["list"] == dashboard["panels"][0]["links"]
