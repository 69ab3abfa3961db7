"""graphmeter.yaml → Prometheus rules, their promtool tests, and Alertmanager's configuration; a runbook for every alert."""

from __future__ import annotations

from graphmeter_alerts.build import ALERTS, build, notes, write

__all__ = ["ALERTS", "build", "notes", "write"]
