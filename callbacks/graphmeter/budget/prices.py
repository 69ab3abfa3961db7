"""Prices of a collector as this process knows them: the answer of `GET /api/prices` in, what a call cost out, in integers.

Only prices of calls that were met are asked for, by everything that decides a price (provider, model, requested model,
server): the collector looks them up, overrides, discounts and tiers included, so nothing of that is repeated here. While it
cannot be reached, list prices of genai-prices stand in where they are installed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN
from operator import mul
from typing import Any, Final, NamedTuple

from graphmeter import names, prices
from graphmeter.budget import counts
from graphmeter.budget.bills import Bill, Paid
from graphmeter.budget.tokens import NONE, PARTS, Buckets

DAY_NS: Final = 86_400_000_000_000
MOST: Final = 100
"""Calls whose prices are kept, and asked for in one request; of more, those that were met first give way."""
_USUAL_TIERS: Final = frozenset({"", "auto", "default", "standard"})
_TIER_PREFIX: Final = "on_demand_"
"""How Vertex AI's traffic types begin."""

_UNUSUAL: Final = PARTS | {names.CACHE_HIT, names.SERVICE_TIER, names.USAGE_MISSING}
"""What few calls report, and decides what they cost."""
_IN, _READ, _OUT, _REASONING = map(names.TOKEN_TYPES.index, ("input", "cache_read", "output", "reasoning"))

Key = tuple[str, str, str, str]
"""Provider, model that answered, model asked for, server: what decides a price, its time and its size aside."""


class _Rates(NamedTuple):
    """Nano-USD times `scale`."""

    per_token: tuple[int, ...]
    scale: int
    missing: tuple[int, ...]
    per_request: int
    per_image: int
    per_ns: int
    plain: bool
    """Nothing but prices of tokens."""

    @property
    def needs_usage(self) -> bool:
        return any(self.per_token) or bool(self.missing)


class _Price(NamedTuple):
    bill_failed: bool
    tariffs: tuple[tuple[int, tuple[tuple[int, _Rates], ...]], ...]
    """From when of the day, and above how many input tokens (-1: always), ascending."""
    only: _Rates | None
    """What holds at any time, for any prompt; None: it depends."""

    def rates(self, time_of_day_ns: int, usage: Buckets) -> _Rates:
        if self.only is not None:
            return self.only
        tariffs = self.tariffs
        tiers = tariffs[0][1]
        if len(tariffs) > 1:
            for start, each in tariffs:
                if start <= time_of_day_ns:
                    tiers = each
        if len(tiers) == 1:
            return tiers[0][1]
        prompt, found = sum(usage[:6]), tiers[0][1]
        for above, rates in tiers:
            if above < prompt:
                found = rates
        return found


class _Entry(NamedTuple):
    price: _Price | None
    """None: nobody knows one."""
    tiers: Mapping[str, _Price]
    plain: _Rates | None
    """What decides the cost of a call that is nothing but text, unless it was served at a tier of its own."""


class Prices:
    """Prices of one collector. Any thread may ask; one at a time puts in what the collector said."""

    def __init__(self, *, listed: bool = False) -> None:
        self._listed = listed
        """Take list prices, and ask nobody."""
        self._entries: dict[Key, _Entry] = {}
        self.wanted: dict[Key, None] = {}
        """Met and not known, oldest first."""
        self.away = False
        """The collector was asked, and did not say."""
        self.until_ns = 0
        """How long what it said holds."""
        self.etag = ""
        self.etag_of: tuple[Key, ...] = ()

    def cost(self, bill: Bill) -> tuple[int, bool] | None:
        """Nano-USD of a call, and whether that is what it cost; None: its price has yet to be asked for."""
        if self._listed:
            return _by_list_prices(bill)
        facts = bill.facts
        key = key_of(facts)
        entry = self._entries.get(key)
        if entry is None:
            if len(self.wanted) < MOST:
                self.wanted[key] = None
            if not self.away:
                return None
            said = "The collector's prices cannot be had: list prices stand in, where the extra `prices` is installed"
            counts.say_once("list prices", said)
            return _by_list_prices(bill)
        tier = str(facts.get(names.SERVICE_TIER) or "")
        price = entry.price
        if tier not in _USUAL_TIERS:
            price = entry.tiers.get(tier.lower().removeprefix(_TIER_PREFIX), price)
        return (0, False) if price is None else _cost(price, bill)

    def at_once(self, facts: Mapping[str, Any]) -> Paid | None:
        """What nearly every call cost, as `cost` says it; None: that has to look."""
        entry = self._entries.get(key_of(facts))
        if entry is None or (rates := entry.plain) is None or not _UNUSUAL.isdisjoint(facts):
            return None
        get, per_token = facts.get, rates.per_token
        read, reasoning = get(names.USAGE_CACHE_READ) or 0, get(names.USAGE_REASONING) or 0
        plain_in, plain_out = get(names.USAGE_INPUT, -1) - read, get(names.USAGE_OUTPUT, -1) - reasoning
        if plain_in < 0 or plain_out < 0:
            return None
        exact = plain_in * per_token[_IN] + read * per_token[_READ]
        exact += plain_out * per_token[_OUT] + reasoning * per_token[_REASONING]
        tokens = plain_in + read + plain_out + reasoning
        return Paid(_rounded(exact, rates.scale), tokens) if tokens else None

    def keys(self) -> tuple[Key, ...]:
        """Calls whose prices have to be asked for, those that are known first."""
        known = tuple(self._entries)
        return (*known, *(key for key in tuple(self.wanted) if key not in self._entries))[-MOST:]

    def learn(self, keys: tuple[Key, ...], said: Mapping[str, Any], etag: str) -> None:
        """Take an answer to the question for `keys`.

        Raises:
            KeyError, TypeError, ValueError: it is no such answer.
        """
        found = {
            (each["provider"], each["model"], each["request_model"], each["server"]): _entry(
                _price(each["price"]), {tier: _read(price) for tier, price in each["service_tiers"].items()}
            )
            for each in said["models"]
        }
        # What was asked and not answered has no price.
        self._entries = {key: found.get(key) or _entry(None, {}) for key in keys}
        self.until_ns = int(said["until_ns"])
        self.etag, self.etag_of = etag, keys
        self.answered(keys)

    def answered(self, keys: tuple[Key, ...]) -> None:
        """The collector has answered, perhaps that nothing has changed."""
        self.away = False
        for key in keys:
            self.wanted.pop(key, None)

    @property
    def known(self) -> bool:
        """Whether there is a price that may change."""
        return bool(self._entries)

    @property
    def due(self) -> bool:
        """Whether something has to be asked, however long ago the last answer came."""
        return bool(self.wanted) or (bool(self._entries) and time.time_ns() >= self.until_ns)


