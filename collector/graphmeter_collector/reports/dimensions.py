"""What spend can be grouped by and narrowed to, under which names, and by which prices it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from graphmeter_collector.errors import BadRequest

Where = Mapping[str, Sequence[str]]
"""Dimension → the values that count; the empty value is spend that names none."""
EVERYTHING: Where = MappingProxyType({})
View = Literal["effective", "billed"]
"""By which price a call counts: the last one it was given, if it was priced again, or always the one it was billed by."""
EFFECTIVE: View = "effective"
BILLED: View = "billed"
VIEWS = (EFFECTIVE, BILLED)
COST_DIMENSIONS = (
    "service",
    "environment",
    "graph",
    "team",
    "tenant",
    "release",
    "node",
    "provider",
    "model",
    "user_id",
    "session_id",
    "thread_id",
    "run_id",
    "operation",
    "status",
    "price_status",
)
"""What spend can be grouped by, besides free tags (`tag:plan`) and `COST_PERIODS`; and what can be asked for."""
COST_PERIODS = ("day", "week", "month")
"""Calendar periods that spend can be grouped by."""
COST_ALIASES = {
    "user": "user_id",
    "session": "session_id",
    "thread": "thread_id",
    "conversation": "thread_id",
    "run": "run_id",
}
"""Short names of dimensions."""
COST_SHORT = {name: short for short, name in COST_ALIASES.items() if short != "conversation"}
"""How dimensions are called that have a short name."""
COST_UNITS = ("run_id", "thread_id", "user_id", "session_id", "tenant")
"""What the cost of one can be asked for."""
OUTCOME_DIMENSIONS = ("service", "environment", "graph", "team")
"""What outcomes, and so the cost of one, can be grouped by."""
TAG = "tag:"
_LONGEST_TAG = 200


def dimension(text: str) -> str:
    """The name of a dimension as rows have it: `user` → `user_id`.

    Raises:
        BadRequest: spend has no such dimension.
    """
    name = COST_ALIASES.get(text, text)
    tag = name.removeprefix(TAG)
    if name in COST_DIMENSIONS or name in COST_PERIODS:
        return name
    # Quotes would end the path of a JSON function; no client makes such names.
    if name != tag and 0 < len(tag) <= _LONGEST_TAG and tag.isprintable() and not {'"', "\\"} & set(tag):
        return name
    known = ", ".join(COST_SHORT.get(name, name) for name in (*COST_DIMENSIONS, *COST_PERIODS))
    raise BadRequest(
        f"cannot group spend by {text[:80]!r}: choose from {known}, or a tag such as tag:plan",
        reason="unknown_dimension",
    )
