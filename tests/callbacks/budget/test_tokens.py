"""A guard and the collector count the same tokens in the same buckets, whatever a provider reports."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from graphmeter import names
from graphmeter.budget.tokens import buckets
from graphmeter_collector.decode import genai

_PARTS = (
    names.USAGE_CACHE_READ,
    names.USAGE_CACHE_WRITE,
    names.CACHE_WRITE_5M_TOKENS,
    names.CACHE_WRITE_1H_TOKENS,
    names.USAGE_AUDIO_INPUT,
    names.USAGE_IMAGE_INPUT,
    names.USAGE_REASONING,
    names.USAGE_AUDIO_OUTPUT,
    names.USAGE_IMAGE_OUTPUT,
)
_COUNTS = st.integers(0, 1000)
_USAGE = st.fixed_dictionaries({}, optional=dict.fromkeys((names.USAGE_INPUT, names.USAGE_OUTPUT, *_PARTS), _COUNTS))


@given(_USAGE)
@example({names.USAGE_INPUT: 10, names.USAGE_OUTPUT: 5, names.USAGE_CACHE_READ: 4, names.USAGE_REASONING: 9})
def test_buckets_are_those_of_the_collector(facts: dict[str, int]) -> None:
    assert tuple(genai.usage(dict(facts), Counter())) == buckets(facts)
