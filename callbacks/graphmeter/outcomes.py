"""How a run turned out for the business: said inside it, or by its run id long after, perhaps in another process."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final
from uuid import UUID

from graphmeter import guard, inside, names
from graphmeter.records import Value

_LONGEST_KIND: Final = 64


def outcome(
    kind: str, *, good: bool | None = None, value: float | None = None, run_id: str | UUID | None = None
) -> None:
    """Say how a run turned out: `outcome("resolved", good=True)`, `outcome("csat", value=4.5)`.

    Inside of a run it is about that run. With `run_id` (of the root graph: `current_run().run_id`, or the `run_id` that the
    run's config was given) it is about that one, also hours later, in a process that has never run a graph.

    Args:
        kind: What is judged, 1 to 64 characters. A metric label: a few fixed words, never ids or free text.
        good: The application's judgement; None: none.
        value: A finite number in the application's own unit; None: none.
        run_id: The run that it is about.

    What cannot be used is left out, counted in `stats()` and logged once. Never raises.
    """
    _outcome(kind, good, value, run_id)


@guard.guarded
def _outcome(kind: Any, good: Any, value: Any, run_id: Any) -> None:
    name = kind.strip() if isinstance(kind, str) else ""
    if not 0 < len(name) <= _LONGEST_KIND or not name.isprintable():
        guard.noticed(
            "unusable outcome kind",
            f"{inside.shown(kind)} is not a printable text of 1 to {_LONGEST_KIND} characters; name it by a fixed word",
        )
        return
    subject = inside.subject(run_id, f"outcome {name!r}")
    if subject is None:
        return
    facts: dict[str, Value] = {names.OUTCOME_KIND: name}
    if isinstance(good, bool):
        facts[names.OUTCOME_GOOD] = good
    elif good is not None:
        guard.noticed("unusable outcome good", f"{name!r}: good={inside.shown(good)} is not True, False or None")
    number = _number(value)
    if number is not None:
        facts[names.OUTCOME_VALUE] = number
    elif value is not None:
        guard.noticed("unusable outcome value", f"{name!r}: value={inside.shown(value)} is not a finite number")
    subject.say(names.OUTCOME, facts)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes):  # a judgement belongs into `good`; a text is no measurement
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None
