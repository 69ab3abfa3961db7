"""Spans of real auto-instrumentations (httpx, asyncpg, SQLAlchemy, redis) lie exactly where they were opened: below the
node, the model call or the tool, in one tree with ours, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
import redis
import redis.asyncio
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import Connection, create_engine, text

from callbacks.application import Application
from callbacks.fakes import FakeChat, FakeStreamingChat, State, chain_of, nothing
from callbacks.neighbours import servers
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


@dataclass
class Things:
    """Instrumented clients, each ready to be used."""

    url: str
    http: httpx.Client
    database: Connection
    cache: redis.Redis

    def get(self) -> None:
        assert "ok" == self.http.get(self.url).text

    def post(self) -> None:
        assert "ok" == self.http.post(self.url).text

    def query(self) -> None:
        assert 1 == self.database.execute(text("SELECT 1")).scalar_one()

    def remember(self) -> None:
        assert b"yes" == self.cache.get("key")


@dataclass
class AsyncThings:
    """The same, asynchronous."""

    url: str
    http: httpx.AsyncClient
    database: Any
    cache: Any

    async def get(self) -> None:
        assert "ok" == (await self.http.get(self.url)).text

    async def post(self) -> None:
        assert "ok" == (await self.http.post(self.url)).text

    async def query(self) -> None:
        assert 1 == await self.database.fetchval("SELECT 1")

    async def remember(self) -> None:
        assert b"yes" == await self.cache.get("key")


@pytest.fixture
def things(app: Application) -> Iterator[Things]:
    engine = create_engine("sqlite://", connect_args={"check_same_thread": False})
    with servers.http() as url, servers.redis() as port, httpx.Client(trust_env=False) as client:
        cache = redis.Redis(port=port)
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=app.provider)
        RedisInstrumentor.instrument_client(cache, tracer_provider=app.provider)
        # It declares itself unfit for our SQLAlchemy, and is not.
        SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=app.provider, skip_dep_check=True)
        cache.ping()
        with engine.connect() as database:
            app.exporter.clear()
            yield Things(url, client, database, cache)
        SQLAlchemyInstrumentor().uninstrument()
        cache.close()
        engine.dispose()


@pytest.fixture
async def async_things(app: Application, postgres_server: Any) -> AsyncIterator[AsyncThings]:
    instrumentor: Any = AsyncPGInstrumentor  # untyped
    instrumentor().instrument(tracer_provider=app.provider)
    with servers.http() as url, servers.redis() as port:
        database = await asyncpg.connect(postgres_server.url)
        cache = redis.asyncio.Redis(port=port)
        async with httpx.AsyncClient(trust_env=False) as client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=app.provider)
            RedisInstrumentor.instrument_client(cache, tracer_provider=app.provider)
            await cache.ping()
            app.exporter.clear()
            yield AsyncThings(url, client, database, cache)
        await cache.aclose()
        await database.close()
    instrumentor().uninstrument()


class AsyncChat(FakeChat):
    """Awaits `within` inside of every call."""

    within: Callable[[], Any]

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await self.within()
        return self._result()


def config(spans: InMemorySpans) -> Any:
    return {"callbacks": [spans.handler()]}


WHOLE = """\
[POST /chat]
  [GET]
  run demo
    node work
      [GET]
      [{query}]
      model gpt-4o-mini
        [POST]
      tool look
        [{cached}]
      [GET]
  [GET]"""


def test_a_node_a_model_call_and_a_tool_hold_what_they_do(
    spans: InMemorySpans, app: Application, things: Things
) -> None:
    model = FakeChat(seen=things.post)

    @tool
    def look(what: str) -> str:
        """Looks it up."""
        things.remember()
        return what

    def work(state: State) -> State:
        things.get()
        things.query()
        model.invoke("hi")
        look.invoke({"what": "x"})
        things.get()
        return {"x": 1}

    with app.tracer.start_as_current_span("POST /chat"):
        things.get()
        chain_of(("work", work)).invoke({}, config=config(spans))
        things.get()
    assert WHOLE.format(query="SELECT", cached="GET") == app.tree(spans).replace("SELECT :memory:", "SELECT")
    assert 1 == len({span.context.trace_id for span in app.finished()} | {span.trace_id for span in spans.all()})


async def test_the_same_in_an_asynchronous_graph(
    spans: InMemorySpans, app: Application, async_things: AsyncThings
) -> None:
    things = async_things
    model = AsyncChat(within=things.post)

    @tool
    async def look(what: str) -> str:
        """Looks it up."""
        await things.remember()
        return what

    async def work(state: State) -> State:
        await things.get()
        await things.query()
        await model.ainvoke("hi")
        await look.ainvoke({"what": "x"})
        await things.get()
        return {"x": 1}

    with app.tracer.start_as_current_span("POST /chat"):
        await things.get()
        await chain_of(("work", work)).ainvoke({}, config=config(spans))
        await things.get()
    assert WHOLE.format(query="SELECT", cached="GET") == app.tree(spans).replace("SELECT postgres", "SELECT")
    assert 1 == len({span.context.trace_id for span in app.finished()} | {span.trace_id for span in spans.all()})


def fan(work: Callable[[State], Any], **options: Any) -> Any:
    """Two nodes at once, then one."""
    builder: Any = StateGraph(State)
    for name in ("left", "right", "last"):
        builder.add_node(name, work)
    builder.add_edge(START, "left")
    builder.add_edge(START, "right")
    builder.add_edge(["left", "right"], "last")
    return builder.compile(name="demo", **options)


FAN = """\
run demo
  node left
    [GET]
  node right
    [GET]
  node last
    [GET]"""


def by_name(tree: str) -> str:
    """Of two nodes that start at once, either may be first."""
    lines = tree.splitlines()
    if "  node right" in lines and lines.index("  node right") < lines.index("  node left"):
        tree = (
            tree.replace("node right", "node l").replace("node left", "node right").replace("node l\n", "node left\n")
        )
    return tree


def test_nodes_in_threads_at_once_hold_their_own(spans: InMemorySpans, app: Application, things: Things) -> None:
    def work(state: State) -> None:
        things.get()

    fan(work).invoke({"x": 1}, config=config(spans))
    assert FAN == by_name(app.tree(spans))


async def test_nodes_in_tasks_at_once_hold_their_own(
    spans: InMemorySpans, app: Application, async_things: AsyncThings
) -> None:
    async def work(state: State) -> None:
        await async_things.get()

    await fan(work).ainvoke({"x": 1}, config=config(spans))
    assert FAN == by_name(app.tree(spans))


async def test_calls_that_are_gathered_hold_their_own(
    spans: InMemorySpans, app: Application, async_things: AsyncThings
) -> None:
    async def work(state: State) -> State:
        model: BaseChatModel = AsyncChat(within=async_things.post)
        await asyncio.gather(*(model.ainvoke("hi") for _ in range(3)), async_things.get())
        await async_things.query()
        return {"x": 1}

    await chain_of(("work", work)).ainvoke({}, config=config(spans))
    lines = app.tree(spans).replace("SELECT postgres", "SELECT").splitlines()
    assert ["run demo", "  node work"] == lines[:2]
    assert 3 == "\n".join(lines).count("    model gpt-4o-mini\n      [POST]")
    assert ["    [GET]", "    [SELECT]"] == [line for line in lines if line.startswith("    [")]


@pytest.mark.parametrize("pool", ["LangChain's", "copied context", "bare"])
def test_pools_of_threads_nest_where_the_context_is_handed_over(
    spans: InMemorySpans, app: Application, things: Things, pool: str
) -> None:
    model = FakeChat(seen=things.post)

    def piece() -> None:
        things.get()
        model.invoke("hi")

    def work(state: State) -> State:
        if pool == "LangChain's":
            with ContextThreadPoolExecutor(2) as threads:
                list(threads.map(lambda _: piece(), range(2)))
        else:
            with ThreadPoolExecutor(1) as threads:
                for _ in range(2):
                    if pool == "bare":
                        threads.submit(things.get).result()
                    else:
                        threads.submit(contextvars.copy_context().run, piece).result()
        things.query()
        return {"x": 1}

    chain_of(("work", work)).invoke({}, config=config(spans))
    tree = app.tree(spans).replace("SELECT :memory:", "SELECT")
    if pool == "bare":  # a thread that nobody told where it is: nothing of it is ours, and nothing is guessed
        assert "run demo\n  node work\n    [SELECT]\n[GET]\n[GET]" == tree
    else:
        assert 2 == tree.count("\n    model gpt-4o-mini\n      [POST]")
        assert ["    [GET]", "    [GET]", "    [SELECT]"] == [
            line for line in tree.splitlines() if line.startswith("    [")
        ]


@pytest.mark.parametrize("way", ["batch", "sequence", "parallel"])
def test_batches_hold_their_own_and_leave_nothing_behind(
    spans: InMemorySpans, app: Application, things: Things, way: str
) -> None:
    def work(state: State) -> State:
        things.get()
        return {"x": 1}

    graph: Any = chain_of(("work", work))
    if way == "sequence":
        graph = RunnableLambda(lambda x: x) | graph
    elif way == "parallel":
        graph = RunnableParallel(only=graph)
    graph.batch([{}, {}], config={**config(spans), "max_concurrency": 1})
    things.post()
    one = "run demo\n  node work\n    [GET]"
    assert f"{one}\n{one}\n[POST]" == app.tree(spans)
    assert 3 == len({span.context.trace_id for span in app.finished()})


async def test_asynchronous_batches_hold_their_own_and_leave_nothing_behind(
    spans: InMemorySpans, app: Application, async_things: AsyncThings
) -> None:
    async def work(state: State) -> State:
        await async_things.get()
        return {"x": 1}

    await chain_of(("work", work)).abatch([{}, {}], config={**config(spans), "max_concurrency": 1})
    await async_things.post()
    one = "run demo\n  node work\n    [GET]"
    assert f"{one}\n{one}\n[POST]" == app.tree(spans)
    assert 3 == len({span.context.trace_id for span in app.finished()})


async def test_a_stream_that_several_tasks_drive_holds_its_own(
    spans: InMemorySpans, app: Application, async_things: AsyncThings
) -> None:
    async def work(state: State) -> State:
        await async_things.get()
        return {"x": 1}

    stream = chain_of(("a", work), ("b", work)).astream({}, config=config(spans))

    async def step(number: int) -> Any:
        with app.tracer.start_as_current_span(f"task {number}"):
            part = await anext(stream, None)
            # The task's own work is the task's, also while the run is open.
            with app.tracer.start_as_current_span(f"own {number}"):
                return part

    number = 0
    while await asyncio.create_task(step(number)) is not None:
        number += 1
    await async_things.post()
    ours = "  run demo\n    node a\n      [GET]\n    node b\n      [GET]\n"
    assert f"[task 0]\n{ours}  [own 0]\n[task 1]\n  [own 1]\n[task 2]\n  [own 2]\n[POST]" == app.tree(spans)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_between_the_parts_of_a_stream_the_caller_is_itself(
    spans: InMemorySpans, app: Application, things: Things, asynchronous: bool
) -> None:
    model = FakeStreamingChat(seen=things.post)

    def work(state: State) -> State:
        for part in model.stream("hi"):
            if part.content:
                things.get()  # the node's, not the model's
        return {"x": 1}

    graph = chain_of(("work", work), ("more", work))
    with app.tracer.start_as_current_span("POST /chat"):
        if asynchronous:
            async for _ in graph.astream({}, config=config(spans)):
                things.query()
                await asyncio.create_task(asyncio.to_thread(things.remember))
        else:
            for _ in graph.stream({}, config=config(spans)):
                things.query()
                things.remember()
    node = "    node {}\n      model gpt-4o-mini\n{}"
    got = "      [GET]\n" * 2
    expected = "[POST /chat]\n  run demo\n" + node.format("work", got) + node.format("more", got)
    tree = app.tree(spans).replace("SELECT :memory:", "SELECT")
    assert expected + "\n".join(["  [SELECT]", "  [GET]"] * 2) == tree


def test_a_span_around_the_next_part_of_a_stream_takes_no_node_away(spans: InMemorySpans, app: Application) -> None:
    with app.tracer.start_as_current_span("POST /chat"):
        stream = chain_of(("a", nothing), ("b", nothing)).stream({}, config=config(spans))
        next(stream)
        with app.tracer.start_as_current_span("next"):
            list(stream)
    assert "[POST /chat]\n  run demo\n    node a\n    node b\n  [next]" == app.tree(spans)


def test_what_a_checkpointer_does_is_part_of_the_run(spans: InMemorySpans, app: Application, things: Things) -> None:
    class Saver(InMemorySaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            things.post()
            return super().put(*args, **kwargs)

    graph = chain_of(("n", nothing), checkpointer=Saver())
    graph.invoke({}, config={**config(spans), "configurable": {"thread_id": "t"}}, durability="sync")
    lines = app.tree(spans).splitlines()
    assert ("run demo", {"  [POST]", "  node n"}) == (lines[0], set(lines[1:]))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_run_that_fails_or_is_left_leaves_nothing_behind(
    spans: InMemorySpans, app: Application, things: Things, asynchronous: bool
) -> None:
    def work(state: State) -> State:
        things.get()
        raise LookupError

    graph = chain_of(("fine", lambda _: {"x": 1}), ("work", work))
    if asynchronous:
        with pytest.raises(LookupError):
            await graph.ainvoke({}, config=config(spans))
        async for _ in (left := graph.astream({}, config=config(spans))):
            break
        await left.aclose()
    else:
        with pytest.raises(LookupError):
            graph.invoke({}, config=config(spans))
        for _ in (stream := graph.stream({}, config=config(spans))):
            break
        stream.close()
    things.post()
    failed = "run demo\n  node fine\n  node work\n    [GET]"
    assert f"{failed}\nrun demo\n  node fine\n[POST]" == app.tree(spans)
