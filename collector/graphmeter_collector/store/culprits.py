"""What bad events of an objective have in common: the types of their errors, and the nodes that they went wrong in.

Asked for reports, not for gauges: error types are in no rollup, so bad nodes, tools and calls are looked for among all spans
of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, select

from graphmeter import names
from graphmeter_collector.reports import Culprits, InCommon
from graphmeter_collector.store import objectives
from graphmeter_collector.store.effective import Rows
from graphmeter_collector.store.events import Facts, facts_of
from graphmeter_collector.store.objectives import EventCounter
from graphmeter_collector.store.tables import ledger, outcome, run, run_node, span
from graphmeter_config import Slo

_OF_RUN: Final = and_(run_node.c.trace_id == run.c.trace_id, run_node.c.run_id == run.c.run_id)
_OF_CALL: Final = and_(span.c.trace_id == ledger.c.trace_id, span.c.span_id == ledger.c.span_id)
_Found = dict[tuple[str, ...], Counter[str]]


async def of(source: Rows, slo: Slo, since_ns: int, until_ns: int) -> Culprits:
    """See `reports.SloCounts`."""
    errors = await _errors(source, slo, since_ns, until_ns)
    nodes = await _nodes(source, slo, since_ns, until_ns)
    return {group: InCommon(errors.get(group, Counter()), nodes.get(group, Counter())) for group in {**errors, **nodes}}


async def _errors(source: Rows, slo: Slo, since_ns: int, until_ns: int) -> _Found:
    """Of what is bad for being slow or dear none is an error; of outcomes their kind tells what they were."""
    facts = facts_of(slo)[-1]
    if slo.indicator == "quality":
        return await _group(source, slo, facts, outcome.c.kind, since_ns, until_ns)
    if slo.indicator != "availability":
        return {}
    if facts.rows is run:
        lost = func.coalesce(func.nullif(run.c.error_type, ""), run.c.status)
        return await _group(source, slo, facts, lost, since_ns, until_ns)
    if facts.rows is ledger:
        # The ledger knows no error types; its calls are spans.
        return await _group(source, slo, facts, span.c.error_type, since_ns, until_ns, ledger.join(span, _OF_CALL))
    return await _group(source, slo, facts, span.c.error_type, since_ns, until_ns)


async def _nodes(source: Rows, slo: Slo, since_ns: int, until_ns: int) -> _Found:
    if slo.of != "runs":
        return await _apart(source, slo, since_ns, until_ns) if "node" in slo.kind.dimensions else {}
    if slo.indicator == "quality":
        return {}
    facts = facts_of(slo)[0]
    if slo.indicator == "availability":
        failed = facts._replace(bad=and_(facts.bad, run_node.c.errors > 0))
        return await _group(source, slo, failed, run_node.c.node, since_ns, until_ns, run.join(run_node, _OF_RUN))
    # In each slow run the node that took longest, in each dear one the dearest.
    most = run_node.c.duration_ns if slo.indicator == "latency" else run_node.c.cost_nano
    place = func.row_number().over(
        partition_by=(run_node.c.trace_id, run_node.c.run_id), order_by=(most.desc(), run_node.c.node)
    )
    known = EventCounter(slo).chosen.dimensions(facts.dimensions)
    columns: list[ColumnElement[Any]] = [facts.dimensions[name].label(name) for name in known]
    within = [facts.started_ns >= since_ns, facts.started_ns < until_ns, facts.judged, facts.bad, most > 0]
    ranked = (
        select(*columns, run_node.c.node.label("what"), place.label("place"))
        .select_from(run.join(run_node, _OF_RUN))
        .where(*within)
        .subquery("ranked")
    )
    keys = [ranked.c[name] for name in known]
    asked: Select[Any] = (
        select(*keys, ranked.c.what, func.count().label("bad"))
        .where(ranked.c.place == 1)
        .group_by(*keys, ranked.c.what)
    )
    return _taken(slo, known, await source.rows(asked))


async def _apart(source: Rows, slo: Slo, since_ns: int, until_ns: int) -> _Found:
    """By node, as if the objective judged each by itself: from rollups."""
    per = tuple(name for name in slo.per if name != "node")
    found: _Found = {}
    finer = slo.model_copy(update={"per": (*per, "node")})
    at = [(*per, "node").index(name) for name in slo.per]
    for values, said in (await objectives.judged(source, finer, since_ns, until_ns)).items():
        if said.bad:
            found.setdefault(tuple(values[each] for each in at), Counter())[values[-1]] += said.bad
    return found


async def _group(
    source: Rows,
    slo: Slo,
    facts: Facts,
    by: ColumnElement[str],
    since_ns: int,
    until_ns: int,
    rows: FromClause | None = None,
) -> _Found:
    counter = EventCounter(slo)
    known = counter.chosen.dimensions(facts.dimensions)
    columns: list[ColumnElement[Any]] = [facts.dimensions[name].label(name) for name in known]
    what = by.label("what")
    asked: Select[Any] = (
        select(*columns, what, func.count().label("bad"))
        .select_from(facts.rows if rows is None else rows)
        .where(facts.started_ns >= since_ns, facts.started_ns < until_ns, facts.judged, facts.bad)
        .where(*counter.chosen.narrowed(facts.dimensions))
        .group_by(*columns, what)
    )
    return _taken(slo, known, await source.rows(asked))


def _taken(slo: Slo, known: Sequence[str], rows: Sequence[Mapping[Any, Any]]) -> _Found:
    counter = EventCounter(slo)
    found: _Found = {}
    for row in rows:
        group = counter.chosen.group({name: row[name] for name in known})
        if group is not None and row["bad"]:
            found.setdefault(group, Counter())[row["what"] or names.UNATTRIBUTED] += row["bad"]
    return found
