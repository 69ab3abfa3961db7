"""What a budget guard costs per model call: the same measured graph without a guard and with one.

A node asks a model that answers at once, twenty times a run, sync and async. Budgets and prices come from a
collector that is a function of the process, so that the guard's own work is measured; the real thread asks it.

`added` is what a process with a guard takes beyond one without: processor time of all its threads, so also what LangChain
does for the guard, and what is counted later and elsewhere. Every contestant lives in a process of its own, and they take
turns (see `racing`); lower quartiles over all rounds. Calls are counted up to 256 at a time, so a round holds several times
as many, and ends when all are counted. Processors are kept awake (see `awake`). A callback handler that does nothing says
what of it LangChain takes for a handler more. `own` is what the guard's code takes in a loop: its look at a call before it
is made, and counting the call when it has ended; the best of many repetitions, where all that it needs is in the caches of
the processor.

    python benchmarks/bench_guard.py [--series 6] [--rounds 4] [--runs 64] [--only "one budget"]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, TypedDict
from uuid import UUID, uuid4

import contestants
from awake import awake
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph
from racing import calm, runners, shuffled

from graphmeter import BudgetGuard, GraphMeterCallbackHandler, client, meter, names, runs
from graphmeter.budget import desk, lately, spending
from graphmeter.budget.source import Answer
from graphmeter.records import Run

CALLS: Final = 20
BUDGETS: Final = 20
WARM_UP: Final = 20
REPEATED, AT_ONCE = 30, 2 * lately.MOST
NONE, IDLE, BESIDE = "no guard", "a handler that does nothing", "one budget, the guard a handler beside"


class State(TypedDict, total=False):
    x: int


class Model(BaseChatModel):
    """Answers at once."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}

    def _result(self) -> ChatResult:
        usage: Any = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        message = AIMessage("hello", usage_metadata=usage, response_metadata={"model_name": "gpt-4o-mini-2024-07-18"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result()


class Idle(BaseCallbackHandler):
    """Hears of what a guard hears of, and does nothing."""

    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


class Here:
    """A collector that is a function."""

    where = "here"

    def ask(self, path: str, query: Sequence[tuple[str, str]], etag: str, timeout_s: float, body: Any = None) -> Answer:
        if "budgets" in path:
            return Answer({"definitions": [_definition(number) for number in range(BUDGETS)], "budgets": []}, "")
        rates = {"above": None, "per_token": [150, 75, 0, 0, 0, 0, 600, 600, 0, 0], "scale": 1}
        price = {"bill_failed": False, "tariffs": [{"from_time_ns": 0, "tiers": [rates]}]}
        key = {
            "provider": "openai",
            "model": "gpt-4o-mini-2024-07-18",
            "request_model": "gpt-4o-mini",
            "server": "",
        }
        assert len(names.TOKEN_TYPES) == len(rates["per_token"])  # type: ignore[arg-type]
        return Answer({"models": [{**key, "price": price, "service_tiers": {}}], "until_ns": 2**62}, "")


def _definition(number: int) -> dict[str, Any]:
    per = ["team", "tag:plan"] if number % 2 else []
    match = {"environment": ["prod*"]} if number % 4 == 3 else {}
    name = f"b{number}"
    return {"budget": name, "unit": "usd", "limit": 10**18, "hard": True, "match": match, "per": per}


def graph_of(asynchronous: bool) -> Any:
    model = Model()

    def node(state: State) -> State:
        for _ in range(CALLS):
            model.invoke("hi")
        return {"x": 1}

    async def node_async(state: State) -> State:
        for _ in range(CALLS):
            await model.ainvoke("hi")
        return {"x": 1}

    builder = StateGraph(State)
    builder.add_node("ask", node_async if asynchronous else node)
    builder.add_edge(START, "ask")
    return builder.compile(name="bench")


GUARDS: Final[dict[str, Callable[[], BudgetGuard | None]]] = {
    NONE: lambda: None,
    IDLE: lambda: None,
    "cap of the run": lambda: BudgetGuard(per_run_usd=1_000_000),
    "one budget": lambda: BudgetGuard("b0"),
    "a budget per team and tag, and a cap": lambda: BudgetGuard("b1", per_run_usd=1_000_000),
    f"every hard budget ({BUDGETS})": lambda: BudgetGuard("*"),
    BESIDE: lambda: BudgetGuard("b0"),
}


# --- one contestant's process -------------------------------------------------------------------------------------------


def _work(name: str, pipe: Connection) -> None:
    """Answers (asynchronous, runs) with microseconds of the process per call, and `own` with the guard's own."""
    handler = GraphMeterCallbackHandler(exporter=contestants.NullExporter(), team="cx", tags={"plan": "free"})
    guarded = name not in (NONE, IDLE)
    known = desk.Desk("", Here())
    if guarded:
        desk.divert(known)
    guard = GUARDS[name]()
    graphs = {asynchronous: _attached(graph_of(asynchronous), name, handler, guard) for asynchronous in (False, True)}
    pipe.send("")
    while (asked := pipe.recv()) is not None:
        asynchronous, runs_ = asked
        if runs_:
            pipe.send(_took_us(graphs[asynchronous], asynchronous, runs_, known))
        else:
            pipe.send(own_us(guard, handler, asynchronous))


def _attached(graph: Any, name: str, handler: GraphMeterCallbackHandler, guard: BudgetGuard | None) -> Any:
    if name in (IDLE, BESIDE):
        return meter(graph, handler=handler).with_config(callbacks=[guard or Idle()])
    return meter(graph, handler=handler, budget=guard)


def _took_us(graph: Any, asynchronous: bool, times: int, known: desk.Desk) -> float:
    async def several() -> None:
        for _ in range(times):
            await graph.ainvoke({})

    gc.collect()
    began = time.process_time_ns()
    if asynchronous:
        asyncio.run(several())
    else:
        for _ in range(times):
            graph.invoke({})
    client.flush()
    known.count()
    return (time.process_time_ns() - began) / 1e3 / times / CALLS


def _heard() -> Callable[[Run], object] | None:
    """What hears of every call that ends, once there is a guard."""
    spending.watch()
    return runs.spent


def own_us(guard: BudgetGuard | None, handler: GraphMeterCallbackHandler, asynchronous: bool) -> float:
    """Microseconds that the guard's own code takes per call."""
    if guard is None:
        return 0.0
    root, node = uuid4(), uuid4()
    handler.on_chain_start(None, {}, run_id=root, name="bench", metadata={"ls_integration": "langgraph"})
    inside = {"langgraph_checkpoint_ns": "ask:1", "langgraph_node": "ask"}
    handler.on_chain_start(None, {}, run_id=node, parent_run_id=root, name="ask", metadata=inside)
    said = {**inside, "ls_provider": "openai", "ls_model_name": "gpt-4o-mini"}
    around, tell = runs.RUNS[node.int], _heard()
    assert tell is not None
    facts = {
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-4o-mini",
        names.RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
        names.USAGE_INPUT: 10,
        names.USAGE_OUTPUT: 5,
    }

    async def ask(ids: list[UUID]) -> None:
        for each in ids:
            await guard.on_chat_model_start(
                {}, [], run_id=each, parent_run_id=node, metadata=said, invocation_params={}
            )

    def asked(call: Run) -> None:
        call.facts = {names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o-mini"}
        runs.RUNS[call.number] = call

    def answered(call: Run) -> None:
        call.facts, call.ended_ns = dict(facts), call.started_ns + 1_000
        del runs.RUNS[call.number]

    best = float("inf")
    for _ in range(REPEATED):
        ids = [uuid4() for _ in range(AT_ONCE)]
        calls = [Run(names.MODEL, "gpt-4o-mini", each.int, around, around.tree, "ask:1") for each in ids]
        for call in calls:
            asked(call)
        began = time.thread_time_ns()
        if asynchronous:
            with contextlib.suppress(StopIteration):  # nothing in it waits, so it needs no event loop
                ask(ids).send(None)
        else:
            for each in ids:
                guard.on_chat_model_start({}, [], run_id=each, parent_run_id=node, metadata=said, invocation_params={})
        took_ns = time.thread_time_ns() - began
        for call in calls:
            answered(call)
        began = time.thread_time_ns()
        for call in calls:
            tell(call)
        took_ns += time.thread_time_ns() - began
        best = min(best, took_ns / 1e3 / AT_ONCE)
    handler.on_chain_end({}, run_id=node)
    handler.on_chain_end({}, run_id=root)
    return best


# --- the race -----------------------------------------------------------------------------------------------------------


Row = tuple[str, bool]
"""A guard, and whether the graph runs asynchronously."""


def race(names_: list[str], rounds: int, runs_: int, took: dict[Row, list[float]], own: dict[Row, float]) -> None:
    """One series: new processes; what calls took there, and the best of `own`."""
    started = runners(names_, _work)
    for runner in started:
        for asynchronous in (False, True):
            runner.ask((asynchronous, WARM_UP))
    for _ in range(rounds):
        for asynchronous in (False, True):
            for runner in shuffled(started):
                took.setdefault((runner.name, asynchronous), []).append(runner.ask((asynchronous, runs_)))
    for runner in started:
        for asynchronous in (False, True):
            key = runner.name, asynchronous
            own[key] = min(own.get(key, float("inf")), runner.ask((asynchronous, 0)))
        runner.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=6, help="each has new processes")
    parser.add_argument("--rounds", type=int, default=4, help="rounds a series")
    parser.add_argument("--runs", type=int, default=64, help="runs a round")
    parser.add_argument("--only", default="", help="names, separated by semicolons; no guard is always among them")
    asked = parser.parse_args()
    names_ = [name for name in GUARDS if not asked.only or name in (NONE, *asked.only.split(";"))]
    took: dict[Row, list[float]] = {}
    own: dict[Row, float] = {}
    with awake():
        for _ in range(asked.series):
            race(names_, asked.rounds, asked.runs, took, own)
    print("| µs per model call | own, sync | own, async | added, sync | added, async |")
    print("|---|---|---|---|---|")
    none = {asynchronous: calm(took[NONE, asynchronous]) for asynchronous in (False, True)}
    for name in names_:
        added = [calm(took[name, asynchronous]) - none[asynchronous] for asynchronous in (False, True)]
        if name == NONE:
            print(f"| {name}: the whole call, measured | | | {none[False]:.0f} | {none[True]:.0f} |")
        elif name == IDLE:
            print(f"| {name} | | | {added[0]:.1f} | {added[1]:.1f} |")
        else:
            print(f"| {name} | {own[name, False]:.1f} | {own[name, True]:.1f} | {added[0]:.1f} | {added[1]:.1f} |")


if __name__ == "__main__":
    main()
