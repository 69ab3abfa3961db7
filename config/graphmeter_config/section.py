"""What every section of graphmeter.yaml has in common: immutable once loaded, no unknown keys; and selectors."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from graphmeter_config.values import Globs


class Section(BaseModel):
    """Base of all sections. Files use the aliases (`window: 30d`), code may also use the names (`window_s=…`)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_alias=True, validate_by_name=True, allow_inf_nan=False
    )


@functools.cache
def glob_regex(glob: str) -> str:
    """A glob as a regular expression without anchors; `*` is anything, `?` one character, all else itself."""
    wild = {"*": ".*", "?": "."}
    return "".join(wild.get(character) or re.escape(character) for character in glob)


@functools.cache
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(glob_regex, globs)), re.DOTALL)


def globs_match(globs: tuple[str, ...], value: str) -> bool:
    """Whether one of the patterns is the whole value."""
    return _compiled(globs).fullmatch(value) is not None


class Selector(Section):
    """Which runs or which spend: every field has to match. `*` also matches what has no value."""

    service: Globs = ("*",)
    environment: Globs = ("*",)
    graph: Globs = ("*",)
    team: Globs = ("*",)

    def restricting(self) -> dict[str, tuple[str, ...]]:
        """The fields that do not simply match everything, in order."""
        return {field: globs for field in type(self).model_fields if "*" not in (globs := getattr(self, field))}

    def matches(self, dimensions: Mapping[str, str]) -> bool:
        """Whether the dimensions (service, environment, graph, team; absent means empty) match."""
        return all(globs_match(globs, dimensions.get(field, "")) for field, globs in self.restricting().items())
