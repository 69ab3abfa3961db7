"""Each example graph does what its picture says, and the tally counts it: by hand, on a trouble-free provider."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.types import Command

from graphmeter import names
from graphmeter_examples import agent, approval, research, support
from graphmeter_examples.invoices import Invoices
from graphmeter_examples.model import NO_TROUBLE, InternalServerError, Trouble
from graphmeter_examples.models import StandIns
from graphmeter_examples.tally import Attempt, by


def attempts(models: StandIns) -> dict[tuple[str, ...], int]:
    return by(models.tally.attempts, "node", "status")


def ok(*nodes: str) -> dict[tuple[str, ...], int]:
    return {(node, names.OK): 1 for node in nodes}


@pytest.mark.parametrize(
    ("question", "nodes"),
    [
        ("A technical problem.", ("classify", "handbook", "answer")),
        ("A billing question of C-104.", ("classify", "billing.lookup", "billing.decide", "billing")),
        ("Just smalltalk.", ("classify", "smalltalk")),
    ],
    ids=["technical", "billing", "smalltalk"],
)
async def test_support_takes_the_branch_that_the_model_chose(question: str, nodes: tuple[str, ...]) -> None:
    for asynchronous in (False, True):
        models = StandIns(trouble=NO_TROUBLE)
        graph = support.build(models)
        ticket = await graph.ainvoke({"question": question}) if asynchronous else graph.invoke({"question": question})
        assert ticket["answer"]
        assert ok(*nodes) == attempts(models)


def test_a_billing_run_adds_up_by_hand() -> None:
    models = StandIns(trouble=NO_TROUBLE)
    support.build(models).invoke({"question": "A billing question of C-104."})
    tally = models.tally
    assert by(tally.model_calls, "node", "model", "status") == {
        ("classify", "gpt-4o-mini-2024-07-18", names.OK): 1,
        ("billing.decide", "gpt-4o-2024-08-06", names.OK): 1,
    }
    small = {key.type: count for key, count in tally.tokens.items() if key.node == "classify"}
    large = {key.type: count for key, count in tally.tokens.items() if key.node == "billing.decide"}
    # Nano-USD per token: gpt-4o-mini 150 in, 75 cached, 600 out; gpt-4o 2500 in, 1250 cached, 10000 out.
    assert by(tally.cost_nano, "node") == {
        ("classify",): 150 * small["input"] + 75 * small.get("cache_read", 0) + 600 * small["output"],
        ("billing.decide",): 2500 * large["input"] + 1250 * large.get("cache_read", 0) + 10_000 * large["output"],
    }
    assert tally.executions == tally.attempts


def test_invoices_are_a_real_database() -> None:
    invoices = Invoices()
    assert invoices.open_invoices("C-105") == [("I-5045", 3655), ("I-5165", 8095)]
    assert invoices.open_invoices("C-999") == []


def _agent_with(tool: str, status: str) -> tuple[StandIns, list[Any]]:
    """The first conversation in which the agent's tool ended so."""
    for number in range(60):
        models = StandIns(trouble=NO_TROUBLE)
        state = agent.build(models).invoke(dict(agent.wish(models.luck, number)))
        if by(models.tally.tool_calls, "tool", "status")[tool, status]:
            return models, state["messages"]
    raise AssertionError(f"no {tool} ended with {status} in 60 conversations")


def test_the_agents_failed_tool_is_an_answer_and_not_the_end() -> None:
    models, messages = _agent_with("check_stock", names.ERROR)
    failed = [m for m in messages if isinstance(m, ToolMessage) and m.status == "error"]
    assert len(failed) == by(models.tally.tool_calls, "status")[names.ERROR,]
    assert messages[-1].content
    # One run of `tools` per call, one of `model` per call of the model; a handled failure is no failed node.
    assert attempts(models) == {
        ("model", names.OK): models.tally.model_calls.total(),
        ("tools", names.OK): models.tally.tool_calls.total(),
    }


async def test_the_agent_does_the_same_async() -> None:
    sync, awaited = StandIns(), StandIns()
    wishes = [dict(agent.wish(sync.luck, number)) for number in range(12)]
    sync_agent, async_agent = agent.build(sync), agent.build(awaited)
    for wish in wishes:
        outcomes = []
        for run in (lambda w=wish: sync_agent.invoke(w), None):
            try:
                state = run() if run else await async_agent.ainvoke(wish)
                outcomes.append(state["messages"][-1].content)
            except sync.failures as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
    assert sync.tally == awaited.tally


def test_the_agent_ends_when_its_model_breaks() -> None:
    models = StandIns(trouble=Trouble(0.0, 1.0))
    with pytest.raises(InternalServerError):
        agent.build(models).invoke({"messages": [HumanMessage("Where is my order A-1000?")]})
    assert attempts(models) == {("model", names.ERROR): 1}


def test_research_searches_every_part_and_retries_what_may_recover() -> None:
    models = StandIns(trouble=Trouble(rate_limited=1.0, broken=0.0))
    with pytest.raises(models.failures):  # `plan` has no retry policy
        research.build(models).invoke({"question": "What about bees?"})
    assert models.tally.attempts == {Attempt("research", "plan", names.ERROR, True): 1}
    # The refused conversation passes now; each of the next nodes is refused once, and tried again where it may be.
    report = research.build(models).invoke({"question": "What about bees?"})
    parts = len(report["parts"])
    assert len(report["findings"]) == parts
    assert report["background"].startswith("The background is missing")
    assert report["report"]
    tries = by(models.tally.attempts, "node", "status", "final")
    assert tries["search", names.OK, "True"] == parts
    assert tries["search", names.ERROR, "False"] >= parts
    assert tries["write", names.ERROR, "False"] == 1
    assert tries["write", names.OK, "True"] == 1
    assert by(models.tally.executions, "node", "status")["background", names.OK] == 1


def test_research_gives_up_after_three_tries_of_writing() -> None:
    models = StandIns(trouble=NO_TROUBLE)
    broken = StandIns(tally=models.tally, trouble=Trouble(0.0, 1.0))
    usual = models.__class__.__call__

    class Writerless(StandIns):
        def __call__(self, graph: str, node: str, model: str) -> Any:
            return usual(broken if node == "write" else models, graph, node, model)

    with pytest.raises(InternalServerError):
        research.build(Writerless(tally=models.tally)).invoke({"question": "What about bees?"})
    tries = by(models.tally.attempts, "node", "status", "final")
    assert {key: tries[key] for key in tries if key[0] == "write"} == {
        ("write", names.ERROR, "False"): 2,
        ("write", names.ERROR, "True"): 1,
    }


async def test_approval_waits_and_goes_on() -> None:
    models = StandIns(trouble=NO_TROUBLE)
    graph = approval.build(models)
    config: Any = {"configurable": {"thread_id": "letter-1"}}
    waiting = graph.invoke({"request": "A thank-you note."}, config)
    assert "__interrupt__" in waiting
    again = await graph.ainvoke(Command(resume=approval.CHANGE), config)
    assert "__interrupt__" in again
    done = graph.invoke(Command(resume=approval.APPROVE), config)
    assert done["published"]
    assert attempts(models) == {
        ("draft", names.OK): 1,
        ("review", names.INTERRUPTED): 2,
        ("review", names.OK): 2,
        ("revise", names.OK): 1,
        ("publish", names.OK): 1,
    }
    assert models.tally.executions == models.tally.attempts
