"""The month of spans that benchmarks store: the same from a seed, and such that a collector takes all of it as it is."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graphmeter import names
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.records import SpanRecord
from support.records import T0_NS

DAY_NS = 86_400_000_000_000
SPANS = 60_000


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    return importlib.import_module("month")


def decoded(requests: list[tuple[int, bytes]]) -> list[SpanRecord]:
    records: list[SpanRecord] = []
    for spans, body in requests:
        found = decode_request(ExportTraceServiceRequest.FromString(body), Window.around(T0_NS, 30))
        assert (spans, [], Counter()) == (len(found.records), found.rejections, found.repairs)
        records += found.records
    return records


def test_a_day_is_the_same_from_a_seed_and_its_spans_are_read_without_a_repair(made: ModuleType) -> None:
    days = [list(made.Month(SPANS, T0_NS).day(number)) for number in (3, 3, 4, 29)]
    assert days[0] == days[1] != days[2]
    assert days[0] != list(made.Month(SPANS, T0_NS, seed=2).day(3))

    records = decoded(days[0])
    assert SPANS / 30 <= len(records) < SPANS / 30 + 100
    begin_ns = T0_NS - 27 * DAY_NS
    assert all(begin_ns <= each.start_ns < begin_ns + DAY_NS + DAY_NS // 24 for each in records)
    assert len(records) == len({(each.trace_id, each.span_id) for each in records})
    # What has not ended by the end of the month is not there.
    assert all(each.end_ns <= T0_NS for each in decoded(days[3]))


def test_a_month_has_forty_nodes_five_models_four_teams_and_everything_that_happens(made: ModuleType) -> None:
    records = decoded([request for number in range(0, 30, 3) for request in made.Month(SPANS, T0_NS).day(number)])
    assert (40, 5, 4) == tuple(
        len({value for each in records if (value := getattr(each, name))}) for name in ("node", "model", "team")
    )
    assert set(names.SPAN_STATUSES) == {each.status for each in records if each.kind == names.RUN}
    assert {names.START, names.RUN, names.NODE, names.MODEL, names.TOOL, names.RETRIEVER} == {
        each.kind for each in records
    }
    assert {True, False} == {each.attempt_final for each in records} == {each.cache_hit for each in records}
    assert any(each.resumed_from for each in records)
    assert any(each.rate_limited or each.error_type == "RateLimitError" for each in records)
