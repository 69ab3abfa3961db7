"""The ledger's days and models beside the provider's, and what explains where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from graphmeter import names
from graphmeter_collector.reconcile.exports import Export, Key, Theirs, model_key
from graphmeter_collector.reports import CostRow

UNNAMED = "(not by model)"
_SAME_RATIO = 0.05
"""Drifts of two days that cancel to within this share of the larger are one call's move over midnight."""


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One day (UTC) and model. What the export does not say is None."""

    day: str
    model: str
    ours_nano: int
    theirs_nano: int | None
    drift_nano: int | None
    """Ours less theirs: negative is what we do not know of."""
    drift_ratio: float | None
    """Of theirs; None where they have nothing."""
    ours_calls: int
    theirs_calls: int | None
    ours_tokens_in: int
    theirs_tokens_in: int | None
    ours_tokens_out: int
    theirs_tokens_out: int | None
    because: tuple[str, ...] = ()
    """What explains it, as far as can be told."""


@dataclass(slots=True)
class _Ours:
    nano: int = 0
    calls: int = 0
    unpriced: int = 0
    silent: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


def compare(ours: Sequence[CostRow], export: Export) -> list[DriftRow]:
    """Every day and model that either side has, by day and model.

    `ours` is spend of the provider on the days of the export, by day and model.
    """
    found: dict[Key, _Ours] = {}
    for row in ours:
        one = found.setdefault((row.group["day"], model_key(row.group["model"])), _Ours())
        one.nano += row.cost_nano
        one.calls += row.calls
        one.unpriced += row.unpriced_calls
        one.silent += row.usage_missing_calls
        one.tokens_in += sum(row.tokens[bucket] for bucket in names.INPUT_TOKEN_TYPES)
        one.tokens_out += sum(row.tokens[bucket] for bucket in names.OUTPUT_TOKEN_TYPES)
    with_money = any(theirs.nano is not None for theirs in export.found.values())
    with_calls = any(theirs.requests is not None for theirs in export.found.values())
    with_tokens = any(theirs.tokens_in is not None for theirs in export.found.values())
    rows = []
    for key in sorted(found.keys() | export.found.keys()):
        theirs = export.found.get(key, Theirs())
        full = Theirs(
            theirs.nano if theirs.nano is not None else 0 if with_money else None,
            theirs.requests if theirs.requests is not None else 0 if with_calls else None,
            theirs.tokens_in if theirs.tokens_in is not None else 0 if with_tokens else None,
            theirs.tokens_out if theirs.tokens_out is not None else 0 if with_tokens else None,
        )
        rows.append(_drift(key, found.get(key, _Ours()), full))
    return [_with_midnight(row, rows) for row in rows]


def _drift(key: Key, ours: _Ours, theirs: Theirs) -> DriftRow:
    drift = None if theirs.nano is None else ours.nano - theirs.nano
    return DriftRow(
        day=key[0],
        model=key[1] or UNNAMED,
        ours_nano=ours.nano,
        theirs_nano=theirs.nano,
        drift_nano=drift,
        drift_ratio=drift / theirs.nano if drift is not None and theirs.nano else None,
        ours_calls=ours.calls,
        theirs_calls=theirs.requests,
        ours_tokens_in=ours.tokens_in,
        theirs_tokens_in=theirs.tokens_in,
        ours_tokens_out=ours.tokens_out,
        theirs_tokens_out=theirs.tokens_out,
        because=tuple(_reasons(key, ours, theirs, drift)),
    )


def _reasons(key: Key, ours: _Ours, theirs: Theirs, drift: int | None) -> list[str]:
    if not key[1]:
        return ["their export names no model here: ask for it by model or line item"]
    reasons = []
    if ours.unpriced:
        reasons.append(f"{ours.unpriced} unpriced calls of ours")
    if ours.silent:
        reasons.append(f"{ours.silent} calls of ours without usage")
    if theirs.requests is not None and theirs.requests > ours.calls:
        reasons.append(f"{theirs.requests - ours.calls} calls we never saw")
    if theirs.requests is not None and theirs.requests < ours.calls:
        reasons.append(f"{ours.calls - theirs.requests} calls of ours that they do not list")
    if theirs.requests is None and not ours.calls:
        reasons.append("calls we never saw")
    same = (ours.tokens_in, ours.tokens_out) == (theirs.tokens_in, theirs.tokens_out)
    if drift and same and not reasons:
        reasons.append("the same tokens at another price")
    return reasons


def _with_midnight(row: DriftRow, rows: Sequence[DriftRow]) -> DriftRow:
    """Say where the neighbouring day is off by the same, the other way round: a day's edge, no lost money."""
    if not row.drift_nano:
        return row
    day = date.fromisoformat(row.day)
    for days in (-1, 1):
        beside = (day + timedelta(days=days)).isoformat()
        for other in rows:
            if (other.day, other.model) == (beside, row.model) and other.drift_nano:
                left = abs(row.drift_nano + other.drift_nano)
                if left <= _SAME_RATIO * max(abs(row.drift_nano), abs(other.drift_nano)):
                    return replace(row, because=(*row.because, f"the other way round on {beside}: a day's edge"))
    return row
