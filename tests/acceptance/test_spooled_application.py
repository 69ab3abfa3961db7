"""An application whose collector was away: what it left on disk is stored once, when the next one starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.processes import collector, run_program, until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import graphmeter
from langgraph.graph import START, StateGraph
from typing import TypedDict
from uuid import uuid4

class State(TypedDict):
    x: int

builder = StateGraph(State)
builder.add_node("n", lambda state: {"x": 1})
builder.add_edge(START, "n")
run_id = uuid4()
graphmeter.meter(builder.compile(), name="shop").invoke({"x": 0}, config={"run_id": run_id})
graphmeter.outcome("resolved", good=True, run_id=run_id)
"""


def test_what_waited_on_disk_is_stored_once(tmp_path: Path) -> None:
    spool = tmp_path / "spool"

    def run(url: str) -> None:
        # With something to send at its end, and time for what others left there.
        patient = {"GRAPHMETER_FLUSH_INTERVAL_S": "30", "GRAPHMETER_EXIT_TIMEOUT_S": "60"}
        run_program(tmp_path, PROGRAM, GRAPHMETER_ENDPOINT=url, GRAPHMETER_SPOOL_DIR=str(spool), **patient)

    run("http://127.0.0.1:9")
    run("http://127.0.0.1:9")
    assert 2 == len(list(spool.glob("*.spool")))
    with collector(tmp_path) as running:
        run(running.url)
        runs = until("all three runs", lambda: len(found := running.get("/api/runs")) == 3 and found)
        assert ["ok"] * 3 == [run["status"] for run in runs]
        assert ["shop"] * 3 == [run["graph"] for run in runs]
    assert [] == list(spool.iterdir())
