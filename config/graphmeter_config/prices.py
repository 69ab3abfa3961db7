"""What calls cost where the catalogue does not say, or somebody pays otherwise: prices of one's own, in any currency.

Everything is dated, half-open: from `valid_from` up to, not including, `valid_to`. Of several entries that match a call the
narrowest wins (see `matching`), so the order in files means nothing; two that nothing tells apart are a fault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from itertools import combinations, pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from graphmeter import names
from graphmeter_config.dated import ALWAYS_NS, NEVER_NS, Dated, Moment, moment_ns
from graphmeter_config.matching import LONGEST, Pattern, patterns
from graphmeter_config.section import Section
from graphmeter_config.values import Globs, Name, Percent, Share, decimal_of, decimal_text, percent_text, wrong

DEAREST_USD_PER_MTOK: Final = 100_000
"""The dearest model of the catalogue costs 600 USD per million tokens: beyond this somebody meant another unit."""
DEAREST: Final = Decimal(10) ** 9
MOST_DECIMALS: Final = 12
OWN: Final = "graphmeter.yaml"
"""How the source of prices of one's own is called on the ledger."""
TARGETS: Final = ("model", "tool", "retriever", "rerank")

# Where a bucket's rate is found, most specific first: what a price leaves out is billed as what contains it.
FALLBACKS: Final[tuple[tuple[str, ...], ...]] = (
    ("input",),
    ("cache_read", "input"),
    ("cache_write_5m", "input"),
    ("cache_write_1h", "cache_write_5m", "input"),
    ("input_audio", "input"),
    ("input_image", "input"),
    ("output",),
    ("reasoning", "output"),
    ("output_audio", "output"),
    ("output_image", "output"),
)
"""Of every bucket of `graphmeter.names.TOKEN_TYPES`, in that order."""


def _rate(value: Any) -> Decimal:
    remedy = "write what a million tokens cost: 2.50"
    rate = decimal_of(value.strip().removeprefix("$") if isinstance(value, str) else value, remedy)
    return _bounded(rate, remedy)


def _amount(value: Any) -> Decimal:
    remedy = "write an amount: 0.008"
    return _bounded(decimal_of(value.strip().removeprefix("$") if isinstance(value, str) else value, remedy), remedy)


def _worth(value: Any) -> Decimal:
    remedy = "write what one unit costs in USD: 1.08"
    worth = _bounded(decimal_of(value.strip().removeprefix("$") if isinstance(value, str) else value, remedy), remedy)
    if not worth:
        raise wrong("worth nothing", remedy)
    return worth


def _code(value: str) -> str:
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise wrong("not a currency", "write its three letters: EUR")
    return value


def _bounded(value: Decimal, remedy: str) -> Decimal:
    if value < 0:
        raise wrong("negative", remedy)
    if value > DEAREST:
        raise wrong("more than a billion", remedy)
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MOST_DECIMALS:
        raise wrong(f"more than {MOST_DECIMALS} decimals", remedy)
    return value


_JSON_NUMBER: Final = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["2.50"]}
Rate = Annotated[Decimal, BeforeValidator(_rate), PlainSerializer(decimal_text), WithJsonSchema(_JSON_NUMBER)]
"""A price per million tokens, in the entry's currency."""
Amount = Annotated[Decimal, BeforeValidator(_amount), PlainSerializer(decimal_text), WithJsonSchema(_JSON_NUMBER)]
"""A price per piece, in the entry's currency."""
Worth = Annotated[Decimal, BeforeValidator(_worth), PlainSerializer(decimal_text), WithJsonSchema(_JSON_NUMBER)]
"""What one unit of a currency costs in USD."""
_CODE_SCHEMA: Final = {"type": "string", "pattern": "^[A-Z]{3}$"}
Code = Annotated[str, AfterValidator(_code), WithJsonSchema(_CODE_SCHEMA)]
"""A currency, by ISO 4217."""


def _short(globs: tuple[str, ...]) -> tuple[str, ...]:
    for glob in globs:
        if not 0 < len(glob) <= LONGEST:
            raise wrong(f"empty, or longer than {LONGEST} characters", "write a name or a pattern: gpt-4o*")
    return globs


_Globs = Annotated[Globs, AfterValidator(_short)]


class Rates(Section):
    """Prices of a million tokens, by bucket. What is left out is billed as what contains it (see `FALLBACKS`)."""

    input: Rate | None = None
    cache_read: Rate | None = None
    cache_write_5m: Rate | None = None
    cache_write_1h: Rate | None = None
    input_audio: Rate | None = None
    input_image: Rate | None = None
    output: Rate | None = None
    reasoning: Rate | None = None
    output_audio: Rate | None = None
    output_image: Rate | None = None

    @property
    def named(self) -> dict[str, Decimal]:
        """Those that are said."""
        return {bucket: rate for bucket in names.TOKEN_TYPES if (rate := getattr(self, bucket)) is not None}


class Tier(Section):
    """What all tokens of a call cost when its prompt is larger; buckets left out keep their rate."""

    above: Annotated[int, Field(ge=1, le=10_000_000_000)]
    """Input tokens, cached ones included; a prompt of exactly this size pays the lower tier."""
    rates: Rates


