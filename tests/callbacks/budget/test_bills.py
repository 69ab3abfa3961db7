"""What a guard takes a call to have cost: the short way and the long one say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graphmeter import names
from graphmeter.budget.bills import Bill
from graphmeter.budget.prices import Prices, key_of

_COUNTS = st.integers(0, 1000)
_TEXT = (names.USAGE_INPUT, names.USAGE_OUTPUT, names.USAGE_CACHE_READ, names.USAGE_REASONING)
_RARE = (names.USAGE_CACHE_WRITE, names.USAGE_AUDIO_INPUT, names.USAGE_IMAGE_OUTPUT)
_FACTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*_TEXT, *_RARE), _COUNTS),
        names.SERVICE_TIER: st.sampled_from(["default", "flex"]),
        names.CACHE_HIT: st.just(True),
        names.USAGE_MISSING: st.just(True),
    },
)
_TIER = st.fixed_dictionaries(
    {
        "above": st.none(),
        "per_token": st.lists(st.integers(0, 9999), min_size=10, max_size=10),
        "scale": st.sampled_from([1, 2, 1000]),
    },
    optional={"missing": st.just([1]), "per_request": st.just(7)},
)
_DEARER = st.none() | _TIER.map(lambda tier: {**tier, "above": 500})


@settings(max_examples=40)
@given(_FACTS, _TIER, _DEARER, _TIER)
def test_a_call_costs_the_same_at_once_and_at_length(
    facts: dict[str, Any], tier: dict[str, Any], dearer: dict[str, Any] | None, flex: dict[str, Any]
) -> None:
    tariffs = [{"from_time_ns": 0, "tiers": [tier, *([dearer] if dearer else [])]}]
    price = {"bill_failed": False, "tariffs": tariffs}
    tiers = {"flex": {"bill_failed": False, "tariffs": [{"from_time_ns": 0, "tiers": [flex]}]}}
    provider, model, asked, server = key_of(facts)
    entry = {"provider": provider, "model": model, "request_model": asked, "server": server}
    prices = Prices()
    assert prices.at_once(facts) is None
    said = {"models": [{**entry, "price": price, "service_tiers": tiers}], "until_ns": 2**62}
    prices.learn((key_of(facts),), said, "")
    paid = prices.at_once(facts)
    bill = Bill(facts, 0, 0, failed=False, book=prices)
    if paid is not None:
        assert (bill.nano(), bill.tokens, bill.known) == (paid.nano(), paid.tokens, paid.known)


def test_calls_of_nothing_but_text_are_known_at_once() -> None:
    prices = Prices()
    facts = {names.PROVIDER: "openai", names.REQUEST_MODEL: "m", names.USAGE_INPUT: 10, names.USAGE_OUTPUT: 5}
    tier = {"above": None, "per_token": [3, 1, 0, 0, 0, 0, 15, 15, 0, 0], "scale": 2}
    price = {"bill_failed": False, "tariffs": [{"from_time_ns": 0, "tiers": [tier]}]}
    entry = {"provider": "openai", "model": "m", "request_model": "m", "server": "", "service_tiers": {}}
    prices.learn((key_of(facts),), {"models": [{**entry, "price": price}], "until_ns": 2**62}, "")
    paid = prices.at_once({**facts, names.USAGE_CACHE_READ: 4, names.USAGE_REASONING: 2})
    assert paid is not None
    # (6 * 3 + 4 * 1 + 3 * 15 + 2 * 15) / 2 is 48.5, and 48 is even.
    assert (48, 15) == (paid.nano(), paid.tokens)
