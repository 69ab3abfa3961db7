"""The price book: what a call costs, and every reason for it to cost nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

import pytest

from graphmeter import names
from graphmeter_collector.price import book as book_module
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.rates import DayPrice, Tariff, make_rates
from graphmeter_collector.records import NO_USAGE, Cost, Envelope, SpanRecord, TokenUsage

CATALOGUE = f"genai-prices {version('genai-prices')}"
BOOK = PriceBook()
NOON_NS = int(datetime(2025, 12, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
NOTHING = (0,) * 10
USAGE = TokenUsage(input=1_000, cache_read=2_000, output=300, reasoning=50)


def call(provider: str = "openai", model: str = "gpt-4o", *, kind: str = names.MODEL, **fields: object) -> SpanRecord:
    record = SpanRecord(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        parent_id=b"",
        name=f"chat {model}",
        kind=kind,
        start_ns=NOON_NS,
        end_ns=NOON_NS + 1,
        envelope=Envelope(b"e" * 16, b"", b""),
        body=b"",
        provider=provider,
        model=model,
        usage=USAGE,
    )
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def priced(record: SpanRecord, book: PriceBook = BOOK) -> Cost:
    book.price(record)
    assert record.cost is not None
    return record.cost


def test_a_call_costs_its_tokens_at_their_buckets_rates() -> None:
    # gpt-4o: 2.50 USD in, 1.25 cached, 10 out per million tokens; reasoning is output.
    parts = (2_500_000, 2_500_000, 0, 0, 0, 0, 3_000_000, 500_000, 0, 0)
    assert Cost(8_500_000, parts, "priced", 0, CATALOGUE, "openai/gpt-4o") == priced(call())


def test_a_cached_answer_costs_nothing_and_says_what_it_saved() -> None:
    assert Cost(0, NOTHING, "cached", 8_500_000, CATALOGUE, "openai/gpt-4o") == priced(call(cache_hit=True))


def test_a_cached_answer_of_an_unknown_model_saved_an_unknown_amount() -> None:
    assert Cost(0, NOTHING, "cached") == priced(call("ollama", "llama3.2", cache_hit=True))


@pytest.mark.parametrize(("provider", "model"), [("ollama", "llama3.2"), ("openai", "gpt-99"), ("openai", "")])
def test_an_unknown_model_is_unpriced_not_free(provider: str, model: str) -> None:
    assert Cost(0, NOTHING, "unpriced") == priced(call(provider, model))


def test_tokens_that_the_price_has_no_rate_for_make_the_call_unpriced() -> None:
    # An embedding model has no output rate.
    cost = priced(call("openai", "text-embedding-3-small"))
    assert Cost(0, NOTHING, "unpriced", 0, CATALOGUE, "openai/text-embedding-3-small") == cost


def test_a_call_without_usage_is_not_priced_at_zero_tokens() -> None:
    record = call(usage=NO_USAGE, usage_missing=True)
    assert Cost(0, NOTHING, "usage_missing", 0, CATALOGUE, "openai/gpt-4o") == priced(record)


def test_other_kinds_are_left_alone() -> None:
    record = call(kind=names.NODE)
    BOOK.price(record)
    assert record.cost is None


def test_when_the_answering_model_is_not_known_the_one_asked_for_prices_the_call() -> None:
    cost = priced(call("azure", "gpt-4o-2031-01-01-preview", request_model="gpt-4o"))
    assert (cost.total_nano, cost.price) == (8_500_000, "azure/gpt-4o")


def test_the_price_is_that_of_the_start_of_the_call() -> None:
    usage = TokenUsage(output=1_000_000)
    half_past_midnight = int(datetime(2025, 6, 1, 0, 30, tzinfo=UTC).timestamp()) * 1_000_000_000
    record = call(
        "deepseek", "deepseek-chat", usage=usage, start_ns=half_past_midnight - 1, end_ns=half_past_midnight + 9
    )
    assert priced(record).total_nano == 550_000_000
    record.start_ns += 1
    assert priced(record).total_nano == 1_100_000_000


def test_a_failed_call_is_billed_for_what_it_used_and_pays_no_fee_for_nothing() -> None:
    sonar = ("perplexity", "sonar-pro")
    assert priced(call(*sonar, usage=TokenUsage(input=1), status=names.ERROR)).total_nano == 14_000_000 + 3_000
    assert priced(call(*sonar, usage=NO_USAGE, status=names.ERROR)).total_nano == 0


class Fixed:
    """A source that knows some models at a flat price per million tokens, and counts how often it is asked."""

    def __init__(self, name: str, usd_per_mtok: Mapping[str, str]) -> None:
        self.name = name
        self.asked = 0
        self._prices = usd_per_mtok

    def find(self, provider: str, model: str, day: int, tier: str = "") -> DayPrice | None:
        self.asked += 1
        if model not in self._prices:
            return None
        rates = make_rates([Decimal(self._prices[model])] * 10)
        return DayPrice(self.name, f"{provider}/{model}", (Tariff((), (rates,)),))


def test_the_first_source_that_knows_the_model_wins() -> None:
    book = PriceBook([Fixed("mine 1", {"gpt-4o": "1"}), Fixed("theirs 2", {"gpt-4o": "2", "o1": "3"})])
    assert book.catalogue == "mine 1 + theirs 2"
    assert (priced(call(), book).total_nano, priced(call(), book).source) == (3_350_000, "mine 1")
    assert priced(call(model="o1"), book).source == "theirs 2"


def test_a_model_declared_free_is_free() -> None:
    cost = priced(call(model="llama3.2"), PriceBook([Fixed("s", {"llama3.2": "0"})]))
    assert cost == Cost(0, NOTHING, "free", 0, "s", "openai/llama3.2")


def test_sources_are_asked_once_per_model_and_day() -> None:
    source = Fixed("s", {"gpt-4o": "1"})
    book = PriceBook([source])
    for _ in range(3):
        priced(call(), book)
        priced(call(model="unknown"), book)
        priced(call(start_ns=NOON_NS + 1), book)
        priced(call(start_ns=NOON_NS + 86_400_000_000_000), book)
    assert source.asked == 3


def test_made_up_model_names_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "MAX_REMEMBERED", 10)
    book = PriceBook([Fixed("s", {})])
    for number in range(100):
        priced(call(model=f"made-up-{number}"), book)
    assert len(book._inside._remembered) <= 10


def test_a_fraction_of_a_nano_usd_is_rounded_once() -> None:
    # 0.0001 USD per million tokens is 0.1 nano-USD per token: 4 + 4 + 7 tokens make 1.5, to even 2.
    source = Fixed("s", {"tiny": "0.0001"})
    cost = priced(call(model="tiny", usage=TokenUsage(input=4, cache_read=4, output=7)), PriceBook([source]))
    assert (cost.total_nano, sum(cost.parts)) == (2, 2)
    assert cost.parts == (1, 0, 0, 0, 0, 0, 1, 0, 0, 0)
