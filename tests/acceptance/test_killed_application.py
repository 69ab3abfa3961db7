"""An application that dies in mid-run is seen: first as running, then as lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from acceptance.processes import collector, start_program, until
from acceptance.programs import ENDLESS

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_whose_process_is_killed_is_running_and_then_lost(tmp_path: Path) -> None:
    (tmp_path / "graphmeter.yaml").write_text("version: 1\nruns:\n  lost_after: 6s\n")
    with collector(tmp_path, "--config", str(tmp_path / "graphmeter.yaml")) as running:
        application = start_program(tmp_path, ENDLESS, GRAPHMETER_ENDPOINT=running.url, OTEL_SERVICE_NAME="shop")
        [seen] = until("the start record", lambda: running.get("/api/runs?status=running"))
        application.send_signal(signal.SIGKILL)
        application.wait()

        assert ("doomed", "cx", "running", None) == (seen["graph"], seen["team"], seen["status"], seen["ended_ns"])

        until("the run to be lost", lambda: running.get("/api/runs?status=lost"))
        lost = 'graphmeter_runs_total{environment="",graph="doomed",service="shop",status="lost",team="cx"}'
        until("the lost run to be counted", lambda: value(running.text("/metrics"), lost) == 1.0)


def value(exposition: str, series: str) -> float | None:
    """Value of one series, whatever the order of its labels."""
    name, _, labels = series.rstrip("}").partition("{")
    wanted = set(labels.split(","))
    for line in exposition.splitlines():
        if line.startswith(name + "{"):
            found, _, number = line.rpartition(" ")
            if set(found.rstrip("}").partition("{")[2].split(",")) == wanted:
                return float(number)
    return None
