"""What a rule keeps: the share by trace id as OpenTelemetry takes it, and what is kept whatever the share."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from graphmeter import names
from graphmeter_config import Sampling, load
from graphmeter_config.sampling import Part, Verdict, chosen

LOW, HIGH = bytes(16), b"\xff" * 16
"""Trace ids left out by any share below 100 %, and kept by any above 0 %."""
RULES = Sampling.model_validate(
    {
        "rules": [
            {"name": "chat", "match": {"graph": "chat-*"}, "keep": Decimal("0.1"), "slow": 30.0},
            {"name": "rest", "match": {"team": "cx"}, "keep": Decimal(0), "expensive_usd": Decimal("0.5")},
        ]
    }
)


def part(graph: str = "chat-a", status: str = names.OK, *, s: float = 1, usd: float = 0, team: str = "") -> Part:
    dimensions = {"service": "shop", "environment": "test", "graph": graph, "team": team}
    return Part(dimensions, status, round(s * 1e9), round(usd * names.NANO_PER_USD))


@pytest.mark.parametrize(
    ("parts", "facts", "expected"),
    [
        ([part()], {}, Verdict(False, "sampled_out", "chat")),
        ([part()], {"trace_id": HIGH}, Verdict(True, "share", "chat")),
        ([part()], {"error": True}, Verdict(True, "error", "chat")),
        ([part(status=names.ERROR)], {}, Verdict(True, "error", "chat")),
        ([part(status=names.LOST)], {}, Verdict(True, "error", "chat")),
        ([part(status=names.INTERRUPTED)], {}, Verdict(True, "interrupted", "chat")),
        ([part(status=names.CANCELLED)], {}, Verdict(False, "sampled_out", "chat")),
        ([part(s=29.9)], {}, Verdict(False, "sampled_out", "chat")),
        ([part(s=30)], {}, Verdict(True, "slow", "chat")),
        ([part(usd=9)], {}, Verdict(False, "sampled_out", "chat")),
        ([part("ask", team="cx", usd=0.5)], {}, Verdict(True, "expensive", "rest")),
        ([part("ask", team="cx")], {"trace_id": HIGH}, Verdict(False, "sampled_out", "rest")),
        ([part("ask")], {}, Verdict(True, "unmatched")),
        ([part(""), part()], {}, Verdict(True, "unmatched")),
        ([part(), part("ask", team="cx", usd=1)], {}, Verdict(True, "expensive", "rest")),
        ([part("ask", team="cx"), part()], {"trace_id": HIGH}, Verdict(True, "share", "chat")),
        ([part(s=99), part(status=names.ERROR)], {}, Verdict(True, "error", "chat")),
    ],
)
def test_a_trace_is_kept_for_the_best_reason_of_its_runs(
    parts: list[Part], facts: dict[str, Any], expected: Verdict
) -> None:
    given = {"trace_id": LOW, "error": False, **facts}
    assert expected == RULES.verdict(parts, given["trace_id"], error=given["error"])


@pytest.mark.parametrize(
    ("low_bits", "share", "expected"),
    [
        (0x80000000000000, "0.5", True),
        (0x7FFFFFFFFFFFFF, "0.5", False),
        (0xE6666666666667, "0.1", True),
        (0xE6666666666665, "0.1", False),
        (0, "1", True),
        (0xFFFFFFFFFFFFFF, "0", False),
    ],
)
def test_the_share_is_cut_at_opentelemetrys_rejection_threshold(low_bits: int, share: str, expected: bool) -> None:
    # The bits above the low 56 say nothing.
    for high in (b"\x00" * 9, b"\xff" * 9):
        assert expected is chosen(high + low_bits.to_bytes(7), Decimal(share))


def test_a_share_keeps_its_share_and_a_larger_one_keeps_the_same_and_more() -> None:
    source = random.Random(4)
    ids = [source.randbytes(16) for _ in range(20_000)]
    tenth = {each for each in ids if chosen(each, Decimal("0.1"))}
    third = {each for each in ids if chosen(each, Decimal("0.33"))}
    assert 1_850 < len(tenth) < 2_150
    assert 6_350 < len(third) < 6_850
    assert tenth < third


def test_what_one_part_tells_may_be_enough_to_be_sure() -> None:
    assert RULES.surely_kept(part(status=names.ERROR), LOW)
    assert not RULES.surely_kept(part(), LOW)
    assert Sampling().surely_kept(part(), LOW)


def test_a_file_says_what_to_keep(tmp_path: Path) -> None:
    file = tmp_path / "graphmeter.yaml"
    file.write_text(
        "sampling:\n  quiet: 5s\n  rules:\n"
        "    - {name: chat, match: {graph: 'chat-*'}, keep: 12.5%, slow: 1m, expensive_usd: $2}\n"
    )
    sampling = load(file).sampling
    [rule] = sampling.rules
    assert (5.0, 600.0) == (sampling.quiet_s, sampling.at_most_s)
    assert (Decimal("0.125"), 60.0, Decimal(2)) == (rule.keep, rule.slow_s, rule.expensive_usd)
    assert {"chat", "12.5%", "1m", "2"} <= set(map(str, load(file).shown()["sampling"]["rules"][0].values()))


def test_without_rules_everything_is_kept_and_leaves_at_once() -> None:
    assert () == load(None).sampling.rules
