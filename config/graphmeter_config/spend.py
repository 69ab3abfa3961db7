"""Which spend: the attributions of a model call that budgets select and divide by, as people write them.

Everything that a row of the ledger says about its call can be selected: `match: {team: cx, "tag:plan": free*}`; and divided
by: `per: [graph, user]`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_serializer, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from graphmeter_config.section import Section, globs_match
from graphmeter_config.values import Globs, wrong

COLUMNS: Final = {
    "service": "service",
    "environment": "environment",
    "graph": "graph",
    "team": "team",
    "tenant": "tenant",
    "node": "node",
    "provider": "provider",
    "model": "model",
    "user": "user_id",
    "session": "session_id",
    "thread": "thread_id",
    "release": "release",
}
"""Attribution, as it is written → the ledger's column."""
TAG: Final = "tag:"
"""Before the name of a tag."""
UNBOUNDED: Final = frozenset({"user", "session", "thread"})
"""Attributions with as many values as there are people: never in metric labels."""

_LONGEST: Final = 256
"""Characters of a pattern, and of a tag's name."""
_MOST_PER: Final = 4


def known(attribution: str) -> bool:
    """Whether spend can be told apart by it."""
    return attribution in COLUMNS or (attribution.startswith(TAG) and len(attribution) > len(TAG))


def _remedy(written: str) -> str:
    close = difflib.get_close_matches(written, COLUMNS, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(COLUMNS)}, {TAG}NAME"


def fault(title: str, where: tuple[str | int, ...], value: Any, problem: PydanticCustomError) -> ValidationError:
    """A fault of one value inside a section, for a validator of the whole section to raise."""
    return ValidationError.from_exception_data(title, [InitErrorDetails(type=problem, loc=where, input=value)])


class SpendSelector(Section):
    """Which spend; every attribution named has to match. `*` also matches what has no value."""

    model_config = ConfigDict(extra="allow")

    service: Globs = ("*",)
    environment: Globs = ("*",)
    graph: Globs = ("*",)
    team: Globs = ("*",)
    tenant: Globs = ("*",)
    node: Globs = ("*",)
    provider: Globs = ("*",)
    model: Globs = ("*",)
    user: Globs = ("*",)
    session: Globs = ("*",)
    thread: Globs = ("*",)
    release: Globs = ("*",)

    # `tag:NAME` → patterns.
    __pydantic_extra__: dict[str, Globs] = Field(init=False)

    @model_validator(mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        for name, globs in value.items() if isinstance(value, Mapping) else ():
            if not known(name) or len(name) > _LONGEST:
                raise fault(cls.__name__, (name,), globs, wrong("no attribution of spend", _remedy(name)))
            for glob in (globs,) if isinstance(globs, str) else globs if isinstance(globs, list | tuple) else ():
                if problem := _impossible(glob):
                    raise fault(cls.__name__, (name,), globs, problem)
        return value

    @model_serializer(mode="plain")
    def _shown(self) -> dict[str, list[str]]:
        # What matches everything is left out: a file may write it or not, and means the same.
        return {name: list(globs) for name, globs in self.restricting().items()}

    def restricting(self) -> dict[str, tuple[str, ...]]:
        """The attributions that do not simply match everything, in order."""
        given = {name: getattr(self, name) for name in COLUMNS} | dict(sorted((self.__pydantic_extra__ or {}).items()))
        return {name: globs for name, globs in given.items() if "*" not in globs}

    def matches(self, attributions: Mapping[str, str]) -> bool:
        """Whether spend with these attributions matches; absent means empty."""
        return all(globs_match(globs, attributions.get(name, "")) for name, globs in self.restricting().items())


def _impossible(glob: Any) -> PydanticCustomError | None:
    """What is wrong with a pattern that no real value can match."""
    if not isinstance(glob, str):
        return None
    if glob != glob.strip():
        return wrong("matches nothing: it begins or ends with a space", "write it without")
    if len(glob) > _LONGEST:
        return wrong(f"matches nothing: longer than {_LONGEST} characters", "write * for the rest")
    return None


def _per(value: Any) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise wrong("not a list of attributions", "write per: [team], or per: [graph, tag:plan]")
    for each in given:
        if not known(each) or len(each) > _LONGEST:
            raise wrong(f"{each!r} is no attribution of spend", _remedy(each))
    if len(set(given)) != len(given):
        raise wrong("the same attribution twice", "write each once")
    if len(given) > _MOST_PER:
        raise wrong(f"more than {_MOST_PER} attributions", "divide by fewer")
    return tuple(given)


Per = Annotated[tuple[str, ...], BeforeValidator(_per)]
"""Attributions of which each combination of values has the limit for itself."""
