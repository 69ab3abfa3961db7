"""How a guard learns of spend that other processes share: one small protocol, one class for each mode.

A mode is asked before a call and told of its end. `ask` runs inline, in an event loop where the graph is asynchronous, and
answers from memory. What needs a request to the collector answers `WAIT`; then `wait` is called, in a thread of its own if
the graph is asynchronous, and may take its time.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, Protocol

from graphmeter.budget.calls import Call, Spent
from graphmeter.budget.exceeded import Status
from graphmeter.records import Run


class _Wait(Enum):
    WAIT = "wait"


WAIT: Final = _Wait.WAIT
"""Nobody can tell without waiting."""
Verdict = Status | None | Literal[_Wait.WAIT]
"""The budget that does not allow a call; None: all do."""


class Mode(Protocol):
    """One way to hold calls against budgets of a collector."""

    def begin(self) -> None:
        """A guard is made: get ready.

        Raises:
            ValueError: the collector answers, and does not know one of its budgets.
        """

    def surely(self, run: Run) -> bool:
        """Whether the call that `run` measures may be made, and its end is nothing to this mode. False: `ask`."""

    def ask(self, call: Call) -> Verdict:
        """Whether `call` may be made. Must not block.

        Raises:
            Unknown: nobody can tell.
        """

    def wait(self, call: Call) -> Status | None:
        """The same, after `ask` has answered `WAIT`. May block.

        Raises:
            Unknown: nobody can tell.
        """

    def dropped(self, call: Call) -> None:
        """`call` was allowed, and is not made after all."""

    def ended(self, call: Call, spent: Spent) -> None:
        """`call` has ended."""

    def statuses(self, call: Call) -> list[Status]:
        """The watched budgets that a call counts against, as they stand. May block the first time.

        Raises:
            Unknown: nobody can tell.
        """
