"""A day of traffic in seconds: a seed in, the same runs over the four example graphs out, however they are scheduled.

Sync and async, streamed and not, by teams and by nobody, some failing, some waiting for a human, some hung up on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StreamMode

from graphmeter import names
from graphmeter_examples import agent, approval, research, support
from graphmeter_examples.luck import Luck
from graphmeter_examples.models import Models, StandIns
from graphmeter_examples.tally import Tally, spending_as

TEAMS = ("cx", "growth", "platform", "")
"""The empty team is spend that nobody owns."""

DEFAULT_TIME_SCALE = 0.05
"""A second of a real model's time takes 50 ms: 200 runs end in a few seconds, also on two slow cores."""

_STREAM: list[StreamMode] = ["updates", "messages"]
"""`messages` makes LangGraph stream the models inside the nodes."""

Graph = CompiledStateGraph[Any, Any, Any, Any]


class Attach(Protocol):
    """Makes a graph measured: `graphmeter.meter` fits. The empty team is nobody's."""

    def __call__(self, graph: Graph, /, *, name: str, team: str) -> Graph: ...


def unmeasured(graph: Graph, /, *, name: str, team: str) -> Graph:
    """Attach nothing."""
    return graph


@dataclass(frozen=True, slots=True)
class Job:
    """One user's business with one graph: an invocation, and a resume per answer of a human."""

    number: int
    graph: str
    team: str
    config: RunnableConfig
    input: Mapping[str, Any]
    answers: tuple[str, ...] = ()
    asynchronous: bool = False
    streaming: bool = False
    hangs_up: bool = False
    """The user leaves after the first node."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Which jobs there are. `runs` counts invocations as planned: a run that fails is never resumed."""

    seed: int = 7
    runs: int = 200
    graphs: Sequence[str] = (support.NAME, agent.NAME, research.NAME, approval.NAME)
    asynchronous: bool | None = None
    """None mixes; True and False run everything the one way, with the same totals."""
    prefix: str = field(default="")
    """Before thread ids, to keep several workloads on one database apart."""

    def jobs(self) -> Iterator[Job]:
        luck, planned, number = Luck(self.seed), 0, 0
        while planned < self.runs:
            job = self._job(luck, number, self.runs - planned)
            planned += 1 + len(job.answers)
            number += 1
            yield job

    def _job(self, luck: Luck, number: int, left: int) -> Job:
        key = str(number)
        # In turn, so that any number of runs has some of every graph.
        graph = self.graphs[number % len(self.graphs)]
        values: Mapping[str, Any]
        answers: tuple[str, ...] = ()
        if graph == support.NAME:
            values = support.question(luck, number)
        elif graph == agent.NAME:
            values = agent.wish(luck, number)
        elif graph == research.NAME:
            values = research.question(luck, number)
        else:
            values = approval.request(luck, number)
            answers = approval.answers(luck, number)[: left - 1]
        asynchronous = luck.unit(key, "async") < 0.5 if self.asynchronous is None else self.asynchronous
        user = f"user-{luck.between(1, 24, key, 'user')}"
        return Job(
            number,
            graph,
            luck.pick(TEAMS, key, "team"),
            {
                "configurable": {"thread_id": f"{self.prefix}thread-{self.seed}-{number}"},
                # Some callers do not say who they act for.
                "metadata": {"user_id": user, "session_id": f"session-{user}"} if luck.unit(key, "named") < 0.9 else {},
            },
            values,
            answers,
            asynchronous,
            streaming=luck.unit(key, "stream") < 0.4,
            hangs_up=graph == support.NAME and luck.unit(key, "hang up") < 0.1,
        )


