"""How long things are kept: defaults, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphmeter_config import ConfigError, load


def written(directory: Path, text: str) -> Path:
    path = directory / "graphmeter.yaml"
    path.write_text(text)
    return path


def test_what_is_left_out_is_kept_for_ever(tmp_path: Path) -> None:
    kept = load(written(tmp_path, "retention: {spans: 7d, ledger: 800d}")).retention
    assert (7, 7, None, 800, None) == (
        kept.spans_days,
        kept.bodies_days,
        kept.runs_days,
        kept.ledger_days,
        kept.rollups_days,
    )


@pytest.mark.parametrize("name", ["runs", "ledger", "rollups"])
def test_nothing_goes_before_the_spans_that_would_make_it_anew(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f"retention:\n  spans: 30d\n  {name}: 30d\n"))
    assert f"{name}: 30d is not longer than spans: 30d" in str(caught.value)
    assert "write more than 30d" in str(caught.value)
