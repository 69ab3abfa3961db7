"""Open runs: LangChain run ids in, finished `Run` records out to a sink, exactly one each, however the run ends.

State is kept per process, not per handler, so two handlers that see the same run (one in the config, one from
`instrument()`) make one span between them. Single dict operations are atomic, hence no lock on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span

from graphmeter import recent, waits
from graphmeter.context import SPAN_KEY, CurrentSpan, current, enter, get_context, leave, opened_inside
from graphmeter.names import CANCELLED, ERROR, INTERRUPTED, MODEL, NODE, OK, RUN, SUBGRAPH
from graphmeter.records import CHAIN, Failure, Run, anchor, below_of, now_ns

_MOST_STRAYS: Final = 10_000
_STRAY_PATIENCE_NS: Final = 600 * 1_000_000_000
"""How long a model call may outlive its graph before it is given up: 10 minutes, beyond any provider's own timeout."""
_NODE_TIMEOUT: Final = "langgraph.errors.NodeTimeoutError"

spent: Callable[[Run], object] | None = None
"""Hears of every finished model call, inline, once budgets are guarded in this process."""

RUNS: dict[int, Run] = {}
"""Every open run of the process, by the number of its run id: the hash of a UUID is a call of Python code each time."""
_STRAYS: dict[int, Run] = {}
"""Runs whose end nobody above them will report if it does not come, oldest first: calls outside of any chain, and model
calls that outlive their graph. They may still answer, and then have to be billed; cancelled ones never do."""


def begin(run: Run) -> None:
    """Register `run` as open and, if it is a span, make it current. Call once per run id."""
    parent, kind, key = run.parent, run.kind, run.number
    if kind is not CHAIN:
        here = get_context()
        span = here.get(SPAN_KEY)
        if parent is not None and parent.kind is not CHAIN and type(span) is CurrentSpan and not span.ended:
            run.under = parent  # nearly always, and sooner said than anything is called
        else:
            here, span = current()
            place(run, here, span)
        sink = run.tree.sink
        if kind is RUN or sink.opens_all:
            sink.open(run, kind)
        enter(run, here, span)
    RUNS[key] = run
    if parent is not None:
        below = parent.below
        if below is None:
            below = below_of(parent)
        if kind is NODE:
            before = below.get(run.ns)
            below[run.ns] = run
            if before is not None:
                _succeed(before, run, below)
        else:
            below[key] = run
    elif kind is not CHAIN and kind is not RUN:
        _STRAYS[key] = run
        _give_up_strays()


def place(run: Run, here: Context, span: Span) -> None:
    """Say below which span `run` is that starts at `span` in `here`: the run above, or what the application opened in it."""
    top = run.parent
    if top is not None and top.kind is CHAIN:
        top = anchor(top)
    if top is None:
        run.under = run.tree.outer
    elif type(span) is not CurrentSpan and opened_inside(here, span, top):
        run.under = span.get_span_context()
    else:
        run.under = top


def finish(key: int, status: str = OK, failure: Failure | None = None) -> None:
    """End the open run of this number: close what cannot end any more, hold a failed attempt, hand the rest to the sink.

    Unknown ones (ended already, by another handler or a sweep) are ignored.
    """
    run = RUNS.pop(key, None)
    if run is None:
        return
    if _STRAYS:
        _STRAYS.pop(key, None)
    tree = run.tree
    run.ended_ns = perf_counter_ns() + tree.offset_ns
    run.shared = tree.shared
    parent, kind, below = run.parent, run.kind, run.below
    siblings = None if parent is None else parent.below
    if siblings and kind is not NODE:
        siblings.pop(key, None)
    if below:
        if parent is None or kind is RUN or status is CANCELLED:
            _sweep(run, keep_models=status is not CANCELLED)
        else:
            # Tasks and threads of a node may go on; whoever is above sees to their end. By number: the next attempt of one
            # around a subgraph may leave nodes of the same namespaces behind.
            below_of(parent).update((child.number, child) for child in below.copy().values() if not child.held)
    run.closed = True
    # Who reads a stream up to the interrupt and no further closes a graph that has paused, unless other nodes still worked.
    paused = (
        run.interrupted
        and kind in (RUN, SUBGRAPH)
        and (status is OK or (kind is RUN and status is CANCELLED and not _was_at_work(run)))
    )
    if below:
        _release(run, failure)
    if kind is CHAIN:
        return
    if paused:
        status = INTERRUPTED
        if kind is RUN:
            waits.paused(run)
    run.status = status
    if failure is not None:
        run.failure = failure
    leave(run)
    if spent is not None and kind is MODEL:
        spent(run)
    if kind is NODE and parent is not None:
        if status is INTERRUPTED:
            parent.interrupted = True
        elif status is not OK and run.final and not parent.closed:
            run.held = True
            # The parent may have closed in the meantime, in another thread.
            if parent.closed:
                _release(parent, None)
            return
        if siblings:
            siblings.pop(run.ns if siblings.get(run.ns) is run else key, None)
    elif kind is RUN:
        recent.keep(run)
    tree.sink.close(run)
    if tree.debug:
        tree.sink.hurry()


