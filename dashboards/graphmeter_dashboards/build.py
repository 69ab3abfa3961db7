"""Configuration in, dashboard files out: one JSON text per dashboard, the same bytes for the same configuration."""

from __future__ import annotations

import json
from pathlib import Path

from graphmeter_config import Config
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.graph import graph
from graphmeter_dashboards.models import models
from graphmeter_dashboards.overview import overview
from graphmeter_dashboards.spend import spend


def dashboards(config: Config) -> list[Json]:
    """Every dashboard, as Grafana stores it."""
    return [overview(config), graph(config), models(config), spend(config)]


def build(config: Config) -> dict[str, str]:
    """File name → JSON. A file is named after its dashboard's uid, so that it may share a folder with others."""
    return {
        f"{dashboard['uid']}.json": json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for dashboard in dashboards(config)
    }


def write(config: Config, out: Path) -> list[Path]:
    """Write every dashboard into the folder `out`, made if missing; says which files it wrote.

    Raises:
        OSError: `out` cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in build(config).items():
        path = out / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written
