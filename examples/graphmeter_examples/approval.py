"""Approval: a letter is drafted, waits for a human, and is published, changed or dropped.

    draft → review ─┬─ publish
              ↑     ├─ revise ─┐
              └─────┼──────────┘
                    └─ END (rejected)

An interrupt, a resume and a checkpointer: each wait ends a run, each answer starts another on the same thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

from graphmeter_examples.luck import Luck
from graphmeter_examples.models import Models
from graphmeter_examples.step import Body, Call, Step

NAME = "approval"

APPROVE = "approve"
CHANGE = "change"
REJECT = "reject"


class Letter(TypedDict, total=False):
    """State of the graph."""

    request: str
    text: str
    decision: str
    published: bool


def build(models: Models, checkpointer: BaseCheckpointSaver[str] | None = None) -> CompiledStateGraph[Letter]:
    """The compiled graph; input `{"request": …}`, resumed with one of APPROVE, CHANGE, REJECT."""
    author = models(NAME, "draft", "claude-haiku-4-5")
    editor = models(NAME, "revise", "claude-haiku-4-5")

    async def draft(letter: Letter, call: Call) -> Letter:
        reply = await call(author, [SystemMessage("Draft a letter."), HumanMessage(letter["request"])])
        return {"text": reply.text}

    async def review(letter: Letter, call: Call) -> Letter:
        return {"decision": interrupt({"approve?": letter["text"]})}

    async def revise(letter: Letter, call: Call) -> Letter:
        reply = await call(editor, [SystemMessage("Make it friendlier."), HumanMessage(letter["text"])])
        return {"text": reply.text}

    async def publish(letter: Letter, call: Call) -> Letter:
        return {"published": True}

    graph = StateGraph(Letter)
    bodies: dict[str, Body] = {"draft": draft, "review": review, "revise": revise, "publish": publish}
    for name, body in bodies.items():
        graph.add_node(name, Step(body, models.tally, NAME, name))
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "review")
    graph.add_conditional_edges("review", _decided, {APPROVE: "publish", CHANGE: "revise", REJECT: END})
    graph.add_edge("revise", "review")
    graph.add_edge("publish", END)
    return graph.compile(name=NAME, checkpointer=checkpointer or InMemorySaver())


def _decided(letter: Letter) -> str:
    return letter["decision"]


def request(luck: Luck, number: int) -> Mapping[str, Any]:
    """The input of letter number `number`."""
    kind = luck.pick(("an apology for a late parcel", "a thank-you note", "a reminder of an invoice"), "k", str(number))
    return {"request": f"Letter {number}: {kind}."}


def answers(luck: Luck, number: int) -> tuple[str, ...]:
    """What the human says to letter `number`, in order; empty when nobody ever answers."""
    return luck.pick(((APPROVE,), (APPROVE,), (CHANGE, APPROVE), (REJECT,), ()), "answers", str(number))
