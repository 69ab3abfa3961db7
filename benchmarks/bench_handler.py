"""What a callback handler costs a graph: no handler, one that does nothing, ours, and every peer that is installed.

Each contestant lives in a process of its own, and they take turns (see `racing`); with `--together` all live in one.
Two graphs, sync and async: ten nodes that do nothing, and five nodes that ask a model which answers at once. Both fire
22 callback events a run. Every run has a context of its own, as the requests of a server do: some peers leave a span
behind in theirs.

    python benchmarks/bench_handler.py [--series 5] [--rounds 5] [--runs 20] [--only graphmeter,mlflow] [--table encoded]
                                       [--together]

`wall` is the time a run takes as a ratio to no handler; `µs/event` is the processor time, all threads of the process,
that the handler adds to each callback event. Both from lower quartiles over all rounds: what others do on the same
machine only ever adds, in bursts. Processors are kept awake (see `awake`). There are two tables: in the first every
contestant encodes what it would send (see `contestants`), as it does in an application; in the second, exporters throw
away what they are given.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextvars import copy_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypedDict

import contestants
from awake import awake
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langgraph.graph import START, StateGraph
from racing import calm, runners, shuffled

EVENTS = 22
NODES, CALLS = 10, 5
WARM_UP = 30
BASES = 3
"""Processes (together: turns) without a handler in each series: the luck of one would be in every other figure."""


class Took(NamedTuple):
    """Seconds for one batch of runs."""

    wall: float
    cpu: float
    graph_cpu: float
    """Of the thread that runs the graphs, a part of `cpu`."""


class Present(NamedTuple):
    """A contestant that takes part."""

    version: str


class Missing(NamedTuple):
    """One that does not."""

    why: str


Workload = tuple[str, bool]
"""Graph and whether it runs asynchronously."""
Taken = dict[tuple[str, Workload], list[Took]]
"""By contestant and workload: one for each round."""
WORKLOADS: tuple[Workload, ...] = (("nodes", False), ("nodes", True), ("models", False), ("models", True))


class State(TypedDict, total=False):
    x: int


class Model(GenericFakeChatModel):
    """Answers at once, asynchronously in the thread of the event loop: so do the integrations of OpenAI, Anthropic, Google,
    Mistral, Groq and Ollama. The one that it is made from would send the question to a thread, and the answer back.
    """

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages, stop, **kwargs)


def _model() -> Any:
    def answers() -> Any:
        while True:
            yield AIMessage(
                "hello",
                usage_metadata={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
                response_metadata={"model_name": "gpt-4o-mini", "id": "chatcmpl-1", "finish_reason": "stop"},
            )

    return Model(messages=answers())


def _chain(count: int, node: Callable[[State], Any]) -> Any:
    builder = StateGraph(State)
    before = START
    for number in range(count):
        name = f"n{number}"
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(name="bench")


def _graphs() -> dict[Workload, Any]:
    model = _model()

    def idle(state: State) -> State:
        return {"x": 1}

    async def idle_async(state: State) -> State:
        return {"x": 1}

    def ask(state: State) -> State:
        model.invoke("hi")
        return {"x": 1}

    async def ask_async(state: State) -> State:
        await model.ainvoke("hi")
        return {"x": 1}

    return {
        ("nodes", False): _chain(NODES, idle),
        ("nodes", True): _chain(NODES, idle_async),
        ("models", False): _chain(CALLS, ask),
        ("models", True): _chain(CALLS, ask_async),
    }


# --- one contestant's process -------------------------------------------------------------------------------------


def _work(names: str, encode: bool, pipe: Connection) -> None:
    """Measures the contestants `names`, separated by commas: says whether each is there, then answers questions."""
    warnings.simplefilter("ignore")
    ready: dict[str, contestants.Contestant] = {}
    said: dict[str, Present | Missing] = {}
    for name in names.split(","):
        try:
            ready[name] = contestants.ALL[name](encode)
            said[name] = Present(ready[name].about)
        except ImportError as error:
            said[name] = Missing(f"not installed ({error.name or error})")
    graphs = _graphs()
    pipe.send(said)
    while (asked := pipe.recv()) is not None:
        name, workload, runs = asked
        pipe.send(_measure(graphs[workload], workload[1], runs, ready[name]))


def _measure(graph: Any, asynchronous: bool, runs: int, contestant: contestants.Contestant) -> Took:
    config = {"callbacks": contestant.handlers}

    async def many() -> tuple[float, float]:
        began, thread = time.perf_counter(), time.thread_time()
        for _ in range(runs):
            await asyncio.create_task(graph.ainvoke({"x": 0}, config=config))
        return time.perf_counter() - began, time.thread_time() - thread

    gc.collect()
    cpu = time.process_time()
    if asynchronous:
        wall, thread_cpu = asyncio.run(many())
    else:
        began, thread = time.perf_counter(), time.thread_time()
        for _ in range(runs):
            copy_context().run(graph.invoke, {"x": 0}, config=config)
        wall, thread_cpu = time.perf_counter() - began, time.thread_time() - thread
    contestant.settle()
    return Took(wall, time.process_time() - cpu, thread_cpu)


# --- the race -----------------------------------------------------------------------------------------------------


def race(
    names: list[str], series: int, rounds: int, runs: int, *, encode: bool, together: bool
) -> tuple[dict[str, Present | Missing], Taken]:
    """Every contestant through every workload, `rounds` times in each of `series`."""
    took: Taken = {}
    said: dict[str, Present | Missing] = {}
    crews = [",".join(names)] if together else [*[contestants.BASE] * (BASES - 1), *names]
    for _ in range(series):
        processes = runners(crews, _work, encode)
        entrants = []
        for process in processes:
            said |= process.said
            entrants += [(name, process) for name, about in process.said.items() if isinstance(about, Present)]
        if together:
            entrants += [(contestants.BASE, processes[0])] * (BASES - 1)
        for name, process in entrants:
            for workload in WORKLOADS:
                process.ask((name, workload, WARM_UP))
        for _ in range(rounds):
            for workload in WORKLOADS:
                for name, process in shuffled(entrants):
                    took.setdefault((name, workload), []).append(process.ask((name, workload, runs)))
        for process in processes:
            process.stop()
    return said, took


TABLES = {"encoded": True, "built": False}
"""How far spans get, and whether that is to bytes."""
IMPORTS = {
    "import graphmeter": "import langchain_core.callbacks, langchain_core.runnables",
    "import graphmeter.handler, graphmeter.attach": "import langgraph.graph, langgraph.callbacks",
}
"""What is loaded → on top of what. A measured application has loaded LangGraph anyway."""


def import_times(repeats: int = 9) -> dict[str, float]:
    """Milliseconds for each of `IMPORTS`: medians over fresh processes that take turns."""
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        for ours, below in IMPORTS.items():
            code = f"import time; {below}; a = time.perf_counter(); {ours}; print(time.perf_counter() - a)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            taken.setdefault(ours, []).append(float(done.stdout) * 1e3)
    return {ours: statistics.median(times) for ours, times in taken.items()}


def _calm(took: list[Took]) -> Took:
    return Took(*(calm(figures) for figures in zip(*took, strict=True)))


def report(said: dict[str, Present | Missing], took: Taken, runs: int) -> None:
    """Print the table."""
    heads = [f"{graph}, {'async' if asynchronous else 'sync'}" for graph, asynchronous in WORKLOADS]
    print(f"{'':28}" + "".join(f"{head:>22}" for head in heads))
    print(f"{'':28}" + f"{'wall':>10}{'µs/event':>12}" * len(WORKLOADS))
    added: dict[tuple[str, Workload], float] = {}
    base = {workload: _calm(took[contestants.BASE, workload]) for workload in WORKLOADS}
    for name, about in said.items():
        if isinstance(about, Missing):
            print(f"{name:28}  {about.why}")
            continue
        line = f"{name} {about.version}".ljust(28)
        for workload in WORKLOADS:
            mine = _calm(took[name, workload])
            cpu = (mine.cpu - base[workload].cpu) / runs / EVENTS * 1e6
            added[name, workload] = cpu
            line += f"{mine.wall / base[workload].wall:>10.2f}"
            line += f"{cpu:>12.1f}" if name != contestants.BASE else f"{'-':>12}"
        print(line)
    print("\nno handler, ms a run:       " + "".join(f"{base[w].wall / runs * 1e3:>10.2f}{'':12}" for w in WORKLOADS))
    peers = [name for name in contestants.PEERS if (name, WORKLOADS[0]) in added]
    if (contestants.OURS, WORKLOADS[0]) not in added:
        return
    shares = []
    for workload in WORKLOADS:
        graph = _calm(took[contestants.OURS, workload]).graph_cpu - base[workload].graph_cpu
        shares.append(graph / runs / EVENTS * 1e6)
    print("ours in the graph's thread: " + "".join(f"{'':10}{share:>12.1f}" for share in shares))
    if peers:
        best = [
            min(added[name, workload] for name in peers) / added[contestants.OURS, workload] for workload in WORKLOADS
        ]
        print("best peer / ours:           " + "".join(f"{'':10}{ratio:>11.1f}x" for ratio in best))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5, help="each has new processes")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a series")
    parser.add_argument("--runs", type=int, default=20, help="runs a round")
    parser.add_argument("--only", default="", help="names, separated by commas; no handler is always among them")
    parser.add_argument("--table", choices=[*TABLES, "both"], default="both")
    parser.add_argument("--together", action="store_true", help="all contestants in one process, a new one each series")
    asked = parser.parse_args()
    names = list(contestants.ALL)
    if asked.only:
        wanted = {contestants.BASE, *asked.only.split(",")}
        if unknown := wanted - set(names):
            parser.error(f"--only: {', '.join(sorted(unknown))} is unknown; there are {', '.join(names)}")
        names = [name for name in names if name in wanted]
    for ours, milliseconds in import_times().items():
        print(f"{milliseconds:6.1f} ms  {ours}, on top of {IMPORTS[ours].removeprefix('import ')}")
    print(f"\n{asked.series} series of {asked.rounds} rounds of {asked.runs} runs; {EVENTS} callback events a run")
    for table, encode in TABLES.items():
        if asked.table in (table, "both"):
            print(f"\n{table}: exporters {'encode what they would send' if encode else 'throw everything away'}\n")
            with awake():
                said, took = race(names, asked.series, asked.rounds, asked.runs, encode=encode, together=asked.together)
            report(said, took, asked.runs)


if __name__ == "__main__":
    main()
