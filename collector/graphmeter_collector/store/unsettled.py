"""Foreign spans that wait for their ancestors: how they are kept, found and brought back, on both databases.

A row of `unsettled` holds what was decoded and priced when the span came, so that settling it needs neither its bytes nor
the price of another day. Whoever deletes the row counts the span, in the same transaction: that makes it happen once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, Final

from graphmeter import names
from graphmeter_collector.records import (
    Cost,
    Envelope,
    Rejection,
    RunTotals,
    Settling,
    SpanRecord,
    TokenUsage,
    Wasted,
    WriteResult,
)
from graphmeter_collector.store.ancestry import RUN_FACTS, Ancestor, Lineage, OnlyRun, lineage, settle
from graphmeter_collector.store.facts import Row, is_paid_piece

NO_ENVELOPE: Final = Envelope(b"", b"", b"")
"""Of a span that was brought back: its own is stored with its body."""

_LEFT_OUT: Final = frozenset({"envelope", "body", "said", "waits_for", "foreign"})
_DEFAULTS: Final[dict[str, Any]] = {
    each.name: {} if each.default is MISSING and each.default_factory is not MISSING else each.default
    for each in fields(SpanRecord)
    if each.init and each.name not in _LEFT_OUT
}

_DAYS: Final = "s.day BETWEEN o.low - 7 AND o.high + 1"
"""Where ancestors are looked for: they start before what they contain, clocks aside; a week is the longest run."""
_NEAR_DAYS: Final = "s.day BETWEEN o.low - 1 AND o.high"
"""On Postgres each day is a partition to be asked, twice a second for all that waits. Ancestors of other days are found,
too, but when time is up."""


def freeze(record: SpanRecord) -> str:
    """What is needed to count the record later, as JSON."""
    values = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, default in _DEFAULTS.items()
        if (value := getattr(record, name)) != default
    }
    return json.dumps(values, separators=(",", ":"))


def thaw(text: str) -> SpanRecord:
    """The record that was frozen."""
    values: dict[str, Any] = json.loads(text)
    for name in ("trace_id", "span_id", "parent_id", "attempt_span", "outer_attempts"):
        if name in values:
            values[name] = bytes.fromhex(values[name])
    if "usage" in values:
        values["usage"] = TokenUsage(*values["usage"])
    if cost := values.get("cost"):
        total, parts, *rest = cost
        values["cost"] = Cost(total, tuple(parts), *rest)
    # What a later version may have added is left out rather than refused.
    known = {name: value for name, value in values.items() if name in _DEFAULTS}
    return SpanRecord(**known, envelope=NO_ENVELOPE, body=b"", foreign=True)


def rows(records: Iterable[SpanRecord], now_ns: int) -> list[Row]:
    """Rows of `unsettled` for those of the records that wait."""
    return [
        (record.trace_id, record.span_id, record.day, record.waits_for, now_ns, freeze(record))
        for record in records
        if record.waits_for
    ]


def settled_row(record: SpanRecord) -> Row:
    """What settling changes in a row of `span`, then its key: the arguments of `UPDATE_SPAN`."""
    call = record.kind == names.MODEL or is_paid_piece(record)
    return (
        record.kind,
        record.run_id,
        record.environment,
        record.graph,
        record.team,
        record.node,
        record.outer_attempts or None,
        call,
        record.trace_id,
        record.span_id,
        record.day,
    )


_COLUMNS: Final = ("kind", "run_id", "environment", "graph", "team", "node", "outer_attempts")
_CALLS: Final = ("input_tokens", "output_tokens", "cost_nano")
UPDATE_SPAN_SQLITE: Final = (
    f"UPDATE span SET settled = 1, {', '.join(f'{name} = ?{n}' for n, name in enumerate(_COLUMNS, 1))}, "  # noqa: S608
    # A call that turned out to be another's second record has neither tokens nor cost of its own.
    f"{', '.join(f'{name} = CASE WHEN ?8 THEN {name} END' for name in _CALLS)} "
    "WHERE trace_id = ?9 AND span_id = ?10 AND day = ?11 AND NOT settled"
)
UPDATE_SPAN_POSTGRES: Final = (
    f"UPDATE span SET settled = true, {', '.join(f'{name} = of.{name}' for name in _COLUMNS)}, "  # noqa: S608
    f"{', '.join(f'{name} = CASE WHEN of.calls THEN span.{name} END' for name in _CALLS)} "
    "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::boolean[], "
    f"$9::bytea[], $10::bytea[], $11::int[]) AS of({', '.join(_COLUMNS)}, calls, trace_id, span_id, day) "
    "WHERE span.trace_id = of.trace_id AND span.span_id = of.span_id AND span.day = of.day AND NOT span.settled"
)

_FOUND: Final = "SELECT u.trace_id, u.span_id, u.day, u.wanted, u.since_ns, u.facts"
# Not to be turned into a join, which might read all of `span`: a look-up per ancestor that is waited for.
_READY: Final = (
    f"{_FOUND} FROM ("  # noqa: S608 - names of our own tables
    "SELECT o.trace_id, o.wanted FROM ("
    "SELECT trace_id, wanted, min(day) AS low, max(day) AS high FROM unsettled GROUP BY trace_id, wanted"
    ") AS o WHERE EXISTS (SELECT 1 FROM span s WHERE s.trace_id = o.trace_id AND s.span_id = o.wanted "
    "AND {days} {apart})"
    ") AS k JOIN unsettled u ON u.trace_id = k.trace_id AND u.wanted = k.wanted "
    "ORDER BY u.trace_id, u.span_id LIMIT {limit}"
)
_DUE: Final = f"{_FOUND} FROM unsettled u WHERE u.since_ns <= {{since}} ORDER BY u.since_ns LIMIT {{limit}}"
_LOCKED: Final = " FOR UPDATE OF u SKIP LOCKED"
READY_SQLITE: Final = _READY.format(apart="LIMIT -1 OFFSET 0", limit="?", days=_DAYS)
READY_POSTGRES: Final = _READY.format(apart="OFFSET 0", limit="$1", days=_NEAR_DAYS) + _LOCKED
DUE_SQLITE: Final = _DUE.format(since="?", limit="?")
DUE_POSTGRES: Final = _DUE.format(since="$1", limit="$2") + _LOCKED

_ANCESTOR: Final = (
    "s.span_id, coalesce(s.parent_id, {empty}) AS parent_id, s.kind, s.service, s.environment, s.graph, s.team, s.node, "
    "CASE WHEN s.settled THEN s.run_id ELSE '' END AS run_id, s.kind = 'model' OR s.model <> '' AS calls, "
    "s.kind = 'model' AND coalesce(s.input_tokens, 0) + coalesce(s.output_tokens, 0) > 0 AS consumed, "
    "coalesce(s.outer_attempts, {empty}) AS outer_attempts, "
    + ", ".join(f"coalesce(r.{name}, '') AS {name}" for name in RUN_FACTS)
)
_EMPTY_SQLITE: Final = "x''"
_EMPTY_POSTGRES: Final = "''::bytea"
_RUN_OF: Final = "LEFT JOIN run r ON r.trace_id = s.trace_id AND r.run_id = s.run_id AND s.settled"
ANCESTOR_SQLITE: Final = (
    f"SELECT s.trace_id, {_ANCESTOR.replace('{empty}', _EMPTY_SQLITE)} FROM span s {_RUN_OF} "  # noqa: S608
    "WHERE s.trace_id = ? AND s.span_id = ? AND s.day BETWEEN ? - 7 AND ? + 1 ORDER BY s.day LIMIT 1"
)
ANCESTORS_POSTGRES: Final = (
    f"SELECT w.trace_id, {_ANCESTOR.replace('{empty}', _EMPTY_POSTGRES)} "  # noqa: S608
    "FROM unnest($1::bytea[], $2::bytea[]) AS w(trace_id, span_id) JOIN LATERAL ("
    "SELECT * FROM span WHERE span.trace_id = w.trace_id AND span.span_id = w.span_id "
    "AND span.day BETWEEN $3 AND $4 ORDER BY span.day LIMIT 1"
    f") s ON true {_RUN_OF}"
)
_ONLY_RUN: Final = (
    "SELECT trace_id, min(run_id), min(service), min(environment), min(graph), min(team) FROM run "
    "WHERE trace_id {those} GROUP BY trace_id HAVING count(*) = 1"
)
ONLY_RUN_SQLITE: Final = _ONLY_RUN.format(those="= ?")
ONLY_RUNS_POSTGRES: Final = _ONLY_RUN.format(those="= ANY($1)")
LEFT: Final = "SELECT EXISTS (SELECT 1 FROM unsettled)"

MOVE_SQLITE: Final = "UPDATE unsettled SET wanted = ? WHERE trace_id = ? AND span_id = ? AND day = ?"
MOVE_POSTGRES: Final = (
    "UPDATE unsettled SET wanted = of.wanted FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::int[]) "
    "AS of(wanted, trace_id, span_id, day) WHERE unsettled.trace_id = of.trace_id "
    "AND unsettled.span_id = of.span_id AND unsettled.day = of.day"
)
DELETE_SQLITE: Final = "DELETE FROM unsettled WHERE trace_id = ? AND span_id = ? AND day = ?"
DELETE_POSTGRES: Final = (
    "DELETE FROM unsettled USING unnest($1::bytea[], $2::bytea[], $3::int[]) AS of(trace_id, span_id, day) "
    "WHERE unsettled.trace_id = of.trace_id AND unsettled.span_id = of.span_id AND unsettled.day = of.day"
)


def outcome(due: Due, finished: list[RunTotals], wasted: Sequence[Wasted], *, left: bool, counted: bool) -> Settling:
    """What a transaction that settled some spans did."""
    if counted:
        result = WriteResult(new=[], duplicates=0, finished=finished, settled=due.settled, wasted=list(wasted))
        return Settling(result, due.given_up, left)
    message = "the database refused what would follow from it: it is in the trace, and not counted"
    refused = [
        (
            each,
            Rejection("refused_when_settled", f"span {each.span_id.hex()} of trace {each.trace_id.hex()}: {message}"),
        )
        for each in due.settled
    ]
    return Settling(WriteResult(new=[], duplicates=0, finished=[], rejected=refused), 0, left)


class Due:
    """Some unsettled spans, locked by the transaction that looks at them. Asks for ancestors level by level: the spans of
    one trace share most of them."""

    def __init__(self, found: Iterable[Iterable[Any]], due_ns: int) -> None:
        """`found` are rows of the queries for them; what has waited since `due_ns` or longer is settled as it is."""
        self._records = [
            (thaw(facts), since_ns <= due_ns)
            for *_, since_ns, facts in {row[:3]: row for row in map(tuple, found)}.values()
        ]
        self._known: dict[tuple[bytes, bytes], Ancestor] = {}
        self._asked: set[tuple[bytes, bytes]] = set()
        self._asked_at_last: set[tuple[bytes, bytes]] = set()
        self.settled: list[SpanRecord] = []
        """Sorted by key."""
        self.moved: list[Row] = []
        """Those that wait for another ancestor now: arguments of `MOVE_…`."""
        self.given_up = 0

    def __bool__(self) -> bool:
        return bool(self._records)

    @property
    def days(self) -> tuple[int, int]:
        """First and last day of the spans."""
        days = [record.day for record, _ in self._records]
        return min(days), max(days)

    @property
    def near_days(self) -> tuple[int, int]:
        """Where nearly all ancestors are."""
        first, last = self.days
        return first - 1, last

    @property
    def all_days(self) -> tuple[int, int]:
        """Where ancestors may be at all."""
        first, last = self.days
        return first - 7, last + 1

    def wanted(self) -> list[tuple[bytes, bytes]]:
        """Trace and span ids of ancestors to look for; empty when nothing more can be learned."""
        return self._not_asked(self._asked, (record for record, _ in self._records))

    def wanted_at_last(self) -> list[tuple[bytes, bytes]]:
        """The same for spans that have waited for too long: what is not found now will not be asked for again."""
        return self._not_asked(self._asked_at_last, (record for record, due in self._records if due))

    def _not_asked(self, asked: set[tuple[bytes, bytes]], records: Iterable[SpanRecord]) -> list[tuple[bytes, bytes]]:
        missing = {(record.trace_id, found.missing) for record in records if (found := self._lineage(record)).missing}
        new = sorted(missing - asked)
        asked |= missing
        return new

    def learn(self, rows: Iterable[Iterable[Any]]) -> None:
        """Take ancestors from rows of trace id and `Ancestor`."""
        for row in map(tuple, rows):
            known = Ancestor._make((*row[1:10], bool(row[10]), bool(row[11]), row[12], row[13:]))
            self._known[row[0], known.span_id] = known

    def orphaned(self) -> list[bytes]:
        """Traces of spans that have waited for too long."""
        return sorted({record.trace_id for record, due in self._records if due and self._lineage(record).missing})

    def decide(self, only_runs: Iterable[Iterable[Any]]) -> None:
        """Settle what can be settled; rows of `only_runs` are trace id and `OnlyRun`."""
        runs = {row[0]: OnlyRun(*row[1:]) for row in map(tuple, only_runs)}
        for record, due in self._records:
            found = self._lineage(record)
            if found.missing and not due:
                self.moved.append((found.missing, *record.key))
                continue
            self.given_up += bool(found.missing)
            settle(record, found, runs.get(record.trace_id) if found.missing else None)
            self.settled.append(record)
        self.settled.sort(key=attrgetter("key"))

    def _lineage(self, record: SpanRecord) -> Lineage:
        return lineage(record, self._known)
