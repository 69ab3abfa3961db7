"""What one run has spent under one guard, counted in this process: the cap of a run is held against it.

Exact in this sense: every call that passed the guard and has ended is in the sum, at the collector's price, before the next
call of the run is looked at, whichever thread, task, subgraph or attempt made it. What a call costs is known when it has
ended; calls in flight stand with the most that one call costs, if the guard was told it, else with nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from graphmeter.budget import counts
from graphmeter.budget.bills import AnyBill
from graphmeter.budget.exceeded import RUN, Status, Unit, Unknown
from graphmeter.budget.modes import WAIT, Verdict

if TYPE_CHECKING:
    from graphmeter.budget.guarding import BudgetGuard


class Caps(NamedTuple):
    """What one run may spend; None: as much as it likes."""

    nano: int | None = None
    tokens: int | None = None
    call_nano: int = 0
    """The most that one call costs; 0: not said."""
    call_tokens: int = 0

    def __bool__(self) -> bool:
        return self.nano is not None or self.tokens is not None


class Accounts:
    """What the guards of one run keep, beside one another."""

    __slots__ = ("of", "waived")

    def __init__(self) -> None:
        self.of: dict[BudgetGuard, Account] = {}
        """By guard."""
        self.waived: frozenset[str] = frozenset()
        """Budgets that somebody who was asked has lifted for the rest of the run."""


class Account:
    """Spend of one run under one guard. Any thread may use it."""

    __slots__ = ("_bills", "_caps", "_in_flight", "_lock", "_nano", "_tokens", "_unknown")

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._lock = threading.Lock()
        self._in_flight: set[int] = set()
        self._nano = self._tokens = 0
        self._bills: list[AnyBill] = []
        """Calls that have ended and whose price is being asked for."""
        self._unknown = False

    def surely(self, key: int) -> bool:
        """Let the call with this number pass, as nearly every one; False: `admit` has to look, nothing is in flight."""
        with self._lock:
            owing = self._caps.nano is not None and (self._bills or self._unknown)
            if owing or self._exceeded(key) is not None:
                return False
            self._in_flight.add(key)
            return True

    def admit(self, key: int, *, force: bool = False) -> Verdict:
        """Let the call with this number pass, which is in flight from then on; else the cap that does not allow it.

        Raises:
            Unknown: the cost of an earlier call is not known, and cannot be. The call is in flight then, too.
        """
        with self._lock:
            if not force:
                if self._caps.nano is not None and self._bills and not self._settle():
                    return WAIT
                found = self._exceeded(key)
                if found is not None:
                    return found
            self._in_flight.add(key)
            if self._unknown and not force:
                raise Unknown("what an earlier call of the run cost is not known")
            return None

    def drop(self, key: int) -> None:
        """The call is not made after all."""
        with self._lock:
            self._in_flight.discard(key)

    def end(self, key: int, bill: AnyBill) -> None:
        """The call has ended."""
        with self._lock:
            if key in self._in_flight:
                self._in_flight.discard(key)
                self._tokens += bill.tokens
                nano = bill.nano()
                if nano is not None and bill.known:
                    self._nano += nano
                else:
                    self._bills.append(bill)
                    self._settle()

    def unsettled(self) -> list[AnyBill]:
        """Calls whose price is being asked for."""
        with self._lock:
            return list(self._bills)

    def statuses(self) -> list[Status]:
        """The caps as they stand, what is in flight not counted."""
        with self._lock:
            self._settle()
            found = []
            if self._caps.nano is not None:
                found.append(self._status("usd", self._caps.nano, self._nano))
            if self._caps.tokens is not None:
                found.append(self._status("tokens", self._caps.tokens, self._tokens))
            return found

    def _settle(self) -> bool:
        """Add up what has a price by now; whether that is all."""
        if self._bills:
            open_ = []
            for bill in self._bills:
                nano = bill.nano()
                if nano is None:
                    open_.append(bill)
                elif bill.known:
                    self._nano += nano
                else:
                    self._unknown = self._caps.nano is not None
                    counts.count(counts.UNPRICED)
            self._bills = open_
        return not self._bills

    def _exceeded(self, key: int) -> Status | None:
        caps, flying = self._caps, len(self._in_flight) - (key in self._in_flight)
        if caps.nano is not None and not _fits(self._nano, flying, caps.call_nano, caps.nano):
            return self._status("usd", caps.nano, self._nano)
        if caps.tokens is not None and not _fits(self._tokens, flying, caps.call_tokens, caps.tokens):
            return self._status("tokens", caps.tokens, self._tokens)
        return None

    @staticmethod
    def _status(unit: Unit, limit: int, spent: int) -> Status:
        return Status(RUN, unit, limit, spent, hard=True)


def _fits(spent: int, in_flight: int, call: int, limit: int) -> bool:
    """Whether one more call may be made: with the most that each costs, if that is known, else while anything is left."""
    return spent + (in_flight + 1) * call <= limit if call else spent < limit
