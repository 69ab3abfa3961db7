"""Calls and node attempts in, which calls were for nothing out: rows of `ledger_waste`, one per call, the same in any order.

A row says what follows from the call, from the attempts around it, and from whether its run was given up, as far as they are
stored. Whichever is stored later finds the others: every transaction that brings one merges the row of their run, which it
holds locked until it commits, and looks after that. So of two collectors the second sees what the first one wrote. That row
also says whether there is anything to look for (`Flags`): of a run without a failure nothing is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from graphmeter import names
from graphmeter_collector.records import SpanKey, SpanRecord, Wasted
from graphmeter_collector.reports import LostRun
from graphmeter_collector.store.facts import DAY_NS, Row, is_call

LONGEST_ATTEMPT_DAYS: Final = 7
"""How many days before its call an attempt may have begun: a week is the longest run."""
SPAN_ID_BYTES: Final = 8

_CALL: Final = (
    "l.trace_id, l.span_id, l.start_ns, l.run_id, l.service, l.environment, l.graph, l.team, l.node, l.cost_nano, "
    "l.status, l.attempt_span, l.outer_attempts, l.thread_id <> ''"
)
# Buckets without a token are NULL.
_TOKENS: Final = ", ".join(f"l.{bucket}_tokens" for bucket in names.TOKEN_TYPES)
_CONSUMED: Final = f"NOT l.cache_hit AND (l.cost_nano > 0 OR l.images > 0 OR COALESCE({_TOKENS}) IS NOT NULL)"
# An id that is found across two others brings a call that nothing follows from.
CALLS_SQLITE: Final = (
    f"SELECT {_CALL} FROM ledger l WHERE l.trace_id = ?1 AND l.run_id = ?3 AND l.attempt_span IS NOT NULL "  # noqa: S608
    f"AND (?2 = x'' OR l.attempt_span = ?2 OR instr(l.outer_attempts, ?2) > 0) AND {_CONSUMED}"
)
CALLS_POSTGRES: Final = (
    f"SELECT {_CALL} FROM unnest($1::bytea[], $2::bytea[], $3::text[]) AS a(trace_id, span_id, run_id) "  # noqa: S608
    "JOIN ledger l ON l.trace_id = a.trace_id AND l.run_id = a.run_id AND l.attempt_span IS NOT NULL "
    "AND (a.span_id = ''::bytea OR l.attempt_span = a.span_id OR position(a.span_id IN l.outer_attempts) > 0) "
    f"WHERE {_CONSUMED}"
)
_ATTEMPT: Final = "s.trace_id, s.span_id, s.run_id, s.status, s.attempt_final"
_IS_ATTEMPT: Final = f"s.kind = '{names.NODE}' AND s.settled"
ATTEMPT_SQLITE: Final = (
    f"SELECT {_ATTEMPT} FROM span s WHERE s.trace_id = ? AND s.span_id = ? AND s.run_id = ? "  # noqa: S608
    f"AND s.day BETWEEN ? AND ? AND {_IS_ATTEMPT}"
)
ATTEMPTS_POSTGRES: Final = (
    f"SELECT {_ATTEMPT} FROM unnest($1::bytea[], $2::bytea[], $3::text[]) AS c(trace_id, span_id, run_id) "  # noqa: S608
    "JOIN span s ON s.trace_id = c.trace_id AND s.span_id = c.span_id AND s.run_id = c.run_id "
    f"WHERE s.day BETWEEN $4 AND $5 AND {_IS_ATTEMPT}"
)
FLAGS: Final = f"bad_attempts, cancelled_calls, was_lost, status = '{names.LOST}' AS is_lost, root_seen"
"""Columns of `Flags`."""
FLAGS_SQLITE: Final = f"SELECT {FLAGS} FROM run WHERE trace_id = ? AND run_id = ?"  # noqa: S608
CHANGE_SQLITE: Final = "UPDATE ledger_waste SET reason = ?1 WHERE trace_id = ?2 AND span_id = ?3 AND reason <> ?1"
CLEAR_SQLITE: Final = "DELETE FROM ledger_waste WHERE trace_id = ? AND span_id = ?"
CLEAR_POSTGRES: Final = (
    "DELETE FROM ledger_waste w USING unnest($1::bytea[], $2::bytea[]) AS of(trace_id, span_id) "
    "WHERE w.trace_id = of.trace_id AND w.span_id = of.span_id"
)

Run = tuple[bytes, str]
"""Trace id and run id."""
AttemptKey = tuple[bytes, bytes, str]
"""Trace id, span id, run id."""


class Flags(NamedTuple):
    """What a run's row says after the merge."""

    bad_attempts: int = 0
    cancelled_calls: int = 0
    was_lost: bool = False
    """Given up at any time: attempts that had not ended counted as cancelled."""
    is_lost: bool = False
    """They still do."""
    ended: bool = False

    def __bool__(self) -> bool:
        return bool(self.bad_attempts or self.cancelled_calls or self.was_lost)

    @property
    def revisable(self) -> bool:
        """Whether an attempt that went well, or the end of the run, may change what is known of a call."""
        return bool(self.cancelled_calls or self.was_lost)


