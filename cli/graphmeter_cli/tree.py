"""Spans of a trace in, one rich tree out: who called whom, how long it took, what it cost.

Tokens and money of a node are those of the model calls under it, each counted once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from graphmeter import names
from graphmeter_cli.render import mark, plain
from graphmeter_cli.units import count, duration, usd
from graphmeter_collector.reports import RunRow, SpanRow


def trace_tree(run: RunRow, spans: Sequence[SpanRow], *, ascii_only: bool = False) -> Tree:
    """The trace of a run as a tree, children by start. Spans whose parent was not stored hang from the top."""
    children: dict[str, list[SpanRow]] = defaultdict(list)
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        children[span.parent_id if span.parent_id in known else ""].append(span)
    order = _top_down(children, spans)
    sums = _sums(order)
    tree = Tree(_heading(run))
    branches: dict[str, Tree] = {}
    for span, parent in order:
        above = branches.get(parent, tree)
        branches[span.span_id] = above.add(_label(span, sums[span.span_id], ascii_only=ascii_only))
    return tree


def _top_down(children: dict[str, list[SpanRow]], spans: Sequence[SpanRow]) -> list[tuple[SpanRow, str]]:
    """Every span once with the parent it is shown under, parents first. Never recursive: traces may be deep."""
    order: list[tuple[SpanRow, str]] = []
    seen: set[str] = set()

    def descend(top: list[SpanRow]) -> None:
        stack = [(span, "") for span in reversed(top)]
        while stack:
            span, parent = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            order.append((span, parent))
            stack.extend((child, span.span_id) for child in reversed(children.get(span.span_id, [])))

    descend(children[""])
    for span in spans:  # spans that are their own ancestors hang from nothing: a broken sender, shown all the same
        if span.span_id not in seen:
            descend([span])
    return order


def _sums(order: list[tuple[SpanRow, str]]) -> dict[str, tuple[int, int | None]]:
    """Tokens and nano-USD of the model calls at and below each span; None where nothing below has a price."""
    sums: dict[str, tuple[int, int | None]] = {}
    own: dict[str, tuple[int, int | None]] = {
        span.span_id: (span.input_tokens + span.output_tokens, span.cost_nano)
        if span.kind == names.MODEL and not span.cache_hit
        else (0, span.cost_nano if span.kind == names.MODEL else None)
        for span, _ in order
    }
    for span, parent in reversed(order):
        tokens, nano = sums.get(span.span_id, (0, None))
        tokens += own[span.span_id][0]
        nano = _plus(nano, own[span.span_id][1])
        sums[span.span_id] = (tokens, nano)
        if parent:
            above = sums.get(parent, (0, None))
            sums[parent] = (above[0] + tokens, _plus(above[1], nano))
    return sums


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _heading(run: RunRow) -> Text:
    return Text.assemble(
        plain(run.graph, "bold"), "  run ", plain(run.run_id, "dim"), "  trace ", plain(run.trace_id, "dim")
    )


def _label(span: SpanRow, sums: tuple[int, int | None], *, ascii_only: bool) -> Text:
    tokens, nano = sums
    label = Text.assemble(mark(span.status, ascii_only=ascii_only), " ", plain(span.name, "bold"))
    label.append(f"  {duration(span.duration_ns)}", "cyan")
    if span.ttft_ns:
        label.append(f"  first token {duration(span.ttft_ns)}", "dim")
    if tokens:
        label.append(f"  {count(tokens)} tokens")
    if nano is not None:
        label.append(f"  {usd(nano)}", "green")
    elif span.kind == names.MODEL:
        label.append("  unpriced", "yellow")
    if span.reported_nano is not None and span.reported_nano != span.cost_nano:
        label.append(f"  {usd(span.reported_nano)} by the provider", "dim")
    if span.cache_hit:
        label.append("  from cache", "dim")
    if not span.settled:
        label.append("  not counted yet: the span above it has not come", "yellow")
    if span.attempt > 1 or not span.attempt_final:
        label.append(f"  attempt {span.attempt}" + ("" if span.attempt_final else ", retried"), "yellow")
    if span.status not in (names.OK, names.ERROR):
        label.append_text(Text.assemble("  ", plain(span.status, "yellow")))
    if span.error_type or (span.status == names.ERROR and span.status_message):
        message = f": {span.status_message}" if span.status_message else ""
        label.append_text(Text.assemble("  ", plain(f"{span.error_type or 'error'}{message}", "red")))
    return label
