"""Rules of the default configuration, written to a folder; and what can be read out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter_alerts import build, write
from graphmeter_config import Config

ALERTS = Path(__file__).resolve().parents[2] / "alerts"


@pytest.fixture(scope="session")
def config() -> Config:
    """What a new user has."""
    return Config.default()


@pytest.fixture(scope="session")
def files(config: Config) -> dict[str, str]:
    """File name → text, built now."""
    return build(config)


@pytest.fixture
def built(config: Config, tmp_path: Path) -> Path:
    """Folder with the files, which a test may change."""
    out = tmp_path / "rules"
    write(config, out)
    return out


@pytest.fixture(scope="session")
def runbooks() -> Path:
    """Folder of the runbook pages."""
    return ALERTS / "runbooks"


@pytest.fixture(scope="session")
def committed() -> Path:
    """Folder of the committed files."""
    return ALERTS / "generated"


@pytest.fixture(scope="session")
def rules(files: dict[str, str]) -> list[dict[str, Any]]:
    """Every rule of every file."""
    loaded = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".rules.yml")]
    return [rule for file in loaded for group in file["groups"] for rule in group["rules"]]
