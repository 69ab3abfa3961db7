"""Finished runs in, a tree on stderr out: the first minute with Graphmeter, no collector needed.

support  ok  1.24 s  2 calls  1,530 → 220 tokens  $0.004120
├─ classify  210 ms
│  └─ chat gpt-4o-mini  200 ms  330 → 20 tokens  $0.000062
└─ answer  ERROR ValueError: no answer  1.02 s  attempt 2
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from graphmeter import names
from graphmeter.records import CHAIN, Run

_MOST_RUNS: Final = 5000
"""A tree longer than this is cut: nobody reads it, and memory is bounded."""
_LABELS: Final = {names.MODEL: "chat ", names.TOOL: "tool ", names.RETRIEVER: "retriever "}


def collect(run: Run) -> None:
    """Note the finished `run`; print when it completes a tree."""
    tree = run.tree
    if len(tree.finished) < _MOST_RUNS:
        tree.finished.append(run)
    if run.kind == names.RUN or (tree.root_id is None and _above(run) is None):
        finished, tree.finished = tree.finished, []
        sys.stderr.write(render(run, finished) + "\n")
        sys.stderr.flush()


def render(root: Run, finished: Sequence[Run]) -> str:
    """The tree of `root` and its descendants among `finished`."""
    children: dict[int, list[Run]] = {}
    for run in finished:
        if run is not root:
            children.setdefault(id(_above(run)), []).append(run)
    calls = [run for run in finished if run.kind == names.MODEL]
    lines = [_line(root, calls)]
    lines.extend(_branches(root, children, ""))
    return "\n".join(lines)


def _above(run: Run) -> Run | None:
    parent = run.parent
    while parent is not None and parent.kind == CHAIN:
        parent = parent.parent
    return parent


def _branches(run: Run, children: dict[int, list[Run]], indent: str) -> Iterator[str]:
    below = sorted(children.get(id(run), ()), key=lambda child: child.started_ns)
    for number, child in enumerate(below, 1):
        last = number == len(below)
        yield f"{indent}{'└─ ' if last else '├─ '}{_line(child, [child] if child.kind == names.MODEL else [])}"
        yield from _branches(child, children, indent + ("   " if last else "│  "))


def _line(run: Run, calls: Sequence[Run]) -> str:
    label = (run.tree.graph or run.name) if run.kind == names.RUN else run.name
    parts = [_LABELS.get(run.kind, "") + label]
    if run.status == names.ERROR and run.failure is not None:
        text = " ".join(run.failure.message.split())
        parts.append(f"ERROR {run.failure.type}: {text[:120]}" if text else f"ERROR {run.failure.type}")
    elif run.status != names.OK or run.kind == names.RUN:
        parts.append(run.status)
    parts.append(_duration((run.ended_ns - run.started_ns) / 1e9))
    if run.attempt > 1 or not run.final:
        parts.append(f"attempt {run.attempt}")
    if run.kind == names.RUN and calls:
        parts.append(f"{len(calls)} call{'s' if len(calls) != 1 else ''}")
    if any(_fact(call, names.CACHE_HIT) for call in calls) and run.kind == names.MODEL:
        parts.append("from cache")
    tokens_in = sum(_number(call, names.USAGE_INPUT) for call in calls)
    tokens_out = sum(_number(call, names.USAGE_OUTPUT) for call in calls)
    if tokens_in or tokens_out:
        parts.append(f"{tokens_in:,} → {tokens_out:,} tokens")
    if any(_fact(call, names.USAGE_MISSING) for call in calls):
        parts.append("usage missing")
    costs = [cost for call in calls if isinstance(cost := _fact(call, names.COST_USD), float)]
    if costs:
        parts.append(f"${sum(map(Decimal, map(str, costs))):.6f}")
    return "  ".join(parts)


def _fact(run: Run, key: str) -> object:
    return run.facts.get(key) if run.facts else None


def _number(run: Run, key: str) -> int:
    value = _fact(run, key)
    return value if isinstance(value, int) else 0


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min"
