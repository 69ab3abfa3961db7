"""Dashboards of the default configuration, as the project commits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter_alerts import build as build_rules
from graphmeter_config import Config
from graphmeter_dashboards import build

GENERATED = Path(__file__).resolve().parents[2] / "dashboards" / "generated"


@pytest.fixture(scope="session")
def config() -> Config:
    """What a new user has."""
    return Config.default()


@pytest.fixture(scope="session")
def generated() -> Path:
    """Folder of the committed dashboards."""
    return GENERATED


@pytest.fixture(scope="session")
def files(config: Config) -> dict[str, str]:
    """File name → JSON text, built now."""
    return build(config)


_ALL = build(Config.default(), ["cx"])
"""Those of the default configuration, which names no team, and a team's."""


@pytest.fixture(params=sorted(_ALL))
def page(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each dashboard in turn; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(_ALL[request.param])
    return loaded


@pytest.fixture
def node(files: dict[str, str]) -> dict[str, Any]:
    """The Node dashboard; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(files["graphmeter-node.json"])
    return loaded


@pytest.fixture
def spend(files: dict[str, str]) -> dict[str, Any]:
    """The Spend dashboard; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(files["graphmeter-spend.json"])
    return loaded


@pytest.fixture
def graph(files: dict[str, str]) -> dict[str, Any]:
    """The Graph dashboard; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(files["graphmeter-graph.json"])
    return loaded


@pytest.fixture
def models(files: dict[str, str]) -> dict[str, Any]:
    """The dashboard Models and providers; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(files["graphmeter-models.json"])
    return loaded


@pytest.fixture
def overview(files: dict[str, str]) -> dict[str, Any]:
    """The Overview dashboard; each test has its own copy."""
    loaded: dict[str, Any] = json.loads(files["graphmeter-overview.json"])
    return loaded


@pytest.fixture(scope="session")
def recorded(config: Config) -> set[str]:
    """Names of the series that the generated recording rules of the same configuration make."""
    rule_files = [yaml.safe_load(text) for name, text in build_rules(config).items() if name.endswith(".rules.yml")]
    rules = [rule for file in rule_files for group in file["groups"] for rule in group["rules"]]
    return {rule["record"] for rule in rules if "record" in rule}
