"""What is unusual: each value that the alerts on anomalies judge, with what they expect and the band around it.

Series are those of the recording rules, so a line that leaves its band here is what an alert saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphmeter_config import Config
from graphmeter_dashboards import panels, queries
from graphmeter_dashboards.sdk import Builder, dashboard, timeseries, units
from graphmeter_dashboards.targets import over_time

_SHOWN: Final = {
    "error_rate": ("Error ratio", "Share of runs that failed or were lost", units.PercentUnit),
    "latency_p95": ("Run p95", "95 % of the runs took no longer", units.Seconds),
    "cost_usd_per_run": ("Cost of a run", "Mean", units.Dollars),
}
"""Name in graphmeter.yaml → title, what it is, unit."""
_BAND: Final = {"expected": "expected", "upper_band": "upper", "lower_band": "lower"}
_FAINT: Final = {"fill": "dash", "dash": [4, 6]}


def unusual(config: Config) -> list[Builder[dashboard.Panel]]:
    """A panel for each kind of anomaly that `config` looks for."""
    if config.anomalies is None:
        return []
    found: list[Builder[dashboard.Panel]] = []
    if (drop := config.anomalies.traffic_drop) is not None:
        found.append(
            _panel(
                "Runs in an hour, and usual",
                "Runs that ended within the hour before, the median of the same hour in past weeks, and below what a drop "
                "of traffic begins.",
                [("runs", ""), ("expected", "expected"), ("lower_band", "lower")],
                "traffic",
                drop.per,
                units.Short,
            )
        )
    for name, band in config.anomalies.bands():
        title, what, unit = _SHOWN[name]
        found.append(
            _panel(
                f"{title}, and usual",
                f"{what}, in the hour before; what was usual in the past, and the band around that. Hours with fewer than "
                f"{band.at_least} runs are not judged.",
                [(band.unit, ""), *_BAND.items()],
                name,
                band.per,
                unit,
            )
        )
    return found


def _panel(
    title: str, description: str, series: Sequence[tuple[str, str]], name: str, per: Sequence[str], unit: str
) -> timeseries.Panel:
    judged = " ".join(f"{{{{{label}}}}}" for label in per)
    targets = [
        over_time(queries.of_runs(f"graphmeter:anomaly_{name}:{what}"), f"{judged} {said}".strip() or "all runs")
        for what, said in series
    ]
    panel = panels.lines(title, description, targets, unit=unit, size=(12, 9))
    for position, (_, said) in enumerate(series):
        if said:
            panel = panel.override_by_query(
                chr(ord("A") + position),
                [
                    dashboard.DynamicConfigValue(id_val="custom.lineStyle", value=_FAINT),
                    dashboard.DynamicConfigValue(id_val="custom.lineWidth", value=1),
                ],
            )
    return panel
