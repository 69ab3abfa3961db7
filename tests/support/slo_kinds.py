"""One SLO of every kind there is, and which metric and threshold they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphmeter_config import Slo
from graphmeter_config.indicators import KINDS, Indicator, Of

_OBJECTIVES = ("99", "95", "99.9")


def slo_of(key: tuple[Indicator, Of], **fields: Any) -> Slo:
    """An SLO of a kind; thresholds are in the middle of those it may have."""
    indicator, of = key
    bounds = KINDS[key].bounds
    threshold: Mapping[str, Any] = {}
    if bounds:
        field = "threshold_usd" if indicator == "cost" else "threshold"
        threshold = {field: bounds[len(bounds) // 2]}
    name = f"{of}-{indicator}".replace("_", "-")
    return Slo.model_validate(
        {"name": name, "indicator": indicator, "of": of, "objective": "99", **threshold, **fields}
    )


EVERY_KIND = tuple(slo_of(key, objective=_OBJECTIVES[n % len(_OBJECTIVES)]) for n, key in enumerate(KINDS))
"""As somebody would write them who says no more than needed."""
