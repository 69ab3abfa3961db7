"""What is known of a batch does not depend on how its spans were delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.store.dump import fresh
from collector.store.test_order import SPANS
from graphmeter import names
from graphmeter_collector.records import Envelope, SpanRecord
from graphmeter_collector.store import facts, notes, tables
from graphmeter_collector.store.batch import Batch, Delivery, delivered, together
from support.records import ENVELOPE, call, note, record, span_id, trace, whole_run


def foreign(number: int, *, of: int = 1, **facts: Any) -> SpanRecord:
    """A span of another instrumentation that says of itself only what it is."""
    return record(number, of=of, foreign=True, **{"run_id": "", "graph": "", "node": "", **facts})


def foreign_run(of: int) -> list[SpanRecord]:
    """A root, a node, and a call below it."""
    return [
        foreign(1, of=of, kind=names.RUN, graph="theirs", run_id=f"run {of}"),
        foreign(2, of=of, node="plan", parent_id=span_id(1)),
        foreign(3, of=of, kind=names.MODEL, parent_id=span_id(2), provider="openai", model="gpt-4o"),
    ]


MIXED = [*SPANS, *foreign_run(61), *foreign_run(62)[1:], foreign(9, of=2, kind=names.MODEL, parent_id=span_id(2))]
ways = st.tuples(
    st.permutations(range(len(MIXED))),
    st.lists(st.integers(0, len(MIXED) - 1), max_size=12),
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
)


def described(batch: Batch) -> dict[str, Any]:
    """All that can be asked of a batch; what has no order as a set."""
    traces = {each.trace_id for each in batch.records}
    return {
        "given": batch.given,
        "notes": [each.key for each in batch.notes],
        "records": batch.records,
        "rows": batch.rows,
        "bodies": batch.bodies,
        "calls": [each.key for each in batch.calls],
        "ledger": batch.ledger,
        "odd": {each.key for each in batch.odd},
        "days": batch.days,
        "envelopes": batch.envelopes,
        "places": batch.places,
        "counted": [each.key for each in batch.counted],
        "to look at": {each.key for each in batch.to_look_at()},
        "of a trace": {one: sorted(each.key for each in batch.to_look_at({one})) for one in traces},
    }


def cut(spans: Sequence[SpanRecord], sizes: Sequence[int]) -> list[Delivery]:
    deliveries, rest = [], [*spans]
    while rest:
        for size in sizes:
            deliveries.append(Delivery(rest[:size]))
            rest = rest[size:]
    return deliveries


@settings(deadline=None)
@given(ways)
def test_a_batch_is_the_same_however_its_spans_were_delivered(way: tuple[list[int], list[int], list[int]]) -> None:
    order, repeated, sizes = way
    # Copies say something else, so that it shows which of them is taken.
    first = fresh(MIXED[index] for index in order)
    again = fresh(MIXED[index] for index in repeated)
    for each in again:
        each.name, each.body = f"copy of {each.name}", b"copy"

    found = described(together(cut([*first, *again], sizes)))

    assert described(Batch.of([*fresh(first), *fresh(again)])) == found
    assert not any(each.name.startswith("copy") for each in found["records"])


def test_each_span_is_taken_once_sorted_by_key() -> None:
    spans = [record(3), record(1, of=2), record(1), record(3, node="second copy")]

    batch = Batch.of(spans)

    assert sorted([(trace(1), span_id(1)), (trace(1), span_id(3)), (trace(2), span_id(1))]) == [
        (each.trace_id, each.span_id) for each in batch.records
    ]
    assert spans[0] in batch.records
    assert spans[3] not in batch.records
    assert 4 == batch.given


def test_a_span_of_another_day_is_another_span() -> None:
    assert 2 == len(Batch.of([record(1), record(1, at_s=86_400)]).records)


def test_every_row_belongs_to_its_span_or_call() -> None:
    batch = together([Delivery(whole_run(of)) for of in (2, 1, 3)])

    assert [facts.span_row(each) for each in batch.records] == batch.rows
    assert [facts.body_row(each) for each in batch.records if each.kind != names.START] == batch.bodies
    assert [each for each in batch.records if facts.is_call(each)] == batch.calls
    assert [facts.ledger_row(each) for each in batch.calls] == batch.ledger
    assert len(tables.column_names(tables.span_body)) == len(batch.bodies[0])


def test_the_envelopes_of_start_records_alone_are_not_kept() -> None:
    other = Envelope(b"a" * 16, b"r", b"s", "u", "v")
    start = whole_run()[0]
    assert names.START == start.kind

    assert {} == Batch.of([start]).envelopes
    assert {other.id: other, ENVELOPE.id: ENVELOPE} == Batch.of(
        [record(1), record(2), record(3, envelope=other)]
    ).envelopes


def test_days_and_envelopes_of_all_deliveries_are_known() -> None:
    other = Envelope(b"a" * 16, b"r", b"s", "u", "v")

    batch = together([Delivery([record(1)]), Delivery([record(1, of=2, at_s=86_400, envelope=other)])])

    assert {record(1).day, record(1).day + 1} == batch.days
    assert {ENVELOPE.id, other.id} == set(batch.envelopes)


def test_what_is_to_be_looked_at_is_named_once() -> None:
    failed = record(3, of=2, status=names.ERROR)
    batch = together([Delivery([record(1), record(1, of=2)]), Delivery([record(2, of=2), failed, record(1, of=3)])])

    assert [failed] == batch.to_look_at()
    assert [span_id(1), span_id(2), span_id(3)] == sorted(each.span_id for each in batch.to_look_at({trace(2)}))


def test_what_was_delivered_can_be_written_again() -> None:
    theirs, ours = Delivery(foreign_run(1)), Delivery(whole_run(2))

    for deliveries in ([theirs], [ours], [theirs, ours]):
        assert described(together(deliveries)) == described(together(deliveries))
    assert 3 == len(together([theirs]).records)


def test_a_foreign_span_is_settled_by_what_another_request_brought() -> None:
    root, node, model = foreign_run(1)

    batch = together([Delivery([model]), Delivery([node, root])])

    assert [b""] * 3 == [each.waits_for for each in batch.records]
    assert ("run 1", "theirs", "plan") == (model.run_id, model.graph, model.node)
    assert [model] == batch.calls
    assert batch.counted is batch.records


def test_a_foreign_span_that_waits_is_stored_and_not_counted() -> None:
    _, node, model = foreign_run(1)
    ours = whole_run(2)

    batch = together([Delivery([model, node]), Delivery(ours)])

    assert span_id(1) == node.waits_for == model.waits_for
    assert {model.key, node.key} <= {each.key for each in batch.records}
    assert {each.key for each in ours} == {each.key for each in batch.counted}
    assert model not in batch.calls
    assert not {model.key, node.key} & {each.key for each in batch.to_look_at({trace(1)})}


@pytest.mark.parametrize(
    ("span", "odd"),
    [
        (record(1), False),
        (whole_run()[0], False),
        (record(1, status=names.ERROR), True),
        (record(1, kind=names.RUN, status=names.INTERRUPTED), True),
        (call(1, status=names.CANCELLED), True),
        (call(1, reservations=("a",)), True),
        (foreign(1), True),
    ],
)
def test_spans_of_which_more_may_follow_are_told_from_the_others(span: SpanRecord, odd: bool) -> None:
    assert odd == bool(Batch.of([span]).odd)


def test_of_a_batch_only_what_is_new_can_be_taken() -> None:
    batch = Batch.of([*whole_run(1), *whole_run(2), note(40, names.HEARTBEAT)])
    keys = {each.key for each in batch.records[::2]}

    new = batch.only(keys)

    assert described(Batch.of([each for each in batch.records if each.key in keys])) == {
        **described(new),
        "given": len(keys),
        "notes": [],
    }
    assert (19, 1) == (new.given, notes.merged(new.notes))


def test_records_and_deliveries_are_taken_alike() -> None:
    spans = whole_run()
    deliveries = [Delivery(spans[:4]), Delivery(spans[4:])]

    [whole] = delivered(spans)

    assert deliveries == delivered(deliveries)
    assert described(together(deliveries)) == described(together([whole]))
    assert [] == together(delivered([])).records
