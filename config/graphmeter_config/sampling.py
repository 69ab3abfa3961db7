"""Which traces are worth forwarding: rules of graphmeter.yaml in, a verdict per trace out. Pure; decides nothing by itself.

A trace is one choice: it is kept if any of its runs is. The share of the others is taken by trace id as OpenTelemetry's
consistent probability sampling takes it, so that collectors and SDKs with the same percentage keep the same traces.
Source: https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from graphmeter import names
from graphmeter_config.section import Section, Selector
from graphmeter_config.values import Name, Seconds, Share, Usd, duration_text, percent_text, wrong

Reason = Literal["error", "interrupted", "slow", "expensive", "share", "unmatched", "sampled_out"]
KEPT: Final[tuple[Reason, ...]] = ("error", "interrupted", "slow", "expensive", "unmatched", "share")
"""Why a trace is kept; of several reasons the first."""
SAMPLED_OUT: Final[Reason] = "sampled_out"
"""Why a trace is not kept."""

_SPACE: Final = 1 << 56
_NS: Final = 1_000_000_000


class Part(NamedTuple):
    """A run of a trace, or the whole trace where it holds no run."""

    dimensions: Mapping[str, str]
    """service, environment, graph, team."""
    status: str
    """One of `graphmeter.names.SPAN_STATUSES`, running or lost."""
    duration_ns: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a trace."""

    keep: bool
    reason: Reason
    rule: str = ""
    """Name of the rule that said so; empty where none matched."""


def chosen(trace_id: bytes, share: Decimal) -> bool:
    """Whether a trace is among the share (0 to 1) of traces that are kept.

    The 56 low bits of a trace id are random; those below the rejection threshold (1 − share) · 2⁵⁶ are left out.
    """
    return int.from_bytes(trace_id[-7:]) >= int((1 - share) * _SPACE)


def _share(value: Decimal) -> Decimal:
    if not 0 <= value <= 1:
        raise wrong(f"{percent_text(value * 100)} is not between 0% and 100%", "write 10%")
    return value


class Rule(Section):
    """What to keep of the traces of some runs. Errors, lost and interrupted runs are always kept."""

    name: Name
    match: Selector = Selector()
    """Which runs; traces without a run have no graph."""
    keep: Annotated[Share, AfterValidator(_share)]
    """Share of the traces that nothing else keeps, by trace id."""
    slow_s: Seconds | None = Field(None, alias="slow")
    """Runs that take so long or longer are kept."""
    expensive_usd: Usd | None = None
    """Runs that cost so much or more are kept."""

    def verdict(self, part: Part, trace_id: bytes, *, error: bool) -> Verdict:
        """What the rule says of a part that it matches; `error`: some span of the trace failed."""
        reason: Reason
        if error or part.status in (names.ERROR, names.LOST):
            reason = "error"
        elif part.status == names.INTERRUPTED:
            reason = "interrupted"
        elif self.slow_s is not None and part.duration_ns >= self.slow_s * _NS:
            reason = "slow"
        elif self.expensive_usd is not None and part.cost_nano >= self.expensive_usd * names.NANO_PER_USD:
            reason = "expensive"
        else:
            reason = "share" if chosen(trace_id, self.keep) else SAMPLED_OUT
        return Verdict(reason != SAMPLED_OUT, reason, self.name)


class Sampling(Section):
    """Which traces are forwarded. Facts, metrics, spend and SLOs always cover all of them."""

    quiet_s: Seconds = Field(10.0, alias="quiet")
    """A trace whose root was seen is judged when nothing of it came for so long."""
    at_most_s: Seconds = Field(600.0, alias="at_most")
    """Any trace is judged at the latest so long after its first span came."""
    rules: tuple[Rule, ...] = ()
    """For each run the first that matches; runs that none matches are kept. Without rules every span leaves at once."""

    @model_validator(mode="after")
    def _in_order(self) -> Sampling:
        if self.quiet_s > self.at_most_s:
            raise wrong(
                f"quiet ({duration_text(self.quiet_s)}) is longer than at_most ({duration_text(self.at_most_s)})",
                "write a shorter quiet, or a longer at_most",
            )
        return self

    def verdict(self, parts: Sequence[Part], trace_id: bytes, *, error: bool) -> Verdict:
        """What becomes of a trace with these parts; the best that any of them is given."""
        return max((self._of(part, trace_id, error=error) for part in parts), key=_rank)

    def surely_kept(self, part: Part, trace_id: bytes) -> bool:
        """Whether the trace is kept whatever else comes, as far as one part of it tells."""
        return self._of(part, trace_id, error=False).keep

    def _of(self, part: Part, trace_id: bytes, *, error: bool) -> Verdict:
        for rule in self.rules:
            if rule.match.matches(part.dimensions):
                return rule.verdict(part, trace_id, error=error)
        return Verdict(keep=True, reason="unmatched")


def _rank(verdict: Verdict) -> int:
    return -KEPT.index(verdict.reason) if verdict.keep else -len(KEPT)
