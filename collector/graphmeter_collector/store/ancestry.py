"""Where a foreign span belongs: the span and its ancestors in, its run, graph, node and team out.

Other instrumentations say of a call what it was, seldom where: that follows from the spans above it. Pure functions, and
the answer depends only on what ancestors say of themselves, so it is the same whenever, and by whichever collector, it is
asked for. `unsettled` keeps spans until the question can be answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store.facts import PIECES

LONGEST_CHAIN: Final = 256
"""Ancestors that are looked at; what is deeper is taken for a root."""
RUN_FACTS: Final = ("tenant", "release", "thread_id", "user_id", "session_id")
"""Of a run of ours, what a span that joins it takes over besides graph, node, team and environment."""
_CALLS: Final = frozenset({names.MODEL, names.TOOL, names.RETRIEVER})
_STRUCTURE: Final = frozenset({names.RUN, names.SUBGRAPH, names.NODE})
_OF_FOREIGN_RUN: Final = re.compile(r"[0-9a-f]{16}")

Known = Mapping[tuple[bytes, bytes], "Ancestor"]
"""Ancestors by trace id and span id."""


class Ancestor(NamedTuple):
    """What is asked of a span that others hang below."""

    span_id: bytes
    parent_id: bytes
    kind: str
    service: str
    environment: str
    graph: str
    team: str
    node: str
    run_id: str
    """Empty until it is known; final where it is not."""
    calls: bool
    """A model call, or somebody's second record of one."""
    consumed: bool
    """A model call with tokens."""
    outer_attempts: bytes = b""
    run_facts: tuple[str, ...] = ("",) * len(RUN_FACTS)


class Lineage(NamedTuple):
    """Ancestors of a span, the nearest first, up to one whose run is known, to a root, or to one that is missing."""

    ancestors: Sequence[Ancestor]
    missing: bytes = b""
    """Span id of the first that is not there; empty when all are."""


class OnlyRun(NamedTuple):
    """The one run that a trace holds."""

    run_id: str
    service: str
    environment: str
    graph: str
    team: str


def needs_ancestors(record: SpanRecord) -> bool:
    """Whether it takes more than the span itself to say where it belongs. Of kind `span` nothing is counted."""
    return record.foreign and record.kind != names.SPAN and bool(record.parent_id) and not record.run_id


def as_ancestor(record: SpanRecord) -> Ancestor:
    """A span of the same batch."""
    call = record.kind == names.MODEL
    return Ancestor(
        record.span_id,
        record.parent_id,
        record.kind,
        record.service,
        record.environment,
        record.graph,
        record.team,
        record.node,
        record.run_id,
        calls=call or bool(record.model),
        consumed=call and not record.cache_hit and any(record.usage),
        outer_attempts=record.outer_attempts,
        run_facts=tuple([getattr(record, name) for name in RUN_FACTS]),
    )


def lineage(record: SpanRecord, known: Known) -> Lineage:
    """The span's ancestors, as far as they are known."""
    found: list[Ancestor] = []
    met = {record.span_id}
    parent = record.parent_id
    # A span that is its own ancestor has no root either.
    while parent and parent not in met and len(found) < LONGEST_CHAIN:
        ancestor = known.get((record.trace_id, parent))
        if ancestor is None:
            return Lineage(found, parent)
        found.append(ancestor)
        if ancestor.run_id:
            break
        met.add(parent)
        parent = ancestor.parent_id
    return Lineage(found)


def settle_what_is_known(records: Iterable[SpanRecord]) -> None:
    """Settle the foreign spans of one batch of which nothing outside of it can say more; the others wait."""
    batch = list(records)
    foreign = [record for record in batch if record.foreign and record.kind != names.SPAN]
    if not foreign:
        return
    traces = {record.trace_id for record in foreign}
    known = {(each.trace_id, each.span_id): as_ancestor(each) for each in batch if each.trace_id in traces}
    for record in foreign:
        found = lineage(record, known) if needs_ancestors(record) else Lineage(())
        record.waits_for = found.missing
        if not found.missing:
            settle(record, found)


def settle(record: SpanRecord, found: Lineage, only_run: OnlyRun | None = None) -> None:
    """Say on the record where it belongs. With a lineage that is not complete: as well as can be known.

    Args:
        record: A foreign span. What it says of itself stands, except for the graph: a run has one.
        found: Its ancestors.
        only_run: The run of the trace, if there is one only: guessed for a call whose lineage is not complete.
    """
    record.waits_for = b""
    if record.run_id:
        record.graph = record.graph or record.service
        return
    ancestors = _own_business(record, found.ancestors)
    if record.kind == names.MODEL and _is_repeated(record, ancestors):
        record.kind, record.twin, record.cost = names.SPAN, True, None
    ancestors = _join(record, ancestors)
    if record.run_id and record.kind in _CALLS and not record.attempt_span:
        record.attempt_span, record.outer_attempts = _attempts(record.run_id, ancestors)
    elif record.run_id and record.kind in _STRUCTURE:
        record.outer_attempts = _around(record.run_id, ancestors)
    if found.missing:
        _guess(record, only_run)
    for name in ("team", "environment", "graph"):
        if not getattr(record, name) and not (name == "team" and record.team_bound):
            setattr(record, name, _nearest(ancestors, name))
    if record.kind != names.RUN and not record.node:
        record.node = _nearest(ancestors, "node") or (names.UNATTRIBUTED if found.missing else "")


