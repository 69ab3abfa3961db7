"""The state of objectives now: counts of events in, a row for each of the things that an SLO judges by themselves out.

The maths are those of the rules for Prometheus (`graphmeter_config.burn`); what is counted comes from the database alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Final, Literal, Protocol

from fastapi import APIRouter, Header, Query, Response

from graphmeter_collector.expose.asking import PROBLEMS, Ns, Since, Text, time_range
from graphmeter_collector.reports import BurnRow, Judgement, Judgements, SloCounts, SloReports, SloRow
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Tier
from graphmeter_config.exhaustion import exhausted_in_s
from graphmeter_config.values import decimal_text, duration_text

NS: Final = 1_000_000_000
LATELY_S: Final = 6 * 3600
"""Shorter windows are counted by when events ended, longer ones by when they began."""
HOUR_S: Final = 3600
_NOTHING: Final = Judgement(0, 0)


class States(Protocol):
    """The objectives at one moment."""

    @property
    def body(self) -> bytes: ...

    @property
    def etag(self) -> str: ...


class Objectives(Protocol):
    """What this collector knows of objectives."""

    async def now(self, only: str = "") -> list[SloRow]: ...

    async def report(self, since_ns: int, until_ns: int, only: str, *, leave_out: bool) -> SloReports: ...

    async def recent(self) -> States: ...


def slos_router(objectives: Objectives) -> APIRouter:
    """Routes below `/api/slos`."""
    router = APIRouter(prefix="/api/slos", tags=["reports"], responses=PROBLEMS)

    @router.get(
        "", summary="State of every SLO, or of one: what its budget is, how fast it burns, when it will be spent"
    )
    async def rows(name: Text = "") -> list[SloRow]:
        return await objectives.now(name)

    @router.get("/status", summary="The same in short, some seconds old; 304 where nothing happened since")
    async def status(if_none_match: Annotated[str, Header()] = "") -> Response:
        found = await objectives.recent()
        headers = {"ETag": f'"{found.etag}"', "Cache-Control": "no-cache"}
        if f'"{found.etag}"' in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(found.body, media_type="application/json", headers=headers)

    @router.get("/report", summary="What became of SLOs between two moments: achieved, budget consumed, errors, nodes")
    async def over(
        since: Since = "30d",
        since_ns: Ns = 0,
        until_ns: Ns = 0,
        name: Text = "",
        maintenance: Annotated[
            Literal["exclude", "include"], Query(description="Whether maintenance windows are in the figures.")
        ] = "exclude",
    ) -> SloReports:
        start, end = time_range(since, since_ns, until_ns)
        return await objectives.report(start, end, name, leave_out=maintenance == "exclude")

    return router


async def slos(
    counts: SloCounts, config: Config, now_ns: int | None = None, *, burn: bool = True, only: str = ""
) -> list[SloRow]:
    """Every SLO over its window, per graph (or what else it judges) that had events.

    Args:
        burn: Look at the windows of the burn-rate tiers, too.
        only: Name of the one SLO to look at.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    return [
        row
        for slo in config.slos
        if only in ("", slo.name)
        for row in await _slo(counts, slo, now_ns, round(config.runs.lost_after_s * NS), burn=burn)
    ]


def budgets_left(rows: Iterable[SloRow]) -> dict[tuple[str, ...], float]:
    """Error budget left by SLO and graph; of several things judged in one graph the one that has least."""
    left: dict[tuple[str, ...], float] = {}
    for row in rows:
        if row.budget_remaining_ratio is not None:
            key = row.slo, row.graph
            left[key] = min(row.budget_remaining_ratio, left.get(key, row.budget_remaining_ratio))
    return left


