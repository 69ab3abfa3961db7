"""Log lines of the collector: what an unexpected error leaves behind, in both formats."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from graphmeter_collector import logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("alembic", "aiosqlite", "asyncio", "httpx", "sqlalchemy", "uvicorn", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.NOTSET)
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


def _lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_ours_and_those_of_libraries_are_one_kind_of_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.configure("json", "info")
    structlog.stdlib.get_logger("graphmeter_collector.test").info("batch_stored", spans=512)
    logging.getLogger("some.library").warning("disk at %d %%", 90, extra={"disk": "sda"})
    ours, theirs = _lines(said.getvalue())
    assert ("batch_stored", 512, "info") == (ours["event"], ours["spans"], ours["level"])
    assert ("disk at 90 %", "sda", "warning") == (theirs["event"], theirs["disk"], theirs["level"])
    assert ("Z", "Z") == (str(ours["timestamp"])[-1], str(theirs["timestamp"])[-1])


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["own debug", "own info", "library info", "own error"]),
        ("info", ["own info", "own error"]),
        ("error", ["own error"]),
    ],
)
def test_the_level_holds_and_chatty_libraries_wait_for_debug(
    monkeypatch: pytest.MonkeyPatch, level: str, expected: list[str]
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.configure("json", level)
    log = structlog.stdlib.get_logger("graphmeter_collector.test")
    log.debug("own debug")
    log.info("own info")
    logging.getLogger("sqlalchemy.engine").info("library info")
    log.error("own error")
    assert expected == [line["event"] for line in _lines(said.getvalue())]


def test_without_a_terminal_auto_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "commit_failed" == json.loads(_logged_failure("auto", monkeypatch))["event"]


def test_a_line_within_a_span_names_it_and_one_outside_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.configure("json", "info")
    log = structlog.stdlib.get_logger("graphmeter_collector.test")
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request") as span:
        log.info("inside")
    log.info("outside")
    inside, outside = _lines(said.getvalue())
    context = span.get_span_context()
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (inside["trace_id"], inside["span_id"])
    assert {"trace_id", "span_id"}.isdisjoint(outside)
