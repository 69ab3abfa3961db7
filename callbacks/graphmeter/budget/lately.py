"""Calls that have ended and are not counted yet: while their budgets are far from their limits, several are counted at once.

To read what a call used and to price it takes longer within a graph, where nothing of ours is in the processor's caches,
than for many in a row, of which the exporter has read most. So calls wait here until somebody needs to know: because there
are many, because seconds have passed, or because a budget could be used up by what waits.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from graphmeter import guard, models, names
from graphmeter.budget.bills import AnyBill, Bill
from graphmeter.budget.prices import Prices
from graphmeter.records import Run

if TYPE_CHECKING:
    from graphmeter.budget.states import States

MOST: Final = 256
"""Calls that wait: enough for the exporter's thread to have read most of their answers. Who ends one more counts them all: a
thread that is woken for it takes more of the processor, for both then ask for Python's lock."""
FAR: Final = 100
"""What waits is taken to cost so many times what the dearest call so far did."""


class Lately:
    """The calls that wait to be counted at one collector's budgets. Any thread may use it."""

    def __init__(self) -> None:
        self.runs: deque[Run] = deque()
        """In the order in which they ended; whoever adds one sees that they are counted once there are many."""
        self._lock = threading.Lock()
        self._under_way = 0
        """Of them those that are in nobody's sum yet, and not in the queue any more."""

    def __len__(self) -> int:
        return len(self.runs) + self._under_way

    def count(self, states: States, prices: Prices) -> bool:
        """Add all that wait to what is spent, also what another thread is adding; whether all have a price."""
        priced = True
        with self._lock:
            while self.runs:
                self._under_way = many = len(self.runs)
                try:
                    spent = [_read(self.runs.popleft(), prices) for _ in range(many)]
                    priced = states.spend(filter(None, spent)) and priced
                finally:
                    self._under_way = 0
        return priced

    def after_fork(self) -> None:
        """In a forked child: what the parent spent is the parent's to count."""
        self._lock = threading.Lock()
        self._under_way = 0
        self.runs.clear()


def _read(run: Run, prices: Prices) -> tuple[Run, AnyBill] | None:
    try:
        models.read_bill(run)
        return run, bill_of(run, prices)
    except Exception as error:  # noqa: BLE001 - our own fault with one call, of many that are counted with it
        guard.swallowed("count call", error)
        return None


def bill_of(run: Run, prices: Prices) -> AnyBill:
    """What the call cost that `run` measured, whose answer has been read."""
    facts, status = run.facts or {}, run.status
    if status == names.OK and (paid := prices.at_once(facts)) is not None:
        return paid
    failed = status == names.ERROR
    return Bill(facts, run.started_ns, run.ended_ns - run.started_ns, failed=failed, book=prices)
