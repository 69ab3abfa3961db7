"""Events of every kind of objective, over any range, equal a recount of the spans that were sent, on both databases."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from collector.store.dump import fresh, opened
from graphmeter import names
from graphmeter_collector.records import Outcome, SpanRecord
from graphmeter_collector.reports import Culprits, Judgement
from graphmeter_collector.store import histogram
from graphmeter_collector.store.minutes import by_minute
from graphmeter_collector.store.read import open_reader
from graphmeter_config import Slo
from support.records import SECOND, T0_NS, call, note, priced, record
from support.slo_kinds import EVERY_KIND, slo_of

DAY_S: Final = 86_400.0
HOUR_NS: Final = 3600 * SECOND
DAYS: Final = 35
RUNS: Final = 150
LOST_AFTER_NS: Final = 1800 * SECOND
NARROW: Final = [
    slo_of(("availability", "runs"), name="a", per=["team", "environment"], select={"graph": "support-*"}),
    slo_of(("latency", "nodes"), name="b", per=[], select={"node": ["answer", "x"], "team": "unattributed"}),
    slo_of(("quality", "runs"), name="c", per=["graph"], select={"kind": "escalated"}),
    slo_of(("latency", "models"), name="d", per=["service"], select={"model": "gpt-?"}),
]


def duration(rng: random.Random, bounds: Sequence[float]) -> float:
    """Near a bound as often as not: exactly there, and a nanosecond beyond."""
    bound = rng.choice(bounds)
    return rng.choice((bound, bound + 1e-9, bound * rng.uniform(0.5, 2)))


def traffic(rng: random.Random) -> list[SpanRecord]:
    """Runs of five weeks, a third of them of the last hours, with all that makes an event good, bad or neither."""
    found: list[SpanRecord] = []
    for of in range(1, RUNS):
        at_s = -rng.uniform(0, 8 * 3600) if of % 3 == 0 else -rng.uniform(0, DAYS * DAY_S)
        who: dict[str, Any] = {
            "graph": f"support-{of % 2}",
            "team": rng.choice(("cx", "")),
            "environment": rng.choice(("prod", "test")),
            "service": rng.choice(("shop", "shed")),
        }
        bad: dict[str, Any] = {"status": names.ERROR, "error_type": "Timeout"}

        def status(rng: random.Random = rng) -> str:
            return rng.choice((names.OK, names.OK, *names.SPAN_STATUSES))

        def add(number: int, of: int = of, at_s: float = at_s, who: dict[str, Any] = who, **facts: Any) -> None:
            found.append(record(number, of=of, **{"at_s": at_s, **who, **facts}))

        add(2, node="plan", status=status(), s=duration(rng, names.NODE_DURATION.buckets))
        add(3, node="answer", attempt_final=False, s=duration(rng, names.NODE_DURATION.buckets), **bad)
        add(4, node="answer", attempt=2, status=status(), s=duration(rng, names.NODE_DURATION.buckets))
        add(5, kind=names.TOOL, tool=rng.choice(("search", "mail")), node="answer", status=status())
        cost = rng.choice((0.25, 0.250000001, rng.uniform(0, 2)))
        calls: dict[str, Any] = {**who, "at_s": at_s, "model": rng.choice(("gpt-4", "gpt-5")), "provider": "openai"}
        calls |= {"status": rng.choice(names.SPAN_STATUSES), "s": duration(rng, names.LLM_DURATION.buckets)}
        ttft_ns = round(duration(rng, names.LLM_TTFT.buckets) * 1e9) if of % 2 else 0
        found.append(call(6, of=of, cost=priced(round(cost * 1e9)), ttft_ns=ttft_ns, **calls))
        # The same answer through another instrumentation, and one from a cache.
        found.append(call(7, of=of, response_id=f"answer-{of}-6", ttft_ns=ttft_ns, **calls))
        found.append(call(8, of=of, cache_hit=True, **calls))
        if of % 7:
            add(1, kind=names.RUN, status=status(), s=duration(rng, names.RUN_DURATION.buckets[:-1]))
        for number in range(9, 9 + of % 3):
            said = Outcome(rng.choice(("escalated", "approved")), rng.choice((True, False, None)), None)
            found.append(note(number, names.OUTCOME, of=of, said=said, **{**who, "at_s": at_s}))
    return found


class Recount:
    """Events as they must be found, from what was sent."""

    def __init__(self, sent: Sequence[SpanRecord], now_ns: int) -> None:
        self._sent = sent
        roots = {each.run_id: each for each in sent if each.kind == names.RUN}
        self._cost: Counter[str] = Counter()
        for each in sent:
            if each.kind == names.MODEL and not each.cache_hit and each.span_id[-1] == 6 and each.cost is not None:
                self._cost[each.run_id] += each.cost.total_nano
        # Runs without a root are given up so long after the last sign of life.
        stubs: dict[str, list[SpanRecord]] = {}
        for each in sent:
            if each.run_id not in roots and each.kind not in (names.RUN, names.OUTCOME):
                stubs.setdefault(each.run_id, []).append(each)
        self._lost = [
            (min(each.start_ns for each in spans), max(each.end_ns for each in spans) + LOST_AFTER_NS, spans[0])
            for spans in stubs.values()
            if max(each.end_ns for each in spans) < now_ns - LOST_AFTER_NS
        ]

    def events(self, slo: Slo) -> Iterator[tuple[SpanRecord, int, int, bool, bool]]:
        """Record, start, end, whether it counts among all, whether it is bad."""
        above_ns = round(slo.bound * 1e9)
        ended = (names.OK, names.ERROR)
        for each in self._sent:
            when = each.start_ns, each.end_ns
            failed = each.status == names.ERROR
            slow = each.duration_ns > above_ns
            billed = each.kind == names.MODEL and each.span_id[-1] == 6
            match slo.indicator, slo.of:
                case ("availability", "nodes") if each.kind == names.NODE and each.attempt_final:
                    if each.status in ended:
                        yield each, *when, True, failed
                case ("availability", "tools") if each.kind == names.TOOL and each.status in ended:
                    yield each, *when, True, failed
                case ("availability", "models") if billed and each.status in ended:
                    yield each, *when, True, failed
                case ("latency", "models") if billed:
                    yield each, *when, True, slow
                case ("first_token", "models") if billed and each.ttft_ns:
                    yield each, *when, True, each.ttft_ns > above_ns
                case ("latency", "nodes") if each.kind == names.NODE:
                    yield each, *when, True, slow
                case ("availability" | "quality", "runs") if each.kind == names.RUN and each.status in ended:
                    yield each, *when, True, failed and slo.indicator == "availability"
                case ("latency", "runs") if each.kind == names.RUN:
                    yield each, *when, True, slow
                case ("cost", "runs") if each.kind == names.RUN:
                    yield each, *when, True, self._cost[each.run_id] > above_ns
                case ("quality", _) if isinstance(each.said, Outcome) and each.said.good is not None:
                    bad = not each.said.good
                    if slo.of == "outcomes" or bad:
                        yield each, *when, slo.of == "outcomes", bad
        if slo.of == "runs" and slo.indicator in ("availability", "quality"):
            for start_ns, given_up_ns, one in self._lost:
                yield one, start_ns, given_up_ns, True, slo.indicator == "availability"

    def found(
        self, slo: Slo, since_ns: int, until_ns: int, *, by_end: bool = False
    ) -> dict[tuple[str, ...], Judgement]:
        total: Counter[tuple[str, ...]] = Counter()
        bad: Counter[tuple[str, ...]] = Counter()
        for each, start_ns, end_ns, counts, is_bad in self.events(slo):
            if not since_ns <= (end_ns if by_end else start_ns) < until_ns:
                continue
            outcome = isinstance(each.said, Outcome)
            of: dict[str, str] = {name: getattr(each, name) for name in ("graph", "team", "environment", "service")}
            of |= {"node": each.node, "tool": each.tool, "provider": each.provider, "model": each.model}
            of |= {"kind": each.said.kind} if isinstance(each.said, Outcome) else {}
            shown = {name: value or names.UNATTRIBUTED for name, value in of.items()}
            select = slo.select if outcome else slo.select.model_copy(update={"kind": ("*",)})
            if select.matches(shown):
                group = tuple(of[name] for name in slo.per)
                total[group] += counts
                bad[group] += is_bad
        return {group: Judgement(total[group], min(bad[group], total[group])) for group in total | bad}


async def assert_nobody_is_blamed_twice(slo: Slo, found: Culprits, recount: Recount, time: tuple[int, int]) -> None:
    """Error types and nodes add up to the bad events, where each has one."""
    bad = {group: said.bad for group, said in recount.found(slo, *time).items() if said.bad}
    by_node = slo.of in ("nodes", "models", "tools") or slo.indicator in ("latency", "cost")
    if by_node:
        assert bad == {group: sum(each.nodes.values()) for group, each in found.items() if each.nodes}, slo.name
    if slo.indicator == "availability" or slo.of == "outcomes":
        assert bad == {group: sum(each.errors.values()) for group, each in found.items() if each.errors}, slo.name


def told(found: Any) -> dict[tuple[str, ...], Judgement]:
    """Without what nothing happened in."""
    return {group: said for group, said in found.items() if said.total or said.bad}


async def test_events_of_every_kind_equal_a_recount_over_any_range(database_url: str) -> None:
    rng = random.Random(5)
    sent = traffic(rng)
    now_ns = T0_NS
    recount = Recount(fresh(sent), now_ns)
    async with opened(database_url) as store, open_reader(database_url) as rows:
        await store.write([each for each in sent if each.end_ns <= now_ns])
        recount = Recount([each for each in fresh(sent) if each.end_ns <= now_ns], now_ns)
        await store.mark_lost(now_ns, LOST_AFTER_NS)
        ranges = [(now_ns - round(35 * DAY_S) * SECOND // HOUR_NS * HOUR_NS, now_ns + 1)]
        ranges += [(now_ns - round(days * DAY_S * SECOND), now_ns + 1) for days in (1, 2.9)]
        ranges += [(now_ns - 9 * HOUR_NS - 7, now_ns - 6 * HOUR_NS - 5), (now_ns - 40 * HOUR_NS, now_ns - 13 * HOUR_NS)]
        for slo in (*EVERY_KIND, *NARROW):
            everything = recount.found(slo, *ranges[0]).values()
            assert min(sum(each.total for each in everything), 10 * sum(each.bad for each in everything)) > 10, slo.name
            for since_ns, until_ns in ranges:
                expected = recount.found(slo, since_ns, until_ns)
                found = await store.reader.judged(slo, since_ns, until_ns)
                assert told(expected) == told(found), slo.name
            await assert_nobody_is_blamed_twice(slo, await store.reader.culprits(slo, *ranges[0]), recount, ranges[0])
            windows = [each * SECOND for each in (300, 1800, 3600, 7200, 21_600)]
            lately = await store.reader.judged_lately(slo, now_ns, windows, LOST_AFTER_NS)
            assert [told(recount.found(slo, now_ns - each + 1, now_ns + 1, by_end=True)) for each in windows] == [
                told(found) for found in lately
            ], slo.name
            minutes = await by_minute(rows, slo, now_ns - windows[-1] + 1, now_ns + 1, LOST_AFTER_NS)
            end = (now_ns + 1) // (60 * SECOND) + 1
            added = {
                group: [column.before(end, end + 1)[0] for column in (history.whole, *history.parts)]
                for group, history in minutes.items()
            }
            expected = recount.found(slo, now_ns - windows[-1] + 1, now_ns + 1, by_end=True)
            assert told(expected) == told(
                {group: Judgement(total, min(bad, total)) for group, (total, bad) in added.items()}
            ), slo.name


@pytest.mark.parametrize("known", [True, False], ids=["looked at", "by an older collector"])
def test_what_lies_above_a_bound_is_exact_or_said_to_be_estimated(known: bool) -> None:
    bound = 2_500_000_000
    buckets = histogram.of([bound] * 3 + [bound + 1] * 4 + [bound // 2] * 5 + [bound * 2] * 6 + [0])
    if not known:
        buckets = {index: count for index, count in buckets.items() if index < histogram.UNDER}
    found = histogram.above(histogram.pack(buckets), bound)
    assert (19, 0 if known else 7) == (found.total, found.unknown)
    if known:
        assert 10 == found.above
    else:
        assert 6 <= found.above <= 13


def test_a_second_measure_lies_beside_the_first_and_changes_nothing_of_it() -> None:
    alone = histogram.of([10**9] * 5)
    both = dict(alone)
    histogram.observe_all(both, [1, 500_000_000, 500_000_001], histogram.FIRST_TOKEN)
    packed = histogram.pack(both)
    assert both == histogram.unpack(packed)
    assert histogram.above(histogram.pack(alone), 10**9) == histogram.above(packed, 10**9) == (5, 0, 0)
    assert (3, 1, 0) == histogram.above(packed, 500_000_000, histogram.FIRST_TOKEN)
    assert histogram.quantile(alone, 0.5) == histogram.quantile(both, 0.5)
    assert (0, 0, 0) == histogram.above(histogram.pack(alone), 10**9, histogram.FIRST_TOKEN)
