"""Thrift: a desk that knows its budget. A question in; the best answer that there is money for out.

    draft → END

`draft` takes the large model while money is plentiful and the small one when less than a fifth of the budget is left; a
guard stops it when nothing is left, and the application answers with what costs nothing; where a question is urgent, a human
is asked first whether it may be answered all the same. `python -m graphmeter_examples.thrift` shows a day of that, without
keys and without a collector; with `GRAPHMETER_ENDPOINT` it spends the budget `thrift` of that collector.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import uuid4

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

import graphmeter
from graphmeter import BudgetExceeded, BudgetGuard
from graphmeter_examples.model import NO_TROUBLE
from graphmeter_examples.models import Models, StandIns
from graphmeter_examples.step import Call, Step

NAME = "thrift"
BUDGET = "thrift"
"""In graphmeter.yaml: `budgets: [{name: thrift, limit_usd: 0.02, period: day, match: {graph: thrift}}]`."""
FALLBACK = "All our answers for today are given. Here is the handbook: https://example.com/handbook"
LITTLE = 0.2
"""Share of the budget below which the small model answers."""


class Question(TypedDict, total=False):
    """State of the graph."""

    question: str
    urgent: bool
    answer: str
    model: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a customer gets."""

    text: str
    by: str
    """The model that answered; empty: the handbook did."""
    allowed: bool = False
    """A human allowed it, though nothing was left."""


Graph = CompiledStateGraph[Question, Any, Any, Any]
Human = Callable[[Mapping[str, Any]], bool]
"""Is shown the question of `gate()`: which budget is used up; says whether to go on."""


def build(models: Models, checkpointer: BaseCheckpointSaver[str] | None = None) -> Graph:
    """The compiled graph, guarded by nobody yet; input `{"question": …, "urgent": …}`, output has `answer` and `model`."""
    sizes = {"gpt-4o": models(NAME, "draft", "gpt-4o"), "gpt-4o-mini": models(NAME, "draft", "gpt-4o-mini")}

    async def draft(state: Question, call: Call) -> Question:
        if state.get("urgent"):
            # First of all: a node that was answered runs again from its beginning.
            graphmeter.budget.gate(BUDGET)
        little = graphmeter.budget.status(BUDGET).remaining_ratio < LITTLE
        chosen = "gpt-4o-mini" if little else "gpt-4o"
        reply = await call(sizes[chosen], [SystemMessage("Answer the customer."), HumanMessage(state["question"])])
        return {"answer": reply.text, "model": chosen}

    graph = StateGraph(Question)
    graph.add_node("draft", Step(draft, models.tally, NAME, "draft"))
    graph.add_edge(START, "draft")
    graph.add_edge("draft", END)
    return graph.compile(name=NAME, checkpointer=checkpointer or InMemorySaver())


def guarded(graph: Graph, *, guard: BudgetGuard | str = BUDGET, **meter: Any) -> Graph:
    """The graph, measured, and stopped before a model call when the budget is used up."""
    return graphmeter.meter(graph, name=NAME, budget=guard, **meter)


def ask(graph: Graph, question: str, *, urgent: bool = False, human: Human = lambda _: False) -> Answer:
    """The application's way to use it: nobody who asks sees an error."""
    config: RunnableConfig = {"configurable": {"thread_id": uuid4().hex}}
    allowed = False
    try:
        found = graph.invoke({"question": question, "urgent": urgent}, config)
        while waiting := found.get("__interrupt__"):
            allowed = human(waiting[0].value)
            answer = graphmeter.budget.CONTINUE if allowed else graphmeter.budget.STOP
            found = graph.invoke(Command(resume=answer), config)
    except BudgetExceeded:
        return Answer(FALLBACK, "")
    return Answer(found["answer"], found["model"], allowed)


def day(graph: Graph, questions: int, human: Human) -> Iterator[Answer]:
    """Customers who ask one after the other; every fifth is in a hurry."""
    for number in range(1, questions + 1):
        yield ask(graph, f"Question {number}: how do I export my data?", urgent=number % 5 == 0, human=human)


def main() -> None:
    """Print a day of it."""

    def human(question: Mapping[str, Any]) -> bool:
        print(f"    a human is asked: {question['message']}; go on? yes")
        return True

    with ExitStack() as stack:
        if not os.environ.get("GRAPHMETER_ENDPOINT"):
            # Stands in for a collector, as in tests; the extra `prices` says what the stand-in models would cost.
            from graphmeter.testing import budgets, measure

            stack.enter_context(measure())
            stack.enter_context(budgets(thrift={"limit_usd": "0.02"}))
        graph = guarded(build(StandIns(trouble=NO_TROUBLE)))
        for number, answer in enumerate(day(graph, 20, human), 1):
            left = graphmeter.budget.status(BUDGET)
            print(f"{number:>3}  {answer.by or 'handbook':<12}  {left.remaining:8.5f} USD left")
        graphmeter.flush()


if __name__ == "__main__":
    main()