def discard(run: Run) -> None:
    """Forget the open `run`: the call that it stands for is not made."""
    key = run.number
    RUNS.pop(key, None)
    _STRAYS.pop(key, None)
    if run.parent is not None and run.parent.below:
        run.parent.below.pop(key, None)
    leave(run)


def _succeed(before: Run, attempt: Run, siblings: dict[int | str, Run]) -> None:
    """Number `attempt`, which follows `before`, another one of the same task: that one was not final."""
    attempt.attempt = before.attempt + 1
    before.final = False
    if not before.held:
        # It has run out of time, and still cleans up.
        siblings[before.number] = before
    else:
        before.held = False
        if before.status is CANCELLED:
            # What was cancelled is not tried again, but for a node that ran out of time: it was told so, too.
            _timed_out(before, Failure(_NODE_TIMEOUT, ""))
        before.tree.sink.close(before)


def _was_at_work(root: Run) -> bool:
    """Whether nodes in the last step of `root`, which was cancelled, were cancelled, too.

    Those of earlier steps had run out of time, and that was handled.
    """
    tree = root.tree
    last = (tree.first_step or 0) + tree.steps - 1
    below = below_of(root).copy().values()
    return any(attempt.status is CANCELLED and attempt.step == last for attempt in below)


def _release(parent: Run, failure: Failure | None) -> None:
    """`parent` ends: no attempt of its nodes follows any more. Open ones end by themselves."""
    below = below_of(parent)
    for key, attempt in below.copy().items():
        if not attempt.held or below.pop(key, None) is not attempt:
            continue
        # A node that runs into its time limit is told "cancelled"; only the graph learns the reason.
        if failure is not None and failure.node == attempt.name and attempt.status is CANCELLED:
            _timed_out(attempt, failure)
        attempt.tree.sink.close(attempt)


def _timed_out(attempt: Run, failure: Failure) -> None:
    attempt.status = ERROR
    attempt.failure = failure


def cancelled_late(number: int) -> None:
    """A run that is closed already says that it was cancelled: so were the calls below it that are still waited for.

    The graph of a node that runs out of time ends before that node does.
    """
    for stray in _STRAYS.copy().values():
        above = stray.parent
        while above is not None and above.number != number:
            above = above.parent
        if above is not None:
            finish(stray.number, CANCELLED)


def _sweep(run: Run, *, keep_models: bool) -> None:
    """End the open descendants of `run`: their own end will not come (a cancelled call reports none).

    `keep_models`: a model call may outlive its graph in a thread or task of its own; its answer costs money and is waited
    for, within bounds.
    """
    below = below_of(run)
    for key, child in below.copy().items():
        if child.held:
            continue
        if child.below:
            _sweep(child, keep_models=keep_models)
        if keep_models and child.kind is MODEL:
            below.pop(key, None)
            if child.number in RUNS:
                _STRAYS[child.number] = child
        else:
            finish(child.number, CANCELLED)
            if child.parent is not run:  # it was left by one that has ended, and is not held any more
                below.pop(key, None)
    if _STRAYS:
        _give_up_strays()


def _give_up_strays() -> None:
    """Close the oldest strays, beyond number or patience."""
    while True:
        try:
            run = next(iter(_STRAYS.values()))
        except (StopIteration, RuntimeError):  # none, or another thread is at it
            return
        if len(_STRAYS) <= _MOST_STRAYS and now_ns(run) - run.started_ns <= _STRAY_PATIENCE_NS:
            return
        finish(run.number, CANCELLED)


def give_up() -> None:
    """Close every stray: the process is about to end."""
    for stray in _STRAYS.copy().values():
        finish(stray.number, CANCELLED)


def open_runs() -> int:
    """Number of runs open in this process."""
    return len(RUNS)