_WELL: Final = Flags()


class Attempt(NamedTuple):
    """How an attempt of a node ended."""

    status: str
    final: bool
    """Not followed by another one."""


_DIED: Final = Attempt(names.CANCELLED, final=True)
"""One that went down with its process."""


class Call(NamedTuple):
    """A call that used something, and where it was made."""

    wasted: Wasted
    """Without a reason."""
    status: str
    attempts: Sequence[AttemptKey]
    """Those around it, the nearest first; none where none is known."""
    resumable: bool
    """It belongs to a thread, as all do that have a checkpointer: what finished in a subgraph is not done again by the run
    that goes on after a failure. Another attempt of the same run starts the subgraph anew, checkpointer or not."""


def is_bad_attempt(record: SpanRecord) -> bool:
    """Whether the span of a node is an attempt that failed, was cancelled, or was followed by another one."""
    return not record.attempt_final or record.status in (names.ERROR, names.CANCELLED)


def consumed(record: SpanRecord) -> bool:
    """Whether a call used anything, whatever its price: one that was refused was for nothing, and cost nothing."""
    if record.cache_hit or not is_call(record):
        return False
    return bool(any(record.usage) or record.images or (record.cost is not None and record.cost.total_nano))


def is_undecided(record: SpanRecord) -> bool:
    """Whether a call was for nothing in any case, and its attempt says why: a retry outranks the call's own end."""
    return record.status == names.CANCELLED and bool(record.attempt_span and record.run_id) and consumed(record)


def reason(call: Call, known: Mapping[AttemptKey, Attempt], run: Flags) -> str:
    """Why the call was for nothing, as far as is known now; empty when it was not.

    Args:
        call: The call.
        known: Attempts that have ended, those around the call among them.
        run: What is known of its run.
    """
    ends = {call.status}
    for key in call.attempts:
        nearest = key is call.attempts[0]
        attempt = known.get(key) or (_DIED if run.is_lost else None)
        if attempt is None:
            # It may turn out to be followed by another one, which outranks that the call was cancelled.
            if nearest and not run.ended:
                ends.discard(names.CANCELLED)
        elif not attempt.final:
            ends.add(names.RETRY)
        elif nearest or not call.resumable:
            ends.add(attempt.status)
    return next((why for why in names.WASTE_REASONS if why in ends), "")


