"""Research by map and reduce: a question in, a report out.

    plan ─┬─ search (one per sub-question, by Send) ─┬─ write
          └─ background ─────────────────────────────┘

Parallel branches, `Send` and retries. `search` asks a model to word the query and then an index that is busy at times: a
failed attempt has been paid for, and is run again. Branches never fail for good: in an async graph a failed branch
cancels its siblings wherever they happen to be, and no total could be known beforehand.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy, Send

from graphmeter_examples.luck import Luck
from graphmeter_examples.models import Models
from graphmeter_examples.retrieval import IndexBusy, KeywordRetriever
from graphmeter_examples.step import Body, Call, Step

NAME = "research"

_ARCHIVE = (
    "Ferries replaced the last cargo barges on the northern lakes within ten years.",
    "Heat pumps in old buildings need larger radiators before they need insulation.",
    "City bees find more kinds of flowers than bees among fields.",
    "Night trains came back where airports closed at night.",
    "Seagrass meadows hold more carbon than the same area of forest.",
)
_TOPICS = ("heat pumps in old buildings", "night trains", "seagrass meadows", "city bees", "ferries on northern lakes")
_BUSY = 0.08
"""Share of searches that the index refuses the first time."""


class Report(TypedDict, total=False):
    """State of the graph."""

    question: str
    parts: list[str]
    findings: Annotated[list[str], operator.add]
    background: str
    report: str


class Search(TypedDict):
    """What one branch is sent."""

    part: str


def build(models: Models) -> CompiledStateGraph[Report]:
    """The compiled graph; input `{"question": …}`, output has `report`."""
    planner = models(NAME, "plan", "o4-mini")
    searcher = models(NAME, "search", "gemini-2.5-flash")
    historian = models(NAME, "background", "gpt-4o-mini")
    writer = models(NAME, "write", "claude-sonnet-4-5")
    archive = KeywordRetriever(
        name="archive",
        passages=_ARCHIVE,
        graph=NAME,
        node="search",
        busy=_BUSY,
        time_scale=models.time_scale,
        luck=models.luck,
        tally=models.tally,
    )

    async def plan(state: Report, call: Call) -> Report:
        rules = "Split the question into at most 4 questions, one a line."
        reply = await call(planner, [SystemMessage(rules), HumanMessage(state["question"])])
        return {"parts": [line.strip() for line in reply.text.splitlines() if line.strip()][:4]}

    async def search(state: Search, call: Call) -> Report:
        part = state["part"]
        try:
            reply = await call(searcher, [SystemMessage("Word a search query."), HumanMessage(part)])
        except models.failures as error:
            if _is_transient(error):
                raise
            return {"findings": [f"{part} Nothing was found: {error}"]}
        found = await call(archive, f"{part} {reply.text}")
        return {"findings": [f"{part} {found[0].page_content}"]}

    async def background(state: Report, call: Call) -> Report:
        try:
            reply = await call(historian, [SystemMessage("Give the background."), HumanMessage(state["question"])])
        except models.failures as error:
            return {"background": f"The background is missing: {error}"}
        return {"background": reply.text}

    async def write(state: Report, call: Call) -> Report:
        # Branches end in any order, LangGraph merges them in the order they were sent.
        notes = "\n".join([state["background"], *state["findings"]])
        reply = await call(
            writer, [SystemMessage(f"Write a report from these notes:\n{notes}"), HumanMessage("Go on.")]
        )
        return {"report": reply.text}

    pause_s = 0.2 * models.time_scale
    patient = RetryPolicy(initial_interval=pause_s, max_attempts=6, jitter=False, retry_on=_is_transient)
    stubborn = RetryPolicy(initial_interval=pause_s, max_attempts=3, jitter=False, retry_on=_may_recover)

    graph = StateGraph(Report)

    def add(name: str, body: Body, retry: RetryPolicy | None = None, input_schema: type | None = None) -> None:
        step = Step(body, models.tally, NAME, name, retry)
        graph.add_node(name, step, retry_policy=retry, input_schema=input_schema or Report)

    add("plan", plan)
    add("search", search, patient, Search)
    add("background", background)
    add("write", write, stubborn)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _branch, ["search", "background"])
    graph.add_edge(["search", "background"], "write")
    graph.add_edge("write", END)
    return graph.compile(name=NAME)


def _branch(state: Report) -> list[Send | str]:
    return ["background", *(Send("search", {"part": part}) for part in state["parts"])]


def _is_transient(error: Exception) -> bool:
    """True when the same call may well succeed the next time. Providers' errors carry HTTP's status code."""
    return isinstance(error, IndexBusy) or getattr(error, "status_code", None) == 429


def _may_recover(error: Exception) -> bool:
    return _is_transient(error) or getattr(error, "status_code", 0) >= 500


def question(luck: Luck, number: int) -> Mapping[str, Any]:
    """The input of research number `number`."""
    return {"question": f"What is known about {luck.pick(_TOPICS, 'topic', str(number))}, case {number}?"}
