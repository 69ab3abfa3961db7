"""Grafana dashboards as code: `graphmeter.yaml` and the metric names in, dashboard JSON out.

`build(config)` gives the files, `write(config, out)` puts them into a folder, `check.panel_queries` lists what a dashboard
asks so that tests can ask it of real servers, `lint.lint` finds what dashboard-linter would.
"""

from __future__ import annotations

from graphmeter_dashboards.build import build, write

__all__ = ["build", "write"]
