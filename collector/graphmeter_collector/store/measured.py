"""What has to be counted in, where it stands in the database out: each kind of measure as sources of rows.

They count what the counters of collectors count, when these count it: an event when it ended, a lost run when it was given
up, what was spent for nothing when the attempt around it ended, money as it was billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from sqlalchemy import ColumnElement, FromClause, and_, case, func, or_, select, true

from graphmeter import names
from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import (
    CALL,
    ENDED,
    FINISHED,
    JUDGED,
    RUN,
    SAME_CALL,
    Chosen,
    Condition,
    calls,
    columns_of,
    given_up_ns,
    outcomes,
    runs,
    spans,
)
from graphmeter_collector.store.facts import DAY_NS
from graphmeter_collector.store.slices import Group, Source, histories
from graphmeter_collector.store.tables import ledger, ledger_waste, run, span, wait
from graphmeter_collector.store.waits import LONGEST_NS
from graphmeter_config import BAD_STATUSES
from graphmeter_config.history import History
from graphmeter_config.measures import LEVELS, Measure
from graphmeter_config.slices import NS

REFUSALS: Final = ("ratelimit", "toomanyrequests", "throttling", "resourceexhausted", "429")
"""What errors are called with which providers refuse for their rate limits; nothing else about them is stored."""

_LONGEST_RUN_NS: Final = 30 * DAY_NS
"""Runs that began longer ago are not looked for among those that have not ended."""
_BEGINNINGS: Final = (run.c.started_ns, ledger.c.start_ns)
_NEVER_NS: Final = 1 << 62
_ALL: Final = func.count()
_NANO: Final = names.NANO_PER_USD
_ATTEMPT: Final = span.alias("attempt")


async def measured(
    reader: Rows, measure: Measure, since_ns: int, until_ns: int, lost_after_ns: int
) -> dict[Group, History]:
    """What a measure asks for, to judge each slice of [since, until), by what is judged by itself.

    Raises:
        KeyError: nothing of the kind is stored.
    """
    first_ns = max((since_ns // NS // measure.slice_s * measure.slice_s - measure.reach_s) * NS, 0)
    chosen = Chosen(dict(measure.select), measure.per)
    sources = _levels(measure, first_ns, lost_after_ns) if measure.of in LEVELS else _events(measure, lost_after_ns)
    return await histories(reader, sources, chosen, measure.parts, first_ns, until_ns, measure.slice_s)


async def first_event_ns(reader: Rows) -> int:
    """When the first run or call that is stored began; 0: there is none."""
    firsts = [(await reader.rows(select(func.min(at).label("first"))))[0]["first"] for at in _BEGINNINGS]
    return min((first for first in firsts if first is not None), default=0)


def _events(measure: Measure, lost_after_ns: int) -> list[Source]:
    failed = run.c.status.in_(BAD_STATUSES)
    judged = runs(run.c.status.in_(JUDGED), failed, lost_after_ns)
    finished = runs(FINISHED, failed, lost_after_ns)
    lost = run.c.status == names.LOST
    called, final = calls(true(), true()), and_(span.c.attempt_final.is_(True), span.c.status.in_(ENDED))
    # Answers from a cache cost nothing.
    paid = called._replace(judged=ledger.c.cache_hit.is_(False))
    match measure.of:
        case "error_rate":
            return [Source.of(judged, {0: _ALL, 1: _ALL.filter(failed)})]
        case "node_error_rate":
            nodes = spans(names.NODE, final, true())
            return [Source.of(nodes, {0: _ALL, 1: _ALL.filter(span.c.status == names.ERROR)})]
        case "latency_p95" | "run_duration":
            return [Source.of(finished, _above(measure, run.c.duration_ns))]
        case "node_latency_p95":
            return [Source.of(spans(names.NODE, true(), true()), _above(measure, span.c.duration_ns))]
        case "run_cost_usd":
            return [Source.of(finished, _above(measure, run.c.cost_nano))]
        case "cost_usd_per_run":
            return [Source.of(finished, {0: _ALL, 1: func.sum(run.c.cost_nano)})]
        case "spend_usd_per_hour":
            return [Source.of(paid, {1: func.sum(ledger.c.cost_nano)})]
        case "waste":
            return [Source.of(paid, {0: func.sum(ledger.c.cost_nano)}), _wasted(lost_after_ns)]
        case "unpriced_calls":
            return [Source.of(called, {1: _ALL}, ledger.c.price_status == "unpriced")]
        case "escalations":
            return [Source.of(judged, {0: _ALL}), Source.of(outcomes(true(), true()), {1: _ALL})]
        case "cache_hits":
            either = called._replace(judged=ledger.c.operation.not_in(names.PIECE_OPERATIONS))
            return [Source.of(either, {0: _ALL, 1: _ALL.filter(ledger.c.cache_hit.is_(True))})]
        case "rate_limited":
            refused = called._replace(rows=ledger.join(span, SAME_CALL))
            return [
                Source.of(called, {0: _ALL}),
                Source.of(refused, {1: _ALL}, ledger.c.status == names.ERROR, _refused()),
            ]
        case "lost_runs":
            return [Source.of(judged, {1: _ALL}, lost)]
        case "traffic":
            return [Source.of(runs(or_(FINISHED, lost), failed, lost_after_ns), {0: _ALL})]
        case "requests":
            return [Source.of(called, {1: _ALL})]
        case "tokens":
            each = [func.coalesce(func.sum(ledger.c[f"{name}_tokens"]), 0) for name in measure.types]
            return [Source.of(called, {1: sum(each[1:], each[0])})]
    raise KeyError(measure.of)


def _above(measure: Measure, amount: ColumnElement[int]) -> dict[int, ColumnElement[int]]:
    """All, and those above each bound."""
    above = {at: _ALL.filter(amount > _nano(bound)) for at, bound in enumerate(measure.bounds, start=1)}
    return {0: _ALL, **above}


def _nano(bound: Fraction) -> int:
    return round(bound * _NANO)


def _refused() -> Condition:
    said = func.lower(func.replace(span.c.error_type, "_", ""))
    return or_(*(said.contains(word) for word in REFUSALS))


def _wasted(lost_after_ns: int) -> Source:
    """What was for nothing is known when the attempt around it has ended, or went down with its run."""
    attempt, same = _ATTEMPT.c, ledger_waste.c
    rows = (
        ledger_waste.join(ledger, and_(same.trace_id == ledger.c.trace_id, same.span_id == ledger.c.span_id))
        .outerjoin(_ATTEMPT, and_(attempt.trace_id == ledger.c.trace_id, attempt.span_id == ledger.c.attempt_span))
        .outerjoin(run, and_(run.c.trace_id == ledger.c.trace_id, run.c.run_id == ledger.c.run_id))
    )
    gone = case((run.c.status == names.LOST, given_up_ns(lost_after_ns)))
    ended = ledger.c.start_ns + ledger.c.duration_ns
    known = func.coalesce(attempt.start_ns + attempt.duration_ns, gone, ended)
    return Source(rows, CALL, ledger_waste.c.start_ns, known, DAY_NS, (), {1: func.sum(ledger.c.cost_nano)})


def _levels(measure: Measure, since_ns: int, lost_after_ns: int) -> list[Source]:
    """Of each bound: what became older than it, and when that was over. What was so before is so from the beginning on."""
    rows, dimensions, started, ended, longest_ns = (
        _questions() if measure.of == "human_wait" else _unended(runs(true(), true(), lost_after_ns).ended_ns)
    )
    found = []
    for index, bound in enumerate(measure.bounds):
        older = started + _nano(bound)
        where = [ended > older, ended >= since_ns, started >= since_ns - longest_ns]
        begins = case((older < since_ns, since_ns), else_=older)
        for column, at in enumerate((begins, ended), start=2 * index + 1):
            found.append(Source(rows, dimensions, started, at, None, where, {column: _ALL}))
    return found


_Ages = tuple[FromClause, Mapping[str, ColumnElement[str]], ColumnElement[int], ColumnElement[int], int]


def _questions() -> _Ages:
    ended = func.coalesce(wait.c.until_ns, wait.c.since_ns + LONGEST_NS)
    return wait, columns_of(wait), wait.c.since_ns, ended, LONGEST_NS


def _unended(ended_ns: ColumnElement[int]) -> _Ages:
    ended = case((run.c.status == names.RUNNING, _NEVER_NS), else_=ended_ns)
    return run, RUN, run.c.started_ns, ended, _LONGEST_RUN_NS
