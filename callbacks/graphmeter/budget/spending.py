"""What measured calls cost, told to guards as they end; and what a stopped call leaves behind in the run's record.

In: finished runs from `graphmeter.runs`, inline, in the thread that ran them: the next call is held against this one.
"""

from __future__ import annotations

import threading
from typing import Final

from graphmeter import guard, models, names, runs
from graphmeter.budget.accounts import Accounts
from graphmeter.budget.bills import Bill
from graphmeter.budget.calls import OPEN, Call, Ended
from graphmeter.budget.desk import Desk, desks
from graphmeter.budget.exceeded import BudgetExceeded
from graphmeter.records import Run, Tree

_lock = threading.Lock()
_BILLED: Final = frozenset({names.MODEL})


def watch() -> None:
    """Hear of every measured call that ends, from now on."""
    runs.spent = _spent


def accounts_of(tree: Tree) -> Accounts:
    """The accounts of a run; made once, whichever of its branches asks first."""
    with _lock:
        if tree.accounts is None:
            tree.accounts = Accounts()
        return tree.accounts


@guard.guarded
def _spent(run: Run) -> None:
    if run.kind not in _BILLED:
        return
    calls = OPEN.pop(run.run_id.int, None)
    active = desks()
    if not calls and not active:
        return
    models.read(run)
    if run.told is not None and run.status != names.OK and run.facts is not None:
        # A stream that was cancelled has been paid for as far as it came.
        models.broken_off(run.facts, run.told)
    held = [each for _, call in calls or () if call.held is not None for _, each in call.held.ids]
    if held:
        # Whoever bills it releases what was reserved for it.
        run.facts = {**(run.facts or {}), names.RESERVATION: " ".join(held)}
    bills: dict[Desk, Bill] = {}
    for desk in active:
        bills[desk] = bill = _bill(run, desk)
        desk.used()
        desk.states.spend(Ended(run), bill)
    for each, call in calls or ():
        desk = each.desk
        if desk not in bills:
            bills[desk] = _bill(run, desk)
        each.ended(call, bills[desk])
    for desk, bill in bills.items():
        if bill.nano() is None:
            desk.hurry()


def _bill(run: Run, desk: Desk) -> Bill:
    failed = run.status == names.ERROR
    return Bill(run.facts or {}, run.started_ns, run.ended_ns - run.started_ns, failed=failed, book=desk.prices)


def stopped(call: Call, error: BaseException) -> None:
    """`call` is not made: it leaves no span, and the node and the run around say which budget stopped it."""
    _stopped(call, error)


@guard.guarded
def _stopped(call: Call, error: BaseException) -> None:
    run = runs.RUNS.get(call.run_id.int)
    if run is not None:  # the handler that measures stood before the guard
        runs.discard(run)
    if not isinstance(error, BudgetExceeded):
        return
    around = call.task
    while around is not None:
        if around.kind in (names.NODE, names.RUN, names.SUBGRAPH):
            said = {names.BUDGET_STOPPED: error.budget or "unknown"}
            around.facts = {**(around.facts or {}), **said}
        around = around.parent
