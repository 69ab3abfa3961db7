"""What measured calls cost, told to guards as they end; and what a stopped call leaves behind in the run's record.

In: finished runs from `graphmeter.runs`, inline, in the thread that ran them: the next call is held against this one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from graphmeter import guard, models, names, runs
from graphmeter.budget.accounts import Accounts
from graphmeter.budget.bills import AnyBill
from graphmeter.budget.calls import OPEN, Call
from graphmeter.budget.desk import IN_USE, Desk
from graphmeter.budget.exceeded import BudgetExceeded
from graphmeter.budget.lately import bill_of
from graphmeter.records import Run, Tree

if TYPE_CHECKING:
    from graphmeter.budget.guarding import BudgetGuard

_lock = threading.Lock()


def watch() -> None:
    """Hear of every measured call that ends, from now on."""
    runs.spent = _spent


def accounts_of(tree: Tree) -> Accounts:
    """The accounts of a run; made once, whichever of its branches asks first."""
    with _lock:
        if tree.accounts is None:
            tree.accounts = Accounts()
        return tree.accounts


def _spent(run: Run) -> None:
    try:
        calls, accounts = OPEN.pop(run.number, None) if OPEN else None, run.tree.accounts
        if calls is None and accounts is None and run.status is names.OK:
            # In the middle of a graph every function more is one that is in no cache of the processor.
            for desk in IN_USE:
                waiting = desk.lately.runs
                waiting.append(run)
                if len(waiting) >= desk.most_lately:
                    desk.count()
        elif IN_USE or calls or accounts is not None:
            _count(run, IN_USE.copy(), calls or [], accounts)
    except Exception as error:  # noqa: BLE001 - as guard.guarded, which would be a call more for every model call
        guard.swallowed("spent", error)


def _count(run: Run, active: list[Desk], calls: list[tuple[BudgetGuard, Call]], accounts: Accounts | None) -> None:
    """At once: somebody waits for it, or it did not end well and what its stream told has to be read before it is sent."""
    models.read_bill(run)
    if run.told is not None and run.status != names.OK and run.facts is not None:
        # A stream that was cancelled has been paid for as far as it came.
        models.broken_off(run.facts, run.told)
    bills: dict[Desk, AnyBill] = {desk: bill_of(run, desk.prices) for desk in active}
    for desk, bill in bills.items():
        desk.used()
        desk.states.spend([(run, bill)])
    if accounts is not None:
        for each, account in tuple(accounts.of.items()):
            account.end(run.number, _at(each.desk, run, bills))
    _release(run, calls, bills)
    for desk, bill in bills.items():
        if bill.nano() is None:
            desk.hurry()


def _release(run: Run, calls: list[tuple[BudgetGuard, Call]], bills: dict[Desk, AnyBill]) -> None:
    """Tell the guards that wait for the end of a call."""
    held = [each for _, call in calls if call.held is not None for _, each in call.held.ids]
    if held:
        # Whoever bills it releases what was reserved for it.
        run.facts = {**(run.facts or {}), names.RESERVATION: " ".join(held)}
    for each, call in calls:
        each.ended(call, _at(each.desk, run, bills))


def _at(desk: Desk, run: Run, bills: dict[Desk, AnyBill]) -> AnyBill:
    bill = bills.get(desk)
    if bill is None:
        bill = bills[desk] = bill_of(run, desk.prices)
    return bill


def stopped(call: Call, error: BaseException) -> None:
    """`call` is not made: it is in flight nowhere, leaves no span, and the node and the run around say what stopped it."""
    _stopped(call, error)


@guard.guarded
def _stopped(call: Call, error: BaseException) -> None:
    key, accounts = call.run_id.int, None if call.tree is None else call.tree.accounts
    if accounts is not None:
        for account in tuple(accounts.of.values()):
            account.drop(key)
    run = runs.RUNS.get(key)
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
