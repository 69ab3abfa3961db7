"""Maintenance windows: times of which everybody knew, which reports on objectives show and may leave out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from graphmeter_config.dated import Moment, moment_ns
from graphmeter_config.section import Section, globs_match
from graphmeter_config.slices import Stretch
from graphmeter_config.values import Globs, Name, wrong
from graphmeter_config.zones import Timezone


class Maintenance(Section):
    """One maintenance window."""

    name: Name
    description: str = ""
    start: Moment = Field(alias="from")
    """From here on, this instant included."""
    end: Moment = Field(alias="to")
    """Up to here, this instant excluded."""
    timezone: Timezone = "UTC"
    """Of dates and instants that name no offset."""
    slos: Globs = ("*",)
    """Which objectives it is about, by name."""

    @cached_property
    def since_ns(self) -> int:
        """Its start."""
        return moment_ns(self.start, self.timezone)

    @cached_property
    def until_ns(self) -> int:
        """Its end."""
        return moment_ns(self.end, self.timezone)

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.since_ns >= self.until_ns:
            raise wrong("not after from", "write a later `to:`", "to")
        return self

    def about(self, slo: str) -> bool:
        """Whether it is about the objective of this name."""
        return globs_match(self.slos, slo)


def without(since_ns: int, until_ns: int, windows: Iterable[Stretch]) -> list[Stretch]:
    """What is left of [since, until) outside of the windows, which may overlap; in order."""
    left, at_ns = [], since_ns
    for start_ns, end_ns in sorted(windows):
        if start_ns > at_ns:
            left.append(Stretch(at_ns, min(start_ns, until_ns)))
        at_ns = max(at_ns, end_ns)
        if at_ns >= until_ns:
            break
    if at_ns < until_ns:
        left.append(Stretch(at_ns, until_ns))
    return [stretch for stretch in left if stretch.start_ns < stretch.end_ns]


def within(since_ns: int, until_ns: int, windows: Iterable[Stretch]) -> list[Stretch]:
    """What the windows cover of [since, until), each moment once; in order."""
    gaps = without(since_ns, until_ns, windows)
    return without(since_ns, until_ns, gaps)
