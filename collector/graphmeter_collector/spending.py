"""Answers on spend in, what moved between two of them, or was for nothing, out: the same for API and command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphmeter_collector.reports import EFFECTIVE, CostRow, View


@dataclass(frozen=True, slots=True)
class MoverRow:
    """The spend of one group beside that of the time before."""

    group: dict[str, str]
    cost_nano: int
    before_nano: int
    change_nano: int
    change_ratio: float | None
    """0.5 is half as much again; None where there was no spend before: it is new."""
    calls: int
    before_calls: int
    state: str
    """`new`, `vanished`, or `moved`."""
    view: View = EFFECTIVE


@dataclass(frozen=True, slots=True)
class WasteRow:
    """What of the spend of one group was for nothing, for one reason."""

    group: dict[str, str]
    reason: str
    """Of `graphmeter.names.WASTE_REASONS`."""
    calls: int
    cost_nano: int
    spent_nano: int
    """All spend of the group."""
    share: float | None
    """Part of that; None where nothing was spent, as with models that are free."""
    view: View = EFFECTIVE


def waste(rows: Sequence[CostRow]) -> list[WasteRow]:
    """What was for nothing, by group and reason, the dearest first; sums are parts of those of `rows`."""
    found = [
        WasteRow(
            group=row.group,
            reason=reason,
            calls=calls,
            cost_nano=row.wasted_nano[reason],
            spent_nano=row.cost_nano,
            share=row.wasted_nano[reason] / row.cost_nano if row.cost_nano else None,
            view=row.view,
        )
        for row in rows
        for reason, calls in row.wasted_calls.items()
    ]
    return sorted(found, key=lambda row: (-row.cost_nano, -row.calls, tuple(row.group.values()), row.reason))


def movers(now: Sequence[CostRow], before: Sequence[CostRow], view: View = EFFECTIVE) -> list[MoverRow]:
    """Every group of either time, what moved most first; the changes sum to that of the total."""
    earlier = {tuple(row.group.items()): row for row in before}
    later = {tuple(row.group.items()): row for row in now}
    rows = [_mover(dict(key), later.get(key), earlier.get(key), view) for key in later | earlier]
    return sorted(rows, key=lambda row: (-abs(row.change_nano), -row.cost_nano, tuple(row.group.values())))


def _mover(group: dict[str, str], now: CostRow | None, before: CostRow | None, view: View) -> MoverRow:
    cost, was = now.cost_nano if now else 0, before.cost_nano if before else 0
    return MoverRow(
        group=group,
        cost_nano=cost,
        before_nano=was,
        change_nano=cost - was,
        change_ratio=(cost - was) / was if was else None,
        calls=now.calls if now else 0,
        before_calls=before.calls if before else 0,
        state="new" if before is None else "vanished" if now is None else "moved",
        view=view,
    )
