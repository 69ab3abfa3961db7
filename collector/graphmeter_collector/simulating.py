"""What if another model had answered: stored tokens in, what they cost and would have cost out. Nothing is stored.

The same tokens are priced, at the prices of the call's own time. Calls of which either cost is not known are in neither
sum; they are counted, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.ledger import StoredCall, Which
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.price.explain import nearest
from graphmeter_collector.records import Cost, SpanRecord
from graphmeter_collector.reports import Reader, View
from graphmeter_collector.repricing import NO_PRICE, UNKNOWN, Next, all_calls, cost_now, prices_of, why_not

MOST_NAMED = 10
"""Models that an error names."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Which model would have been another one."""

    model: str
    """The one that answered or was asked for; `*` is anything, `?` one character."""
    by: str
    """The other one, of the same provider; or `provider/model`."""


@dataclass(slots=True)
class SimulatedRow:
    """What the calls of one group come to that another model would have answered."""

    group: dict[str, str]
    replacement: str
    calls: int
    before_nano: int
    after_nano: int
    change_nano: int
    change_ratio: float | None
    """-0.94 is 94 % less; None where they cost nothing."""


@dataclass(slots=True)
class NotSimulated:
    """Calls that are in no sum, and why."""

    model: str
    replacement: str
    why: str
    calls: int


@dataclass(slots=True)
class Simulation:
    """The answer."""

    prices: str
    """By which: sources with their versions."""
    since_ns: int
    until_ns: int
    view: View
    """What `before_nano` is by."""
    rows: list[SimulatedRow]
    """What changes most first."""
    left_out: list[NotSimulated]


def replacements(texts: Iterable[str]) -> list[Replacement]:
    """`gpt-4o=gpt-4o-mini`, as people write it; the first that matches a call applies.

    Raises:
        BadRequest: one is not written so, or a model would be replaced twice.
    """
    found: list[Replacement] = []
    for text in texts:
        model, sign, by = (part.strip() for part in text.partition("="))
        if not (model and sign and by):
            raise BadRequest(
                f"{text[:80]!r} replaces nothing: write gpt-4o=gpt-4o-mini, the model that was called first",
                reason="bad_replacement",
            )
        if any(model.lower() == other.model.lower() for other in found):
            raise BadRequest(f"{model!r} is replaced twice: leave one of the two out", reason="bad_replacement")
        found.append(Replacement(model, by))
    return found


async def simulate(
    reader: Reader, read: Next, book: PriceBook, which: Which, wanted: Sequence[Replacement]
) -> Simulation:
    """Price calls as if other models had answered.

    Raises:
        BadRequest: no call is of a model that is to be replaced, or nobody knows a price of what it is replaced by.
        StoreUnavailable: the database is away.
    """
    sums = _Sums(book, wanted)
    async for calls in all_calls(read, which._replace(models=tuple(each.model for each in wanted))):
        sums.take(calls)
    for number, each in enumerate(wanted):
        if not sums.matched[number]:
            raise BadRequest(await _not_called(reader, which, each.model), reason="not_called")
        if not sums.priced[number] and sums.priceless[number]:
            raise BadRequest(_no_such(book, each.by), reason="no_price")
    return Simulation(prices_of(book), which.since_ns, which.until_ns, which.view, sums.rows(which.by), sums.left_out())


class _Sums:
    """Adds up, by group and replacement."""

    def __init__(self, book: PriceBook, wanted: Sequence[Replacement]) -> None:
        self._book = book
        self._wanted = [(_pattern(each.model), each.by) for each in wanted]
        self._groups: dict[tuple[tuple[str, ...], str], Counter[str]] = {}
        self._left_out: Counter[tuple[str, str, str]] = Counter()
        self.matched: Counter[int] = Counter()
        """Calls by the number of their replacement; next, those that could be priced, and those that had no price."""
        self.priced: Counter[int] = Counter()
        self.priceless: Counter[int] = Counter()

    def take(self, calls: Iterable[StoredCall]) -> None:
        for call in calls:
            record, before = call.record, call.record.cost
            number = next((n for n, (model, _) in enumerate(self._wanted) if _called(record, model)), None)
            if number is None or before is None or record.kind != names.MODEL or record.cache_hit:
                continue
            self.matched[number] += 1
            by = self._wanted[number][1]
            model = record.model
            after, why = self._other(record, before, by)
            if after is None:
                self.priceless[number] += why == NO_PRICE
                self._left_out[model, by, why] += 1
                continue
            self.priced[number] += 1
            sums = self._groups.setdefault((call.group, by), Counter())
            sums.update(calls=1, before=before.total_nano, after=after.total_nano)

    def _other(self, record: SpanRecord, before: Cost, by: str) -> tuple[Cost | None, str]:
        """What the call would have cost, or why that cannot be said."""
        if before.status in UNKNOWN:
            return None, f"what it cost is not known ({before.status.replace('_', ' ')})"
        record.model, record.request_model = by, ""
        # Of the same provider; else whoever's model it is by its name.
        if self._book.find(record) is None:
            record.provider, record.server = "", ""
        after = cost_now(self._book, record)
        assert after is not None  # a call of a model has a cost, if an unknown one
        if after.status in UNKNOWN:
            return None, why_not(self._book, record, after)
        return after, ""

    def rows(self, by: Sequence[str]) -> list[SimulatedRow]:
        made = []
        for (group, replacement), sums in self._groups.items():
            before, change = sums["before"], sums["after"] - sums["before"]
            named = dict(zip(by, group, strict=True))
            ratio = change / before if before else None
            made.append(SimulatedRow(named, replacement, sums["calls"], before, sums["after"], change, ratio))
        return sorted(made, key=lambda row: (-abs(row.change_nano), tuple(row.group.values()), row.replacement))

    def left_out(self) -> list[NotSimulated]:
        return [NotSimulated(*key, calls) for key, calls in sorted(self._left_out.items())]


def _pattern(text: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(character) or re.escape(character) for character in text.lower()), re.DOTALL)


def _called(record: SpanRecord, model: re.Pattern[str]) -> bool:
    return any(model.fullmatch(name.lower()) for name in (record.model, record.request_model) if name)


async def _not_called(reader: Reader, which: Which, model: str) -> str:
    """What to say where no call is of a model: which are."""
    there = await reader.cost(
        ["model"], which.since_ns, which.until_ns, where=which.where, timezone=which.timezone, view=which.view
    )
    called = [row.group["model"] for row in there if row.calls]
    if not called:
        return "no call of a model is in that time and selection: choose another time, or fewer conditions"
    named = ", ".join(called[:MOST_NAMED]) + (" …" if len(called) > MOST_NAMED else "")
    return f"no call of {model!r} is in that time and selection: called were {named}"


def _no_such(book: PriceBook, model: str) -> str:
    close = nearest(book, model)
    meant = f"did you mean {', '.join(close)}? Else declare it" if close else "declare it"
    return f"no price of {model!r} is known: {meant} under prices.overrides in graphmeter.yaml"
