"""One model's price on one day: token usage in, exact money out.

Prices are kept as integers, exactly: one USD per million tokens is 1000 nano-USD per token, and `scale` is the power of
ten that makes every rate of the price whole. So pricing a call is a few integer products, and nothing is lost before
the one rounding in `money`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import gcd

from graphmeter import names
from graphmeter_collector.price.money import EXACT, charge
from graphmeter_collector.records import TokenUsage

NANO_PER_TOKEN = 1_000
"""Nano-USD per token of a rate of one USD per million tokens."""
NANO_PER_REQUEST = 1_000_000
"""Nano-USD per request of a rate of one USD per thousand requests."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What every token of one call costs, in nano-USD / `scale`, and what else it is charged for."""

    per_token: tuple[int, ...]
    """By bucket, in the order of TokenUsage; 0 where the price has no rate, see `missing`."""
    missing: tuple[int, ...]
    """Buckets the price has no rate for, nor for anything that contains them."""
    per_request: int
    scale: int
    free: bool
    """Declared to cost nothing, which is not the same as having no price."""
    per_image: int = 0
    """Of every image that the call made."""
    per_ns: int = 0
    """Of every nanosecond that the call took."""
    tokens_only: bool = field(init=False)
    """Nothing but tokens is charged for; said once, for every call asks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens_only", not (self.per_request or self.per_image or self.per_ns))

    @property
    def empty(self) -> bool:
        """Says nothing about tokens or requests: the price of something else, such as hours of audio."""
        return len(self.missing) == len(self.per_token) and not self.per_request

    @property
    def needs_usage(self) -> bool:
        """Whether what a call costs depends on its tokens."""
        return any(self.per_token) or bool(self.missing)

    def cost_of(
        self, usage: TokenUsage, *, requests: int = 1, images: int = 0, duration_ns: int = 0
    ) -> tuple[int, tuple[int, ...]] | None:
        """Total and parts in nano-USD, or None when tokens were used that have no rate.

        What is charged per request, image or second is no token's cost; it is shown with the `input` bucket, so that parts
        sum to the total.
        """
        extra = self.per_request * requests + self.per_image * images + self.per_ns * duration_ns
        return self.cost_of_tokens(usage, extra)

    def cost_of_tokens(self, usage: TokenUsage, extra: int = 0) -> tuple[int, tuple[int, ...]] | None:
        """`cost_of` where nothing else is charged for, as with nearly every price; `extra` is in nano-USD / `scale`."""
        for index in self.missing:
            if usage[index]:
                return None
        return charge(usage, self.per_token, self.scale, extra)

    def times(self, factor: Decimal, *, tokens_only: bool = False) -> Rates:
        """The same multiplied, exactly; with `tokens_only` not what is charged for anything else."""
        by, over = factor.as_integer_ratio()
        rest_by = over if tokens_only else by
        per_token = tuple(rate * by for rate in self.per_token)
        rest = [each * rest_by for each in (self.per_request, self.per_image, self.per_ns)]
        scale = self.scale * over
        common = gcd(scale, *per_token, *rest)
        request, image, ns = (each // common for each in rest)
        return Rates(
            tuple(rate // common for rate in per_token), self.missing, request, scale // common, self.free, image, ns
        )


def make_rates(
    usd_per_mtok: Sequence[Decimal | None],
    usd_per_krequest: Decimal = Decimal(0),
    *,
    usd_per_image: Decimal = Decimal(0),
    usd_per_second: Decimal = Decimal(0),
) -> Rates:
    """Rates from prices as providers publish them: USD per million tokens by bucket, USD per thousand requests."""
    nano = [None if usd is None else EXACT.multiply(usd, NANO_PER_TOKEN) for usd in usd_per_mtok]
    fee = EXACT.multiply(usd_per_krequest, NANO_PER_REQUEST)
    image = EXACT.multiply(usd_per_image, names.NANO_PER_USD)
    # One USD per second is one nano-USD per nanosecond.
    scale = 10 ** max(map(_decimals, [fee, image, usd_per_second, *(rate for rate in nano if rate is not None)]))
    per_token = tuple(0 if rate is None else _whole(rate, scale) for rate in nano)
    extra = [_whole(each, scale) for each in (fee, image, usd_per_second)]
    return Rates(
        per_token=per_token,
        missing=tuple(index for index, rate in enumerate(nano) if rate is None),
        per_request=extra[0],
        scale=scale,
        free=not any(per_token) and not any(extra) and any(rate is not None for rate in nano),
        per_image=extra[1],
        per_ns=extra[2],
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
    service_tier: str = ""
    """The tier of service whose price it is; empty: the usual one's."""
    bill_failed: bool = False
    """A call that failed without using a token is charged per request all the same."""
    flat: Rates | None = field(init=False)
    """The rates, where neither size of the prompt nor time of day decides; said once, for every call asks."""

    def __post_init__(self) -> None:
        one = len(self.tariffs) == 1 and len(self.tariffs[0].tiers) == 1
        object.__setattr__(self, "flat", self.tariffs[0].tiers[0] if one else None)

    def times(self, factor: Decimal, *, tokens_only: bool = False) -> DayPrice:
        """The same multiplied, see `Rates.times`."""
        tariffs = tuple(
            Tariff(tariff.starts, tuple(rates.times(factor, tokens_only=tokens_only) for rates in tariff.tiers))
            for tariff in self.tariffs
        )
        return replace(self, tariffs=tariffs)

    def rates_for(self, time_of_day_ns: int, usage: TokenUsage) -> Rates:
        tariffs = self.tariffs
        tariff = tariffs[bisect_right(self.starts_ns, time_of_day_ns)] if self.starts_ns else tariffs[0]
        # A prompt of exactly a tier's start still pays the lower one.
        return tariff.tiers[bisect_right(tariff.starts, sum(usage[:6]) - 1)] if tariff.starts else tariff.tiers[0]


def make_tariff(rates_at: Mapping[int, Sequence[Decimal | None]], usd_per_krequest: Decimal = Decimal(0)) -> Tariff:
    """A tariff from prices (USD per million tokens, by bucket) by tier start; the base tier has start -1."""
    starts = sorted(rates_at)
    return Tariff(
        starts=tuple(starts[1:]),
        tiers=tuple(make_rates(rates_at[start], usd_per_krequest) for start in starts),
    )
