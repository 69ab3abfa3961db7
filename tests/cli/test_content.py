"""`graphmeter trace --content`: what an application captured, through a real collector and on to the next one."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from callbacks.fakes import FakeChat, chain_of
from cli.running import json_of, run
from graphmeter import client, current_run, names
from graphmeter.handler import GraphMeterCallbackHandler
from graphmeter_cli.conversation import lines
from graphmeter_cli.demo import collector
from graphmeter_collector.store.content import captured
from support.ports import free_port

CANARY = "c4n4ry"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A collector that forwards to another one."""
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("last", "first")]
    with (
        collector.running(free_port(), folders[0], []) as last,
        collector.running(free_port(), folders[1], ["--forward", last.url]) as first,
    ):
        yield first.url, last.url


def measured(url: str, **options: Any) -> str:
    """Run a graph; its run id."""
    seen: list[str] = []

    def ask(state: Any) -> Any:
        FakeChat().invoke(f"{CANARY}, asks bob@example.com\nin two lines")
        here = current_run()
        assert here is not None
        seen.append(here.run_id)
        return {"x": 7}

    handler = GraphMeterCallbackHandler(endpoint=url, **options)
    chain_of(("ask", ask)).invoke({}, config={"callbacks": [handler]})
    assert client.pipeline(endpoint=url).flush(60)
    return seen[0]


def awaited(url: str, run_id: str) -> Any:
    """The run's trace with content, once it has been forwarded there."""
    deadline = time.monotonic() + 60
    while run("trace", run_id, "--url", url).exit_code != 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    return json_of("trace", run_id, "--content", "--url", url)


def test_what_was_captured_is_shown_by_the_collector_and_by_the_one_it_forwards_to(two: tuple[str, str]) -> None:
    first, last = two
    run_id = measured(first, capture="content,state_diff")
    shown = run("trace", run_id, "--content", "--url", first).stdout
    assert (
        f"""
invoke_node ask  ask
    wrote      {{"x":7}}
chat gpt-4o-mini  ask
    user       {CANARY}, asks [redacted:email]
               in two lines
  > assistant  hello
"""
        in shown
    )
    content = json_of("trace", run_id, "--content", "--url", first)["content"]
    assert [{names.STATE_DIFF}, {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES}] == [
        set(one["attributes"]) for one in content
    ]
    assert content == awaited(last, run_id)["content"]


def test_content_is_in_no_metric(two: tuple[str, str]) -> None:
    measured(two[0], capture="content,state_diff")
    with urllib.request.urlopen(f"{two[0]}/metrics", timeout=60) as answer:
        exposed = answer.read().decode()
    assert "graphmeter_llm_calls_total" in exposed
    assert CANARY not in exposed


def test_where_nothing_was_captured_the_way_to_it_is_said(two: tuple[str, str]) -> None:
    run_id = measured(two[0])
    assert "nothing was captured: capture=" in run("trace", run_id, "--content", "--url", two[0]).stdout
    assert [] == json_of("trace", run_id, "--content", "--url", two[0])["content"]
    assert "content" not in json_of("trace", run_id, "--url", two[0])


def test_structured_attributes_of_other_senders_are_json() -> None:
    text = KeyValueList(values=[KeyValue(key="type", value=AnyValue(string_value="text"))])
    messages = AnyValue(array_value=ArrayValue(values=[AnyValue(kvlist_value=text), AnyValue(bytes_value=b"12")]))
    span = Span(
        attributes=[
            KeyValue(key=names.INPUT_MESSAGES, value=messages),
            KeyValue(key=names.REQUEST_MODEL, value=AnyValue(string_value="m")),
        ]
    )
    assert {names.INPUT_MESSAGES: '[{"type":"text"},"[2 bytes]"]'} == captured(span.SerializeToString())


@pytest.mark.parametrize(
    ("attribute", "said", "expected"),
    [
        (names.SYSTEM_INSTRUCTIONS, '[{"type":"text","content":"be good"}]', ["    system     be good"]),
        (names.TOOL_ARGUMENTS, '{"a":1}', ['    arguments  {"a":1}']),
        (names.RETRIEVAL_QUERY, "cities", ["    query      cities"]),
        (names.INPUT_MESSAGES, "no json", ["    messages   no json"]),
        (names.INPUT_MESSAGES, '["odd"]', ["               odd"]),
        (
            names.OUTPUT_MESSAGES,
            '[{"role":"assistant","parts":[{"type":"reasoning","content":"r"},'
            '{"type":"tool_call","name":"add","arguments":{"a":1}},{"type":"blob","size":3}]}]',
            [
                "  > assistant  (reasoning) r",
                '               calls add {"a":1}',
                '               {"type":"blob","size":3}',
            ],
        ),
        (
            names.INPUT_MESSAGES,
            '[{"role":"tool","parts":[{"type":"tool_call_response","response":"\\u001b[31mred"}]}]',
            ["    tool       \\x1b[31mred"],
        ),
    ],
)
def test_captured_content_is_readable_and_harmless(attribute: str, said: str, expected: list[str]) -> None:
    assert expected == [line.plain for line in lines({attribute: said})]
