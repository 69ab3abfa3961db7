"""One model's price on one day: token usage in, exact money out.

Prices are kept as integers, exactly: one USD per million tokens is 1000 nano-USD per token, and `scale` is the power of
ten that makes every rate of the price whole. So pricing a call is a few integer products, and nothing is lost before
the one rounding in `money`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import mul
from typing import NamedTuple

from graphmeter_collector.price.money import EXACT, split
from graphmeter_collector.records import TokenUsage

NANO_PER_TOKEN = 1_000
"""Nano-USD per token of a rate of one USD per million tokens."""
NANO_PER_REQUEST = 1_000_000
"""Nano-USD per request of a rate of one USD per thousand requests."""


class Rates(NamedTuple):
    """What every token of one call costs, in nano-USD / `scale`."""

    per_token: tuple[int, ...]
    """By bucket, in the order of TokenUsage; 0 where the price has no rate, see `missing`."""
    missing: tuple[int, ...]
    """Buckets the price has no rate for, nor for anything that contains them."""
    per_request: int
    scale: int
    free: bool
    """Declared to cost nothing, which is not the same as having no price."""

    @property
    def empty(self) -> bool:
        """Says nothing about tokens or requests: the price of something else, such as hours of audio."""
        return len(self.missing) == len(self.per_token) and not self.per_request

    def cost_of(self, usage: TokenUsage, *, requests: int = 1) -> tuple[int, tuple[int, ...]] | None:
        """Total and parts in nano-USD, or None when tokens were used that have no rate.

        A fee per request is no token's cost; it is shown with the `input` bucket, so that parts sum to the total.
        """
        for index in self.missing:
            if usage[index]:
                return None
        exact = tuple(map(mul, usage, self.per_token))
        if self.per_request:
            exact = (exact[0] + self.per_request * requests, *exact[1:])
        return split(exact, self.scale)


def make_rates(usd_per_mtok: Sequence[Decimal | None], usd_per_krequest: Decimal = Decimal(0)) -> Rates:
    """Rates from prices as providers publish them: USD per million tokens by bucket, USD per thousand requests."""
    nano = [None if usd is None else EXACT.multiply(usd, NANO_PER_TOKEN) for usd in usd_per_mtok]
    fee = EXACT.multiply(usd_per_krequest, NANO_PER_REQUEST)
    scale = 10 ** max(map(_decimals, [fee, *(rate for rate in nano if rate is not None)]))
    per_token = tuple(0 if rate is None else _whole(rate, scale) for rate in nano)
    return Rates(
        per_token=per_token,
        missing=tuple(index for index, rate in enumerate(nano) if rate is None),
        per_request=_whole(fee, scale),
        scale=scale,
        free=not any(per_token) and not fee and any(rate is not None for rate in nano),
    )


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _whole(value: Decimal, scale: int) -> int:
    return int(EXACT.multiply(value, scale))


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rates by size of the prompt: crossing a tier's start prices *all* tokens of the call at that tier."""

    starts: tuple[int, ...]
    """Input tokens above which the tier of the same position + 1 applies; ascending."""
    tiers: tuple[Rates, ...]
    """One more than `starts`."""

    def rates_for(self, total_input: int) -> Rates:
        # A prompt of exactly the start's size still pays the lower tier.
        return self.tiers[bisect_right(self.starts, total_input - 1)]


@dataclass(frozen=True, slots=True)
class DayPrice:
    """One model's price on one UTC day; more than one tariff where the time of day matters (off-peak discounts)."""

    source: str
    """Catalogue and version: `genai-prices 0.2.3`."""
    name: str
    """Price within the catalogue: `openai/gpt-4o`."""
    tariffs: tuple[Tariff, ...]
    starts_ns: tuple[int, ...] = ()
    """Time of day from which the tariff of the same position + 1 applies; ascending, ns."""

    def rates_for(self, time_of_day_ns: int, usage: TokenUsage) -> Rates:
        tariffs = self.tariffs
        tariff = tariffs[bisect_right(self.starts_ns, time_of_day_ns)] if self.starts_ns else tariffs[0]
        return tariff.rates_for(sum(usage[:6])) if tariff.starts else tariff.tiers[0]


def make_tariff(rates_at: Mapping[int, Sequence[Decimal | None]], usd_per_krequest: Decimal = Decimal(0)) -> Tariff:
    """A tariff from prices (USD per million tokens, by bucket) by tier start; the base tier has start -1."""
    starts = sorted(rates_at)
    return Tariff(
        starts=tuple(starts[1:]),
        tiers=tuple(make_rates(rates_at[start], usd_per_krequest) for start in starts),
    )
