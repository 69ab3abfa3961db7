"""Which of several prices a call gets: patterns of names, and the one order in which they beat one another.

The narrowest wins, wherever it stands in the file. Fields are compared in the order deployment, model, region, provider: an
exact name beats a pattern, a pattern with more letters of its own beats one with fewer, and any pattern beats none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from graphmeter_config.providers import canonical, plain
from graphmeter_config.section import glob_regex

EXACT: Final = 1_000
"""Rank of a name without wildcards; patterns have as much as they have letters of their own."""
LONGEST: Final = 255
"""Characters of a pattern: names are no longer."""
ORDER: Final = ("deployment", "model", "region", "provider")
"""Fields in the order in which they decide."""

Rank = tuple[int, int, int, int]
"""In the order of `ORDER`; the greater wins."""


class Names(NamedTuple):
    """What a call is known by, in lower case; several names where it has several."""

    deployment: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One combination of globs; empty text: anything, also nothing."""

    deployment: str = ""
    model: str = ""
    region: str = ""
    provider: str = ""

    @property
    def rank(self) -> Rank:
        return (_rank(self.deployment), _rank(self.model), _rank(self.region), _rank(self.provider))

    def mismatch(self, names: Names) -> str:
        """The first field that does not match, in the order of `ORDER`; empty where all do."""
        for field in ORDER:
            glob = getattr(self, field)
            if _rank(glob) and not any(_compiled(glob).fullmatch(name) for name in getattr(names, field)):
                return field
        return ""

    def meets(self, other: Pattern) -> bool:
        """Whether some call matches both."""
        return all(meet(getattr(self, field) or "*", getattr(other, field) or "*") for field in ORDER)


def patterns(
    model: Iterable[str] = (),
    provider: Iterable[str] = (),
    region: Iterable[str] = (),
    deployment: Iterable[str] = (),
) -> tuple[Pattern, ...]:
    """All combinations of globs as files write them."""
    return tuple(
        Pattern(deployment=d.lower(), model=m.lower(), region=r.lower(), provider=provider_glob(p))
        for d, m, r, p in product(*(tuple(given) or ("",) for given in (deployment, model, region, provider)))
    )


def provider_glob(glob: str) -> str:
    """A provider as somebody writes it, as `Names.provider` has it."""
    return plain(glob) if "*" in glob or "?" in glob else canonical(glob)


def provider_names(provider: str) -> tuple[str, ...]:
    """What a provider may be called in a pattern."""
    return tuple(dict.fromkeys((canonical(provider), plain(provider))))


def _rank(glob: str) -> int:
    letters = len(glob) - glob.count("*") - glob.count("?")
    return EXACT if letters == len(glob) and glob else letters + ("?" in glob)


@cache
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(glob_regex(glob), re.DOTALL)


@cache
def meet(one: str, other: str) -> bool:
    """Whether some text matches both globs."""
    reached = {0}
    for at in range(len(one) + 1):
        # Positions in `other` that go with this one in `one`, stars of `other` skipped or left open.
        ahead: set[int] = set()
        for position in sorted(reached):
            while position < len(other) and other[position] == "*":
                ahead.add(position)
                position += 1
            ahead.add(position)
        if at == len(one):
            return len(other) in ahead
        letter = one[at]
        if letter == "*":
            reached = set(range(min(ahead), len(other) + 1))
            continue
        reached = {
            position if other[position] == "*" else position + 1
            for position in ahead
            if position < len(other) and (other[position] in ("*", "?", letter) or letter == "?")
        }
        if not reached:
            return False
    return False
