"""deploy/env.py as a module: it lies outside of every package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load_env(root: Path) -> ModuleType:
    """A fresh one, which a test may change."""
    spec = importlib.util.spec_from_file_location("deploy_env", root / "deploy" / "env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
