"""What providers allow a minute, as their accounts say: tokens and requests, by provider, model and key.

A collector never sees a key. Which calls are made with it is said by what they carry: the services, environments, teams
or graphs that use it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from graphmeter import names
from graphmeter_config.alerting import Severity
from graphmeter_config.indicators import Dimension
from graphmeter_config.section import Section, Selector
from graphmeter_config.threshold import PerDimensions, Wait, Window
from graphmeter_config.values import Globs, Name, Share, percent_text, wrong

PerMinute = Annotated[int, Field(ge=1, le=10**12)]

_DIMENSIONS: Final[tuple[Dimension, ...]] = ("graph", "node", "provider", "model", "team", "environment", "service")
_READ_FROM_CACHE: Final = "cache_read"


def _near(value: Decimal) -> Decimal:
    if not 0 < value <= 1:
        raise wrong(f"{percent_text(value * 100)} is not above 0% and up to 100%", "write 80%")
    return value


class ProviderLimit(Section):
    """One limit, or several that hold for the same calls; each that is given is watched."""

    name: Name
    provider: Globs
    model: Globs = ("*",)
    key: str = ""
    """Whose limit it is, in words that alerts repeat; never the key itself."""
    select: Selector = Selector()
    """Which calls are made with this key."""
    per: PerDimensions = ("provider", "model")
    """What has the limit for itself; an empty list: all calls share it."""
    tokens_per_minute: PerMinute | None = None
    """Of input and output together."""
    input_tokens_per_minute: PerMinute | None = None
    output_tokens_per_minute: PerMinute | None = None
    requests_per_minute: PerMinute | None = None
    count_cache_reads: bool = True
    """Whether the provider counts input that it reads from its cache."""
    warn_at: Annotated[Share, AfterValidator(_near)] = Decimal("0.8")
    window_s: Window = Field(300.0, alias="window")
    """The mean of so long is compared: limits hold for each minute, but what is measured comes when calls end."""
    for_s: Wait | None = Field(None, alias="for")
    severity: Severity = "ticket"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.limits:
            raise wrong("has no limit", "add `tokens_per_minute:` or `requests_per_minute:`", "name")
        for dimension in self.per:
            if dimension not in _DIMENSIONS:
                raise wrong(f"calls are not counted by {dimension}", f"write only {', '.join(_DIMENSIONS)}", "per")
        return self

    @property
    def limits(self) -> dict[str, int]:
        """What is limited → how many a minute: tokens, input_tokens, output_tokens, requests."""
        given = {
            "tokens": self.tokens_per_minute,
            "input_tokens": self.input_tokens_per_minute,
            "output_tokens": self.output_tokens_per_minute,
            "requests": self.requests_per_minute,
        }
        return {of: limit for of, limit in given.items() if limit is not None}

    def token_types(self, of: str) -> tuple[str, ...]:
        """Which kinds of tokens count against a limit."""
        found = {
            "tokens": names.TOKEN_TYPES,
            "input_tokens": names.INPUT_TOKEN_TYPES,
            "output_tokens": names.OUTPUT_TOKEN_TYPES,
        }[of]
        return tuple(each for each in found if self.count_cache_reads or each != _READ_FROM_CACHE)

    def selecting(self) -> dict[str, tuple[str, ...]]:
        """Label → patterns of the calls it holds for; what matches everything is left out."""
        both = {"provider": self.provider, "model": self.model, **self.select.restricting()}
        return {label: globs for label, globs in both.items() if "*" not in globs}
