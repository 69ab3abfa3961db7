"""Spans on their way into the database, sorted out: what a transaction asks of them is found when each is looked at once.

A request is sorted out as soon as it is decoded, while its spans lie in the processor's cache. A transaction holds many
requests, which do not fit there, and to fetch a span from memory takes longer than most of what is asked of it. So a
transaction's batch is put together of those of its requests, trace by trace; only spans of traces that several requests
hold parts of are looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, pairwise
from operator import attrgetter
from typing import TypeAlias

from graphmeter import names
from graphmeter_collector.records import (
    ClientChange,
    Envelope,
    RunTotals,
    SpanKey,
    SpanRecord,
    Wasted,
    WriteResult,
)
from graphmeter_collector.store import ancestry, facts, notes
from graphmeter_collector.store.facts import Row

ELSEWHERE = frozenset(names.NOTES) - {names.START}
"""Notes without a row in `span`. Start records have one: it tells a second delivery, and runs are counted by them."""

_Place: TypeAlias = tuple[bytes, int, int, int]
"""Where a trace begins: its id, and positions in `records` (and `rows`), `bodies`, `calls` (and `ledger`)."""

_key: Callable[[SpanRecord], SpanKey] = attrgetter("key")


class Batch:
    """Spans, each once, the first of its copies, sorted by key: the order in which every collector takes its locks."""

    __slots__ = ("bodies", "calls", "days", "envelopes", "given", "ledger", "notes", "odd", "places", "records", "rows")

    def __init__(self, given: int = 0, notes: Sequence[SpanRecord] = ()) -> None:
        self.given = given
        """How many spans and notes it was made of, copies included."""
        self.notes = [*notes]
        """What has no row in `span`, as it came."""
        self.records: list[SpanRecord] = []
        """What has one."""
        self.rows: list[Row] = []
        """Of `span`, one for each of `records`."""
        self.bodies: list[Row] = []
        """Of `span_body`."""
        self.calls: list[SpanRecord] = []
        """Those that belong on the ledger now."""
        self.ledger: list[Row] = []
        """Of `ledger`, one for each of `calls`."""
        self.odd: list[SpanRecord] = []
        """The few of which more may follow than of all others (`_is_odd`), in any order."""
        self.days: set[int] = set()
        self.envelopes: dict[bytes, Envelope] = {}
        """By id."""
        self.places: list[_Place] = []
        """Of the traces, in their order."""

    @classmethod
    def of(cls, given: Sequence[SpanRecord]) -> Batch:
        """Spans and notes as they came, in any order."""
        return together([Delivery(given)])

    def add(self, records: Iterable[SpanRecord]) -> None:
        """Sort out spans that follow those that are here."""
        rows, bodies, calls, ledger, odd = self.rows, self.bodies, self.calls, self.ledger, self.odd
        days, envelopes = self.days, self.envelopes
        trace_id = None
        for record in records:
            if record.trace_id != trace_id:
                trace_id = record.trace_id
                self.places.append((trace_id, len(rows), len(bodies), len(calls)))
            self.records.append(record)
            rows.append(facts.span_row(record))
            days.add(record.day)
            # A start record has served its purpose once its run is known: nobody shows or forwards it.
            if record.kind != names.START:
                bodies.append(facts.body_row(record))
                envelopes[record.envelope.id] = record.envelope
            if facts.is_call(record):
                calls.append(record)
                ledger.append(facts.ledger_row(record))
            if _is_odd(record):
                odd.append(record)

    def take(self, other: Batch, first: int, end: int) -> None:
        """Take over traces that follow those that are here, by their places there."""
        _, records, bodies, calls = other.places[first]
        _, to_record, to_body, to_call = other.places[end] if end < len(other.places) else other.end
        more, more_bodies, more_calls = len(self.records) - records, len(self.bodies) - bodies, len(self.calls) - calls
        self.places += [
            (trace_id, record + more, body + more_bodies, call + more_calls)
            for trace_id, record, body, call in other.places[first:end]
        ]
        self.records += other.records[records:to_record]
        self.rows += other.rows[records:to_record]
        self.bodies += other.bodies[bodies:to_body]
        self.calls += other.calls[calls:to_call]
        self.ledger += other.ledger[calls:to_call]

    def trace(self, at: int) -> list[SpanRecord]:
        """Spans of the trace in that place."""
        _, first, *_ = self.places[at]
        _, end, *_ = self.places[at + 1] if at + 1 < len(self.places) else self.end
        return self.records[first:end]

    @property
    def end(self) -> _Place:
        """Where one more trace would begin."""
        return (b"", len(self.records), len(self.bodies), len(self.calls))

    def only(self, keys: Collection[SpanKey]) -> Batch:
        """Those with such keys, and the notes."""
        batch = Batch(self.given, self.notes)
        batch.add([record for record in self.records if record.key in keys])
        return batch

    def result(
        self,
        new: list[SpanRecord],
        *,
        finished: list[RunTotals],
        clients: Iterable[ClientChange],
        wasted: Iterable[Wasted],
    ) -> WriteResult:
        """What a transaction did with this batch."""
        merged = notes.merged(self.notes)
        duplicates = self.given - len(new) - merged
        return WriteResult(new, duplicates, finished, merged=merged, clients=[*clients], wasted=[*wasted])

    @property
    def counted(self) -> Sequence[SpanRecord]:
        """Those of which something follows now: all but foreign spans that wait for their ancestors."""
        waiting = any(record.waits_for for record in self.odd)
        return [record for record in self.records if not record.waits_for] if waiting else self.records

    def to_look_at(self, trace_ids: Collection[bytes] = ()) -> list[SpanRecord]:
        """Those that are odd, and all that belong to the traces; but none that waits."""
        found = [record for record in self.odd if record.trace_id not in trace_ids]
        if trace_ids:
            for at, (trace_id, *_) in enumerate(self.places):
                if trace_id in trace_ids:
                    found += self.trace(at)
        return [record for record in found if not record.waits_for]


class Delivery:
    """Spans and notes that came together, sorted out unless there are foreign ones among them: where these belong may depend
    on spans of other requests."""

    __slots__ = ("batch", "foreign", "given")

    def __init__(self, given: Sequence[SpanRecord]) -> None:
        self.given = given
        """As it came, copies included."""
        notes = [record for record in given if record.kind in ELSEWHERE]
        spans = [record for record in given if record.kind not in ELSEWHERE] if notes else given
        self.batch = Batch(len(given), notes)
        ordered = _once(spans)
        self.foreign = ordered if any(record.foreign for record in ordered) else ()
        """Its spans, if they are not sorted out yet."""
        if not self.foreign:
            self.batch.add(ordered)

    def sorted_out(self) -> Batch:
        """Its batch, now that is known where the foreign ones belong."""
        self.batch.add(self.foreign)
        self.foreign = ()
        return self.batch


Given: TypeAlias = Sequence[SpanRecord] | Sequence[Delivery]
"""What a store can be given to write."""


def delivered(given: Given) -> list[Delivery]:
    """As they are, or one of all the spans."""
    found = [each for each in given if isinstance(each, Delivery)]
    return found or [Delivery([each for each in given if not isinstance(each, Delivery)])]


def together(deliveries: Sequence[Delivery]) -> Batch:
    """The batch of all that was delivered. Foreign spans of which nothing outside of it can say more are settled, the others
    wait."""
    if any(each.foreign for each in deliveries):
        ancestry.settle_what_is_known(chain.from_iterable(each.foreign or each.batch.records for each in deliveries))
    batches = [each.sorted_out() for each in deliveries]
    return batches[0] if len(batches) == 1 else _merged(batches)


def _merged(batches: Sequence[Batch]) -> Batch:
    whole = Batch(sum(batch.given for batch in batches), [note for batch in batches for note in batch.notes])
    order = sorted(
        (place[0], number, at) for number, batch in enumerate(batches) for at, place in enumerate(batch.places)
    )
    ids = [trace_id for trace_id, *_ in order]
    alone = [
        trace_id not in (before, after)
        for before, trace_id, after in zip([b"", *ids], ids, [*ids[1:], b""], strict=False)
    ]
    shared: set[bytes] = set()
    at, last = 0, len(order)
    while at < last:
        trace_id, number, first = order[at]
        begin, at = at, at + 1
        if alone[begin]:
            # And what follows it there: nothing of others comes between.
            while at < last and alone[at] and order[at][1] == number:
                at += 1
            whole.take(batches[number], first, first + at - begin)
        else:
            shared.add(trace_id)
            while at < last and ids[at] == trace_id:
                at += 1
            whole.add(_once([span for _, number, place in order[begin:at] for span in batches[number].trace(place)]))
    for batch in batches:
        whole.odd += [record for record in batch.odd if record.trace_id not in shared]
        whole.days |= batch.days
        whole.envelopes |= batch.envelopes
    return whole


def _once(records: Iterable[SpanRecord]) -> Sequence[SpanRecord]:
    """Each span once, the first of its copies, sorted by key."""
    ordered = sorted(records, key=_key)  # stable: copies stay in their order
    if any(before.key == after.key for before, after in pairwise(ordered)):
        return [ordered[0], *(after for before, after in pairwise(ordered) if before.key != after.key)]
    return ordered


def _is_odd(record: SpanRecord) -> bool:
    """Whether the span failed, paused or was cancelled, is foreign, or had something reserved."""
    if record.status != names.OK:
        return record.kind != names.START
    return record.foreign or bool(record.reservations)
