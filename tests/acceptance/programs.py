"""Programs that acceptance tests run in processes of their own, as an application would."""

from __future__ import annotations

EXAMPLES = """
import json, os
from graphmeter import flush, meter
from graphmeter_examples.workload import Workload, run_workload

tally = run_workload(meter, workload=Workload(seed=3, runs=int(os.environ.get("RUNS", "40"))), time_scale=0.0)
assert flush(60)
print(json.dumps({
    "runs": sum(tally.runs.values()),
    "attempts": sum(tally.attempts.values()),
    "executions": sum(tally.executions.values()),
    "model_calls": sum(tally.model_calls.values()),
    "tool_calls": sum(tally.tool_calls.values()),
    "cost_nano": sum(tally.cost_nano.values()),
}))
"""
"""Runs the example graphs, measured, and prints their known truth as one line of JSON."""

EXAMPLES_IN_DETAIL = """
import json, os
from graphmeter import flush, meter
from graphmeter_examples.tally import by
from graphmeter_examples.workload import Workload, run_workload

seed = int(os.environ["SEED"])
tally = run_workload(meter, workload=Workload(seed=seed, runs=int(os.environ["RUNS"])), time_scale=0.01)
assert flush(60)
print(json.dumps({
    "runs": [[*key, count] for key, count in by(tally.runs, "graph", "team", "status").items()],
    "executions": [[*key, count] for key, count in by(tally.executions, "graph", "node", "status").items()],
    "model_calls": [[*key, count] for key, count in by(tally.model_calls, "model", "status").items()],
    "tokens": [[*key, count] for key, count in by(tally.tokens, "model", "type").items()],
    "cost_nano": [[*key, nano] for key, nano in by(tally.cost_nano, "team", "model").items()],
}))
"""
"""The same of any seed, and the truth by group: rows of label values and a count."""

GAPS = """
from operator import add
from typing import Annotated, TypedDict
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph
from graphmeter import flush, meter

class Model(BaseChatModel):
    model: str
    provider: str = "openai"
    silent: bool = False

    @property
    def _llm_type(self):
        return "fake"

    @property
    def _identifying_params(self):
        return {"model": self.model}

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": self.provider, "ls_model_name": self.model, "ls_model_type": "chat"}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
        message = AIMessage(
            content="hello",
            usage_metadata=None if self.silent else usage,
            response_metadata={"model_name": self.model},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

class State(TypedDict, total=False):
    texts: Annotated[list[str], add]

models = {
    "cached": Model(model="gpt-4o-mini", cache=InMemoryCache()),
    "unpriced": Model(model="house-blend", provider="acme"),
    "silent": Model(model="gpt-4o", silent=True),
}
builder = StateGraph(State)
for name, model in models.items():
    builder.add_node(name, lambda state, model=model: {"texts": [model.invoke("hello").content]})
    builder.add_edge(START, name)
graph = meter(builder.compile(), name="gaps", team="platform")
for _ in range(3):
    graph.invoke({})
assert flush(60)
"""
"""Three runs of a graph named `gaps` for team platform: in each, one call that is cached after the first one (1000 tokens in
and 100 out), one of a model without a price, and one that reports no usage."""

ASKING = """
import os, pickle
from pathlib import Path
from typing import TypedDict
from uuid import UUID
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from graphmeter import flush, meter, outcome, tag

class State(TypedDict, total=False):
    answer: str

def approve(state):
    return {"answer": interrupt("refund?")}

kept = Path(os.environ["CHECKPOINTS"])
saver = InMemorySaver()
if kept.exists():
    storage, writes, blobs = pickle.loads(kept.read_bytes())
    for thread, namespaces in storage.items():
        for namespace, checkpoints in namespaces.items():
            saver.storage[thread][namespace].update(checkpoints)
    saver.writes.update(writes)
    saver.blobs.update(blobs)

builder = StateGraph(State)
builder.add_node("approve", approve)
builder.add_edge(START, "approve")
graph = meter(builder.compile(checkpointer=saver), name="refund", team="cx")
run_id = os.environ["RUN_ID"]
config = {"configurable": {"thread_id": "chat-1"}, "run_id": UUID(run_id)}
answer = os.environ.get("ANSWER")
graph.invoke(Command(resume=answer) if answer else {}, config)
if answer:
    outcome("refunded", good=True, value=12.5, run_id=run_id)
    tag(run_id, reviewed=True)
storage = {thread: {ns: dict(of) for ns, of in namespaces.items()} for thread, namespaces in saver.storage.items()}
kept.write_bytes(pickle.dumps((storage, dict(saver.writes), dict(saver.blobs))))
assert flush(60)
"""
"""Asks a human and ends; started again with ANSWER, on the checkpoints that the first one left behind, goes on."""

ENDLESS = """
import time
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from graphmeter import meter

class State(TypedDict):
    text: str

def quick(state):
    return {"text": "on my way"}

def endless(state):
    time.sleep(600)

graph = StateGraph(State)
graph.add_node("quick", quick)
graph.add_node("endless", endless)
graph.add_edge(START, "quick")
graph.add_edge("quick", "endless")
graph.add_edge("endless", END)
meter(graph.compile(), name="doomed", team="cx").invoke({"text": ""})
"""
"""Runs a graph named `doomed` for team cx, whose second node does not end."""