def key_of(facts: Mapping[str, Any]) -> Key:
    """What decides the price of a call with these attributes."""
    get = facts.get
    asked = get(names.REQUEST_MODEL) or ""
    return get(names.PROVIDER) or "", get(names.RESPONSE_MODEL) or asked, asked, get(names.SERVER_ADDRESS) or ""


def _cost(price: _Price, bill: Bill) -> tuple[int, bool]:
    """As the collector bills it: one rounding, half to even."""
    usage = bill.usage
    rates = price.rates(bill.started_ns % DAY_NS, usage)
    if not bill.tokens and bill.usage_missing and rates.needs_usage:
        return 0, False
    exact = sum(map(mul, usage, rates.per_token))
    if not rates.plain:
        for index in rates.missing:
            if usage[index]:
                return 0, False
        # A call that failed before any token was used was not served: no fee either.
        if not bill.failed or usage != NONE or price.bill_failed:
            exact += rates.per_request + rates.per_image * (bill.facts.get(names.USAGE_IMAGES) or 1)
        exact += rates.per_ns * bill.duration_ns
    return _rounded(exact, rates.scale), True


def _rounded(exact: int, scale: int) -> int:
    if scale == 1:
        return exact
    whole, rest = divmod(exact, scale)
    return whole + (rest * 2 > scale or (rest * 2 == scale and whole % 2))


def _by_list_prices(bill: Bill) -> tuple[int, bool]:
    if bill.failed and not bill.tokens:
        return 0, True
    found = None if bill.usage_missing else prices.cost_of(bill.facts, bill.started_ns)
    if found is None:
        return 0, False
    return int((found.usd * names.NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN)), True


def _entry(price: _Price | None, tiers: Mapping[str, _Price]) -> _Entry:
    only = None if price is None else price.only
    return _Entry(price, tiers, only if only is not None and only.plain else None)


def _price(said: Mapping[str, Any] | None) -> _Price | None:
    return None if said is None else _read(said)


def _read(said: Mapping[str, Any]) -> _Price:
    tariffs = tuple(
        (
            int(tariff["from_time_ns"]),
            tuple((-1 if tier["above"] is None else int(tier["above"]), _rates(tier)) for tier in tariff["tiers"]),
        )
        for tariff in said["tariffs"]
    )
    only = tariffs[0][1][0][1] if len(tariffs) == 1 and len(tariffs[0][1]) == 1 else None
    return _Price(bool(said["bill_failed"]), tariffs, only)


def _rates(said: Mapping[str, Any]) -> _Rates:
    per_token = tuple(map(int, said["per_token"]))
    if len(per_token) != len(NONE):
        raise ValueError(f"prices of {len(per_token)} buckets, not of {len(NONE)}: update Graphmeter here or there")
    missing = tuple(map(int, said.get("missing", ())))
    fees = int(said.get("per_request", 0)), int(said.get("per_image", 0)), int(said.get("per_ns", 0))
    return _Rates(per_token, int(said["scale"]), missing, *fees, plain=not (missing or any(fees)))
