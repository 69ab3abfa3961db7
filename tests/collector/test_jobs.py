"""What happens without a request: runs are given up, gauges follow the database, faults are counted and outlived."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from collector.served import Served, configured, served
from collector.waiting import end, until, until_true
from graphmeter import names
from graphmeter_collector import jobs as module
from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.store import runs
from support import otlp
from support.records import SECOND, span_id, trace

BASE = ("shop", "test", "support", "cx")
LABELS = 'environment="test",graph="support",service="shop",team="cx"'


def ago(seconds: float) -> int:
    return time.time_ns() - round(seconds * SECOND)


async def status_of(it: Served, of: int) -> str:
    return str((await it.get(f"/api/runs/{trace(of).hex()}"))["status"])


async def test_a_run_silent_for_too_long_is_lost_once_and_found_again_when_its_end_arrives(database_url: str) -> None:
    async with served(database_url) as it:
        began = ago(3 * 3600)
        await it.send(otlp.started(1, start_ns=began), otlp.started(2, start_ns=ago(60)))
        with capture_logs() as logged:
            await it.collector.jobs.sweep()
            await it.collector.jobs.sweep()
        assert [1] == [line["runs"] for line in logged if line["event"] == "runs_lost"]
        assert (names.LOST, names.RUNNING, 1) == (
            await status_of(it, 1),
            await status_of(it, 2),
            it.collector.metrics.value(names.RUNS, *BASE, names.LOST),
        )
        await it.send(*otlp.run(1, start_ns=began))
        assert names.OK == await status_of(it, 1)


async def test_runs_are_given_up_in_parts_and_what_they_paid_for_nothing_is_counted_and_corrected(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOST_AT_ONCE", 2)
    async with served(database_url) as it:
        began = ago(3 * 3600)
        for of in range(1, 6):
            start, _, call, _ = otlp.run(of, start_ns=began)
            await it.send(start, call)
        with capture_logs() as logged:
            await it.collector.jobs.sweep()
        assert [2, 2, 1] == [line["runs"] for line in logged if line["event"] == "runs_lost"]
        [given_up] = await it.get("/api/cost/waste?by=graph")
        assert (names.CANCELLED, 5) == (given_up["reason"], given_up["calls"])

        await it.send(*otlp.run(1, start_ns=began))
        [corrected] = await it.get("/api/cost/waste?by=graph")
        assert (4, given_up["cost_nano"] * 4 // 5) == (corrected["calls"], corrected["cost_nano"])
        # A counter never goes down.
        assert given_up["cost_nano"] / 1e9 == pytest.approx(
            it.collector.metrics.value(names.WASTED_COST, *BASE, "answer", names.CANCELLED)
        )


async def test_a_span_that_ended_lately_is_a_sign_of_life(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        began = ago(3600)
        node = otlp.own(2, names.NODE, start_ns=began, s=3590, parent=span_id(1))
        await it.send(otlp.started(1, start_ns=began), node)
        await it.collector.jobs.sweep()
        assert names.RUNNING == await status_of(it, 1)


async def test_the_configuration_says_when_a_run_is_lost_and_the_sweep_comes_by_itself(
    sqlite_url: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, "runs: {lost_after: 1s}")
    async with served(sqlite_url, config=config) as it:
        await it.send(otlp.started(1, start_ns=ago(10)))

        async def lost() -> bool:
            return await status_of(it, 1) == names.LOST

        await until_true(lost)


async def test_after_a_start_senders_come_first_and_the_sweep_later(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_AT_LEAST_EVERY_S", 3600.0)
    monkeypatch.setattr(module, "SWEEP_AT_MOST_EVERY_S", 3600.0)
    config = configured(tmp_path, "runs: {lost_after: 1s}")
    async with served(sqlite_url, config=config) as it:
        await it.send(otlp.started(1, start_ns=ago(10)))
    async with served(sqlite_url, config=config) as it:
        await asyncio.sleep(0.2)
        assert names.RUNNING == await status_of(it, 1)


async def test_a_run_that_missed_ten_heartbeats_is_lost_long_before_lost_after(database_url: str) -> None:
    async with served(database_url) as it:
        for of, silent_s in ((1, 120), (2, 30)):
            start = otlp.started(of, start_ns=ago(600))
            start.attributes.extend(otlp.pairs({names.HEARTBEAT_S: 10.0}))
            heartbeat = otlp.own(8, names.HEARTBEAT, of=of, start_ns=ago(silent_s), s=0, parent=span_id(1))
            await it.send(start, heartbeat)
        await it.collector.jobs.sweep()
        assert (names.LOST, names.RUNNING) == (await status_of(it, 1), await status_of(it, 2))


async def test_waits_are_shown_and_counted_once_when_they_are_answered(database_url: str) -> None:
    thread = {names.CONVERSATION_ID: "t1"}
    asked = {**thread, names.STATUS: names.INTERRUPTED, names.LANGGRAPH_CHECKPOINT_ID: "c1"}
    async with served(database_url) as it:
        jobs, metrics = it.collector.jobs, it.collector.metrics

        async def waiting(expected: int, counted: int) -> None:
            """The job may be at it by itself at this moment: then its result is as good, and comes as soon."""

            async def so() -> bool:
                await jobs.end_waits()
                await jobs.refresh_gauges()
                shown = metrics.value(names.RUNS_WAITING, *BASE)
                # Asked an hour ago.
                assert (3600 if shown else 0) <= metrics.value(names.HUMAN_WAIT_OLDEST, *BASE) < shown * 4000 + 1
                return (expected, counted) == (shown, metrics.value(names.HUMAN_WAIT, *BASE))

            await until_true(so)

        await it.send(otlp.own(1, names.RUN, asked, of=1, start_ns=ago(3610), s=10))
        await waiting(1, counted=0)

        # Answered in another process, an hour later.
        await it.send(otlp.own(1, names.RUN, {**thread, names.RESUMED_FROM: "c1"}, of=2, start_ns=ago(0.5), s=0.1))
        await waiting(0, counted=1)
        await jobs.end_waits()
        await waiting(0, counted=1)


async def test_one_collector_at_a_time_sweeps(database_url: str) -> None:
    async with served(database_url) as it:
        await it.send(otlp.started(1, start_ns=ago(3 * 3600)))
        async with it.collector.store.job_lock("sweep") as ours:
            assert ours
            await it.collector.jobs.sweep()
            assert names.RUNNING == await status_of(it, 1)
        await it.collector.jobs.sweep()
        assert names.LOST == await status_of(it, 1)


async def test_settling_does_not_keep_the_sweep_from_its_turn(database_url: str) -> None:
    async with served(database_url) as it:
        await it.send(otlp.started(1, start_ns=ago(3 * 3600)))
        async with it.collector.store.job_lock("settle"):
            await it.collector.jobs.sweep()
        assert names.LOST == await status_of(it, 1)


async def test_gauges_show_what_the_database_knows(sqlite_url: str, tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        budgets:
          - {name: everything, limit_usd: 2}
          - {name: teams, limit_usd: 1, per_team: true}
        slos: [{name: availability, objective: 50%}]
        """,
    )
    async with served(sqlite_url, config=config, forward=["http://127.0.0.1:9"]) as it:
        for of in (1, 2):
            await it.send(*otlp.run(of, start_ns=ago(5), status=names.ERROR if of == 2 else names.OK))
        await it.send(otlp.started(3, start_ns=ago(4)))
        await it.collector.jobs.refresh_backlog()
        in_progress = f"graphmeter_runs_in_progress{{{LABELS}}}"
        shown: dict[str, float] = {}

        async def read() -> bool:
            """The job by itself may just be writing down what it read before."""
            await it.collector.jobs.refresh_gauges()
            shown.update(await it.scrape())
            return in_progress in shown and len([series for series in shown if "_slo_" in series]) > 0

        await until_true(read)
    assert 4 <= shown[f"graphmeter_run_oldest_in_progress_seconds{{{LABELS}}}"] < 300
    age = shown['graphmeter_collector_outbox_age_seconds{destination="127.0.0.1:9"}']
    assert 0 < age < 60
    assert {
        in_progress: 1.0,
        'graphmeter_budget_spent_usd{budget="everything",scope="",team=""}': 0.007,
        'graphmeter_budget_spent_usd{budget="teams",scope="",team="cx"}': 0.007,
        'graphmeter_budget_limit_usd{budget="everything",scope="",team=""}': 2.0,
        'graphmeter_budget_limit_usd{budget="teams",scope="",team="cx"}': 1.0,
        'graphmeter_slo_error_budget_remaining_ratio{graph="support",slo="availability"}': 0.0,
        'graphmeter_collector_outbox_spans{destination="127.0.0.1:9"}': 6.0,
    } == {
        series: value
        for series, value in shown.items()
        if series.startswith(
            (
                "graphmeter_runs_in_progress",
                "graphmeter_budget_spent",
                "graphmeter_budget_limit",
                "graphmeter_slo",
                "graphmeter_collector_outbox_spans",
            )
        )
    }
    for budget in ('{budget="everything",scope="",team=""}', '{budget="teams",scope="",team="cx"}'):
        start = shown[f"graphmeter_budget_period_start_timestamp_seconds{budget}"]
        finish = shown[f"graphmeter_budget_period_end_timestamp_seconds{budget}"]
        assert start <= time.time() < finish + 60


