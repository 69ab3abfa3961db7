"""Support desk: a question in, an answer out.

    classify ─┬─ handbook → answer        technical: a retriever, then a model
              ├─ billing: lookup → decide   a subgraph over a database
              └─ smalltalk

Conditional edges, a retriever and a subgraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphmeter_examples.invoices import Found, Invoices
from graphmeter_examples.luck import Luck
from graphmeter_examples.models import Models
from graphmeter_examples.retrieval import KeywordRetriever
from graphmeter_examples.step import Body, Call, Step

NAME = "support"

_HANDBOOK = (
    "Sign in fails after a password change until every device is signed out once.",
    "Exports are written as CSV; files over 2 GB are split by month.",
    "Webhooks are retried for a day with growing pauses, then switched off.",
    "An API key can be limited to addresses and to reading.",
    "The mobile app keeps the last thirty days for use without a connection.",
)
_CUSTOMER = re.compile(r"\bC-\d+\b")


class Ticket(TypedDict, total=False):
    """State of the graph and of its subgraph."""

    question: str
    topic: str
    passages: list[str]
    invoices: list[str]
    answer: str


def build(models: Models, invoices: Runnable[str, Found] | None = None) -> CompiledStateGraph[Ticket]:
    """The compiled graph; input `{"question": …}`, output has `answer`."""
    classifier = models(NAME, "classify", "gpt-4o-mini")
    writer = models(NAME, "answer", "claude-sonnet-4-5")
    host = models(NAME, "smalltalk", "gpt-4o-mini")
    handbook = KeywordRetriever(
        name="handbook",
        passages=_HANDBOOK,
        graph=NAME,
        node="handbook",
        time_scale=models.time_scale,
        luck=models.luck,
        tally=models.tally,
    )
    billing = _billing(models, invoices or Invoices())

    async def classify(ticket: Ticket, call: Call) -> Ticket:
        rules = "Sort the customer's message. Reply with one of: technical, billing, smalltalk"
        reply = await call(classifier, [SystemMessage(rules), HumanMessage(ticket["question"])])
        return {"topic": reply.text.strip().lower()}

    async def look_up(ticket: Ticket, call: Call) -> Ticket:
        return {"passages": [found.page_content for found in await call(handbook, ticket["question"])]}

    async def answer(ticket: Ticket, call: Call) -> Ticket:
        rules = "Answer from these passages only:\n" + "\n".join(ticket["passages"])
        reply = await call(writer, [SystemMessage(rules), HumanMessage(ticket["question"])])
        return {"answer": reply.text}

    async def settle(ticket: Ticket, call: Call) -> Ticket:
        question: Ticket = {"question": ticket["question"]}
        settled = await call(billing, question)
        return {"answer": settled["answer"], "invoices": settled["invoices"]}

    async def chat(ticket: Ticket, call: Call) -> Ticket:
        reply = await call(host, [SystemMessage("Be kind and short."), HumanMessage(ticket["question"])])
        return {"answer": reply.text}

    def step(path: str, body: Body) -> Step:
        return Step(body, models.tally, NAME, path)

    graph = StateGraph(Ticket)
    graph.add_node("classify", step("classify", classify))
    graph.add_node("handbook", step("handbook", look_up))
    graph.add_node("answer", step("answer", answer))
    graph.add_node("billing", step("billing", settle))
    graph.add_node("smalltalk", step("smalltalk", chat))
    graph.add_edge(START, "classify")
    graph.add_conditional_edges("classify", _route, ["handbook", "billing", "smalltalk"])
    graph.add_edge("handbook", "answer")
    graph.add_edge("answer", END)
    graph.add_edge("billing", END)
    graph.add_edge("smalltalk", END)
    return graph.compile(name=NAME)


def _route(ticket: Ticket) -> str:
    # A model may add a full stop or a word of its own; what it does not know is a technical question.
    topic = ticket["topic"]
    return "billing" if "billing" in topic else "smalltalk" if "smalltalk" in topic else "handbook"


def _billing(models: Models, invoices: Runnable[str, Found]) -> CompiledStateGraph[Ticket]:
    clerk = models(NAME, "billing.decide", "gpt-4o")

    async def lookup(ticket: Ticket, call: Call) -> Ticket:
        customer = _CUSTOMER.search(ticket["question"])
        found = await call(invoices, customer[0]) if customer else []
        return {"invoices": [f"{number}: {cents / 100:.2f} USD" for number, cents in found]}

    async def decide(ticket: Ticket, call: Call) -> Ticket:
        rules = "Open invoices: " + ("; ".join(ticket["invoices"]) or "none")
        reply = await call(clerk, [SystemMessage(rules), HumanMessage(ticket["question"])])
        return {"answer": reply.text}

    graph = StateGraph(Ticket)
    graph.add_node("lookup", Step(lookup, models.tally, NAME, "billing.lookup"))
    graph.add_node("decide", Step(decide, models.tally, NAME, "billing.decide"))
    graph.add_edge(START, "lookup")
    graph.add_edge("lookup", "decide")
    graph.add_edge("decide", END)
    return graph.compile(name="billing")


def question(luck: Luck, ticket: int) -> Mapping[str, Any]:
    """The input of ticket number `ticket`: every ticket reads differently, so every one has a fate of its own."""
    customer = f"C-{100 + luck.between(0, 44, 'customer', str(ticket))}"
    wish = luck.pick(
        (
            "a billing question: why was I charged twice",
            "a technical problem: sign in fails after a password change",
            "a technical problem: the export stops at 2 GB",
            "webhooks are gone since yesterday, please look into it",
            "some smalltalk: thanks for the quick help last week",
        ),
        "wish",
        str(ticket),
    )
    return {"question": f"Ticket T-{ticket} from customer {customer}, {wish}."}
