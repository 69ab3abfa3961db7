"""Log lines of a run carry its ids, those outside of runs do not, and logging never breaks."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from callbacks.fakes import State, chain_of
from graphmeter import guard, inside, names
from graphmeter import logging as run_logging
from graphmeter.testing import InMemorySpans

FORMAT = "%(message)s|%(trace_id)s|%(run_id)s|%(graph)s|%(node)s"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the logger `shop` writes, configured as an application would."""
    written = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"run": {"()": "graphmeter.logging.GraphmeterFilter"}},
            "formatters": {"ids": {"format": FORMAT}},
            "handlers": {
                "out": {"class": "logging.StreamHandler", "stream": written, "filters": ["run"], "formatter": "ids"}
            },
            "loggers": {"shop": {"handlers": ["out"], "level": "INFO", "propagate": False}},
        }
    )
    yield written
    logging.getLogger("shop").handlers.clear()
    logging.getLogger("shop").propagate = True


def saying(state: State) -> State:
    logging.getLogger("shop.till").info("inside")
    return {"x": 1}


async def saying_async(state: State) -> State:
    return saying(state)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_record_names_its_run_and_is_empty_outside(spans: InMemorySpans, lines: io.StringIO, is_async: bool) -> None:
    log = logging.getLogger("shop")
    log.info("before")
    config: Any = {"callbacks": [spans.handler()]}
    if is_async:
        asyncio.run(chain_of(("say", saying_async)).ainvoke({}, config=config))
    else:
        chain_of(("say", saying)).invoke({}, config=config)
    log.info("after")
    root = spans.one("run")
    inside_line = f"inside|{root.trace_id:032x}|{root.attributes[names.RUN_ID]}|demo|say"
    assert ["before||||", inside_line, "after||||"] == lines.getvalue().splitlines()


def test_fields_of_the_applications_own_stay(spans: InMemorySpans, lines: io.StringIO) -> None:
    def node(state: State) -> State:
        logging.getLogger("shop").info("x", extra={"node": "db1", "trace_id": "mine"})
        return {"x": 1}

    chain_of(("say", node)).invoke({}, config={"callbacks": [spans.handler()]})
    assert ["mine", "demo", "db1"] == [lines.getvalue().strip().split("|")[part] for part in (1, 3, 4)]


def test_structlog_events_name_their_run(spans: InMemorySpans) -> None:
    written = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(written),
        processors=[run_logging.add_run, structlog.processors.JSONRenderer(sort_keys=True)],
    )

    def node(state: State) -> State:
        log.info("inside", graph="mine")
        return {"x": 1}

    log.info("before")
    chain_of(("say", node)).invoke({}, config={"callbacks": [spans.handler()]})
    root = spans.one("run")
    expected = {
        "event": "inside",
        "graph": "mine",
        "node": "say",
        "run_id": root.attributes[names.RUN_ID],
        "trace_id": f"{root.trace_id:032x}",
    }
    assert [{"event": "before"}, expected] == [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_fault_of_ours_is_counted_and_the_line_is_written(
    spans: InMemorySpans, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(inside, "anchor", broken)
    chain_of(("say", saying)).invoke({}, config={"callbacks": [spans.handler()]})
    assert "inside||||\n" == lines.getvalue()
    assert {"current_run: ZeroDivisionError": 1} == guard.faults()
    guard.forget()


def test_the_module_is_found_without_an_import_of_its_own() -> None:
    code = """
import logging.config, sys
logging.config.dictConfig({"version": 1, "filters": {"run": {"()": "graphmeter.logging.GraphmeterFilter"}}})
import graphmeter
print(graphmeter.logging.add_run(None, "info", {"event": "x"}), "langchain_core" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "{'event': 'x'} False\n" == done.stdout, done.stderr