async def _slo(counts: SloCounts, slo: Slo, now_ns: int, lost_after_ns: int, *, burn: bool) -> Iterator[SloRow]:
    since_ns = slo.period_at(now_ns).start_ns
    tiers = slo.plan_at(now_ns).tiers if burn else ()
    windows = {seconds for tier in tiers for seconds in (tier.short_s, tier.long_s)}
    short = sorted(seconds for seconds in windows if seconds <= LATELY_S)
    found: dict[int, Judgements] = {}
    if short:
        in_ns = [seconds * NS for seconds in short]
        lately = await counts.judged_lately(slo, now_ns, in_ns, lost_after_ns)
        found = dict(zip(short, lately, strict=True))
    starts = {now_ns - seconds * NS: seconds for seconds in windows.difference(short)}
    # Each range is the one before it and what lies in front of that: nothing is counted twice.
    until_ns = now_ns + 1
    together: dict[tuple[str, ...], Judgement] = {}
    period: Judgements = {}
    for start_ns in sorted({*starts, since_ns}, reverse=True):
        for group, said in (await counts.judged(slo, start_ns, until_ns, to_the_hour=True)).items():
            together[group] = together.get(group, _NOTHING).plus(said)
        if start_ns in starts:
            found[starts[start_ns]] = dict(together)
        if start_ns == since_ns:
            period = dict(together)
        until_ns = start_ns
    return (_row(slo, group, said, found, tiers, now_ns) for group, said in sorted(period.items()))


def _row(
    slo: Slo,
    group: tuple[str, ...],
    said: Judgement,
    windows: Mapping[int, Judgements],
    tiers: Sequence[Tier],
    now_ns: int,
) -> SloRow:
    start_ns, end_ns = slo.period_at(now_ns)
    lately = {seconds: by_group.get(group, _NOTHING) for seconds, by_group in sorted(windows.items())}
    status = slo.status(said.total - said.bad, said.bad)
    left = status.budget_remaining
    scope = {str(name): value for name, value in zip(slo.per, group, strict=True)}
    return SloRow(
        slo=slo.name,
        graph=scope.get("graph", ""),
        objective_percent=decimal_text(slo.objective),
        window_s=(end_ns - start_ns) // NS,
        good=status.good,
        bad=status.bad,
        achieved_ratio=_float(status.achieved),
        budget_remaining_ratio=_float(left),
        scope=scope,
        indicator=slo.indicator,
        of=slo.of,
        threshold=slo.threshold_text,
        window=slo.window_text,
        since_ns=start_ns,
        total=said.total,
        unsure=said.unsure,
        burn_rate=_float(_burn_rate(slo, lately.get(HOUR_S, _NOTHING))),
        burn=tuple(_burn(slo, tier, lately[tier.short_s], lately[tier.long_s]) for tier in tiers),
        exhausted_at_ns=None if left is None else _exhausted_at(slo, left, lately.values(), now_ns),
    )


def _burn(slo: Slo, tier: Tier, short: Judgement, long: Judgement) -> BurnRow:
    ratios = [Fraction(said.bad, said.total) if said.total else Fraction(0) for said in (short, long)]
    return BurnRow(
        tier=tier.name,
        severity=tier.severity,
        factor=float(tier.factor),
        short=duration_text(tier.short_s),
        long=duration_text(tier.long_s),
        short_events=short.total,
        short_bad=short.bad,
        short_burn_rate=_float(_burn_rate(slo, short)),
        long_events=long.total,
        long_bad=long.bad,
        long_burn_rate=_float(_burn_rate(slo, long)),
        crossed=tier.crossed(*ratios) and long.bad >= slo.min_bad_events,
    )


def _burn_rate(slo: Slo, said: Judgement) -> Fraction | None:
    return slo.status(said.total - said.bad, said.bad).burn_rate


def _exhausted_at(slo: Slo, left: Fraction, lately: Iterable[Judgement], now_ns: int) -> int | None:
    """By the speed of the shortest window that has enough bad events to tell one."""
    said = next((each for each in lately if each.bad >= slo.min_bad_events), None)
    speed = None if said is None else _burn_rate(slo, said)
    if speed is None or left <= 0:
        return None
    start_ns, end_ns = slo.period_at(now_ns)
    elapsed_s = (now_ns - start_ns) // NS if slo.calendar else None
    lasts_s = exhausted_in_s(left, speed, (end_ns - start_ns) // NS, elapsed_s=elapsed_s)
    return None if lasts_s is None else now_ns + int(lasts_s * NS)


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
