"""What a collector exposes in, what promtool takes for its series out."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import parser


def series_of(exposition: str, types: Collection[str] = ("counter", "histogram")) -> dict[str, float]:
    """What promtool calls the series of such metrics → value."""
    found = {}
    for family in parser.text_string_to_metric_families(exposition):
        for sample in family.samples:
            if family.type in types:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found