def run_workload(
    attach: Attach = unmeasured,
    tally: Tally | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    workload: Workload | None = None,
    models: Models | None = None,
    time_scale: float = DEFAULT_TIME_SCALE,
    workers: int = 8,
) -> Tally:
    """Run every job and return the truth about it. Blocks; may be called with an event loop running or not.

    `on_progress` gets jobs done and jobs in all, from any thread, one call at a time. `models` brings its own tally and
    pace; without it, stand-ins of the workload's seed are used. `workers` jobs run at once in threads, and as many again
    in one event loop.
    """
    plan = workload or Workload()
    chosen = models or StandIns(plan.seed, tally, time_scale=time_scale)
    runner = _Runner(attach, chosen)
    jobs = list(plan.jobs())
    progress = _Progress(len(jobs), on_progress)
    stopped = threading.Event()

    async def run_async(todo: list[Job]) -> None:
        gate = asyncio.Semaphore(workers)

        async def one(job: Job) -> None:
            async with gate:
                if stopped.is_set():
                    return
                await runner.run_async(job)
            progress.step()

        async with asyncio.TaskGroup() as group:
            for job in todo:
                group.create_task(one(job))

    def one(job: Job) -> None:
        runner.run(job)
        progress.step()

    with ThreadPoolExecutor(workers + 1, thread_name_prefix="workload") as pool:
        # A thread of its own: the caller may sit in an event loop already.
        pending = [pool.submit(asyncio.run, run_async([job for job in jobs if job.asynchronous]))]
        pending += [pool.submit(one, job) for job in jobs if not job.asynchronous]
        try:
            for done in as_completed(pending):
                done.result()
        except BaseException:
            # Ctrl-C, or a fault: what runs now may end, what waits must not begin.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return chosen.tally


class _Progress:
    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self._done, self._total, self._report, self._lock = 0, total, report, threading.Lock()

    def step(self) -> None:
        with self._lock:
            self._done += 1
            self._report(self._done, self._total)


class _Runner:
    """Runs jobs one invocation at a time and writes down what became of each."""

    def __init__(self, attach: Attach, models: Models) -> None:
        self._models = models
        self._tally = models.tally
        builds: dict[str, Graph] = {
            support.NAME: support.build(models),
            agent.NAME: agent.build(models),
            research.NAME: research.build(models),
            approval.NAME: approval.build(models),
        }
        self._graphs = {
            (name, team): attach(graph, name=name, team=team) for name, graph in builds.items() for team in TEAMS
        }

    def run(self, job: Job) -> None:
        for value in _inputs(job):
            if self._invoke(job, value) != names.INTERRUPTED:
                return

    async def run_async(self, job: Job) -> None:
        for value in _inputs(job):
            if await self._ainvoke(job, value) != names.INTERRUPTED:
                return

    def _invoke(self, job: Job, value: Any) -> str:
        graph = self._graphs[job.graph, job.team]
        with self._watch(job) as seen:
            if not job.streaming and not job.hangs_up:
                seen.result(graph.invoke(value, job.config))
                return seen.status
            stream = graph.stream(value, job.config, stream_mode=_STREAM)
            for mode, part in stream:
                if seen.part(mode, part) and job.hangs_up:
                    stream.close()  # type: ignore[attr-defined]  # typed as an iterator, is a generator
                    seen.status = names.CANCELLED
                    break
        return seen.status

    async def _ainvoke(self, job: Job, value: Any) -> str:
        graph = self._graphs[job.graph, job.team]
        with self._watch(job) as seen:
            if not job.streaming and not job.hangs_up:
                seen.result(await graph.ainvoke(value, job.config))
                return seen.status
            stream = graph.astream(value, job.config, stream_mode=_STREAM)
            async for mode, part in stream:
                if seen.part(mode, part) and job.hangs_up:
                    await stream.aclose()  # type: ignore[attr-defined]
                    seen.status = names.CANCELLED
                    break
        return seen.status

    @contextmanager
    def _watch(self, job: Job) -> Iterator[_Seen]:
        """Charge the job's team, and count the invocation as what it came to; expected failures end here."""
        seen = _Seen()
        with spending_as(job.team):
            try:
                yield seen
            except self._models.failures:
                seen.status = names.ERROR
        self._tally.run(job.graph, job.team, seen.status)


class _Seen:
    """What an invocation has shown so far."""

    status = names.OK

    def result(self, state: Mapping[str, Any]) -> None:
        if "__interrupt__" in state:
            self.status = names.INTERRUPTED

    def part(self, mode: str, part: Any) -> bool:
        """Look at one streamed part; True when it says that a node has ended."""
        if mode != "updates":
            return False
        self.result(part)
        return True


def _inputs(job: Job) -> Iterator[Any]:
    yield job.input
    for answer in job.answers:
        yield Command(resume=answer)
