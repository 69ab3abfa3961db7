"""Whole span trees as text, with cost, for tests that assert everything about a run at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from graphmeter import names
from graphmeter.testing import InMemorySpans, RecordedSpan

MINI = "model gpt-4o-mini ok 10→5 $0.0000045"
"""A call of `fakes.FakeChat`: 10 tokens at 0.15 and 5 at 0.60 USD per million."""


def whole(spans: InMemorySpans, *, by_name: bool = False) -> str:
    """`spans.tree()` with the cost of model calls; `by_name` puts siblings that run at once into a fixed order.

    Checks on the way what holds of every tree: no span comes twice, each run is announced once, all spans below a run
    carry its id, graph and trace, parents surround their children or are missing altogether (the application's), and
    everything below a node carries its path, calls also the span of the attempt.
    """
    found = spans.all()
    twice = [key for key, times in Counter((span.trace_id, span.span_id) for span in found).items() if times > 1]
    assert [] == twice
    by_id = {span.span_id: span for span in found if span.kind not in names.NOTES}
    runs = [span for span in by_id.values() if span.kind == names.RUN]
    starts = [span for span in found if span.kind == names.START]
    assert sorted(span.span_id for span in runs) == sorted(span.parent_id or 0 for span in starts)

    children: dict[int | None, list[RecordedSpan]] = {}
    for span in by_id.values():
        children.setdefault(span.parent_id if span.parent_id in by_id else None, []).append(span)
    lines: list[str] = []

    def walk(parent: RecordedSpan | None, depth: int, *attempts: RecordedSpan) -> None:
        below = children.get(None if parent is None else parent.span_id, [])
        for span in sorted(below, key=line) if by_name else below:
            if parent is not None:
                assert parent.trace_id == span.trace_id
                assert parent.start_ns <= span.start_ns
                for key in (names.RUN_ID, names.GRAPH):
                    assert parent.attributes.get(key) == span.attributes.get(key)
            if attempts:
                attempt = attempts[0]
                path = attempt.attributes[names.NODE_PATH]
                is_node = span.kind == names.NODE
                assert (f"{path}.{span.label}" if is_node else path) == span.attributes[names.NODE_PATH]
                if span.kind in (names.MODEL, names.TOOL, names.RETRIEVER):
                    assert f"{attempt.span_id:016x}" == span.attributes[names.ATTEMPT_SPAN]
                    assert outer(attempts[1:]) == span.attributes.get(names.OUTER_ATTEMPTS)
                elif is_node:
                    assert outer(attempts) == span.attributes.get(names.OUTER_ATTEMPTS)
            lines.append("  " * depth + line(span))
            walk(span, depth + 1, *[span] * (span.kind == names.NODE), *attempts)

    walk(None, 0)
    return "\n".join(lines)


def outer(attempts: Sequence[RecordedSpan]) -> str | None:
    return " ".join(f"{each.span_id:016x}" for each in attempts) or None


def line(span: RecordedSpan) -> str:
    """`kind label status`, number of a repeated attempt, tokens, cost in USD, or what a cached answer saved."""
    said = span.attributes
    parts = [span.kind, span.label if " " in span.name else "", span.status]
    if span.kind == names.NODE and (said[names.ATTEMPT] > 1 or not said[names.ATTEMPT_FINAL]):
        parts.append(f"attempt {said[names.ATTEMPT]}{' final' if said[names.ATTEMPT_FINAL] else ''}")
    if names.USAGE_INPUT in said:
        parts.append(f"{span.tokens[0]}→{span.tokens[1]}")
    if names.COST_USD in said:
        parts.append(f"${said[names.COST_USD]:.7f}".rstrip("0").rstrip("."))
    if said.get(names.CACHE_HIT):
        parts.append("cached")
        saved = [said.get(names.SAVED_PREFIX + key) for key in (names.USAGE_INPUT, names.USAGE_OUTPUT)]
        if None not in saved:
            parts.append(f"saved {saved[0]}→{saved[1]}")
    if said.get(names.USAGE_MISSING):
        parts.append("usage missing")
    return " ".join(part for part in parts if part)
