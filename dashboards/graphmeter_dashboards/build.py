"""Configuration in, dashboard files out: one JSON text per dashboard, the same bytes for the same configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from graphmeter_config import Config
from graphmeter_dashboards.collector import collector
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.graph import graph
from graphmeter_dashboards.models import models
from graphmeter_dashboards.node import node
from graphmeter_dashboards.overview import overview
from graphmeter_dashboards.slos import slos
from graphmeter_dashboards.spend import spend
from graphmeter_dashboards.team import team, teams

PAGES: Final = (overview, graph, node, models, spend, slos, collector)


def dashboards(config: Config, also: Sequence[str] = ()) -> list[Json]:
    """Every dashboard, as Grafana stores it: the general ones, and one for each team that `config` or `also` names."""
    named = sorted({*teams(config), *also})
    return [*(make(config) for make in PAGES), *(team(config, name) for name in named)]


def build(config: Config, also: Sequence[str] = ()) -> dict[str, str]:
    """File name → JSON. A file is named after its dashboard's uid, so that it may share a folder with others.

    Args:
        also: Teams that get a dashboard though the configuration does not name them.
    """
    return {
        f"{dashboard['uid']}.json": json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for dashboard in dashboards(config, also)
    }


def write(config: Config, out: Path, also: Sequence[str] = ()) -> list[Path]:
    """Write every dashboard into the folder `out`, made if missing; says which files it wrote.

    Raises:
        OSError: `out` cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in build(config, also).items():
        path = out / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written
