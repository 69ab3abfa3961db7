"""What code in a graph asks of objectives: how much of an error budget is left, to degrade by itself while there is time.

    left = graphmeter.slo.status("support-availability")
    if left.burning or left.remaining_ratio < 0.1:
        answer = from_the_cache(question)

Answers come from memory: the process's desk at its collector (`graphmeter.budget.desk`) asks in the background, for budgets
and objectives alike.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from graphmeter import guard, names

if TYPE_CHECKING:
    from graphmeter.budget.desk import Desk

__all__ = ["Status", "status"]

_TOO_OLD_S: Final = 600.0
"""What was said longer ago is not known any more."""


@dataclass(frozen=True, slots=True)
class Status:
    """An objective as it stands for the calling code: for its graph, where each graph is judged by itself."""

    slo: str
    known: bool
    """False: nobody can tell, and `why` says why. Then all of the budget is left, so that nobody degrades for our sake."""
    reachable: bool = True
    """False: the collector does not answer now; what is known is what it said `age_s` seconds ago."""
    remaining_ratio: float = 1.0
    """Share of the error budget that is left: 1 untouched, 0 spent, negative overspent."""
    burn_rate: float | None = None
    """Of the last hour: 1 is the speed at which the budget lasts exactly its window; None without events."""
    burning: tuple[str, ...] = ()
    """Tiers of burn-rate alerts that are crossed: `page-fast`, `ticket-slow` …"""
    objective_percent: float | None = None
    achieved_ratio: float | None = None
    """Share of good events in the window; None without events."""
    good: int = 0
    bad: int = 0
    exhausted_in_s: float | None = None
    """Seconds until the budget is spent at the speed of now; None: not in sight, or it is spent."""
    scope: Mapping[str, str] = field(default_factory=dict)
    """What it is judged by → value: `{"graph": "support"}`."""
    age_s: float = 0.0
    """How long ago the collector said so; its own figures are some seconds old then."""
    why: str = ""

    @property
    def exhausted(self) -> bool:
        """Nothing is left."""
        return self.known and self.remaining_ratio <= 0

    def __str__(self) -> str:
        if not self.known:
            return f"SLO {self.slo!r}: {self.why}"
        whose = ", ".join(f"{name} {value or names.UNATTRIBUTED}" for name, value in self.scope.items())
        said = f"{self.remaining_ratio:.1%} of the error budget is left"
        return f"SLO {self.slo!r}{f' ({whose})' if whose else ''}: {said}"


def status(slo: str, /, **scope: str) -> Status:
    """An objective of the collector as it stands for the calling code, in its graph, node, team, environment and service.

    Of several things that fit (an objective judged by model asks for no particular one), the one that has least left.

    Never raises. Answers from memory: outside of an event loop the first question of a process may wait for the collector,
    for at most two seconds; inside of one nothing ever waits, and what is not known yet is told as not known.

    Args:
        slo: Name of the objective.
        scope: Which one is meant, where it is not that of the calling code: `graph="support"`, `model="gpt-4o"`.
    """
    try:
        return _status(slo, scope)
    except Exception as error:  # noqa: BLE001 - a fault of ours is none of the graph's; guard counts and logs
        guard.swallowed("slo status", error)
        return Status(slo, known=False, why=f"Graphmeter fault: {type(error).__name__}")


def _status(slo: str, scope: Mapping[str, str]) -> Status:
    # Whoever does not ask never loads what budgets need.
    from graphmeter.budget import counts
    from graphmeter.budget.desk import desk_of

    desk = desk_of()
    reachable = desk.know_slos(wait=not _in_a_loop())
    known, age_s = desk.slos.known, desk.slos.age_s
    if known is None or age_s > _TOO_OLD_S:
        why = desk.why_no_slos or f"asking the collector at {desk.where}"
        return Status(slo, known=False, reachable=reachable, why=why)
    definition = known.definitions.get(slo)
    if definition is None:
        close = difflib.get_close_matches(slo, known.definitions, n=1)
        names_ = ", ".join(sorted(known.definitions)[:20]) or "none: add one to `slos:` in graphmeter.yaml"
        remedy = f"did you mean {close[0]!r}?" if close else f"known there: {names_}"
        why = f"not known to the collector at {desk.where}; {remedy}"
        counts.say_once(f"slo {slo}", f"SLO {slo!r} is {why}")
        return Status(slo, known=False, reachable=reachable, age_s=age_s, why=why)
    here = {**_here(desk), **scope}
    wanted = {name: here[name] for name in definition.per if here.get(name)}
    fitting = [row for row in known.rows.get(slo, ()) if all(row.scope.get(name) == wanted[name] for name in wanted)]
    about: dict[str, Any] = {
        "reachable": reachable,
        "objective_percent": definition.objective_percent,
        "age_s": age_s,
        "why": "" if reachable else desk.why_no_slos,
    }
    if not fitting:
        return Status(slo, known=True, scope=wanted, **about)
    row = min(fitting, key=lambda each: each.remaining_ratio)
    lasts_s = None if row.exhausted_at_ns is None else max(row.exhausted_at_ns - time.time_ns(), 0) / 1e9
    return Status(
        slo,
        known=True,
        remaining_ratio=row.remaining_ratio,
        burn_rate=row.burn_rate,
        burning=row.burning,
        achieved_ratio=row.achieved_ratio,
        good=row.good,
        bad=row.bad,
        exhausted_in_s=lasts_s,
        scope=row.scope,
        **about,
    )


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _here(desk: Desk) -> dict[str, str]:
    """Who the calling code is to an objective; nobody in particular outside of runs."""
    from graphmeter import inside
    from graphmeter.budget.matching import attributed

    run = inside.current()
    return {} if run is None else attributed(run.tree.shared, run.tree.graph, run.node, desk.states.resource)
