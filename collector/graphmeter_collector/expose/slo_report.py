"""What became of objectives between two moments: counts of events in, a report out, maintenance shown or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

from graphmeter_collector.reports import Culprit, Excluded, InCommon, Judgement, SloCounts, SloReport, SloReports
from graphmeter_config import Config, Slo
from graphmeter_config.maintenance import within, without
from graphmeter_config.slices import Stretch
from graphmeter_config.values import decimal_text

MOST_NAMED: Final = 5
"""Error types and nodes that a report names of each objective, those with most bad events."""
_NOTHING: Final = Judgement(0, 0)


async def report(
    counts: SloCounts, config: Config, since_ns: int, until_ns: int, *, only: str = "", leave_out: bool = True
) -> SloReports:
    """Every objective (or the one named `only`) over [since, until).

    Args:
        leave_out: Maintenance windows are in no figure but those that say what was left out.
    """
    windows = [
        Excluded(each.name, max(each.since_ns, since_ns), min(each.until_ns, until_ns))
        for each in config.maintenance
        if each.since_ns < until_ns and since_ns < each.until_ns
    ]
    rows: list[SloReport] = []
    for slo in config.slos:
        if only in ("", slo.name):
            about = {each.name for each in config.maintenance if each.about(slo.name)}
            planned = [Stretch(each.since_ns, each.until_ns) for each in windows if each.name in about]
            rows += await _slo(counts, slo, Stretch(since_ns, until_ns), planned if leave_out else ())
    return SloReports(since_ns, until_ns, tuple(windows), leave_out, tuple(rows))


async def _slo(counts: SloCounts, slo: Slo, time: Stretch, planned: Sequence[Stretch]) -> Iterable[SloReport]:
    judged: dict[tuple[str, ...], Judgement] = {}
    excluded: dict[tuple[str, ...], Judgement] = {}
    blamed: dict[tuple[str, ...], InCommon] = {}
    for into, parts in ((judged, without(*time, planned)), (excluded, within(*time, planned))):
        for part in parts:
            for group, said in (await counts.judged(slo, *part)).items():
                into[group] = into.get(group, _NOTHING).plus(said)
            if into is judged:
                for group, found in (await counts.culprits(slo, *part)).items():
                    before = blamed.get(group, InCommon(Counter(), Counter()))
                    blamed[group] = InCommon(before.errors + found.errors, before.nodes + found.nodes)
    nobody = InCommon(Counter(), Counter())
    return [
        _row(slo, group, judged.get(group, _NOTHING), excluded.get(group, _NOTHING), blamed.get(group, nobody), time)
        for group in sorted({**judged, **excluded})
    ]


def _row(
    slo: Slo, group: tuple[str, ...], said: Judgement, left_out: Judgement, blamed: InCommon, time: Stretch
) -> SloReport:
    status = slo.status(said.total - said.bad, said.bad)
    return SloReport(
        slo=slo.name,
        scope={str(name): value for name, value in zip(slo.per, group, strict=True)},
        objective_percent=decimal_text(slo.objective),
        indicator=slo.indicator,
        of=slo.of,
        threshold=slo.threshold_text,
        since_ns=time.start_ns,
        until_ns=time.end_ns,
        total=said.total,
        good=status.good,
        bad=status.bad,
        achieved_ratio=_float(status.achieved),
        budget_consumed_ratio=_float(status.burn_rate),
        met=status.met,
        unsure=said.unsure,
        excluded_total=left_out.total,
        excluded_bad=left_out.bad,
        errors=_most(blamed.errors),
        nodes=_most(blamed.nodes),
    )


def _most(found: Counter[str]) -> tuple[Culprit, ...]:
    first = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:MOST_NAMED]
    return tuple(Culprit(name, bad) for name, bad in first)


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
