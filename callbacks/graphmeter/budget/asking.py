"""What code in a graph asks of budgets: `status()` to choose a cheaper way in time, `gate()` to have somebody asked."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final
from uuid import UUID

from graphmeter import guard, inside
from graphmeter.budget import counts, spending
from graphmeter.budget.cached import Cached
from graphmeter.budget.calls import Call
from graphmeter.budget.exceeded import RUN, BudgetExceeded, Status, Unknown
from graphmeter.budget.guarding import BudgetGuard
from graphmeter.budget.handlers import guards_here
from graphmeter.records import Run

CONTINUE: Final[Mapping[str, str]] = {"graphmeter_budget": "continue"}
"""An answer to `gate()`: the run goes on, and the budgets asked about do not stop it any more."""
STOP: Final[Mapping[str, str]] = {"graphmeter_budget": "stop"}
"""The other one: the node fails with BudgetExceeded."""
_PLAIN: Final = {True: True, False: False, "continue": True, "stop": False}
_MAX_AGE_S: Final = 5.0
_NOBODY: Final = UUID(int=0)


def status(budget: str = "") -> Status:
    """A budget of the collector as it stands for the calling code, in the scope of its team, tenant …

    Without a name: whatever the guards of the run around watch, the caps of the run included, that has least left.
    With `run`: the cap of the run.

    Where nobody can tell, or the code does not count against the budget, `known` is False and all of it is left; nothing is
    left if a guard of the run fails closed. Never raises. Answers from memory; only the first question of a process may wait
    for the collector, for at most two seconds.
    """
    found, closed = _watched(budget)
    if found:
        return min(found, key=lambda each: each.remaining_ratio)
    return Status(budget or RUN, "usd", 1, 1 if closed else 0, known=False)


def gate(budget: str = "") -> None:
    """Have somebody asked before the node goes on, if a budget is used up: LangGraph's `interrupt()`.

    Call it first thing in a node; the graph needs a checkpointer. The question is a mapping that names the budgets. Resume
    with `Command(resume=graphmeter.budget.CONTINUE)`, and for the rest of the run those budgets do not stop it, nor a resume
    of it in the same process; with `STOP`, and the node fails. `True` and `False` do, where the node asks nothing else.

    Args:
        budget: A budget of the collector, `run` for the cap of the run; empty: all that the guards of the run watch.

    Raises:
        BudgetExceeded: the answer is no.
        GraphInterrupt: how LangGraph pauses.
    """
    found, _ = _watched(budget)
    waived = _waived()
    found = [each for each in found if each.budget not in waived]
    used_up = [each for each in found if each.exceeded]
    given = _answers()
    if given:
        # The node runs again. An answer is taken if it was meant for us: where nothing was asked, it is another question's.
        if not _ours(given[0]) and not (used_up and _plain(given[0])):
            return
    elif not used_up:
        return
    from langgraph.types import interrupt

    if not given:
        counts.count(counts.ASKED)
    answer = interrupt(_question(used_up or found))
    said = used_up or found
    if not _allows(answer):
        about = said[0] if said else None
        raise BudgetExceeded(f"{about or 'a budget'}; somebody was asked and said no", about)
    run = _run_here()
    if run is not None:
        accounts = spending.accounts_of(run.tree)
        accounts.waived |= {each.budget for each in said}


def _watched(budget: str) -> tuple[list[Status], bool]:
    """The budgets of this name that count here, and whether a guard fails closed while nobody can tell."""
    guards = guards_here()
    closed = False
    found: list[Status] = []
    asked = False
    for each in guards:
        if budget in ("", RUN) or budget in each.budgets:
            asked = True
            told = _told(each, budget)
            unknown = told is None or any(not one.known and budget in ("", one.budget) for one in told)
            closed |= unknown and not each.fails_open
            found += told or ()
    if not asked and budget not in ("", RUN):
        found += _told(Cached((budget,), _MAX_AGE_S, ""), budget) or ()
    found = [one for one in found if one.known]
    return [each for each in found if budget in ("", each.budget)], closed


def _waived() -> Set[str]:
    """Budgets that somebody has allowed the run to go beyond."""
    run = _run_here()
    return frozenset() if run is None or run.tree.accounts is None else run.tree.accounts.waived


def _told(whom: BudgetGuard | Cached, budget: str) -> list[Status] | None:
    """What it says; None: it cannot tell."""
    try:
        return whom.statuses(Call(_NOBODY, _run_here(), None, None, None, None))
    except Unknown as unknown:
        counts.say_once(
            f"status {unknown}", f"graphmeter.budget cannot tell the state of {budget or 'budgets'}: {unknown}"
        )
    except Exception as error:  # noqa: BLE001 - a fault of ours is none of the graph's; guard counts and logs
        guard.swallowed("budget status", error)
    return None


def _run_here() -> Run | None:
    return inside.current()


def _answers() -> list[Any]:
    """What this node has been answered so far, if it is being run again."""
    try:
        from langgraph._internal._constants import CONFIG_KEY_SCRATCHPAD
        from langgraph.config import get_config

        pad = get_config()["configurable"][CONFIG_KEY_SCRATCHPAD]
        if pad.resume:
            return list(pad.resume)
        value = pad.get_null_resume(False)
    except Exception as error:  # noqa: BLE001 - internals of LangGraph, or no graph around; counted
        guard.swallowed("budget gate", error)
        return []
    return [] if value is None else [value]


def _ours(answer: object) -> bool:
    return isinstance(answer, Mapping) and "graphmeter_budget" in answer


def _plain(answer: object) -> bool:
    return isinstance(answer, bool | str) and answer in _PLAIN


def _allows(answer: object) -> bool:
    if isinstance(answer, Mapping):
        return answer.get("graphmeter_budget") == "continue"
    return isinstance(answer, bool | str) and _PLAIN.get(answer, False)


def _question(about: list[Status]) -> dict[str, Any]:
    return {
        "type": "graphmeter.budget",
        "message": "; ".join(map(str, about)),
        "budgets": [
            {
                "budget": each.budget,
                "scope": dict(each.scope),
                "unit": each.unit,
                "limit": each.limit,
                "spent": each.spent,
            }
            for each in about
        ],
        "answers": [dict(CONTINUE), dict(STOP)],
    }
