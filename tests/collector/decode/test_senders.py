"""The same graph through each sender: the same nodes, models, tokens and cost as through our handler, or a difference that
docs/dialects.md tells.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.decode import senders
from graphmeter import names
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord

DOCS: Final = Path(__file__).parents[3] / "docs" / "dialects.md"
FACTS: Final = ("runs", "nodes", "models", "tokens", "cost", "tools")
NOTES: Final = {
    ("openinference", "runs"): "a",
    ("openllmetry", "runs"): "a",
    ("langfuse", "runs"): "a",
    ("openinference", "input"): "b",
    ("openllmetry", "input"): "b",
    ("agento11y", "input"): "b",
    ("openllmetry", "nodes"): "c",
    ("openllmetry", "output"): "d",
    ("agento11y", "runs"): "e",
    ("agento11y", "nodes"): "e",
    ("agento11y", "place"): "f",
    ("agento11y", "tools"): "f",
    ("langfuse", "nodes"): "g",
}
"""Where a sender's answer may differ from ours: the note of docs/dialects.md that says why. Of calls, it is their place
(which node), their input or their output that differs."""

Facts = dict[str, Counter[tuple[object, ...]]]


def facts(message: ExportTraceServiceRequest) -> Facts:
    decoded = decode_request(message, Window(0, 2**63 - 1))
    # Tracebacks as status messages are cut.
    assert ([], set()) == (decoded.rejections, set(decoded.repairs) - {"cut"})
    book = PriceBook()
    found: Facts = {name: Counter() for name in FACTS}
    for record in decoded.records:
        book.price(record)
        _add(found, record)
    return found


def _add(found: Facts, record: SpanRecord) -> None:
    if record.kind == names.RUN:
        found["runs"][record.graph, record.status] += 1
    elif record.kind == names.NODE:
        found["nodes"][record.node, record.step, record.status, record.error_type] += 1
    elif record.kind == names.MODEL:
        found["models"][record.node, record.provider, record.model, record.request_model, record.status] += 1
        found["tokens"][record.node, *record.usage] += 1
        if record.cost is not None:
            found["cost"][record.node, record.cost.status, record.cost.total_nano] += 1
    elif record.kind in (names.TOOL, names.RETRIEVER):
        found["tools"][record.kind, record.node, record.tool, record.status] += 1


def table(told: dict[tuple[str, str], Facts], ours: dict[str, Facts]) -> str:
    """The table of docs/dialects.md: `=` where a sender says the same as our handler, else the notes."""
    lines = [f"| sender | graph | {' | '.join(FACTS)} |", f"|---|---|{'---|' * len(FACTS)}"]
    for (sender, graph), found in told.items():
        cells = [_cell(sender, fact, found, ours[graph]) for fact in FACTS]
        lines.append(f"| {sender} | {graph} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(sender: str, fact: str, theirs: Facts, ours: Facts) -> str:
    if theirs[fact] == ours[fact]:
        return "="
    if fact not in ("models", "tokens", "cost"):
        return NOTES[sender, fact]
    differ = ["place"] if _part(theirs["models"], 0, 1) != _part(ours["models"], 0, 1) else []
    if fact != "models":
        differ += ["input"] if _part(theirs["tokens"], 1, 7) != _part(ours["tokens"], 1, 7) else []
    if fact == "tokens":
        differ += ["output"] if _part(theirs["tokens"], 7, 11) != _part(ours["tokens"], 7, 11) else []
    return ", ".join(NOTES[sender, each] for each in differ)


def _part(found: Counter[tuple[object, ...]], start: int, end: int) -> Counter[tuple[object, ...]]:
    return Counter(key[start:end] for key in found.elements())


@pytest.fixture(scope="module")
def ours() -> dict[str, Facts]:
    return {graph: facts(senders.ours(graph)) for graph in senders.GRAPHS}


@pytest.fixture(scope="module")
def told(ours: dict[str, Facts]) -> dict[tuple[str, str], Facts]:
    # After ours: what is instrumented stays so for a while.
    return {
        (sender, graph): facts(senders.sent(sender, graph)) for sender in senders.SENDERS for graph in senders.GRAPHS
    }


def test_the_documented_table_is_what_the_senders_say(
    told: dict[tuple[str, str], Facts], ours: dict[str, Facts]
) -> None:
    expected = table(told, ours)
    assert expected in DOCS.read_text(), f"docs/dialects.md has another table than this:\n{expected}"


def test_nobodys_tokens_are_lost_whatever_bucket_they_are_in(
    told: dict[tuple[str, str], Facts], ours: dict[str, Facts]
) -> None:
    def totals(found: Facts) -> tuple[int, int, int]:
        calls = [[int(str(count)) for count in key[1:]] for key in found["tokens"].elements()]
        return len(calls), sum(sum(call[:6]) for call in calls), sum(sum(call[6:]) for call in calls)

    for (sender, graph), found in told.items():
        assert (sender, graph, totals(ours[graph])) == (sender, graph, totals(found))


def test_every_call_is_priced_and_names_who_answered(
    told: dict[tuple[str, str], Facts], ours: dict[str, Facts]
) -> None:
    def answered(found: Facts) -> Counter[tuple[object, ...]]:
        return Counter(key[1:] for key in found["models"].elements())

    for (sender, graph), found in told.items():
        assert (sender, graph, answered(ours[graph])) == (sender, graph, answered(found))
        assert {"priced", "usage_missing"} >= {key[1] for key in found["cost"]}


def test_a_pause_is_no_error_with_any_sender(told: dict[tuple[str, str], Facts]) -> None:
    graph = "approval, with an interrupt"
    for sender in ("openinference", "openllmetry", "langfuse"):
        assert {"draft": {"ok"}, "review": {"interrupted", "ok"}, "publish": {"ok"}} == _statuses(told[sender, graph])


def test_a_failure_is_one_with_every_sender_that_tells_nodes(
    told: dict[tuple[str, str], Facts], ours: dict[str, Facts]
) -> None:
    graph = "research, refused by the provider"
    assert {"plan": {"error"}} == _statuses(ours[graph])
    for sender in senders.SENDERS:
        assert {names.ERROR} == {key[1] for key in told[sender, graph]["runs"]}
        assert {names.ERROR} == {key[-1] for key in told[sender, graph]["models"]}


def test_runs_of_unnamed_agents_are_those_of_their_service() -> None:
    decoded = decode_request(senders.recorded("agento11y", "agent, with tools"), Window(0, 2**63 - 1))
    runs = [record for record in decoded.records if record.kind == names.RUN]
    assert [("", "thread-1", True)] == [(run.graph, run.thread_id, run.foreign) for run in runs]
    assert {"shop-graphs"} == {record.graph for record in decoded.records if record.kind == names.MODEL}


def _statuses(found: Facts) -> dict[object, set[object]]:
    statuses: dict[object, set[object]] = {}
    for node, _, status, _ in found["nodes"]:
        statuses.setdefault(node, set()).add(status)
    return statuses