class Look:
    """What one transaction has to look at, and what it finds."""

    def __init__(self, counted: Iterable[SpanRecord], billed: Collection[SpanKey], flags: Mapping[Run, Flags]) -> None:
        """`counted` are spans that the transaction counts: those that did not end well, and all of runs that have `flags`;
        `billed` are those whose call was on the ledger before."""
        self._flags = flags
        self._known: dict[AttemptKey, Attempt] = {}
        self._calls: dict[tuple[bytes, bytes], Call] = {}
        self._asked: set[AttemptKey] = set()
        self._whole: set[Run] = set()
        """Runs all of whose calls are asked for."""
        for record in counted:
            said = flags.get((record.trace_id, record.run_id), _WELL)
            if record.kind == names.NODE:
                if said:
                    key = (record.trace_id, record.span_id, record.run_id)
                    self._known[key] = Attempt(record.status, record.attempt_final)
                    if said.revisable or is_bad_attempt(record):
                        self._asked.add(key)
            elif record.kind == names.RUN:
                if said.revisable:
                    self._whole.add((record.trace_id, record.run_id))
            elif (said or record.status != names.OK) and record.key not in billed and consumed(record):
                self._take(_call_of(record))

    @classmethod
    def at_lost(cls, rows: Iterable[Row]) -> Self:
        """What to look at when runs are given up. `rows` are as `of_lost` takes them."""
        lost = {(trace_id, run_id): Flags(was_lost=True, is_lost=True) for *_, run_id, trace_id in rows}
        look = cls((), (), lost)
        look._whole |= lost.keys()
        return look

    def asked(self) -> list[AttemptKey]:
        """Attempts whose calls, of any transaction, are asked for; without a span id, all calls of the run."""
        attempts = {each for each in self._asked if (each[0], each[2]) not in self._whole}
        return sorted(attempts | {(trace_id, b"", run_id) for trace_id, run_id in self._whole})

    def take_calls(self, rows: Iterable[Iterable[Any]]) -> None:
        """Rows of `CALLS_…`."""
        for *call, status, attempt_span, outer, resumable in rows:
            self._take(_call(Wasted._make((*call, "")), status, attempt_span, outer or b"", resumable=bool(resumable)))

    def wanted(self) -> list[AttemptKey]:
        """Attempts of other transactions that calls belong to."""
        # Nothing outranks an error.
        found = {key for call in self._calls.values() if call.status != names.ERROR for key in call.attempts}
        return sorted(found - self._known.keys())

    @property
    def days(self) -> tuple[int, int]:
        """Where those are."""
        days = [call.wasted.start_ns // DAY_NS for call in self._calls.values()]
        return min(days) - LONGEST_ATTEMPT_DAYS, max(days) + 1

    def take_attempts(self, rows: Iterable[Iterable[Any]]) -> None:
        """Rows of `ATTEMPT…`."""
        self._known |= {(trace_id, span_id, run_id): Attempt(*end) for trace_id, span_id, run_id, *end in rows}

    def found(self) -> tuple[list[Wasted], list[tuple[bytes, bytes]]]:
        """Calls that were for nothing, some of which may be known as such already; and those that turned out not to be, by
        trace id and span id. Both sorted by key."""
        wasted, cleared = [], []
        for key, call in sorted(self._calls.items()):
            run = self._flags.get((call.wasted.trace_id, call.wasted.run_id), _WELL)
            if why := reason(call, self._known, run):
                wasted.append(call.wasted._replace(reason=why))
            elif run.was_lost:
                cleared.append(key)
        return wasted, cleared

    def _take(self, call: Call) -> None:
        self._calls[call.wasted[:2]] = call


def row(call: Wasted) -> Row:
    """Row of `ledger_waste`."""
    return (call.trace_id, call.span_id, call.start_ns, call.reason)


def of_lost(rows: Iterable[Row], wasted: Iterable[Wasted]) -> list[LostRun]:
    """Runs that were given up, with what was found of them. `rows` are the first fields of `LostRun`, and the trace id."""
    found: defaultdict[Run, list[Wasted]] = defaultdict(list)
    for call in wasted:
        found[call.trace_id, call.run_id].append(call)
    return [
        LostRun(service, environment, graph, team, run_id, found[trace_id, run_id])
        for service, environment, graph, team, run_id, trace_id in rows
    ]


def _call_of(record: SpanRecord) -> Call:
    wasted = Wasted(
        record.trace_id,
        record.span_id,
        record.start_ns,
        record.run_id,
        record.service,
        record.environment,
        record.graph,
        record.team,
        record.node,
        record.cost.total_nano if record.cost is not None else 0,
        "",
    )
    return _call(wasted, record.status, record.attempt_span, record.outer_attempts, resumable=bool(record.thread_id))


def _call(wasted: Wasted, status: str, nearest: bytes, outer: bytes, *, resumable: bool) -> Call:
    ids = [nearest, *(outer[at : at + SPAN_ID_BYTES] for at in range(0, len(outer), SPAN_ID_BYTES))]
    attempts = [(wasted.trace_id, each, wasted.run_id) for each in ids] if nearest and wasted.run_id else []
    return Call(wasted, status, attempts, resumable)
