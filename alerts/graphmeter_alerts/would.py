"""Alerts that would have fired: what, about whom, how severe, and from when until when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from graphmeter import names
from graphmeter_config.simulation import MINUTE_NS, Stretch

Group = tuple[str, ...]
"""Values of `per`."""


@dataclass(frozen=True, slots=True)
class Would:
    """One alert, once."""

    alert: str
    about: str
    """`slo=…, burn=…, graph=…`."""
    severity: str
    since_ns: int
    until_ns: int | None
    """None: it would still fire."""


def would(alert: str, about: str, severity: str, stretches: Iterable[Stretch]) -> Iterator[Would]:
    """One alert, as often as it fired."""
    for since_ns, until_ns in stretches:
        yield Would(alert, about, severity, since_ns, until_ns)


def at_each(first: int, held: Sequence[bool], slice_ns: int = MINUTE_NS) -> Iterator[tuple[int, bool]]:
    """Whether a condition held, from a slice of time on (the first of a minute, by default), with the moments.

    None at all where it never did: that is most of them, and told at once.
    """
    return zip(count(first * slice_ns, slice_ns), held, strict=False) if True in held else iter(())


def whose(per: Sequence[str], group: Group) -> dict[str, str]:
    """What a group is told apart by, as labels."""
    return {name.replace(":", "_"): value for name, value in zip(per, group, strict=True)}


def about(**labels: str) -> str:
    """Labels as a sentence would have them."""
    return ", ".join(f"{name}={value or names.UNATTRIBUTED}" for name, value in labels.items())