def _own_business(record: SpanRecord, ancestors: Sequence[Ancestor]) -> Sequence[Ancestor]:
    """Ancestors up to a model call of another service: what a gateway calls in turn is no part of its caller's run."""
    service = record.service
    for at, ancestor in enumerate(ancestors):
        if ancestor.calls and ancestor.service != service:
            return ancestors[:at]
        if ancestor.calls or ancestor.kind != names.SPAN:
            service = ancestor.service
    return ancestors


def _is_repeated(record: SpanRecord, ancestors: Sequence[Ancestor]) -> bool:
    """Whether a call runs inside another record of itself: that of a framework around that of a provider's SDK.

    One without tokens does not count: then this is the one that knows what the call used.
    """
    for ancestor in ancestors:
        if ancestor.calls:
            if ancestor.consumed or ancestor.kind != names.MODEL:
                return True
        elif ancestor.kind != names.SPAN:
            return False
    return False


def _join(record: SpanRecord, ancestors: Sequence[Ancestor]) -> Sequence[Ancestor]:
    """Give the record its run, if it has one; returns the ancestors that belong to the same."""
    graph: SpanRecord | Ancestor | None = record if record.kind == names.RUN else None
    depth = 0
    for at, ancestor in enumerate(ancestors):
        same = graph is None or graph.service == ancestor.service
        if ancestor.run_id:
            if not same:
                break
            _join_known(record, ancestor)
            return ancestors[: at + 1]
        if ancestor.kind == names.RUN and same:
            # Graphs inside of a graph are no runs: the outermost is, and each service has its own.
            graph, depth = ancestor, at + 1
    if graph is not None:
        record.run_id = graph.span_id.hex()
        # That of the whole run, whatever an inner graph calls itself.
        record.graph = graph.graph or graph.service
        if graph is not record and record.kind == names.RUN:
            record.kind = names.SUBGRAPH
    return ancestors if graph is None else ancestors[:depth]


def _join_known(record: SpanRecord, ancestor: Ancestor) -> None:
    record.run_id = ancestor.run_id
    record.graph = ancestor.graph or record.graph
    if _OF_FOREIGN_RUN.fullmatch(ancestor.run_id):
        if record.kind == names.RUN:
            record.kind = names.SUBGRAPH
        return
    if record.kind in _STRUCTURE:
        # Our client records every graph and node of its runs: this one was counted.
        record.kind, record.twin = names.SPAN, True
    for name, said in zip(RUN_FACTS, ancestor.run_facts, strict=True):
        if not getattr(record, name):
            setattr(record, name, said)


def _attempts(run_id: str, ancestors: Sequence[Ancestor]) -> tuple[bytes, bytes]:
    """Span id of the attempt of a node that a call belongs to, empty where none is known, and those of the ones around."""
    for at, ancestor in enumerate(ancestors):
        if ancestor.kind == names.SPAN and not ancestor.run_id:
            continue
        if _is_attempt(run_id, ancestor):
            return ancestor.span_id, _around(run_id, ancestors[at:]).removeprefix(ancestor.span_id)
        if ancestor.kind not in PIECES:
            break
        # Where the run is known nobody looked further: tools are called by nodes, as a rule.
        if ancestor.run_id:
            return ancestor.parent_id, ancestor.outer_attempts
        return ancestor.parent_id, _around(run_id, ancestors[at + 1 :]).removeprefix(ancestor.parent_id)
    return b"", b""


def _is_attempt(run_id: str, ancestor: Ancestor) -> bool:
    # Another instrumentation's record of a node of ours is none; it may not be known as such yet.
    return ancestor.kind == names.NODE and bool(ancestor.run_id or _OF_FOREIGN_RUN.fullmatch(run_id))


def _around(run_id: str, ancestors: Sequence[Ancestor]) -> bytes:
    """Span ids of the attempts among the ancestors, and of those that the last one says it is in."""
    found = [ancestor.span_id for ancestor in ancestors if _is_attempt(run_id, ancestor)]
    return b"".join(found) + (ancestors[-1].outer_attempts if ancestors and ancestors[-1].run_id else b"")


def _guess(record: SpanRecord, only_run: OnlyRun | None) -> None:
    """A call whose ancestors never came belongs to the run of its trace and service, if there is but one."""
    if only_run is None or record.run_id or record.kind not in _CALLS or only_run.service != record.service:
        return
    record.run_id = only_run.run_id
    record.graph = record.graph or only_run.graph
    record.environment = record.environment or only_run.environment
    if not record.team_bound:
        record.team = record.team or only_run.team


def _nearest(ancestors: Sequence[Ancestor], name: str) -> str:
    for ancestor in ancestors:
        said: str = getattr(ancestor, name)
        if said and said != names.UNATTRIBUTED:
            return said
    return ""
