"""Shared budgets by what the collector said lately: nothing is asked in the path of a call, and what goes beyond is bounded.

Calls pass until the known spend reaches the limit: what the collector said at most `max_age_s` ago, and what this process
spent since. So beyond the limit goes at most what others spent in that time (and until the collector knew of it), and what
was in flight. (Calls that have just ended count as if they cost a hundred times the dearest so far; see `lately`.)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from graphmeter.budget.calls import Call, Measured, Spent
from graphmeter.budget.desk import IN_USE, Desk, desk_of
from graphmeter.budget.exceeded import Status, Unknown
from graphmeter.budget.lately import FAR, MOST
from graphmeter.budget.matching import ALL_HARD, Account, Definition, Matcher
from graphmeter.budget.modes import WAIT, Verdict
from graphmeter.budget.states import Snapshot, States
from graphmeter.records import Run, Value

_MOST_RUNS: Final = 1_000
_MOST_WAIT: Final = 2 * MOST
"""Calls that wait to be counted at a time; twice as many as are let, for several threads may end one at once."""


class _Limits:
    """What calls are held to that count against the same budgets, as long as those are defined as they are."""

    __slots__ = ("accounts", "calm", "limits", "matcher")

    def __init__(
        self, matcher: Matcher, accounts: tuple[Account, ...], limits: tuple[tuple[Account, int], ...]
    ) -> None:
        self.matcher = matcher
        self.accounts = accounts
        """All that the calls count against, lest other ones get their number."""
        self.limits = limits
        """Those of them that are watched."""
        self.calm: object = None
        """Version of the states by which no limit could be reached, however many wait to be counted."""


class Cached:
    """See the module.

    Args:
        budgets: Names of budgets; `*` is every hard one.
        max_age_s: How old what the collector said may be.
        endpoint: Base URL of the collector; empty: the process's own.
    """

    def __init__(self, budgets: Sequence[str], max_age_s: float, endpoint: str) -> None:
        self._watched = frozenset(budgets)
        self._names = self._watched - {ALL_HARD}
        self._all_hard = ALL_HARD in budgets
        self._max_age_s = max_age_s
        self._endpoint = endpoint
        self._at: Desk | None = None
        """The desk that knows what is watched here; another one may take its place in a test."""
        self._seen: Snapshot | None = None
        """What was said last, and names all that is watched here."""
        self._runs: dict[int, tuple[Mapping[str, Value], _Limits]] = {}
        """By the number of a run's attribution, and that itself, lest another one gets its number."""
        self._limits: dict[int, _Limits] = {}
        """By the number of what calls count against: nearly all runs count against the same."""

    def begin(self) -> None:
        """See `Mode`."""
        desk = self._desk()
        try:
            desk.look()
        except Unknown:
            return  # logged; whether calls pass meanwhile is the guard's to say
        try:
            self._known(desk)
        except UnknownBudget as unknown:
            raise ValueError(str(unknown)) from None

    def surely(self, run: Run) -> bool:
        """See `Mode`."""
        desk = self._at
        # Not in use: another one has taken its place.
        if desk is None or desk not in IN_USE:
            return False
        states, shared = desk.states, run.tree.shared
        desk.used_at = now = monotonic()
        if now - states.asked_at > desk.max_age_s:
            return False
        known = self._runs.get(id(shared))
        if known is not None and known[0] is shared and known[1].calm is states.version:
            return True
        return self._looked(desk, run, known)

    def _looked(self, desk: Desk, run: Run, known: tuple[Mapping[str, Value], _Limits] | None) -> bool:
        states = desk.states
        version, snapshot = states.version, states.snapshot
        if states.owing or snapshot is None or snapshot is not self._seen:
            return False
        if known is not None and known[0] is run.tree.shared and known[1].matcher is snapshot.matcher:
            limits = known[1]
        else:
            found = self._limits_of(run, states, snapshot.matcher)
            if found is None:
                return False
            limits = found
        if limits.calm is version:
            return True
        if not _reached(limits, states, _MOST_WAIT):
            limits.calm = version
            return True
        if not _reached(limits, states, len(desk.lately)):
            return True
        if not desk.lately:
            return False
        desk.count()
        return not states.owing and not _reached(limits, states, 0)

    def _limits_of(self, run: Run, states: States, matcher: Matcher) -> _Limits | None:
        """What holds for all calls of the run that `run` is of; None: they differ, or nobody can tell."""
        if not matcher.same_in_a_run:
            return None
        accounts = states.accounts(Measured(run))
        found = self._limits.get(id(accounts))
        if found is None:
            watched = [account for account in accounts if self._watches(account[0])]
            if not all(definition.counted for definition, _ in watched):
                return None
            if len(self._limits) >= _MOST_RUNS:
                self._limits.clear()
            limits = tuple((account, account[0].limit_units) for account in watched)
            found = self._limits[id(accounts)] = _Limits(matcher, accounts, limits)
        if len(self._runs) >= _MOST_RUNS:
            self._runs.clear()
        self._runs[id(run.tree.shared)] = run.tree.shared, found
        return found

    def ask(self, call: Call) -> Verdict:
        """See `Mode`."""
        desk = self._desk()
        desk.count()
        if desk.fresh():
            return WAIT if desk.states.owing else self._check(desk, call)
        if not desk.failing:
            return WAIT
        # What is spent comes not back before the period ends.
        found = self._check(desk, call) if desk.states.snapshot is not None else None
        if found is None:
            raise Unknown(desk.why)
        return found

    def wait(self, call: Call) -> Status | None:
        """See `Mode`."""
        desk = self._desk()
        if not desk.fresh():
            desk.look()
        desk.count()
        if desk.states.owing:
            desk.price()
        return self._check(desk, call)

    def dropped(self, call: Call) -> None:
        """See `Mode`: nothing is reserved."""

    def ended(self, call: Call, spent: Spent) -> None:
        """See `Mode`: what this process spends is counted for all its guards at once."""

    def statuses(self, call: Call) -> list[Status]:
        """See `Mode`."""
        desk = self._desk()
        if not desk.fresh():
            if desk.failing:
                raise Unknown(desk.why)
            desk.look()
        desk.count()
        self._known(desk)
        return [desk.states.status(account) for account in desk.states.accounts(call) if self._watches(account[0])]

    def _check(self, desk: Desk, call: Call) -> Status | None:
        states = desk.states
        self._known(desk)
        waived = call.waived
        counting = ""
        for account in states.accounts(call):
            definition = account[0]
            if not self._watches(definition) or definition.name in waived:
                continue
            if states.units(account) >= definition.limit_units:
                return states.status(account)
            if not definition.counted:
                counting = definition.name
        if counting:
            # Only now: the others are held to all the same.
            raise NotCounted(counting, desk.where)
        return None

    def _watches(self, definition: Definition) -> bool:
        return definition.name in self._names or (self._all_hard and definition.hard)

    def _known(self, desk: Desk) -> None:
        snapshot = desk.states.snapshot
        if snapshot is self._seen:
            return
        if snapshot is None or self._names <= snapshot.names:
            self._seen = snapshot
            return
        raise UnknownBudget(min(self._names - snapshot.names), sorted(snapshot.names), desk.where)

    def _desk(self) -> Desk:
        desk = desk_of(self._endpoint)
        if desk is self._at:
            return desk
        if desk.max_age_s > self._max_age_s:
            desk.max_age_s = self._max_age_s
        if not desk.states.watches(self._watched):
            desk.states.watch(self._watched)
        self._at = desk
        return desk


def _reached(limits: _Limits, states: States, waiting: int) -> bool:
    """Whether a limit is reached, or could be by so many calls that wait to be counted."""
    for account, limit in limits.limits:
        left = limit - states.units(account)
        if left <= 0:
            return True
        if waiting:
            dearest = states.dearest[account[0].unit]
            if not dearest or left <= waiting * FAR * dearest:
                return True
    return False


class NotCounted(Unknown):
    """The budget is new at the collector, and what was spent in its period before is being counted."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"budget {name!r} is new to the collector at {where}, which is counting what it has spent")


class UnknownBudget(Unknown):
    """The collector answers, and has no budget of this name."""

    def __init__(self, name: str, known: Sequence[str], where: str) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        listed = ", ".join(known[:20]) or "none: add one to `budgets:` in graphmeter.yaml"
        remedy = f"did you mean {close[0]!r}?" if close else f"known there: {listed}"
        super().__init__(f"budget {name!r} is not known to the collector at {where}; {remedy}")
