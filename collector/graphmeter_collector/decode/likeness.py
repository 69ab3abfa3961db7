"""Spans that say the same as one before them, but for ids, times and counts: records by copying instead of by reading.

A service sends a few hundred kinds of spans (this node of this graph for this team, that model called from it) a
million times. What a span says is looked up attribute by attribute (`wire`), and each answer bears a mark: values that
repeat have one of their own, values that do not (ids of runs, numbers of tokens) that of their name. Spans with the
same name and the same marks in the same order are alike, and a record of one is a record of the other once the values
that differ are put in. All of them share one `Likeness`, by which later stages tell that they are alike without looking.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from itertools import count
from operator import attrgetter, itemgetter
from typing import Any, Final

from graphmeter import names
from graphmeter_collector.decode import genai
from graphmeter_collector.decode.attributes import Repairs
from graphmeter_collector.decode.wire import MOST_TAGS, TAG, Entry
from graphmeter_collector.records import Envelope, Likeness, SpanRecord

MOST_MOLDS: Final = 8_192
"""Kinds of spans that are remembered, some 10 MB; when there are more, all are forgotten."""
MOST_SENDERS: Final = 1_024

_OWN_VALUES: Final = {
    names.RUN_ID: "run_id",
    names.TENANT: "tenant",
    names.CONVERSATION_ID: "thread_id",
    names.USER: "user_id",
    names.SESSION: "session_id",
    names.ATTEMPT_SPAN: "attempt_span",
    names.OUTER_ATTEMPTS: "outer_attempts",
}
_OWN_VALUES_OF: Final = {
    names.RUN: {
        names.LANGGRAPH_CHECKPOINT_ID: "checkpoint_id",
        names.RESUMED_FROM: "resumed_from",
        names.RESUMED_RUN: "resumed_run_id",
    },
    names.SUBGRAPH: {},
    names.NODE: {names.STATE_BYTES: "state_bytes"},
    names.MODEL: {
        names.RESPONSE_ID: "response_id",
        names.USAGE_IMAGES: "images",
        names.REPORTED_COST_USD: "reported_nano",
        names.RESERVATION: "reservations",
    },
    names.TOOL: {names.USAGE_IMAGES: "images"},
    names.RETRIEVER: {names.USAGE_IMAGES: "images"},
    names.SPAN: {},
    names.START: {},
}
"""Fields that are filled from attributes whose values differ, by kind. Other kinds are read one by one."""
DIFFERING: Final = frozenset(
    {*_OWN_VALUES, *(key for more in _OWN_VALUES_OF.values() for key in more), *genai.COUNTS, names.TIME_TO_FIRST_CHUNK}
)
"""Attributes that do not decide what a span is like."""

_FIELDS: Final = [each for each in fields(SpanRecord) if each.init]
_BEGIN: Final = [each.name for each in _FIELDS].index("body") + 1
_REST: Final = [each.name for each in _FIELDS[_BEGIN:]]
_rest: Final[Callable[[SpanRecord], tuple[Any, ...]]] = attrgetter(*_REST)
mark_of: Final[Callable[[Entry], int]] = itemgetter(0)

Key = tuple[Any, ...]
"""What decides whether spans are alike."""


class Mold:
    """Makes records of spans that are alike."""

    __slots__ = ("_calls", "_kind", "_likeness", "_name", "_own", "_prefix", "_rest", "_tags", "_ttft", "_usage")

    def __init__(self, record: SpanRecord, entries: Sequence[Entry]) -> None:
        """`entries` are what was found on the span of the record, whose kind is one of `_OWN_VALUES_OF`."""
        at = {key: index for index, (_, key, _) in enumerate(entries)}  # the last one wins, as in OpenTelemetry
        into = _OWN_VALUES | _OWN_VALUES_OF[record.kind]
        self._kind, self._name = record.kind, record.name
        self._own = [(at[key], name) for key, name in into.items() if key in at]
        self._tags = [index for index, (_, key, _) in enumerate(entries) if key is TAG]
        self._calls = record.kind == names.MODEL
        self._prefix = names.SAVED_PREFIX if record.cache_hit else ""
        self._usage = [(key, at[key]) for key in genai.COUNTS if key in at]
        self._ttft = at.get(names.TIME_TO_FIRST_CHUNK, -1)
        self._rest = _rest(record)
        self._likeness = record.likeness = Likeness()

    def cast(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        start_ns: int,
        end_ns: int,
        envelope: Envelope,
        body: bytes,
        entries: Sequence[Entry],
        repairs: Repairs,
    ) -> SpanRecord:
        """The record of another span."""
        record = SpanRecord(
            trace_id, span_id, parent_id, self._name, self._kind, start_ns, end_ns, envelope, body, *self._rest
        )
        record.likeness = self._likeness
        for index, name in self._own:
            setattr(record, name, entries[index][2])
        if self._tags:
            record.tags = dict([entries[index][2] for index in self._tags])
        if self._calls:
            if self._usage:
                found = {key: entries[index][2] for key, index in self._usage}
                record.usage = genai.usage(found, repairs, self._prefix)
            if self._ttft >= 0:
                record.ttft_ns = genai.within(entries[self._ttft][2], record.duration_ns, repairs)
        return record


class Molds:
    """The kinds of spans that were met lately, by `Key`."""

    def __init__(self) -> None:
        self._molds: dict[Key, Mold] = {}
        self._senders: dict[Hashable, int] = {}
        self._numbers = count()
        self.find = self._molds.get

    def sender(self, *said: Hashable) -> int:
        """A number for what resource, scope and caller say of all their spans, to be put into the keys."""
        if said not in self._senders:
            if len(self._senders) >= MOST_SENDERS:
                self._senders.clear()
            self._senders[said] = next(self._numbers)
        return self._senders[said]

    def keep(self, key: Key, record: SpanRecord, entries: Sequence[Entry]) -> None:
        """Remember what the span of this record is like, if spans of its kind are alike at all."""
        if record.kind in _OWN_VALUES_OF and sum([entry[1] is TAG for entry in entries]) < MOST_TAGS:
            if len(self._molds) >= MOST_MOLDS:
                self._molds.clear()
            self._molds[key] = Mold(record, entries)

    def __len__(self) -> int:
        return len(self._molds)
