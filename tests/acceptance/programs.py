"""Programs that acceptance tests run in processes of their own, as an application would."""

from __future__ import annotations

EXAMPLES = """
import json, os
from graphmeter import flush, meter
from graphmeter_examples.workload import Workload, run_workload

tally = run_workload(meter, workload=Workload(seed=3, runs=int(os.environ.get("RUNS", "40"))), time_scale=0.0)
assert flush(30)
print(json.dumps({
    "runs": sum(tally.runs.values()),
    "attempts": sum(tally.attempts.values()),
    "executions": sum(tally.executions.values()),
    "model_calls": sum(tally.model_calls.values()),
    "tool_calls": sum(tally.tool_calls.values()),
    "cost_nano": sum(tally.cost_nano.values()),
}))
"""
"""Runs the example graphs, measured, and prints their known truth as one line of JSON."""
