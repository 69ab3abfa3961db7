"""Case 52: what is left in memory after 10,000 runs and 1,500 cancelled ones; ours beside no handler, sync and async.

Each row is a process of its own. It warms up until our queue has been full once (with the collector away 8,192 spans wait:
that is memory in use, not growth), then resident memory and living Python objects are counted before and after. A sync
graph cannot be cancelled: its stream is left after the first part.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from graphmeter import GraphMeterCallbackHandler, flush, runs, stats

WARM_UP: Final = 2_500
"""Runs; at four spans each more than the queue holds."""
AT_ONCE: Final = 50
"""Async runs that are cancelled together."""
HANDLERS: Final = ("none", "ours", "unreachable")
LABELS: Final = {"none": "no handler", "ours": "ours", "unreachable": "ours, collector away"}


class Model(BaseChatModel):
    """Answers at once, or (async) after `delay_s`."""

    delay_s: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "bench"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        usage: Any = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("hello", usage_metadata=usage))])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(self.delay_s)
        return self._generate()


class State(TypedDict, total=False):
    x: int


class Nowhere(SpanExporter):
    """Takes everything."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def graph_asking(model: Model, asynchronous: bool) -> Any:
    """Two nodes, the first asks `model`."""

    def ask(state: State) -> State:
        model.invoke("hi")
        return {"x": 1}

    async def ask_async(state: State) -> State:
        await model.ainvoke("hi")
        return {"x": 1}

    builder = StateGraph(State)
    builder.add_node("ask", ask_async if asynchronous else ask)
    builder.add_node("after", lambda state: {"x": 2})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "after")
    return builder.compile(name="bench")


def complete(times: int, asynchronous: bool, config: Any) -> None:
    """Run a graph to its end."""
    graph = graph_asking(Model(), asynchronous)

    async def main() -> None:
        for _ in range(times):
            await graph.ainvoke({}, config)

    if asynchronous:
        asyncio.run(main())
    else:
        for _ in range(times):
            graph.invoke({}, config)


def cancelled(times: int, asynchronous: bool, config: Any) -> None:
    """Cancel a graph in its model call, or leave its stream."""

    async def main() -> None:
        graph = graph_asking(Model(delay_s=60), True)
        for _ in range(times // AT_ONCE):
            tasks = [asyncio.create_task(graph.ainvoke({}, config)) for _ in range(AT_ONCE)]
            await asyncio.sleep(0.15)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    if asynchronous:
        asyncio.run(main())
        return
    graph = graph_asking(Model(), False)
    for _ in range(times):
        stream = graph.stream({}, config)
        next(stream)
        stream.close()


def memory() -> tuple[float, int]:
    """Resident MB, and Python objects that the collector of garbage knows."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(gc.get_objects())


def measure(handler: str, asynchronous: bool, times: int, cancels: int) -> dict[str, Any]:
    """One row, in this process."""
    logging.getLogger("graphmeter").setLevel(logging.ERROR)
    config: Any = {}
    if handler == "ours":
        config = {"callbacks": [GraphMeterCallbackHandler(exporter=Nowhere())]}
    elif handler == "unreachable":
        config = {"callbacks": [GraphMeterCallbackHandler(endpoint="http://127.0.0.1:9")]}
    complete(WARM_UP, asynchronous, config)
    cancelled(AT_ONCE * 2, asynchronous, config)
    flush(5.0)
    before = memory()
    began = time.perf_counter()
    complete(times, asynchronous, config)
    flush(5.0)
    after = memory()
    took = time.perf_counter() - began
    cancelled(cancels, asynchronous, config)
    flush(5.0)
    last = memory()
    return {
        "rss": before[0],
        "completed": (after[0] - before[0], after[1] - before[1]),
        "cancelled": (last[0] - after[0], last[1] - after[1]),
        "open": len(runs.RUNS) + len(runs._STRAYS),
        "faults": stats().faults,
        "took": took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--cancelled", type=int, default=1_500)
    parser.add_argument("--row", nargs=2, metavar=("HANDLER", "WAY"), help="measure one row here, print it as JSON")
    chosen = parser.parse_args()
    if chosen.row:
        print(json.dumps(measure(chosen.row[0], chosen.row[1] == "async", chosen.runs, chosen.cancelled)))
        return
    print(f"growth after {chosen.runs:,} runs, then after {chosen.cancelled:,} cancelled ones")
    print(f"{'':<28} {'RSS before':>10} {'MB':>7} {'objects':>8} {'MB':>7} {'objects':>8} {'open':>5} {'faults':>6}")
    environment = {**os.environ, "GRAPHMETER_EXIT_TIMEOUT_S": "0"}
    size = ["--runs", str(chosen.runs), "--cancelled", str(chosen.cancelled)]
    for handler in HANDLERS:
        # Two at once: memory does not mind the company.
        rows = {}
        for way in ("sync", "async"):
            command = [sys.executable, __file__, "--row", handler, way, *size]
            rows[way] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for way, process in rows.items():
            output, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"{way} {handler}: exit code {process.returncode}")
            row = json.loads(output)
            (mb, objects), (mb_cancelled, objects_cancelled) = row["completed"], row["cancelled"]
            print(
                f"{way:<6}{LABELS[handler]:<22} {row['rss']:>10.1f} {mb:>7.1f} {objects:>8,} {mb_cancelled:>7.1f}"
                f" {objects_cancelled:>8,} {row['open']:>5} {row['faults']:>6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
