"""What a collector writes before it is ready and takes back: all that most requests write, and nothing stays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from collector.store.dump import dump, fresh, opened
from graphmeter import names
from graphmeter_collector import rehearsal
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.pipeline import Pipeline
from graphmeter_collector.price.book import PriceBook
from graphmeter_collector.records import SpanRecord
from graphmeter_collector.store import Store
from graphmeter_collector.telemetry import Metrics
from support.records import whole_run


async def rehearsed(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[SpanRecord]:
    """Let a pipeline rehearse; the spans that it gave the store."""
    given: list[SpanRecord] = []
    rehearse = store.rehearse

    async def noted(records: Sequence[SpanRecord]) -> None:
        given.extend(fresh(records))
        await rehearse(records)

    monkeypatch.setattr(store, "rehearse", noted)
    with capture_logs() as logs:
        await Pipeline(store, PriceBook(), Metrics()).rehearse()
    assert [] == logs
    return given


async def test_a_rehearsal_leaves_nothing_and_what_comes_after_it_is_counted_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await dump(database_url)
    async with opened(database_url) as store:
        given = await rehearsed(store, monkeypatch)
        assert before == await dump(database_url)
        # As a request it would have been stored, and would have written what nearly every one does.
        result = await store.write(given)
        [finished] = result.finished
        assert (4, 1) == (len(result.new), finished.steps)
        assert finished.cost_nano > 0, "the call is priced"
        stored = await dump(database_url)
    written = {name for name, rows in stored.items() if rows and not before[name]}
    assert {"span", "span_body", "span_envelope", "run", "run_node", "ledger", "rollup_hour", "rollup_day"} == written


async def test_what_is_written_after_a_rehearsal_is_what_is_written_without(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database_url) as store:
        given = await rehearsed(store, monkeypatch)
        for _ in range(2):
            await store.rehearse(fresh(given))
        await store.write(fresh(whole_run()))
    [run] = (await dump(database_url))["run"]
    assert (8, 1_701) == (run["spans"], run["cost_nano"])
    counted = {row["graph"] for row in (await dump(database_url))["rollup_hour"]}
    assert {"support"} == counted


async def test_a_rehearsal_that_fails_is_logged_and_keeps_nobody_from_starting(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(sqlite_url) as store:

        async def away(records: Sequence[SpanRecord]) -> None:
            raise StoreUnavailable("nobody answers")

        monkeypatch.setattr(store, "rehearse", away)
        with capture_logs() as logs:
            await Pipeline(store, PriceBook(), Metrics()).rehearse()
    assert [("rehearsal_failed", "nobody answers")] == [(log["event"], log["error"]) for log in logs]


def test_ids_are_new_each_time() -> None:
    one, other = rehearsal.request(), rehearsal.request()
    [first], [second] = ([*each.resource_spans[0].scope_spans] for each in (one, other))
    assert len(first.spans) == len({span.span_id for span in first.spans})
    assert {span.trace_id for span in first.spans}.isdisjoint(span.trace_id for span in second.spans)
    kinds = [next(a.value.string_value for a in span.attributes if a.key == names.KIND) for span in first.spans]
    assert [names.START, names.RUN, names.NODE, names.MODEL] == kinds
