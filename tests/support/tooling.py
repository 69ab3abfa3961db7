"""The tools of the dependency group `deploy`, in .tools/python: Helm, the schemas of Kubernetes, hadolint.

Where they cannot be had a test that needs one is skipped with a visible reason; in CI it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.promtool import Result, ToolMissing

_ROOT = Path(__file__).resolve().parents[2]
_BIN = _ROOT / ".tools" / "python" / "bin"
_TIMEOUT_S = 120


def find(tool: str) -> Path:
    """Path of a program of that environment.

    Raises:
        ToolMissing: it is not there, and this is CI; elsewhere the test is skipped.
    """
    path = _BIN / tool
    if not path.exists():
        reason = f"{tool} of .tools/python is not installed: run `make tools`"
        if os.environ.get("CI"):
            raise ToolMissing(reason)
        pytest.skip(reason)
    return path


def hadolint(dockerfile: Path) -> Result:
    """What the linter says of a Dockerfile."""
    done = subprocess.run(
        [find("hadolint"), "--no-color", dockerfile],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode == 0, done.stdout)


def charting(asked: dict[str, Any]) -> dict[str, Any]:
    """Charts rendered and objects judged, all in one process: see `support/charting.py`."""
    done = subprocess.run(
        [find("python"), _ROOT / "tests" / "support" / "charting.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
