"""Make what the SDK built into what Grafana should store: dashboard JSON in, the same with places, ids and names out.

SDK 0.0.21 lays panels out beyond the 24th column, leaves every panel's id empty and every query without a refId, and
hides links and annotations in the controls menu (`placement`), where nobody finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

COLUMNS: Final = 24
"""Width of Grafana's grid."""

Json = dict[str, Any]


def panels_of(dashboard: Json) -> Iterator[Json]:
    """Every panel, rows and the panels inside collapsed rows included, from top to bottom."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels") or []


def finalize(dashboard: Json) -> Json:
    """Place, number and name everything; changes and returns `dashboard`."""
    _lay_out(dashboard["panels"])
    for number, panel in enumerate(panels_of(dashboard), start=1):
        panel["id"] = number
        for position, target in enumerate(panel.get("targets") or []):
            target["refId"] = chr(ord("A") + position)
        for link in panel.get("links") or []:
            link.pop("placement", None)
    for link in dashboard.get("links") or []:
        link.pop("placement", None)
    for annotation in dashboard["annotations"]["list"]:
        annotation.pop("placement", None)
    return dashboard


def _lay_out(panels: list[Json], y: int = 0) -> int:
    """Fill the grid line by line, left to right; a row always starts a line. Returns the first free line."""
    x = height = 0
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row" or x + place["w"] > COLUMNS:
            y, x, height = y + height, 0, 0
        place["x"], place["y"] = x, y
        x, height = x + place["w"], max(height, place["h"])
        if panel["type"] == "row":
            _lay_out(panel.get("panels") or [], y + 1)
            y, x, height = y + 1, 0, 0
    return y + height