async def test_sizes_of_tables_are_shown_and_what_a_run_takes_of_them(database_url: str) -> None:
    async with served(database_url) as it:
        await it.send(*otlp.run(1, start_ns=ago(5)), *otlp.run(2, start_ns=ago(5)))
        await it.collector.jobs.refresh_sizes()
        shown = await it.scrape()
    for table in ("span", "span_body", "run", "ledger", "rollup_day"):
        size = shown[f'graphmeter_collector_table_bytes{{table="{table}"}}']
        assert (True, size / 2) == (size > 0, shown[f'graphmeter_collector_bytes_per_run{{table="{table}"}}'])
    assert 'graphmeter_collector_bytes_per_run{table="api_key"}' not in shown


async def test_reading_sizes_is_left_to_rest_between_its_parts(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(sqlite_url) as it:
        rests: list[float] = []

        async def table_bytes(rest: float = 0.0) -> dict[str, int]:
            rests.append(rest)
            return {}

        monkeypatch.setattr(it.collector.store, "table_bytes", table_bytes)
        await it.collector.jobs.refresh_sizes()
    assert {50} == set(rests)  # a fiftieth of a processor; the job may be at it by itself, too


async def test_what_a_destination_did_not_get_before_its_bytes_went_is_counted(sqlite_url: str) -> None:
    async with served(sqlite_url, forward=["http://127.0.0.1:9"]) as it:
        await it.send(*otlp.run(1, start_ns=ago(9 * 86_400)), *otlp.run(2, start_ns=ago(5)))
        labels = ("127.0.0.1:9", names.FORWARD_EXPIRED)
        # The job may be at it by itself: then ours finds nothing to do.
        await it.collector.jobs.retain()
        await until(lambda: it.collector.metrics.value(names.COLLECTOR_FORWARD_DROPPED, *labels) == 3)
        assert {"127.0.0.1:9": 3} == await it.collector.store.outbox_depth()


async def test_a_graph_at_rest_is_shown_at_zero(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:

        async def shown(value: float) -> None:
            async def so() -> bool:
                await it.collector.jobs.refresh_gauges()
                page = it.collector.metrics.render("*/*")[0].decode()
                return f"graphmeter_runs_in_progress{{{LABELS}}} {value}\n" in page

            await until_true(so)

        began = ago(5)
        await it.send(otlp.started(1, start_ns=began))
        await shown(1.0)
        await it.send(*otlp.run(1, start_ns=began))
        await shown(0.0)


async def test_old_spans_go_and_their_runs_stay(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url) as it:
        await it.send(*otlp.run(1, start_ns=ago(20 * 86_400)))
    config = configured(tmp_path, "retention: {spans: 7d, bodies: 1d}")
    async with served(sqlite_url, config=config) as it:

        async def gone() -> bool:
            return not await it.get(f"/api/runs/{trace(1).hex()}/trace")

        await until_true(gone)
        assert names.OK == await status_of(it, 1)


@pytest.mark.parametrize(
    ("fault", "told"), [(StoreUnavailable("away"), "warning"), (ZeroDivisionError("ours"), "error")]
)
async def test_a_job_that_fails_is_counted_told_and_run_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, told: str
) -> None:
    monkeypatch.setattr(module, "GAUGES_EVERY_S", 0.01)
    async with served(sqlite_url) as it:
        jobs, failing = it.collector.jobs, [fault, fault]
        refresh = jobs.refresh_gauges
        refreshed = 0

        async def flaky() -> None:
            nonlocal refreshed
            if failing:
                raise failing.pop()
            await refresh()
            refreshed += 1

        monkeypatch.setattr(jobs, "refresh_gauges", flaky)
        with capture_logs() as logged:
            running: asyncio.Task[Any] = asyncio.create_task(jobs.run([]))
            await until(lambda: refreshed > 1)
            await end(running)
        assert 2 == it.collector.metrics.value(names.COLLECTOR_JOB_FAILURES, "gauges")
        failures = [line for line in logged if line["event"] == "job_failed" and line["job"] == "gauges"]
        assert [told, told] == [line["log_level"] for line in failures]
