"""Tail sampling: traces whose spans wait are judged by the rules, once for all collectors, and their spans sent or dropped.

A trace is judged when its runs have ended (without a run: when its root was seen), all of its spans are settled and nothing
of it came for a while, or when its first span has waited for long enough. The judgement is stored before anything moves, so
spans that come late, and other collectors, follow it. It changes in one way only: a trace that was dropped is kept whole
after all when a late span, or the loss of a run, makes it worth keeping. The spans wait in the database; memory holds one
page of traces.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from graphmeter import names
from graphmeter_collector.reports import Decision, Judged, TracePart, WaitingTrace
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Sampling
from graphmeter_config.sampling import KEPT, SAMPLED_OUT, Part

PAGE_TRACES: Final = 500
ROUND_EVERY_S: Final = 1.0
IDLE_EVERY_S: Final = 10.0
"""How often is looked for leftovers while there are no rules."""
LOST_EVERY_S: Final = 30.0
"""How often is looked for dropped traces of which a run was lost since."""
LOST_WITHIN_S: Final = 7 * 86_400.0
"""Runs that were last heard of earlier are not looked for."""
BREATHER: Final = 9
"""A round is followed by a rest at least this many times as long: judging takes a tenth of the time at most."""
_NS: Final = 1_000_000_000
_FACTS: Final = frozenset({"error", "interrupted", "slow", "expensive"})
"""Reasons that lie in the trace itself."""


class Waiting(Protocol):
    """What the sampler needs of the store."""

    async def traces_waiting(self, quiet_ns: int, oldest_ns: int, after: bytes, limit: int) -> list[WaitingTrace]: ...

    async def traces_lost(self, since_ns: int, limit: int) -> list[WaitingTrace]: ...

    async def decide(
        self,
        decisions: Sequence[Decision],
        late: Sequence[bytes],
        destinations: Sequence[str],
        *,
        revised: Sequence[Decision] = (),
    ) -> Judged: ...


class Sampler:
    """Judges for `destinations`; `sampling` gives the rules in force, `sent` is told when spans are on their way."""

    def __init__(
        self,
        store: Waiting,
        metrics: Metrics,
        sampling: Callable[[], Sampling],
        destinations: Sequence[str],
        sent: Callable[[], None],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._sampling = sampling
        self._destinations = tuple(destinations)
        self._sent = sent
        self._looked_for_lost = 0.0

    async def run(self, until: float) -> None:
        """Judge until `time.monotonic()` says so."""
        took_s = 0.0
        while time.monotonic() < until:
            await asyncio.sleep(max(ROUND_EVERY_S if self._sampling().rules else IDLE_EVERY_S, BREATHER * took_s))
            began = time.monotonic()
            await self.judge(time.time_ns())
            if began >= self._looked_for_lost + LOST_EVERY_S:
                self._looked_for_lost = began
                await self.judge_lost(time.time_ns())
            took_s = time.monotonic() - began

    async def judge(self, now_ns: int) -> None:
        """Judge every trace that is ready, a page at a time."""
        sampling = self._sampling()
        self._declare(sampling)
        # Without rules nobody waits: what was waiting when they were taken away is kept.
        quiet_ns = now_ns - round(sampling.quiet_s * _NS) if sampling.rules else now_ns
        oldest_ns = now_ns - round(sampling.at_most_s * _NS) if sampling.rules else now_ns
        after = b""
        while page := await self._store.traces_waiting(quiet_ns, oldest_ns, after, PAGE_TRACES):
            after = page[-1].trace_id
            late = []
            new = []
            revised = []
            for trace in page:
                in_time = trace.first_ns > oldest_ns
                if trace.settling and not trace.kept and in_time:
                    continue
                if not trace.decided:
                    if trace.root_seen or not in_time:
                        new.append(_decision(sampling, trace, now_ns))
                elif (again := _revised(sampling, trace, now_ns)) is not None:
                    revised.append(again)
                else:
                    late.append(trace.trace_id)
            if new or late or revised:
                self._count(await self._store.decide(new, late, self._destinations, revised=revised))

    async def judge_lost(self, now_ns: int) -> None:
        """Keep what was dropped before one of its runs was lost."""
        sampling = self._sampling()
        since_ns = now_ns - round(LOST_WITHIN_S * _NS)
        while sampling.rules and (page := await self._store.traces_lost(since_ns, PAGE_TRACES)):
            # Lost runs are always kept, by every rule and by none.
            revised = [_decision(sampling, trace, now_ns) for trace in page]
            self._count(await self._store.decide([], [], self._destinations, revised=revised))
            if len(page) < PAGE_TRACES:
                break

    def _count(self, judged: Judged) -> None:
        for decision in judged.new:
            self._metrics.inc(names.COLLECTOR_TRACE_DECISIONS, decision.rule, decision.reason)
        self._metrics.inc(names.COLLECTOR_SAMPLED_OUT, by=judged.dropped)
        if judged.kept:
            self._sent()

    def _declare(self, sampling: Sampling) -> None:
        for rule in sampling.rules:
            for reason in (*KEPT, SAMPLED_OUT):
                if reason != "unmatched":
                    self._metrics.declare(names.COLLECTOR_TRACE_DECISIONS, rule.name, reason)


def _decision(sampling: Sampling, trace: WaitingTrace, now_ns: int) -> Decision:
    # A trace of which not even a span is left has nothing to judge; its rows have nothing to send.
    parts = [_part(part, trace, now_ns) for part in trace.parts] or [Part({}, names.OK, 0, 0)]
    verdict = sampling.verdict(parts, trace.trace_id, error=trace.error)
    return Decision(trace.trace_id, verdict.keep, verdict.reason, verdict.rule, now_ns)


def _revised(sampling: Sampling, trace: WaitingTrace, now_ns: int) -> Decision | None:
    """A decision to keep what was dropped, if what is known by now says so; not for rules that have changed."""
    if trace.kept:
        return None
    decision = _decision(sampling, trace, now_ns)
    return decision if decision.reason in _FACTS else None


def _part(part: TracePart, trace: WaitingTrace, now_ns: int) -> Part:
    dimensions = {
        "service": part.service,
        "environment": part.environment,
        "graph": part.graph,
        "team": part.team,
    }
    # What has not ended has lasted at least since its first span came.
    lasted = part.duration_ns if part.ended else max(part.duration_ns, now_ns - trace.first_ns)
    return Part(dimensions, part.status, lasted, part.cost_nano)
