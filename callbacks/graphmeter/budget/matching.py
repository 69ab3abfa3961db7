"""Which budgets a call counts against, and whose limit of each: as the collector matches its ledger, from the same words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from graphmeter import names
from graphmeter.budget.exceeded import Unit
from graphmeter.records import Value

ALL_HARD: Final = "*"
"""Stands for every hard budget of the collector."""
_TAG: Final = "tag:"
_MOST_KNOWN: Final = 10_000
_MOST_RUNS: Final = 1_000
_OF_A_CALL: Final = frozenset({"node", "provider", "model"})
"""Attributions in which calls of one run may differ."""
_SHARED: Final = {
    "team": (names.TEAM, names.RESOURCE_TEAM),
    "tenant": (names.TENANT, names.TENANT),
    "environment": (names.ENVIRONMENT, names.DEPLOYMENT_ENVIRONMENT),
    "release": (names.RELEASE, names.SERVICE_VERSION),
    "user": (names.USER, ""),
    "session": (names.SESSION, ""),
    "thread": (names.CONVERSATION_ID, ""),
}
"""Attribution → the span attribute that says it, and the resource's that stands in."""


class Subject(Protocol):
    """What a budget may select by or be divided by, of one call."""

    @property
    def shared(self) -> Mapping[str, Value]: ...

    @property
    def graph(self) -> str: ...

    @property
    def node(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...


class Definition(NamedTuple):
    """A budget as the collector tells it."""

    name: str
    unit: Unit
    limit_units: int
    hard: bool
    match: Mapping[str, tuple[str, ...]]
    per: tuple[str, ...]
    counted: bool = True
    """False: it is new at the collector, which cannot tell yet what was spent of it."""

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Definition:
        """One from JSON."""
        unit: Unit = "usd" if said["unit"] == "usd" else "tokens"
        match = {str(name): tuple(map(str, globs)) for name, globs in said["match"].items()}
        per = tuple(map(str, said["per"]))
        counted = bool(said.get("counted", True))
        return cls(str(said["budget"]), unit, int(said["limit"]), bool(said["hard"]), match, per, counted)


Scope = tuple[str, ...]
"""Values of a budget's `per`."""
Account = tuple[Definition, Scope]


class Matcher:
    """A set of budgets; calls that are alike to all of them are matched once."""

    def __init__(self, definitions: tuple[Definition, ...]) -> None:
        self.definitions = definitions
        wanted = sorted({name for each in definitions for name in (*each.per, *each.match)})
        self._wanted = tuple(wanted)
        self._readers = tuple(_reader(name) for name in wanted)
        self._known: dict[tuple[str, ...], tuple[Account, ...]] = {}
        self.same_in_a_run = _OF_A_CALL.isdisjoint(wanted)
        """Whether all calls of a run, while its attribution stays, count against the same."""
        self._runs: dict[int, tuple[Mapping[str, Value], tuple[Account, ...]]] = {}
        """By the number of a run's attribution, and that itself, lest another one gets its number."""

    def accounts(self, subject: Subject, resource: Mapping[str, Any]) -> tuple[Account, ...]:
        """The budgets that a call counts against."""
        if not self.same_in_a_run:
            return self._matched(subject, resource)
        shared = subject.shared
        known = self.met(shared)
        if known is None:
            if len(self._runs) >= _MOST_RUNS:
                self._runs.clear()
            known = self._matched(subject, resource)
            self._runs[id(shared)] = shared, known
        return known

    def met(self, shared: Mapping[str, Value]) -> tuple[Account, ...] | None:
        """The same of a call with this attribution, if that is enough to tell and one was met lately."""
        found = self._runs.get(id(shared))
        return found[1] if found is not None and found[0] is shared else None

    def _matched(self, subject: Subject, resource: Mapping[str, Any]) -> tuple[Account, ...]:
        values = tuple([read(subject, resource) for read in self._readers])
        known = self._known.get(values)
        if known is None:
            said = dict(zip(self._wanted, values, strict=True))
            known = tuple(
                (each, tuple(said[name] for name in each.per)) for each in self.definitions if _matches(each, said)
            )
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[values] = known
        return known

    def said(self, subject: Subject, resource: Mapping[str, Any]) -> dict[str, str]:
        """What any of the budgets asks of a call."""
        return {name: read(subject, resource) for name, read in zip(self._wanted, self._readers, strict=True)}


def _matches(definition: Definition, said: Mapping[str, str]) -> bool:
    return all(_compiled(globs).fullmatch(said[name]) is not None for name, globs in definition.match.items())


@cache
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("|".join("".join(wild.get(c) or re.escape(c) for c in glob) for glob in globs), re.DOTALL)


_Reader = Callable[[Subject, Mapping[str, Any]], str]


def _reader(name: str) -> _Reader:
    if name in _SHARED:
        own, general = _SHARED[name]
        return lambda subject, resource: str(subject.shared.get(own) or resource.get(general) or "")
    if name.startswith(_TAG):
        tag = names.TAG_PREFIX + name[len(_TAG) :]
        return lambda subject, _: str(subject.shared.get(tag, ""))
    return _OTHERS.get(name, _nothing)


class _Place(NamedTuple):
    """Where code is, as far as objectives look at it."""

    shared: Mapping[str, Value]
    graph: str
    node: str
    provider: str = ""
    model: str = ""


def attributed(shared: Mapping[str, Value], graph: str, node: str, resource: Mapping[str, Any]) -> dict[str, str]:
    """What the collector calls a place in a run; its model is not known there."""
    place = _Place(shared, graph, node)
    return {name: _reader(name)(place, resource) for name in ("service", "environment", "graph", "team", "node")}


def _nothing(subject: Subject, resource: Mapping[str, Any]) -> str:
    return ""


_OTHERS: Final[Mapping[str, _Reader]] = {
    "service": lambda _, resource: str(resource.get(names.SERVICE_NAME, "")),
    # Without a name of its own it has its service's.
    "graph": lambda subject, resource: subject.graph or str(resource.get(names.SERVICE_NAME, "")),
    "node": lambda subject, _: subject.node,
    "provider": lambda subject, _: subject.provider,
    "model": lambda subject, _: subject.model,
}
