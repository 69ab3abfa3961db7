"""The genai-prices catalogue as a source of dated prices; the only module that knows that library.

Offline: the catalogue ships in the library's wheel, so the library's version is the version of every price taken from
it. Differences to `genai_prices.calc_price`, on purpose: unknown is None instead of an exception; nothing is cached per
model name, since a sender could fill memory with names; tokens without any rate make a call unpriced, not cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

from graphmeter_collector.price.providers import by_plain_name, is_gateway, resolve
from graphmeter_collector.price.rates import DayPrice, Tariff, make_tariff

# Where a bucket's rate is found, most specific first; in the order of TokenUsage. What a price does not split out is
# billed at the rate of what contains it: reasoning as output, a cache write as input when there is no rate for either.
_PRICE_KEYS = (
    ("input_mtok",),
    ("cache_read_mtok", "input_mtok"),
    ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    ("input_audio_mtok", "input_mtok"),
    ("input_image_mtok", "input_mtok"),
    ("output_mtok",),
    ("output_reasoning_mtok", "output_mtok"),
    ("output_audio_mtok", "output_mtok"),
    ("output_image_mtok", "output_mtok"),
)
_REQUEST_KEY = "requests_kcount"
_BASE_TIER = -1
_BATCH = "batch"
_FREE = ":free"
"""How ids of models end that a gateway gives away. The catalogue has no rates for them, nor for those it has no price of."""
_GRATIS = make_tariff({_BASE_TIER: [Decimal(0)] * len(_PRICE_KEYS)})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Catalogue:
    """Prices of the installed genai-prices release, or of one that was fetched."""

    def __init__(self, providers: Sequence[Provider] | None = None, name: str = "") -> None:
        self.name = name or f"genai-prices {version('genai-prices')}"
        """Catalogue and version, as it is written on every cost."""
        self._providers = get_snapshot().providers if providers is None else list(providers)
        self._by_id = {provider.id: provider for provider in self._providers}
        self._ids = by_plain_name(self._by_id)

    @property
    def models(self) -> int:
        """How many it knows."""
        return sum(len(provider.models) for provider in self._providers)

    @property
    def model_names(self) -> list[str]:
        """`openai/gpt-4o`, all of them."""
        return [f"{provider.id}/{info.id}" for provider in self._providers for info in provider.models]

    def urls(self, provider: str) -> list[str]:
        """Where a provider publishes its prices, as the catalogue's authors say."""
        owner = self._by_id.get(provider)
        return list(owner.pricing_urls or ()) if owner else []

    def check(self) -> None:
        """Look at every price.

        Raises:
            ValueError, ArithmeticError: one cannot be used.
        """
        for provider in self._providers:
            for info in provider.models:
                for price in [info.prices] if isinstance(info.prices, ModelPrice) else [c.prices for c in info.prices]:
                    for rates in _tariff(price).tiers:
                        if any(rate < 0 for rate in rates.per_token):
                            raise ValueError(f"{provider.id}/{info.id} has a negative price")

    def find(self, provider: str, model: str, day: int, tier: str = "") -> DayPrice | None:
        """The price of a model on a day (UTC, days since the epoch), or None when it is not known.

        `provider` is a name as instrumentations write it; when it says nothing, the model's own name decides. For a tier of
        service that the catalogue has no price of, the usual one.
        """
        found = self._find_model(provider, model)
        if found is None:
            return None
        owner, info = found
        midnight = _EPOCH + timedelta(days=day)
        starts = _tariff_starts(info)
        context = self._context(owner, info, tier)
        moments = [midnight + start for start in (timedelta(0), *starts)]
        prices = [info.get_prices(moment, context) for moment in moments]
        if context and prices == [info.get_prices(moment) for moment in moments]:
            context = None  # not yet, on that day
        tariffs = tuple(map(_tariff, prices))
        if all(rates.empty for tariff in tariffs for rates in tariff.tiers):
            if not info.id.endswith(_FREE):
                return None
            tariffs, starts = (_GRATIS,), []
        return DayPrice(
            source=self.name,
            name=f"{owner.id}/{info.id}",
            tariffs=tariffs,
            starts_ns=tuple(start // timedelta(microseconds=1) * 1_000 for start in starts),
            service_tier=tier if context else "",
        )

    @staticmethod
    def _context(owner: Provider, info: ModelInfo, tier: str) -> dict[str, str] | None:
        """How the catalogue calls the tier, if it has a price of it for this model."""
        if not tier or not any(info is model for model in owner.models):
            return None  # a provider that borrows another's prices has not its tiers
        # Anthropic's fast mode is no tier of service in the catalogue, but a speed.
        called = ("processing",) if tier == _BATCH else ("service_tier", "speed")
        known = [variant.when for variant in info.price_variants or ()]
        return next((context for key in called if (context := {key: tier}) in known), None)

    def _find_model(self, provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
        if not model:
            return None
        provider_id, name = resolve(provider, model, self._ids)
        owner = self._by_id.get(provider_id) or (self._owner_of(name) if is_gateway(provider) else None)
        info = owner.find_model(name, all_providers=self._providers) if owner else None
        return (owner, info) if owner and info else None

    def _owner_of(self, model: str) -> Provider | None:
        return next(
            (owner for owner in self._providers if owner.model_match and owner.model_match.is_match(model)), None
        )


def _tariff_starts(info: ModelInfo) -> list[timedelta]:
    """Times of day (UTC) after midnight at which a model's price may change."""
    if isinstance(info.prices, ModelPrice):
        return []
    constraints = (price.constraint for price in info.prices)
    times = (
        moment
        for known in constraints
        if isinstance(known, TimeOfDateConstraint)
        for moment in (known.start_time, known.end_time)
    )
    return sorted({since for moment in times if (since := _since_midnight(moment))})


def _since_midnight(moment: time) -> timedelta:
    # A time without a zone is UTC, as in the library.
    aware = datetime.combine(_EPOCH, moment, tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return aware - datetime.combine(aware.date(), time(0), tzinfo=UTC)


def _tariff(price: ModelPrice) -> Tariff:
    rates = [next((rate for key in keys if (rate := _rate(price, key)) is not None), None) for keys in _PRICE_KEYS]
    starts = {tier.start for rate in rates if isinstance(rate, TieredPrices) for tier in rate.tiers}
    fee = _rate(price, _REQUEST_KEY)
    return make_tariff(
        {start: [_at_tier(rate, start) for rate in rates] for start in (_BASE_TIER, *starts)},
        fee if isinstance(fee, Decimal) else Decimal(0),
    )


def _rate(price: ModelPrice, key: str) -> Decimal | TieredPrices | None:
    rate = vars(price).get(key)
    return rate if isinstance(rate, Decimal | TieredPrices) else None


def _at_tier(rate: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    if not isinstance(rate, TieredPrices):
        return rate
    # Tiers ascend: the last one that has begun applies.
    return next((tier.price for tier in reversed(rate.tiers) if tier.start <= start), rate.base)
