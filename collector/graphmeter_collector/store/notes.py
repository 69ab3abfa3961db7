"""Notes in, the rows they add out. `facts` for the tables that hold what clients say besides spans.

Every row commutes or stands for itself: an outcome is told from its copies by its span id, of a tag the one said last
stands, of a report the one with the highest number. So notes may come in any order, any number of times, at any collector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphmeter import names
from graphmeter_collector.records import ClientChange, Outcome, Report, SpanRecord, Topology
from graphmeter_collector.store.facts import Row

NO_COUNTS = (0, 0, 0, 0)
"""Sequence, exported, dropped and failed of a client that has not reported."""


def outcomes(notes: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Each outcome once, sorted by key."""
    unique: dict[tuple[bytes, bytes], SpanRecord] = {}
    for note in notes:
        if note.kind == names.OUTCOME:
            unique.setdefault((note.trace_id, note.span_id), note)
    return [unique[key] for key in sorted(unique)]


def outcome_row(note: SpanRecord) -> Row:
    """Row of `outcome`."""
    said = note.said
    assert isinstance(said, Outcome)  # decode made it
    base = (note.service, note.environment, note.graph, note.team)
    return (note.trace_id, note.span_id, note.run_id, said.kind, said.good, said.value, note.start_ns, *base)


def attribute(note: SpanRecord, known: Sequence[str]) -> None:
    """Say to whoever counts the note what its run's attribution is: the process that said it did not know."""
    note.service, note.environment, note.graph, team = known
    if not note.team_bound:
        note.team = team


def tag_rows(notes: Iterable[SpanRecord]) -> list[Row]:
    """Rows of `run_tag`."""
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for note in notes:
        if note.kind == names.TAGS:
            for name, value in note.tags.items():
                key = (note.run_id, name)
                latest[key] = max(latest.get(key, (0, "")), (note.start_ns, value))
    return [(*key, value, at_ns) for key, (at_ns, value) in sorted(latest.items())]


def topology_rows(notes: Iterable[SpanRecord]) -> list[Row]:
    """Rows of `graph_topology`."""
    found: dict[tuple[str, str, str, bytes], tuple[str, int, int]] = {}
    for note in notes:
        said = note.said
        if isinstance(said, Topology):
            key = (note.service, note.environment, note.graph, said.hash)
            _, first, last = found.get(key, ("", note.start_ns, note.start_ns))
            found[key] = (said.json, min(first, note.start_ns), max(last, note.start_ns))
    return [(*key, *found[key]) for key in sorted(found)]


def report_rows(notes: Iterable[SpanRecord]) -> list[Row]:
    """Rows of `client_report`, the newest of each client."""
    newest: dict[str, Row] = {}
    for note in notes:
        said = note.said
        if isinstance(said, Report):
            row = (said.client_id, note.service, note.environment, *said[1:], note.start_ns)
            before = newest.get(said.client_id)
            if before is None or row[3] > before[3]:
                newest[said.client_id] = row
    return [newest[client_id] for client_id in sorted(newest)]


def changes(reports: Sequence[Row], before: Mapping[str, tuple[int, ...]]) -> list[ClientChange]:
    """What the rows of `report_rows` add to what is stored: sequence, exported, dropped and failed by client."""
    found = []
    for client_id, service, environment, sequence, *counts in reports:
        at, *old = before.get(client_id, NO_COUNTS)
        if sequence > at:
            # Never negative: a client that counts backwards is broken, and a counter cannot.
            added = [max(new - was, 0) for new, was in zip(counts[:3], old, strict=True)]
            found.append(ClientChange(service, environment, *added))
    return found


def merged(notes: Iterable[SpanRecord]) -> int:
    """How many of the notes have no row of their own to be told from their copies by."""
    return sum(note.kind != names.OUTCOME for note in notes)


def wait_rows(new: Iterable[SpanRecord]) -> list[Row]:
    """Rows of `wait`: interrupted roots of a thread, for whom nobody has answered as far as they know."""
    return sorted(
        (
            root.trace_id,
            root.run_id,
            *(root.service, root.environment, root.graph, root.team, root.thread_id, root.checkpoint_id),
            root.end_ns,
            None,
            None,
            "",
            None,
        )
        for root in new
        if root.kind == names.RUN and root.status == names.INTERRUPTED and root.run_id and root.thread_id
    )