def _multiplier(value: Decimal) -> Decimal:
    if not 0 < value <= 100:
        raise wrong(f"{percent_text(value * 100)} is not above 0% and at most 10000%", "write 50% for half the price")
    return value


Multiplier = Annotated[Share, AfterValidator(_multiplier)]
"""Share of the usual price of tokens: `50%` is half of it."""


def _off(value: Decimal) -> Decimal:
    if not 0 < value < 100:
        raise wrong("not above 0% and below 100%", "write what is taken off: 12.5%; what costs nothing is `free: true`")
    return value


Discount = Annotated[Percent, AfterValidator(_off)]


def _tier_names(value: dict[str, Decimal]) -> dict[str, Decimal]:
    return {tier.lower(): multiplier for tier, multiplier in value.items()}


class Override(Dated):
    """A price that comes before the catalogue: of a model, or of every call of a tool, a retriever or a rerank."""

    name: Name
    """Stands on every ledger row that it priced."""
    model: _Globs = ()
    """The model that answered or the one asked for; patterns: * is anything, ? one character."""
    tool: _Globs = ()
    retriever: _Globs = ()
    rerank: _Globs = ()
    provider: _Globs = ()
    """Left out: whoever answers."""
    region: _Globs = ()
    """Of the provider, as its server or a model's prefix names it: eu-central-1, us, global."""
    deployment: _Globs = ()
    """The name that was asked for, where it is not the model's: of an Azure deployment, an inference profile."""
    currency: Code = "USD"
    rates: Rates | None = None
    tiers: tuple[Tier, ...] = ()
    service_tiers: Annotated[dict[str, Multiplier], AfterValidator(_tier_names)] = Field(default_factory=dict)
    """Tier that a call was served at → share of the token rates: {batch: 50%, priority: 175%}."""
    per_call: Amount | None = None
    per_image: Amount | None = None
    """Of every image that the call says it made, one if it says nothing."""
    per_second: Amount | None = None
    """Of the call's duration: models on machines of one's own."""
    discount: Discount | None = None
    """Taken off all of it."""
    bill_failed: bool = False
    """Whether a failed call costs what a call costs; tokens that it used are billed in any case."""
    free: bool = False
    """Costs nothing, and is known to."""

    @property
    def target(self) -> Literal["model", "tool", "retriever", "rerank"]:
        for target in TARGETS:
            if getattr(self, target):
                return target
        return "model"

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        return patterns(getattr(self, self.target), self.provider, self.region, self.deployment)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        said = [target for target in TARGETS if getattr(self, target)]
        if len(said) > 1:
            raise wrong(f"a price of {' and of '.join(said)}", "write an override for each", said[1])
        if not said and not self.deployment:
            raise wrong("a price of nothing", "add `model:`, `deployment:`, `tool:`, `retriever:` or `rerank:`")
        of_model = self.target == "model"
        if not of_model:
            for field in ("provider", "region", "deployment", "rates", "tiers", "service_tiers"):
                if getattr(self, field):
                    raise wrong(f"a {self.target} has no {field}", "leave it out, or write `model:`", field)
        self._check_free(of_model)
        if self.rates is not None:
            for needed in ("input", "output"):
                if getattr(self.rates, needed) is None:
                    raise wrong(
                        f"a price without {'an output' if needed == 'output' else 'an input'} rate",
                        f"add `{needed}:`; 0 where there are no such tokens, as of embeddings",
                        "rates",
                    )
        self._check_tiers()
        return self

    def _check_free(self, of_model: bool) -> None:
        amounts = [
            field for field in ("rates", "per_call", "per_image", "per_second") if getattr(self, field) is not None
        ]
        if self.free and (amounts or self.tiers or self.service_tiers or self.discount):
            other = (
                amounts[0] if amounts else "tiers" if self.tiers else "discount" if self.discount else "service_tiers"
            )
            raise wrong("a free price with an amount", "keep one of them", other)
        if not self.free and not amounts:
            known = "`rates:`, `per_call:`, `per_image:`, `per_second:`" if of_model else "`per_call:`, `per_second:`"
            raise wrong("says no price", f"add {known} or `free: true`", "name")

    def _check_tiers(self) -> None:
        if (self.tiers or self.service_tiers) and self.rates is None:
            field = "tiers" if self.tiers else "service_tiers"
            raise wrong("changes token rates, and there are none", "add `rates:`", field)
        starts = [tier.above for tier in self.tiers]
        for index, (before, after) in enumerate(pairwise(starts), start=1):
            if after <= before:
                raise wrong("not above the tier before it", "write tiers in ascending order", "tiers", index, "above")
        if self.currency == "USD":
            self._check_usd(self.rates, "rates")
            for index, tier in enumerate(self.tiers):
                self._check_usd(tier.rates, "tiers", index, "rates")

    def _check_usd(self, rates: Rates | None, *at: str | int) -> None:
        for bucket, rate in rates.named.items() if rates is not None else ():
            if rate > DEAREST_USD_PER_MTOK:
                message = f"more than {DEAREST_USD_PER_MTOK} USD per million tokens"
                raise wrong(message, "write what a million tokens cost, not a billion", *at, bucket)

    def rates_above(self, above: int | None) -> tuple[Decimal, ...]:
        """Price of a million tokens by bucket, in the entry's currency, in a tier (None: the first)."""
        base = self.rates.named if self.rates is not None else {}
        here = next((tier.rates.named for tier in self.tiers if tier.above == above), {})
        merged = {**base, **here}
        return tuple(next((merged[bucket] for bucket in chain if bucket in merged), Decimal(0)) for chain in FALLBACKS)


