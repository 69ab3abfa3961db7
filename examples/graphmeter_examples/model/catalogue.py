"""The models that the stand-in plays: what they are called, what they charge, and how their integrations report usage.

Rates were written down by hand on 2026-11-21 from the providers' public price pages and agree with genai-prices 0.2.3;
they are the second opinion that the collector's price book is checked against, so they are not read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from graphmeter import names

_NANO_PER_TOKEN = Decimal(names.NANO_PER_USD) / 1_000_000
"""1 USD per million tokens, in nano-USD per token."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens. Reasoning is charged as output by every provider here."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal = Decimal(0)
    cache_write_1h: Decimal = Decimal(0)

    def cost_nano(self, usage: Mapping[str, int]) -> int:
        """Nano-USD of one call, rounded once, half to even. `usage` is tokens per exclusive bucket."""
        usd = sum(
            (
                count * (self.output if bucket == "reasoning" else getattr(self, bucket))
                for bucket, count in usage.items()
            ),
            Decimal(0),
        )
        return int((usd * _NANO_PER_TOKEN).to_integral_value(ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of one provider."""

    provider: str
    """As LangChain's integration says it in `ls_provider` and `model_provider`."""
    name: str
    """What an application asks for."""
    answers_as: str
    """What the response calls it: providers answer with the dated snapshot."""
    rates: Rates
    first_token_s: float
    """Median seconds to the first token."""
    token_s: float
    """Median seconds per output token after that."""
    reasons: bool = False


def _usd(text: str) -> Decimal:
    return Decimal(text)


MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "openai",
            "gpt-4o-mini",
            "gpt-4o-mini-2024-07-18",
            Rates(input=_usd("0.15"), cache_read=_usd("0.075"), output=_usd("0.60")),
            first_token_s=0.35,
            token_s=0.004,
        ),
        ModelSpec(
            "openai",
            "gpt-4o",
            "gpt-4o-2024-08-06",
            Rates(input=_usd("2.50"), cache_read=_usd("1.25"), output=_usd("10.00")),
            first_token_s=0.5,
            token_s=0.008,
        ),
        ModelSpec(
            "openai",
            "o4-mini",
            "o4-mini-2025-04-16",
            Rates(input=_usd("1.10"), cache_read=_usd("0.275"), output=_usd("4.40")),
            first_token_s=2.5,
            token_s=0.004,
            reasons=True,
        ),
        ModelSpec(
            "anthropic",
            "claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            Rates(
                input=_usd("3.00"),
                cache_read=_usd("0.30"),
                cache_write_5m=_usd("3.75"),
                cache_write_1h=_usd("6.00"),
                output=_usd("15.00"),
            ),
            first_token_s=0.9,
            token_s=0.010,
        ),
        ModelSpec(
            "anthropic",
            "claude-haiku-4-5",
            "claude-haiku-4-5-20251001",
            Rates(
                input=_usd("1.00"),
                cache_read=_usd("0.10"),
                cache_write_5m=_usd("1.25"),
                cache_write_1h=_usd("2.00"),
                output=_usd("5.00"),
            ),
            first_token_s=0.4,
            token_s=0.005,
        ),
        ModelSpec(
            "google_genai",
            "gemini-2.5-flash",
            "gemini-2.5-flash",
            Rates(input=_usd("0.30"), cache_read=_usd("0.03"), output=_usd("2.50")),
            first_token_s=0.6,
            token_s=0.003,
            reasons=True,
        ),
    )
}


def usage_metadata(spec: ModelSpec, usage: Mapping[str, int]) -> UsageMetadata:
    """Exclusive buckets as the provider's integration reports them: totals include the details."""
    taken = {bucket: usage.get(bucket, 0) for bucket in names.TOKEN_TYPES}
    total_input = sum(taken[bucket] for bucket in names.INPUT_TOKEN_TYPES)
    total_output = sum(taken[bucket] for bucket in names.OUTPUT_TOKEN_TYPES)
    result = UsageMetadata(
        input_tokens=total_input, output_tokens=total_output, total_tokens=total_input + total_output
    )
    inputs: dict[str, int] = {"cache_read": taken["cache_read"]}
    outputs: dict[str, int] = {}
    if spec.provider == "anthropic":
        # langchain-anthropic zeroes the general count once it knows the time to live of what was written.
        inputs |= {
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": taken["cache_write_5m"],
            "ephemeral_1h_input_tokens": taken["cache_write_1h"],
        }
    elif spec.provider == "openai":
        inputs["audio"] = 0
        outputs = {"audio": 0, "reasoning": taken["reasoning"]}
    else:
        outputs = {"reasoning": taken["reasoning"]}
    # TypedDict keys are open in practice: integrations add their own, such as the ephemeral ones above.
    result["input_token_details"] = InputTokenDetails(**inputs)  # type: ignore[typeddict-item]
    if outputs:
        result["output_token_details"] = OutputTokenDetails(**outputs)  # type: ignore[typeddict-item]
    return result
