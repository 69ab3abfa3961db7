"""Log lines of the collector: what an unexpected error leaves behind, in both formats."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from graphmeter_collector import logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _logged_failure(log_format: str, monkeypatch: pytest.MonkeyPatch) -> str:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.configure(log_format, "info")
    dsn = "postgresql://graphmeter:hunter2@db/graphmeter"
    try:
        raise RuntimeError(f"no way to use a URL of {len(dsn)} characters")
    except RuntimeError:
        structlog.stdlib.get_logger("test").exception("commit_failed", spans=3)
    return said.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_names_lines_and_no_variables(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _logged_failure(log_format, monkeypatch)
    assert ("_logged_failure" in text, "no way to use a URL of 45 characters" in text) == (True, True)
    assert "hunter2" not in text


def test_a_traceback_in_json_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    line = _logged_failure("json", monkeypatch)
    assert 1 == line.count("\n")
    found = json.loads(line)
    assert ("commit_failed", 3, "RuntimeError") == (found["event"], found["spans"], found["exception"][0]["exc_type"])
