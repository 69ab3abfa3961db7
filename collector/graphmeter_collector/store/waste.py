"""Calls and node attempts in, which calls were for nothing out: rows of `ledger_waste`, one per call, the same in any order.

A call is judged once both are known: the call, and the attempt of its node. Whichever is stored later finds the other: every
transaction that brings one merges the row of their run, which it holds locked until it commits, and looks after that. So of
two collectors the second sees what the first one wrote. That row also says whether there is anything to look for
(`run.bad_attempts`, `run.cancelled_calls`): of a run without a failure nothing is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from graphmeter import names
from graphmeter_collector.records import SpanKey, SpanRecord, Wasted
from graphmeter_collector.store.facts import Row, is_call

LONGEST_ATTEMPT_DAYS: Final = 7
"""How many days before its call an attempt may have begun: a week is the longest run."""

_CALL: Final = (
    "l.trace_id, l.span_id, l.start_ns, l.run_id, l.service, l.environment, l.graph, l.team, l.node, l.cost_nano, "
    "l.status, l.attempt_span"
)
# Buckets without a token are NULL.
_TOKENS: Final = ", ".join(f"l.{bucket}_tokens" for bucket in names.TOKEN_TYPES)
_CONSUMED: Final = f"NOT l.cache_hit AND (l.cost_nano > 0 OR l.images > 0 OR COALESCE({_TOKENS}) IS NOT NULL)"
CALLS_SQLITE: Final = (
    f"SELECT {_CALL} FROM ledger l WHERE l.trace_id = ? AND l.attempt_span = ? AND l.run_id = ? AND {_CONSUMED}"  # noqa: S608
)
CALLS_POSTGRES: Final = (
    f"SELECT {_CALL} FROM unnest($1::bytea[], $2::bytea[], $3::text[]) AS a(trace_id, span_id, run_id) "  # noqa: S608
    "JOIN ledger l ON l.trace_id = a.trace_id AND l.attempt_span = a.span_id AND l.run_id = a.run_id "
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
FLAGS_SQLITE: Final = "SELECT bad_attempts, cancelled_calls FROM run WHERE trace_id = ? AND run_id = ?"

Run = tuple[bytes, str]
"""Trace id and run id."""


class Flags(NamedTuple):
    """What a run's row says after the merge."""

    bad_attempts: int
    cancelled_calls: int

    def __bool__(self) -> bool:
        return bool(self.bad_attempts or self.cancelled_calls)


class Attempt(NamedTuple):
    """How an attempt of a node ended."""

    status: str
    final: bool
    """Not followed by another one."""


AttemptKey = tuple[bytes, bytes, str]
"""Trace id, span id, run id."""


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


def reason(status: str, attempt: Attempt | None) -> str:
    """Why a call that ended with `status` was for nothing; empty when it was not.

    `attempt` is the one that it belongs to; None where that is none, or changes nothing.
    """
    ends = {status}
    if attempt is not None:
        ends.add(attempt.status if attempt.final else names.RETRY)
    return next((why for why in names.WASTE_REASONS if why in ends), "")


class Look:
    """What one transaction has to look at, and what it finds."""

    def __init__(self, counted: Iterable[SpanRecord], billed: Collection[SpanKey], flags: Mapping[Run, Flags]) -> None:
        """`counted` are the spans that the transaction counts, `billed` those of them whose call was on the ledger before,
        and `flags` those of its runs that have any."""
        self._found: dict[tuple[bytes, bytes], Wasted] = {}
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._calls: list[SpanRecord] = []
        traces = {trace_id for trace_id, _ in flags}
        for record in [each for each in counted if each.status != names.OK or each.trace_id in traces]:
            said = flags.get((record.trace_id, record.run_id))
            if record.kind == names.NODE:
                # Of an attempt that did well only calls that were cancelled have to hear.
                if said and (said.cancelled_calls or is_bad_attempt(record)):
                    key = (record.trace_id, record.span_id, record.run_id)
                    self._attempts[key] = Attempt(record.status, record.attempt_final)
            elif record.key in billed or not consumed(record):
                continue
            elif record.status == names.ERROR or not (record.attempt_span and record.run_id):
                self._judge(_wasted(record, reason(record.status, None)))
            elif said:
                self._calls.append(record)

    def attempts(self) -> list[AttemptKey]:
        """Attempts of this transaction whose calls, of any transaction, are asked for."""
        return sorted(self._attempts)

    def take_calls(self, rows: Iterable[Iterable[Any]]) -> None:
        """Rows of `CALLS_…`."""
        for *call, status, attempt_span in rows:
            found = Wasted._make((*call, ""))
            attempt = self._attempts[found.trace_id, attempt_span, found.run_id]
            self._judge(found._replace(reason=reason(status, attempt)))

    def wanted(self) -> list[AttemptKey]:
        """Attempts of other transactions that calls of this one belong to."""
        return sorted({(call.trace_id, call.attempt_span, call.run_id) for call in self._calls} - self._attempts.keys())

    @property
    def days(self) -> tuple[int, int]:
        """Where those are."""
        days = [call.day for call in self._calls]
        return min(days) - LONGEST_ATTEMPT_DAYS, max(days) + 1

    def take_attempts(self, rows: Iterable[Iterable[Any]]) -> None:
        """Rows of `ATTEMPT…`."""
        known = {(trace_id, span_id, run_id): Attempt(*end) for trace_id, span_id, run_id, *end in rows}
        for call in self._calls:
            attempt = known.get((call.trace_id, call.attempt_span, call.run_id))
            if attempt is not None:
                self._judge(_wasted(call, reason(call.status, attempt)))

    def _judge(self, call: Wasted) -> None:
        if call.reason:
            self._found[call.trace_id, call.span_id] = call

    def found(self) -> list[Wasted]:
        """Calls that were for nothing, sorted by key. Some may be known as such already."""
        return [self._found[key] for key in sorted(self._found)]


def row(call: Wasted) -> Row:
    """Row of `ledger_waste`."""
    return (call.trace_id, call.span_id, call.start_ns, call.reason)


def _wasted(call: SpanRecord, why: str) -> Wasted:
    return Wasted(
        call.trace_id,
        call.span_id,
        call.start_ns,
        call.run_id,
        call.service,
        call.environment,
        call.graph,
        call.team,
        call.node,
        call.cost.total_nano if call.cost is not None else 0,
        why,
    )
