"""What a guard finds: the state of a budget for one call, and the exception that keeps the call from being made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from graphmeter import names

Unit = Literal["usd", "tokens"]
RUN: Final = "run"
"""Stands where the name of a budget stands, for a cap of the run itself."""


@dataclass(frozen=True, slots=True)
class Status:
    """A budget as it stands for the calling code: that of its team, where every team has a limit of its own."""

    budget: str
    """Its name; `run` for the cap of the run."""
    unit: Unit
    limit_units: int
    """The limit in nano-USD or tokens, as `unit` says."""
    spent_units: int
    """Spend of the current period in the same, as far as it is known here."""
    scope: Mapping[str, str] = field(default_factory=dict)
    """Attribution → value, of those that the budget is divided by."""
    hard: bool = False
    known: bool = True
    """False: nobody could tell. The figures are then those of a budget that nothing was spent of, or all of it, as the guard
    fails open or closed."""
    reserved_units: int = 0
    """What calls under way have reserved of a strict budget."""
    asked_units: int = 0
    """What a call that was refused would have taken at most, of a strict budget."""
    age_s: float = 0.0
    """How long ago the collector said so; what this process spent since is added."""

    @property
    def limit(self) -> float:
        """In USD or tokens."""
        return self._shown(self.limit_units)

    @property
    def spent(self) -> float:
        """In USD or tokens."""
        return self._shown(self.spent_units)

    @property
    def remaining(self) -> float:
        """Limit less spend; negative when overspent."""
        return self._shown(self.limit_units - self.spent_units)

    @property
    def remaining_ratio(self) -> float:
        """The same as a share of the limit: 0.2 is a fifth left."""
        return (self.limit_units - self.spent_units) / self.limit_units if self.limit_units else 0.0

    @property
    def exceeded(self) -> bool:
        """Nothing is left."""
        return self.spent_units >= self.limit_units

    def __str__(self) -> str:
        whose = ", ".join(f"{name} {value or names.UNATTRIBUTED}" for name, value in self.scope.items())
        who = "the cap of this run" if self.budget == RUN else f"budget {self.budget!r}"
        who = f"{who} ({whose})" if whose else who
        usd = self.unit == "usd"
        said = f"{self._text(self.spent_units)} of {self._text(self.limit_units)} "
        said = f"{who}: {said}{'USD are spent' if usd else 'tokens are used'}"
        if self.asked_units:
            said += (
                f", {self._text(self.reserved_units)} are reserved; the call may take {self._text(self.asked_units)}"
            )
        return said

    def _text(self, units: int) -> str:
        return _usd(units) if self.unit == "usd" else f"{units:,}"

    def _shown(self, units: int) -> float:
        return units / names.NANO_PER_USD if self.unit == "usd" else units


def _usd(nano: int) -> str:
    """Exactly, with two decimals at least: caps of runs may be fractions of a cent."""
    whole, _, decimals = f"{Decimal(nano) / names.NANO_PER_USD:,.9f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


class BudgetExceeded(RuntimeError):
    """A model call was not made, since a budget or the cap of its run does not allow it. Nothing was spent on it.

    A RuntimeError: LangGraph's retry policies do not retry it unless they are told to retry everything, and a retry would
    be stopped in the same way.
    """

    def __init__(self, message: str, status: Status | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The budget that stopped it; None where nobody could tell and the guard fails closed."""

    @property
    def budget(self) -> str:
        """Name of that budget; `run` for the cap of the run, empty where there is none."""
        return self.status.budget if self.status is not None else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return BudgetExceeded, (self.args[0], self.status)


class Unknown(Exception):
    """Nobody can tell whether a call may be made; the guard fails open or closed."""


# Spans and logs name it as applications import it.
BudgetExceeded.__module__ = "graphmeter.budget"
