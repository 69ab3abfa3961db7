"""Budgets of one collector as this process knows them: what the collector said last, and what was spent here since.

The collector's figure lags: a call is in it once its span was sent and stored. So what this process spends stands beside it
until an answer came that was asked for late enough to contain it. Somebody else's spend is seen when it is in the answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from graphmeter import destination
from graphmeter.budget.bills import AnyBill
from graphmeter.budget.calls import Measured
from graphmeter.budget.exceeded import Status, Unit
from graphmeter.budget.matching import ALL_HARD, Account, Definition, Matcher, Scope, Subject
from graphmeter.records import Run

COLLECTOR_LAG_S: Final = 3.0
"""How old the collector's own figures may be when it tells them."""
MARGIN_S: Final = 1.0
"""What sending a span and storing it takes, beyond the time it waits for others to share a request with."""

_MERGED_S: Final = 1.0
"""Calls of a budget that end within this time are one entry, so that an outage does not fill memory."""

_Key = tuple[str, Scope]
"""Budget, and whose limit of it."""


class _Row(NamedTuple):
    spent: int
    period_end_ns: int
    """0: it rolls, and has no end."""


class _Entry:
    """What was spent of a budget within a second."""

    __slots__ = ("at", "key", "units")

    def __init__(self, at: float, key: _Key, units: int) -> None:
        self.at = at
        self.key = key
        self.units = units


