"""A graph asks in one process and goes on in another: the collector knows who waited for whom, and how it turned out."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from acceptance.processes import collector, run_program
from acceptance.programs import ASKING


def test_a_question_of_one_process_is_answered_in_another(tmp_path: Path) -> None:
    asked, answered = str(uuid4()), str(uuid4())
    with collector(tmp_path) as running:
        shared = {
            "GRAPHMETER_ENDPOINT": running.url,
            "OTEL_SERVICE_NAME": "shop",
            "CHECKPOINTS": str(tmp_path / "checkpoints"),
        }
        run_program(tmp_path, ASKING, **shared, RUN_ID=asked)
        waiting = running.get(f"/api/runs/{asked}")
        assert ("interrupted", "refund", "chat-1") == (waiting["status"], waiting["graph"], waiting["thread_id"])
        assert (waiting["ended_ns"], None, None) == tuple(
            waiting["wait"][key] for key in ("since_ns", "until_ns", "resumed")
        )

        run_program(tmp_path, ASKING, **shared, RUN_ID=answered, ANSWER="yes")
        first, second = (running.get(f"/api/runs/{run_id}") for run_id in (asked, answered))

        assert {
            "since_ns": first["ended_ns"],
            "until_ns": second["started_ns"],
            "next_run_id": answered,
            "resumed": True,
        } == first["wait"]
        assert ("ok", asked, second["started_ns"] - first["ended_ns"]) == tuple(
            second[key] for key in ("status", "resumed_run_id", "resumed_after_ns")
        )
        assert first["checkpoint_id"] == second["resumed_from"] != ""
        assert [("refunded", True, 12.5)] == [
            (each["kind"], each["good"], each["value"]) for each in second["outcomes"]
        ]
        assert {"reviewed": "true"} == second["tags"]

        [shape] = running.get("/api/graphs/refund/topology")
        assert ["__start__", "approve", "__end__"] == shape["topology"]["nodes"]
        # Two processes have reported what became of their spans, and nothing was lost.
        clients = running.get("/api/clients")
        assert [("shop", 0, 0)] * 2 == [(each["service"], each["dropped"], each["failed"]) for each in clients]
        # What is said besides spans is no span.
        assert {"run", "node"} == {span["kind"] for span in running.get(f"/api/runs/{answered}/trace")}
        outcomes = {"service": "shop", "environment": "", "graph": "refund", "team": "cx", "kind": "refunded"}
        assert 1 == running.metric("graphmeter_outcomes_total", **outcomes, good="true")
