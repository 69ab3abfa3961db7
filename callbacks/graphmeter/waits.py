"""Human in the loop: interrupted runs are remembered, so that the run that goes on says which one it resumes and since when.

In: roots that start, are told to resume, and end interrupted. Out: `graphmeter.resumed_from`, `graphmeter.resumed_run_id`,
`graphmeter.waited_s` and a span link on the resuming run. Across processes the collector joins by thread and checkpoint.

LangGraph tells from which checkpoint a run goes on (`on_resume`), and that is the interrupted run's own unless the state was
edited or an older checkpoint was chosen in between: both make a checkpoint of their own. Then the run that follows in the
thread is the one that resumes. A LangGraph that tells nothing (before 1.1.8) is understood by what its graph is given:
`None` and `Command(resume=…)` go on, all else is new input, which resumes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from graphmeter import names
from graphmeter.records import Run

_MOST: Final = 1024
"""Interrupted runs remembered; who is asked later than that is still joined by the collector."""


class _Pause:
    """An interrupted run, without what it holds on to."""

    __slots__ = ("accounts", "context", "ended_ns", "next", "run_id")

    def __init__(self, run: Run) -> None:
        self.run_id = run.run_id
        self.context = run.context
        self.ended_ns = run.ended_ns
        self.accounts = run.tree.accounts
        """What budget guards have counted: the run that goes on is held against it, too."""
        self.next: int | None = None
        """Number of the first run that its thread made afterwards."""


_by_checkpoint: OrderedDict[str, _Pause] = OrderedDict()
_by_thread: OrderedDict[tuple[str, str], _Pause] = OrderedDict()
"""The last one of each thread, by name of the graph and thread id. Both oldest first; single operations, hence no lock."""


def begun(root: Run) -> None:
    """`root` starts: it is what its thread does next."""
    if _by_thread:
        pause = _by_thread.get(_thread(root))
        if pause is not None and pause.next is None:
            pause.next = root.number


def given(root: Run, inputs: Any, metadata: Mapping[str, Any]) -> None:
    """`root` starts with `inputs`, and LangGraph will not say whether it resumes."""
    if _goes_on(inputs) and _thread(root)[1]:
        _resume(root, str(metadata.get("checkpoint_id") or names.LATEST_CHECKPOINT))


def resumed(root: Run, checkpoint_id: str) -> None:
    """LangGraph says that `root` goes on from a checkpoint."""
    if not root.resumed_from:  # through another handler of ours
        _resume(root, checkpoint_id)


def paused(root: Run) -> None:
    """`root` has ended interrupted."""
    pause = _Pause(root)
    if root.checkpoint_id:
        _remember(_by_checkpoint, root.checkpoint_id, pause)
    thread = _thread(root)
    if thread[1]:
        _remember(_by_thread, thread, pause)


def _resume(root: Run, checkpoint_id: str) -> None:
    root.resumed_from = checkpoint_id
    pause = _by_checkpoint.get(checkpoint_id)
    if pause is None:
        pause = _by_thread.get(_thread(root))
        if pause is None or pause.next != root.number:
            return
    root.links = [pause.context]
    if root.tree.accounts is None:
        root.tree.accounts = pause.accounts
    root.facts = {
        **(root.facts or {}),
        names.RESUMED_RUN: str(pause.run_id),
        names.WAITED_S: max(root.started_ns - pause.ended_ns, 0) / 1e9,
    }


def _goes_on(inputs: Any) -> bool:
    return inputs is None or (type(inputs).__name__ == "Command" and inputs.resume is not None)


def _thread(root: Run) -> tuple[str, str]:
    return root.name, str(root.tree.shared.get(names.CONVERSATION_ID, ""))


def _remember(pauses: OrderedDict[Any, _Pause], key: object, pause: _Pause) -> None:
    pauses[key] = pause
    pauses.move_to_end(key)
    if len(pauses) > _MOST:
        pauses.popitem(last=False)
