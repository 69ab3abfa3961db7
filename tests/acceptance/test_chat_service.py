"""The example services under uvicorn, with the real collector: one trace from a request through the graph, over HTTP to a
second service, and to the database of that one."""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.processes import Collector, collector, serving, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BILLING = "A billing question of customer C-104: why was I charged twice?"
ROOT = ("POST /chat", "invoke_workflow support")
BILLING_GRAPH = (*ROOT, "invoke_node billing", "invoke_workflow billing")
LOOKUP = (*BILLING_GRAPH, "invoke_node lookup")
BILLING_TREE = {
    ROOT[:1],
    ROOT,
    (*ROOT, "invoke_node classify"),
    (*ROOT, "invoke_node classify", "chat gpt-4o-mini"),
    (*ROOT, "invoke_node billing"),
    BILLING_GRAPH,
    LOOKUP,
    (*LOOKUP, "GET"),
    (*LOOKUP, "GET", "GET /invoices/{customer}"),
    (*LOOKUP, "GET", "GET /invoices/{customer}", "SELECT invoice"),
    (*BILLING_GRAPH, "invoke_node decide"),
    (*BILLING_GRAPH, "invoke_node decide", "chat gpt-4o"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("collector")) as started:
        yield started


@pytest.fixture(scope="module")
def chat_url(running: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of the service, started as its users start it, and beside it the one that it asks for invoices."""
    environment = {
        "GRAPHMETER_ENDPOINT": running.url,
        # The services' own spans, which they batch as any application does.
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging",
    }
    uvicorn = [sys.executable, "-m", "uvicorn"]
    with (
        serving(
            tmp_path_factory.mktemp("billing"),
            [*uvicorn, "graphmeter_examples.billing:app"],
            "/openapi.json",
            **environment,
        ) as billing,
        serving(
            tmp_path_factory.mktemp("chat"),
            [*uvicorn, "graphmeter_examples.app:app"],
            "/openapi.json",
            GRAPHMETER_EXAMPLES_BILLING_URL=billing,
            **environment,
        ) as url,
    ):
        yield url


USERS = ("ada", "grace", "alan", "edsger")
CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
"""Trace and span of somebody who traces, too, and calls the service for the last of the users."""


@pytest.fixture(scope="module")
def answers(chat_url: str) -> dict[str, dict[str, Any]]:
    """What each user was told; all of them ask at the same time."""

    def say(user: str) -> dict[str, Any]:
        body = json.dumps({"message": BILLING, "user": user, "thread": f"thread of {user}"}).encode()
        headers = {"Content-Type": "application/json"}
        if user == USERS[-1]:
            headers["traceparent"] = f"00-{CALLER[0]}-{CALLER[1]}-01"
        request = urllib.request.Request(f"{chat_url}/chat", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    with ThreadPoolExecutor(len(USERS)) as pool:
        return dict(zip(USERS, pool.map(say, USERS), strict=True))


def spans_of(running: Collector, trace_id: str) -> list[dict[str, Any]]:
    """The trace as the collector shows it, once it is whole: both services and the client send their spans independently."""

    def complete() -> list[dict[str, Any]] | None:
        # The run is found by its trace id; until something of it has been stored there is none.
        if not any(run["trace_id"] == trace_id for run in running.get("/api/runs?limit=1000")):
            return None
        spans: list[dict[str, Any]] = running.get(f"/api/runs/{trace_id}/trace")
        return spans if len(spans) >= len(BILLING_TREE) else None

    found: list[dict[str, Any]] = until(f"the trace {trace_id}", complete)
    return found


def paths(spans: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Names from the root down to every span, by parent ids."""
    by_id = {span["span_id"]: span for span in spans}

    def path(span: dict[str, Any]) -> tuple[str, ...]:
        above = by_id.get(span["parent_id"])
        return (*(path(above) if above else ()), span["name"])

    return sorted(map(path, spans))


def test_a_request_is_one_trace_through_graph_and_second_service_to_the_database(
    running: Collector, answers: dict[str, dict[str, Any]]
) -> None:
    said = answers["ada"]
    spans = spans_of(running, said["trace_id"])

    assert "billing" == said["topic"]
    assert {said["trace_id"]} == {span["trace_id"] for span in spans}
    assert sorted(BILLING_TREE) == paths(spans)
    [root] = [span for span in spans if not span["parent_id"]]
    assert ("POST /chat", "span") == (root["name"], root["kind"])
    services = {span["name"]: span["service"] for span in spans if span["kind"] == "span"}
    assert {
        "POST /chat": "chat-app",
        "GET": "chat-app",
        "GET /invoices/{customer}": "billing-app",
        "SELECT invoice": "billing-app",
    } == services
    [query] = [span for span in spans if span["name"] == "SELECT invoice"]
    [lookup] = [span for span in spans if span["kind"] == "node" and span["node"] == "billing.lookup"]
    assert lookup["start_ns"] <= query["start_ns"]
    assert query["start_ns"] + query["duration_ns"] <= lookup["start_ns"] + lookup["duration_ns"]
    # One service had a run; the other took part in it.
    assert {"chat-app"} == {run["service"] for run in running.get("/api/runs?limit=1000")}


def test_the_run_of_a_request_is_attributed_and_priced(running: Collector, answers: dict[str, dict[str, Any]]) -> None:
    trace_id = answers["grace"]["trace_id"]
    spans = spans_of(running, trace_id)

    run = running.get(f"/api/runs/{trace_id}")
    expected = {
        "service": "chat-app",
        "environment": "staging",
        "graph": "support",
        "team": "web",
        "user_id": "grace",
        "thread_id": "thread of grace",
        "status": "ok",
        "model_calls": 2,
        "node_attempts": 4,
        "unpriced_calls": 0,
    }
    assert expected == {name: run[name] for name in expected}
    calls = [span for span in spans if span["kind"] == "model"]
    assert run["cost_nano"] == sum(span["cost_nano"] for span in calls) > 0
    spent = running.get("/api/cost?by=user_id,node&since=1h")
    assert {"billing.decide", "classify"} == {
        row["group"]["node"] for row in spent if row["group"]["user_id"] == "grace" and row["cost_nano"] > 0
    }


def test_requests_at_the_same_time_do_not_mix(running: Collector, answers: dict[str, dict[str, Any]]) -> None:
    assert len(USERS) == len({said["trace_id"] for said in answers.values()})
    for user, said in answers.items():
        assert sorted(BILLING_TREE) == paths(spans_of(running, said["trace_id"]))
        assert user == running.get(f"/api/runs/{said['trace_id']}")["user_id"]


def test_a_caller_that_traces_too_finds_the_run_in_its_own_trace(
    running: Collector, answers: dict[str, dict[str, Any]]
) -> None:
    trace_id, span_id = CALLER

    assert trace_id == answers[USERS[-1]]["trace_id"]
    spans = spans_of(running, trace_id)
    assert [span_id] == [span["parent_id"] for span in spans if span["name"] == "POST /chat"]
