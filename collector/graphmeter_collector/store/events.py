"""What rows of the database stand for: events of runs, nodes, tools, model calls and outcomes, each with its moments.

One table of facts for all who count events row by row (objectives, their culprits, looks back): whether a row is an event
of a kind, by what it can be told apart, and when it counted, which is when it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, FromClause, and_, case, false, func, true

from graphmeter import names
from graphmeter_collector.store.facts import DAY_NS, HOUR_NS
from graphmeter_collector.store.runs import MISSED_HEARTBEATS
from graphmeter_collector.store.tables import ledger, outcome, run, span
from graphmeter_config import BAD_STATUSES, GOOD_STATUSES, Slo
from graphmeter_config.indicators import Dimension, Indicator, Of, shown
from graphmeter_config.section import globs_match

LONGEST_SPAN_NS: Final = HOUR_NS
LONGEST_RUN_NS: Final = DAY_NS
"""What took longer is not found among what has just ended: it would have to be looked for among all that began before."""
JUDGED: Final = (*GOOD_STATUSES, *BAD_STATUSES)

Condition = ColumnElement[bool]


class Facts(NamedTuple):
    """Rows that stand for one event each."""

    rows: FromClause
    dimensions: Mapping[str, ColumnElement[str]]
    started_ns: ColumnElement[int]
    ended_ns: ColumnElement[int]
    judged: Condition
    """Whether it is an event of the kind."""
    bad: Condition
    longest_ns: int


class Chosen:
    """Which rows somebody looks at, and which of them together."""

    def __init__(self, restricting: Mapping[str, tuple[str, ...]], per: Sequence[str]) -> None:
        self._restricting = restricting
        self._per = per

    def dimensions(self, known: Iterable[str]) -> list[str]:
        """Those that decide whether and where a row counts."""
        return [name for name in known if name in self._per or name in self._restricting]

    def narrowed(self, columns: Mapping[str, ColumnElement[str]]) -> list[Condition]:
        """What the database can tell of the selection: names without wildcards."""
        return [
            columns[name].in_([*globs, *(("",) if names.UNATTRIBUTED in globs else ())])
            for name, globs in self._restricting.items()
            if name in columns and not any(set("*?") & set(glob) for glob in globs)
        ]

    def group(self, values: Mapping[str, str]) -> tuple[str, ...] | None:
        """Where a row with these dimensions counts; None: nowhere."""
        for name, globs in self._restricting.items():
            if name in values and not globs_match(globs, shown(name, values[name])):
                return None
        return tuple(values[name] for name in self._per)


def columns_of(table: FromClause, *of: Dimension) -> dict[str, ColumnElement[str]]:
    """What rows of a table can be told apart by."""
    return {name: table.c[name] for name in ("graph", "team", "environment", "service", *of)}


RUN: Final = columns_of(run)
SPAN: Final = columns_of(span, "node", "tool", "provider", "model")
CALL: Final = columns_of(ledger, "node", "provider", "model")
OUTCOME: Final = columns_of(outcome, "kind")
FINISHED: Final = run.c.status.in_(names.SPAN_STATUSES)
COUNTED: Final = and_(span.c.settled.is_(True), span.c.run_id != "")
ENDED: Final = (names.OK, names.ERROR)
SAME_CALL: Final = and_(ledger.c.trace_id == span.c.trace_id, ledger.c.span_id == span.c.span_id)
CALLED: Final = and_(ledger.c.cache_hit.is_(False), ledger.c.operation.not_in(names.PIECE_OPERATIONS))


def given_up_ns(lost_after_ns: int) -> ColumnElement[int]:
    """When a run is given up that shows no sign of life (see `runs.lost`)."""
    promised = run.c.heartbeat_ns * MISSED_HEARTBEATS
    sooner = and_(run.c.heartbeat_ns > 0, promised < lost_after_ns)
    return run.c.last_seen_ns + case((sooner, promised), else_=lost_after_ns)


def runs(judged: Condition, bad: Condition, lost_after_ns: int) -> Facts:
    """A lost run is bad when it is given up."""
    ended = case((run.c.status == names.LOST, given_up_ns(lost_after_ns)), else_=func.coalesce(run.c.ended_ns, 0))
    return Facts(run, RUN, run.c.started_ns, ended, judged, bad, LONGEST_RUN_NS)


def spans(kind: str, judged: Condition, bad: Condition) -> Facts:
    """Of one kind, once it is known what they belong to."""
    ended = span.c.start_ns + span.c.duration_ns
    judged = and_(span.c.kind == kind, COUNTED, judged)
    return Facts(span, SPAN, span.c.start_ns, ended, judged, bad, LONGEST_SPAN_NS)


def calls(judged: Condition, bad: Condition) -> Facts:
    """Model calls stand on the ledger once each, whoever saw them."""
    ended = ledger.c.start_ns + ledger.c.duration_ns
    return Facts(ledger, CALL, ledger.c.start_ns, ended, and_(CALLED, judged), bad, LONGEST_SPAN_NS)


def outcomes(judged: Condition, bad: Condition) -> Facts:
    """They have rows of their own."""
    return Facts(outcome, OUTCOME, outcome.c.at_ns, outcome.c.at_ns, judged, bad, 0)


def facts_of(slo: Slo, lost_after_ns: int = 0) -> list[Facts]:
    """Rows that hold the events of an SLO; of several, the first hold all events, and the others bad ones."""
    key: tuple[Indicator, Of] = (slo.indicator, slo.of)
    nothing, above_ns = false(), round(slo.bound * names.NANO_PER_USD)
    failed = run.c.status.in_(BAD_STATUSES)
    match key:
        case ("availability", "runs"):
            return [runs(run.c.status.in_(JUDGED), failed, lost_after_ns)]
        case ("availability", "nodes"):
            final = and_(span.c.attempt_final.is_(True), span.c.status.in_(ENDED))
            return [spans(names.NODE, final, span.c.status == names.ERROR)]
        case ("availability", "tools"):
            return [spans(names.TOOL, span.c.status.in_(ENDED), span.c.status == names.ERROR)]
        case ("availability", "models"):
            return [calls(ledger.c.status.in_(ENDED), ledger.c.status == names.ERROR)]
        case ("latency", "runs"):
            return [runs(FINISHED, run.c.duration_ns > above_ns, lost_after_ns)]
        case ("latency", "nodes"):
            return [spans(names.NODE, true(), span.c.duration_ns > above_ns)]
        case ("latency", "models"):
            return [calls(true(), ledger.c.duration_ns > above_ns)]
        case ("first_token", "models"):
            streamed = and_(span.c.kind == names.MODEL, span.c.settled.is_(True), span.c.ttft_ns.is_not(None))
            found = calls(streamed, span.c.ttft_ns > above_ns)
            return [found._replace(rows=ledger.join(span, SAME_CALL))]
        case ("cost", "runs"):
            return [runs(FINISHED, run.c.cost_nano > above_ns, lost_after_ns)]
        case ("quality", "runs"):
            return [
                runs(run.c.status.in_(JUDGED), nothing, lost_after_ns),
                outcomes(outcome.c.good.is_(False), outcome.c.good.is_(False)),
            ]
        case _:
            return [outcomes(outcome.c.good.is_not(None), outcome.c.good.is_(False))]