class _Sums:
    """Calls that ended together, added up by the budgets that they count against: of many there are few kinds."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[tuple[Account, ...], list[int]]] = {}
        """By the number of the accounts: those, then nano-USD, tokens and the most of each that a call took."""

    def add(self, accounts: tuple[Account, ...], nano: int, tokens: int) -> None:
        found = self._of.get(id(accounts))
        if found is None:
            self._of[id(accounts)] = accounts, [nano, tokens, nano, tokens]
            return
        sums = found[1]
        sums[0] += nano
        sums[1] += tokens
        if nano > sums[2]:
            sums[2] = nano
        if tokens > sums[3]:
            sums[3] = tokens

    def all(self) -> Iterator[tuple[Account, int, int]]:
        """Budgets, what was spent of each in its units, and the most that a call took."""
        for accounts, (nano, tokens, most_nano, most_tokens) in self._of.values():
            for account in accounts:
                usd = account[0].unit == "usd"
                yield account, nano if usd else tokens, most_nano if usd else most_tokens


class Snapshot(NamedTuple):
    """What a collector said."""

    definitions: tuple[Definition, ...]
    """All of its budgets."""
    names: frozenset[str]
    matcher: Matcher
    """Of those that somebody here watches."""
    rows: Mapping[_Key, _Row]


class States:
    """Budgets of one collector. Any thread may use it."""

    def __init__(self, lag_s: float) -> None:
        self._lag_s = lag_s + COLLECTOR_LAG_S + MARGIN_S
        self._lock = threading.Lock()
        self._resource: Mapping[str, Any] | None = None
        self._watched: frozenset[str] = frozenset()
        self.snapshot: Snapshot | None = None
        self.asked_at = float("-inf")
        """When the last answer was asked for, by the monotonic clock."""
        self.etag = ""
        self._since: deque[_Entry] = deque()
        """What this process spent lately, oldest first."""
        self._latest: dict[_Key, _Entry] = {}
        self._sums: dict[_Key, int] = {}
        """Of all entries."""
        self._owed: list[tuple[_Key, AnyBill]] = []
        """Calls that have no price yet, in no entry."""
        self.dearest: dict[Unit, int] = {"usd": 0, "tokens": 0}
        """The most that a call of this process took so far, by unit."""
        self.version = object()
        """Another one after all that may have made `units` more, or calls that are owed."""

    @property
    def age_s(self) -> float:
        """Seconds since the last answer was asked for."""
        return time.monotonic() - self.asked_at

    @property
    def owing(self) -> bool:
        """Whether a call has ended whose price is not known yet."""
        return bool(self._owed)

    @property
    def resource(self) -> Mapping[str, Any]:
        """Who this process is to the collector."""
        if self._resource is None:
            self._resource = dict(destination.resource().attributes)
        return self._resource

    def learn(self, said: Mapping[str, Any], etag: str) -> None:
        """Take an answer of `/api/budgets/status`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        definitions = tuple(Definition.read(each) for each in said["definitions"])
        per = {each.name: each.per for each in definitions}
        rows = {
            (row["budget"], tuple(row["scope"][name] for name in per[row["budget"]])): _Row(
                int(row["spent_nano"] if row["unit"] == "usd" else row["spent_tokens"]),
                0 if row["rolling"] else int(row["period_end_ns"]),
            )
            for row in said["budgets"]
            if row["budget"] in per
        }
        before = self.snapshot
        watched = self._of_interest(definitions)
        matcher = Matcher(watched) if before is None or before.matcher.definitions != watched else before.matcher
        names_ = frozenset(each.name for each in definitions)
        self.snapshot, self.etag = Snapshot(definitions, names_, matcher, rows), etag
        self.version = object()

    def watch(self, budgets: frozenset[str]) -> None:
        """Somebody asks for these budgets from now on, `*` for all hard ones: only those are counted here."""
        with self._lock:
            self._watched |= budgets
            before = self.snapshot
            if before is not None:
                self.snapshot = before._replace(matcher=Matcher(self._of_interest(before.definitions)))
                self.version = object()

    def watches(self, budgets: frozenset[str]) -> bool:
        """Whether somebody has asked for all of them."""
        return budgets <= self._watched

    def _of_interest(self, definitions: tuple[Definition, ...]) -> tuple[Definition, ...]:
        all_hard = ALL_HARD in self._watched
        return tuple(each for each in definitions if each.name in self._watched or (all_hard and each.hard))

    def answered(self, asked_at: float) -> None:
        """The answer to what was asked then is known: what it contains for certain is no longer added to it."""
        until = asked_at - self._lag_s - _MERGED_S
        with self._lock:
            self.asked_at = asked_at
            while self._since and self._since[0].at < until:
                entry = self._since.popleft()
                if self._latest.get(entry.key) is entry:
                    del self._latest[entry.key]
                left = self._sums.get(entry.key, 0) - entry.units
                if left > 0:
                    self._sums[entry.key] = left
                else:
                    self._sums.pop(entry.key, None)

    def spend(self, calls: Iterable[tuple[Run, AnyBill]]) -> bool:
        """Calls of this process have ended; whether all have a price."""
        snapshot, sums, owed, priced = self.snapshot, _Sums(), list[tuple[_Key, AnyBill]](), True
        for run, bill in calls:
            nano = bill.nano()
            priced = priced and nano is not None
            if snapshot is None:
                continue
            accounts = snapshot.matcher.met(run.shared)
            if accounts is None:
                accounts = snapshot.matcher.accounts(Measured(run), self.resource)
            if nano is not None:
                sums.add(accounts, nano, bill.tokens)
                continue
            for definition, scope in accounts:
                if definition.unit == "usd":
                    owed.append(((definition.name, scope), bill))
                else:
                    sums.add(((definition, scope),), 0, bill.tokens)
        with self._lock:
            self._owed += owed
            for (definition, scope), units, dearest in sums.all():
                self._add((definition.name, scope), units, dearest, definition.unit)
            self.version = object()
        return priced

    def settle(self) -> None:
        """Prices have become known: add what was owed."""
        with self._lock:
            owed, self._owed = self._owed, []
            for key, bill in owed:
                nano = bill.nano()
                if nano is None:
                    self._owed.append((key, bill))
                else:
                    self._add(key, nano, nano, "usd")
            self.version = object()

    def _add(self, key: _Key, units: int, dearest: int, unit: Unit) -> None:
        if dearest > self.dearest[unit]:
            self.dearest[unit] = dearest
        now, entry = time.monotonic(), self._latest.get(key)
        if entry is not None and now - entry.at < _MERGED_S:
            entry.units += units
        else:
            entry = self._latest[key] = _Entry(now, key, units)
            self._since.append(entry)
        self._sums[key] = self._sums.get(key, 0) + units

    def accounts(self, subject: Subject) -> tuple[Account, ...]:
        """The budgets that a call counts against; none while nothing is known."""
        snapshot = self.snapshot
        return () if snapshot is None else snapshot.matcher.accounts(subject, self.resource)

    def units(self, account: Account) -> int:
        """What is spent of a budget, in its units."""
        definition, scope = account
        key = (definition.name, scope)
        spent = self._sums.get(key, 0)
        snapshot = self.snapshot
        row = None if snapshot is None else snapshot.rows.get(key)
        # Of a period that has ended since nothing counts any more.
        if row is not None and not (row.period_end_ns and time.time_ns() >= row.period_end_ns):
            spent += row.spent
        return spent

    def status(self, account: Account) -> Status:
        """A budget as it stands."""
        definition, scope = account
        return Status(
            definition.name,
            definition.unit,
            definition.limit_units,
            self.units(account),
            dict(zip(definition.per, scope, strict=True)),
            definition.hard,
            known=definition.counted,
            age_s=self.age_s,
        )

    def after_fork(self) -> None:
        """In a forked child: what the parent spent is the parent's to add."""
        self._lock = threading.Lock()
        self._since.clear()
        self._latest.clear()
        self._sums.clear()
        self._owed.clear()
