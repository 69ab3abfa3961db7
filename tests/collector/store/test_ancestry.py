"""Where foreign spans belong: the nearest word on each question, and no further than the run goes."""

from __future__ import annotations

from typing import Any

import pytest

from graphmeter import names
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import ancestry
from graphmeter_collector.store.ancestry import Lineage, OnlyRun, settle
from support.foreign import foreign, foreign_run, sdk_calls
from support.records import record, span_id, trace, whole_run

RUN_2 = span_id(2).hex()


def settled(records: list[SpanRecord]) -> dict[int, SpanRecord]:
    """All records by number, after those of one batch were settled."""
    ancestry.settle_what_is_known(records)
    return {int.from_bytes(each.span_id, "big"): each for each in records}


def belongs(each: SpanRecord) -> tuple[str, str, str, str, str]:
    return (each.kind, each.run_id, each.graph, each.node, each.team)


def test_a_foreign_graph_is_a_run_whose_parts_take_from_above_what_they_do_not_say() -> None:
    found = settled(foreign_run())

    assert {
        2: (names.RUN, RUN_2, "support", "", ""),
        4: (names.NODE, RUN_2, "support", "plan", "planners"),
        5: (names.MODEL, RUN_2, "support", "plan", "planners"),
        7: (names.NODE, RUN_2, "support", "answer", ""),
        8: (names.MODEL, RUN_2, "support", "answer", ""),
        11: (names.TOOL, RUN_2, "support", "answer", ""),
    } == {number: belongs(found[number]) for number in (2, 4, 5, 7, 8, 11)}
    assert all(each.settled for each in found.values())


def test_an_sdks_record_of_a_call_that_a_framework_recorded_is_not_billed_again() -> None:
    found = settled(foreign_run())

    assert (names.SPAN, None, True) == (found[10].kind, found[10].cost, found[10].twin)
    # The framework's record knew no tokens: then the SDK's is the bill.
    assert (names.MODEL, names.MODEL) == (found[13].kind, found[14].kind)


def test_calls_of_an_sdk_in_our_run_belong_to_its_node_and_the_rest_of_its_attribution() -> None:
    found = settled([*whole_run(), *sdk_calls(1)])

    ours = "00000000-0000-0000-0000-000000000001"
    assert {
        31: (names.MODEL, ours, "support", "plan", "cx"),
        33: (names.MODEL, ours, "support", "answer", "cx"),
        34: (names.SPAN, ours, "support", "plan", "cx"),
        35: (names.MODEL, "", "", "", "platform"),
    } == {number: belongs(found[number]) for number in (31, 33, 34, 35)}
    assert "thread-1" == found[31].thread_id


def test_a_graph_that_another_instrumentation_saw_in_our_run_is_not_counted_again() -> None:
    found = settled(
        [
            *whole_run(),
            foreign(40, names.RUN, parent=2, graph="plan"),
            foreign(41, names.NODE, parent=40, node="plan"),
            foreign(42, names.TOOL, parent=41, tool="mcp"),
        ]
    )

    assert [names.SPAN, names.SPAN, names.TOOL] == [found[number].kind for number in (40, 41, 42)]
    assert "00000000-0000-0000-0000-000000000001" == found[42].run_id


def test_the_graph_of_another_service_is_a_run_of_its_own() -> None:
    theirs: dict[str, Any] = {"service": "billing"}
    found = settled(
        [
            *whole_run(),
            foreign(40, names.RUN, parent=2, graph="bills", **theirs),
            foreign(41, names.NODE, parent=40, node="charge", **theirs),
            foreign(42, names.MODEL, parent=41, **theirs),
            foreign(43, names.RUN, parent=41, graph="inner", **theirs),
        ]
    )

    of = span_id(40).hex()
    assert [
        (names.RUN, of, "bills", ""),
        (names.MODEL, of, "bills", "charge"),
        (names.SUBGRAPH, of, "bills", "charge"),
    ] == [belongs(found[number])[:4] for number in (40, 42, 43)]


def test_what_waits_names_the_ancestor_that_is_missing() -> None:
    above, between, call = (
        foreign(2, names.SPAN, parent=1),
        foreign(3, names.NODE, parent=2, node="n"),
        foreign(4, names.MODEL, parent=3),
    )
    ancestry.settle_what_is_known([above, between, call])

    assert [b"", span_id(1), span_id(1)] == [each.waits_for for each in (above, between, call)]


@pytest.mark.parametrize("kind", [names.MODEL, names.TOOL, names.NODE, names.RUN])
def test_a_root_and_a_span_that_says_it_all_need_nobody(kind: str) -> None:
    root, stated = foreign(1, kind), foreign(2, kind, parent=9, run_id="r", graph="g")
    ancestry.settle_what_is_known([root, stated])

    assert (True, True, "r", "g") == (root.settled, stated.settled, stated.run_id, stated.graph)
    assert (span_id(1).hex() if kind == names.RUN else "") == root.run_id


def test_spans_in_a_circle_have_no_root_and_wait_for_none() -> None:
    circle = [foreign(1, names.MODEL, parent=2), foreign(2, names.TOOL, parent=1)]
    ancestry.settle_what_is_known(circle)

    assert [True, True] == [each.settled for each in circle]


def test_what_never_had_its_ancestors_is_unattributed_in_the_only_run_of_its_trace() -> None:
    lonely, other, graph = (
        foreign(n, kind, parent=9) for n, kind in enumerate((names.MODEL, names.TOOL, names.RUN), 1)
    )
    other.service = "elsewhere"
    for each in (lonely, other, graph):
        settle(each, Lineage((), span_id(9)), OnlyRun("r", "shop", "test", "support", "cx"))

    assert (names.MODEL, "r", "support", names.UNATTRIBUTED, "cx") == belongs(lonely)
    assert (names.TOOL, "", "", names.UNATTRIBUTED, "") == belongs(other)
    assert (names.RUN, span_id(3).hex(), "shop", "", "") == belongs(graph)


def test_the_team_of_a_key_stays_whatever_ancestors_say() -> None:
    mine = foreign(2, names.MODEL, parent=1, team="", team_bound=True)
    ancestry.settle_what_is_known([record(1), mine])

    assert ("", trace(1)) == (mine.team, mine.trace_id)
