"""Whole traces are kept or dropped, once for all collectors, whatever comes when and where."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector.forward import sampling as module
from graphmeter_collector.forward.sampling import Sampler
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store
from graphmeter_collector.store.decisions import UNDECIDED
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Sampling
from support.foreign import foreign as foreign_span
from support.records import T0_NS, call, note, record, span_id, trace

QUIET_NS, LIMIT_NS = 11_000_000_000, 601_000_000_000


def rules(keep: str = "0", **facts: Any) -> Sampling:
    """One rule for everything."""
    return Sampling.model_validate({"rules": [{"name": "all", "keep": Decimal(keep), **facts}]})


class Judging:
    """A store, and a sampler for two destinations on it."""

    def __init__(self, store: Store, sampling: Sampling) -> None:
        self.store = store
        self.sampling = sampling
        self.metrics = Metrics()
        self.rung = 0
        self.sampler = Sampler(store, self.metrics, lambda: self.sampling, ["jaeger", "tempo"], self._ring)

    def _ring(self) -> None:
        self.rung += 1

    async def commit(self, records: Sequence[SpanRecord]) -> None:
        await self.store.write(fresh(records), destinations=[UNDECIDED])

    async def judge(self, after_ns: int = QUIET_NS) -> dict[str, int]:
        """What waits where after a judgement so much later."""
        await self.sampler.judge(time.time_ns() + after_ns)
        return await self.store.outbox_depth()

    def decided(self, reason: str, rule: str = "all") -> float:
        return self.metrics.value(names.COLLECTOR_TRACE_DECISIONS, rule, reason)


@pytest.fixture
async def judging(database_url: str) -> AsyncIterator[Judging]:
    """Nothing is kept but what always is."""
    async with opened(database_url) as store:
        yield Judging(store, rules())


async def sent(store: Store, to: str = "jaeger") -> dict[bytes, int]:
    """Spans that are on their way, by trace."""
    found: dict[bytes, int] = {}
    async with store.outbox_claim(to, 1000, 1 << 20) as claim:
        for item in claim.items:
            found[item.trace_id] = found.get(item.trace_id, 0) + 1
    return found


def run(of: int, status: str = names.OK, **facts: Any) -> list[SpanRecord]:
    """Start record, node, and root of a run of two seconds; `facts` are of the root."""
    root = span_id(1)
    return [
        record(9, of=of, kind=names.START, s=0, parent_id=root, status=names.RUNNING, forwardable=False),
        record(2, of=of, node="answer", parent_id=root),
        record(1, of=of, kind=names.RUN, status=status, **{"s": 2.0, **facts}),
    ]


def foreign(number: int, *, of: int, parent: bytes = b"", **facts: Any) -> SpanRecord:
    """A span of another instrumentation: no run, no graph."""
    return record(number, of=of, run_id="", graph="", team="", parent_id=parent, **facts)


async def test_a_kept_trace_goes_to_every_destination_and_a_dropped_one_to_none(judging: Judging) -> None:
    await judging.commit([*run(1, names.ERROR), *run(2), *run(3, names.INTERRUPTED)])
    assert {UNDECIDED: 6} == await judging.store.outbox_depth()
    assert {"jaeger": 4, "tempo": 4} == await judging.judge()

    expected = {trace(1): 2, trace(3): 2}
    assert (expected, expected) == (await sent(judging.store), await sent(judging.store, "tempo"))
    assert (1, 1, 1, 1) == (judging.rung, *map(judging.decided, ("error", "interrupted", "sampled_out")))
    assert 2 == judging.metrics.value(names.COLLECTOR_SAMPLED_OUT)


async def test_one_failed_span_is_enough(judging: Judging) -> None:
    failed = record(5, of=1, parent_id=span_id(2), status=names.ERROR, attempt_final=False)
    await judging.commit([*run(1), failed])
    assert {"jaeger": 3, "tempo": 3} == await judging.judge()


async def test_nothing_is_judged_while_it_runs_or_moves_but_for_the_limit(judging: Judging) -> None:
    running, whole = run(1)[:2], run(2)
    await judging.commit([*running, *whole])
    assert {UNDECIDED: 3} == await judging.judge(QUIET_NS - 8_000_000_000)
    assert {UNDECIDED: 1} == await judging.judge()
    assert {UNDECIDED: 1} == await judging.judge(LIMIT_NS - 100_000_000_000)
    assert {} == await judging.judge(LIMIT_NS)
    assert 2 == judging.decided("sampled_out")


async def test_a_run_that_still_runs_at_the_limit_has_lasted_so_long(judging: Judging) -> None:
    judging.sampling = rules(slow=300.0)
    await judging.commit([*run(1)[:2], *run(2)])
    assert {"jaeger": 1, "tempo": 1} == await judging.judge(LIMIT_NS)
    assert (1, 1) == (judging.decided("slow"), judging.decided("sampled_out"))


async def test_late_spans_follow_the_decision_at_once(judging: Judging) -> None:
    await judging.commit([*run(1, names.ERROR), *run(2)])
    await judging.judge()
    await judging.commit([record(7, of=of, parent_id=span_id(2)) for of in (1, 2)])

    assert {"jaeger": 3, "tempo": 3} == await judging.judge(0)
    assert {trace(1): 3} == await sent(judging.store)
    assert (2, 3) == (judging.rung, judging.metrics.value(names.COLLECTOR_SAMPLED_OUT))
    assert (1, 1) == (judging.decided("error"), judging.decided("sampled_out"))


async def test_a_late_error_brings_back_the_whole_trace_and_what_comes_after(judging: Judging) -> None:
    mirrored = Span(trace_id=trace(1), span_id=span_id(6))
    mirrored.attributes.add(key=names.MIRRORED).value.bool_value = True
    unmarked = Span(trace_id=trace(1), span_id=span_id(5))
    unmarked.attributes.add(key="question").value.string_value = f"what is {names.MIRRORED}?"
    await judging.commit(
        [
            *run(1),
            record(5, of=1, parent_id=span_id(2), body=unmarked.SerializeToString()),
            record(6, of=1, parent_id=span_id(2), forwardable=False, body=mirrored.SerializeToString()),
            *run(2),
        ]
    )
    assert {} == await judging.judge()
    await judging.commit([record(7, of=1, parent_id=span_id(2), status=names.ERROR), record(7, of=2)])

    # A node, the root, the one that quotes the mark, and the error; not what the backend has from the application.
    assert {"jaeger": 4, "tempo": 4} == await judging.judge(0)
    assert {trace(1): 4} == await sent(judging.store, "tempo")
    assert (1, 2) == (judging.decided("error"), judging.decided("sampled_out"))
    await judging.commit([record(8, of=1, parent_id=span_id(2)), record(8, of=2, parent_id=span_id(2))])
    assert {"jaeger": 5, "tempo": 5} == await judging.judge(0)
    # Nothing more follows from it.
    assert {"jaeger": 5, "tempo": 5} == await judging.judge()
    assert 1 == judging.decided("error")


async def test_a_root_that_comes_after_the_limit_may_bring_back_its_trace(judging: Judging) -> None:
    judging.sampling = rules(expensive_usd=Decimal("0.000002"))
    first, node, root = run(1)
    await judging.commit([first, node])
    assert {} == await judging.judge(LIMIT_NS)
    await judging.commit([root, call(4, of=1, nano=2_000, parent_id=span_id(2))])
    assert {"jaeger": 3, "tempo": 3} == await judging.judge(0)
    assert 1 == judging.decided("expensive")


async def test_other_rules_bring_back_nothing(judging: Judging) -> None:
    await judging.commit(run(1))
    await judging.judge()
    judging.sampling = rules("1")
    await judging.commit([record(7, of=1, parent_id=span_id(2))])
    assert {} == await judging.judge(0)


async def test_a_run_that_is_lost_after_its_trace_was_dropped_brings_it_back(judging: Judging) -> None:
    await judging.commit([*run(1)[:2], *run(2)])
    assert {} == await judging.judge(LIMIT_NS)
    now_ns = T0_NS + LIMIT_NS
    await judging.sampler.judge_lost(now_ns)
    assert {} == await judging.store.outbox_depth()
    await judging.store.mark_lost(time.time_ns() + 10**18, 1)
    for _ in range(2):
        await judging.sampler.judge_lost(now_ns)
        assert {trace(1): 1} == await sent(judging.store)
    assert (1, 2) == (judging.decided("error"), judging.decided("sampled_out"))


async def test_a_trace_is_judged_when_its_foreign_spans_are_settled(judging: Judging) -> None:
    """What a call below an ancestor that has not come costs counts when it has come, or is given up."""
    judging.sampling = rules(expensive_usd=Decimal("0.000002"))
    waiting = {UNDECIDED: 2}
    for of in (1, 2):
        graph = foreign_span(1, names.RUN, of=of, graph="support", s=2)
        await judging.commit([graph, foreign_span(3, names.MODEL, parent=2, of=of, nano=2_000)])
    assert {UNDECIDED: 4} == await judging.judge()
    await judging.commit([foreign_span(2, names.NODE, parent=1, of=1, node="answer")])
    await judging.store.settle(0, 0)
    assert {"jaeger": 3, "tempo": 3} | waiting == await judging.judge()
    # Whose it is was never said: the run of the trace, as there is but one.
    await judging.store.settle(1 << 62, 0)
    assert {"jaeger": 5, "tempo": 5} == await judging.judge()
    assert 2 == judging.decided("expensive")


async def test_what_is_never_settled_is_judged_at_the_limit(judging: Judging) -> None:
    graph = foreign_span(1, names.RUN, of=1, graph="support", s=2)
    await judging.commit([graph, foreign_span(3, names.MODEL, parent=2, of=1)])
    assert {UNDECIDED: 2} == await judging.judge(LIMIT_NS - 100_000_000_000)
    assert {} == await judging.judge(LIMIT_NS)


async def test_a_late_call_that_is_not_settled_yet_is_waited_for(judging: Judging) -> None:
    judging.sampling = rules(expensive_usd=Decimal("0.000002"))
    graph = foreign_span(1, names.RUN, of=1, graph="support", s=2)
    await judging.commit([graph])
    assert {} == await judging.judge()
    await judging.commit([foreign_span(3, names.MODEL, parent=2, of=1, nano=2_000)])
    assert {UNDECIDED: 1} == await judging.judge()
    await judging.commit([foreign_span(2, names.NODE, parent=1, of=1, node="answer")])
    await judging.store.settle(0, 0)
    assert {"jaeger": 3, "tempo": 3} == await judging.judge(0)


async def test_of_two_collectors_that_bring_a_trace_back_one_does(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        first, second = Judging(one, rules()), Judging(two, rules())
        for of in range(1, 21):
            await first.commit(run(of))
        await first.judge()
        await second.commit([record(7, of=of, parent_id=span_id(2), status=names.ERROR) for of in range(1, 21)])
        await asyncio.gather(first.judge(0), second.judge(0))
        assert {trace(of): 3 for of in range(1, 21)} == await sent(one)
        assert 20 == first.decided("error") + second.decided("error")


async def test_slow_and_expensive_runs_are_kept_by_what_the_database_knows(judging: Judging) -> None:
    judging.sampling = rules(slow=30.0, expensive_usd=Decimal("0.000002"))
    await judging.commit(
        [
            *run(1, s=30.0),
            *run(2),
            call(3, of=2, nano=1_000, parent_id=span_id(2)),
            call(4, of=2, nano=1_000, parent_id=span_id(2)),
            *run(3),
            call(3, of=3, nano=1_999, parent_id=span_id(2)),
        ]
    )
    await judging.judge()
    assert {trace(1): 2, trace(2): 4} == await sent(judging.store)
    assert (1, 1, 1) == tuple(map(judging.decided, ("slow", "expensive", "sampled_out")))


async def test_a_lost_run_is_kept(judging: Judging) -> None:
    await judging.commit(run(1)[:2])
    await judging.store.mark_lost(time.time_ns() + 10**18, 1)
    await judging.judge()
    assert ({trace(1): 1}, 1) == (await sent(judging.store), judging.decided("error"))


async def test_traces_without_a_run_are_judged_by_their_spans(judging: Judging) -> None:
    judging.sampling = Sampling.model_validate(
        {
            "rules": [
                {"name": "shop", "match": {"service": "shop"}, "keep": Decimal(0), "slow": 8.0},
                {"name": "rest", "keep": Decimal(1)},
            ]
        }
    )
    await judging.commit(
        [
            foreign(1, of=1),
            foreign(2, of=1, parent=span_id(1), status=names.ERROR),
            foreign(1, of=2),
            # The root's service counts, not that of who was called.
            foreign(2, of=2, parent=span_id(1), service="zoo"),
            foreign(2, of=3, parent=span_id(1), at_s=0),
            foreign(3, of=3, parent=span_id(1), at_s=8, s=0.5),
            foreign(1, of=4, service="bank"),
        ]
    )
    # Trace 3 has no root: only time decides.
    assert {UNDECIDED: 2, "jaeger": 3, "tempo": 3} == await judging.judge()
    assert {"jaeger": 5, "tempo": 5} == await judging.judge(LIMIT_NS)
    assert {trace(1): 2, trace(3): 2, trace(4): 1} == await sent(judging.store)
    assert (1, 1, 1, 1) == (
        judging.decided("error", "shop"),
        judging.decided("sampled_out", "shop"),
        judging.decided("slow", "shop"),
        judging.decided("share", "rest"),
    )


async def test_more_traces_than_a_page_are_judged_in_one_go(judging: Judging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_TRACES", 3)
    judging.sampling = rules("1")
    await judging.commit([each for of in range(1, 9) for each in (run(of)[:2] if of % 2 else run(of))])
    assert {UNDECIDED: 4, "jaeger": 8, "tempo": 8} == await judging.judge()


async def test_when_the_rules_are_taken_away_what_waited_is_sent(judging: Judging) -> None:
    await judging.commit([*run(1)[:2], *run(2)])
    judging.sampling = Sampling()
    assert {"jaeger": 3, "tempo": 3} == await judging.judge(1)
    assert 2 == judging.decided("unmatched", "")


async def test_of_two_collectors_with_other_rules_the_first_decision_stands_for_all_of_a_trace(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        keeping, dropping = Judging(one, rules("1")), Judging(two, rules("0"))
        for of in range(1, 41):
            whole = run(of)
            await asyncio.gather(keeping.commit(whole[:2]), dropping.commit(whole[2:]))
        await asyncio.gather(keeping.judge(), dropping.judge())

        found = await sent(one)
        assert {2} == set(found.values()) if found else True
        decisions = {row["trace_id"]: row["keep"] for row in (await dump(postgres_url))["trace_decision"]}
        assert {trace(of) for of in range(1, 41)} == set(decisions)
        assert {trace_id for trace_id, keep in decisions.items() if keep} == set(found)
        assert (len(found), 40 - len(found)) == (keeping.decided("share"), dropping.decided("sampled_out"))

        # Late halves, committed and judged by the other one.
        late = [record(5, of=of, parent_id=span_id(2)) for of in range(1, 41)]
        await dropping.commit(late)
        await dropping.judge(0)
        assert dict.fromkeys(found, 3) == await sent(two)


async def test_notes_and_mirrored_spans_neither_wait_nor_hold_up(judging: Judging) -> None:
    mirrored = [
        record(number, of=1, kind=kind, forwardable=False) for number, kind in ((1, names.RUN), (2, names.NODE))
    ]
    await judging.commit([*mirrored, note(7, names.HEARTBEAT, of=1), record(3, of=1, parent_id=span_id(2))])
    assert {UNDECIDED: 1} == await judging.store.outbox_depth()
    judging.sampling = rules("1")
    assert {"jaeger": 1, "tempo": 1} == await judging.judge()