class Adjustment(Dated):
    """Something that changes prices of the catalogue."""

    name: Name
    model: _Globs = ()
    """Left out: all models."""
    provider: _Globs = ()
    region: _Globs = ()
    deployment: _Globs = ()

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        return patterns(self.model, self.provider, self.region, self.deployment)


class ContractDiscount(Adjustment):
    """What a contract takes off the catalogue's prices: the narrowest that matches. Overrides have their own."""

    percent: Discount


class ServiceTier(Adjustment):
    """What a tier of service costs, as a share of the usual token rates; comes before what the catalogue knows of tiers."""

    tier: Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(str.lower)]
    """flex, priority, batch … as providers say it."""
    multiplier: Multiplier


class ExchangeRate(Section):
    """From a day on."""

    since: Moment = Field(alias="from")
    usd_per_unit: Worth

    @property
    def since_ns(self) -> int:
        return moment_ns(self.since)


class Currency(Section):
    """What a currency is worth; each rate holds until the next, the last one for ever."""

    currency: Code
    rates: Annotated[tuple[ExchangeRate, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.currency == "USD":
            raise wrong("prices are counted in USD", "leave it out", "currency")
        for index, rate in enumerate(self.rates):
            if index and rate.since_ns <= self.rates[index - 1].since_ns:
                raise wrong("not after the rate before it", "write rates in ascending order", "rates", index, "from")
        return self

    def at(self, at_ns: int) -> ExchangeRate | None:
        """The rate in force; None before the first."""
        found = [rate for rate in self.rates if rate.since_ns <= at_ns]
        return found[-1] if found else None


class Prices(Section):
    """Prices of one's own, and what a contract makes of the catalogue's."""

    overrides: tuple[Override, ...] = ()
    discounts: tuple[ContractDiscount, ...] = ()
    service_tiers: tuple[ServiceTier, ...] = ()
    currencies: tuple[Currency, ...] = ()

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        self._check_currencies()
        _refuse_overlaps("overrides", self.overrides, lambda one: one.target)
        _refuse_overlaps("discounts", self.discounts, lambda _: "")
        _refuse_overlaps("service_tiers", self.service_tiers, lambda one: one.tier)
        return self

    def _check_currencies(self) -> None:
        known: dict[str, Currency] = {}
        for index, currency in enumerate(self.currencies):
            if currency.currency in known:
                raise wrong("a currency twice", "write all its rates in one place", "currencies", index, "currency")
            known[currency.currency] = currency
        for index, override in enumerate(self.overrides):
            if override.currency == "USD":
                continue
            at = ("overrides", index, "currency")
            if override.currency not in known:
                sentence = f"no rate of {override.currency} is known"
                raise wrong(sentence, f"add {{currency: {override.currency}, rates: […]}} to prices.currencies", *at)
            first = known[override.currency].rates[0]
            if override.valid_from is not None and override.since_ns < first.since_ns:
                raise wrong(
                    f"no rate of {override.currency} before {first.since}, but valid from {override.valid_from}",
                    "add an earlier rate to prices.currencies, or write a later valid_from",
                    *at,
                )

    @cached_property
    def hash(self) -> str:
        """12 hex digits that change when a price does; empty where there is none of one's own."""
        if self == Prices():
            return ""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def source(self) -> str:
        """As it stands on ledger rows."""
        return f"{OWN} {self.hash}"

    @cached_property
    def edges_ns(self) -> tuple[int, ...]:
        """Instants at which a price may change, ascending."""
        dated: list[Dated] = [*self.overrides, *self.discounts, *self.service_tiers]
        edges = {edge for one in dated for edge in (one.since_ns, one.until_ns)}
        edges |= {rate.since_ns for currency in self.currencies for rate in currency.rates}
        return tuple(sorted(edges - {ALWAYS_NS, NEVER_NS}))


def _refuse_overlaps(section: str, entries: Sequence[Any], group: Any) -> None:
    """Two entries of equal rank that some call at some time would match both."""
    for (_, one), (index, two) in combinations(enumerate(entries), 2):
        if group(one) != group(two) or not one.holds_with(two):
            continue
        if any(a.rank == b.rank and a.meets(b) for a in one.patterns for b in two.patterns):
            field = next((name for name in (*TARGETS, "deployment") if getattr(two, name, ())), "name")
            remedy = "end one where the other begins (valid_to, valid_from), or make one narrower"
            raise wrong(f"overlaps with {one.name!r}: nothing says which is meant", remedy, section, index, field)
