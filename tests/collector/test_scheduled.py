"""Scheduled reports: of the last period that is over, once, with what the ledger says; nothing old is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from collector.notify.hook import hook
from collector.served import configured, served
from collector.store.dump import opened
from collector.waiting import until
from graphmeter_collector import jobs
from graphmeter_collector.notify.courier import Courier
from graphmeter_collector.notify.message import markdown
from graphmeter_collector.reports import COST_DIMENSIONS, CostRow
from graphmeter_collector.scheduled import Scheduled, due, spend_message
from graphmeter_collector.store import Store
from graphmeter_collector.store.notifications import NotificationTable
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Config, Report
from graphmeter_config.periods import parse
from graphmeter_config.reporting import DIMENSIONS
from support.records import SECOND, T0_NS, call

HOUR = 3600 * SECOND
DAY = 24 * HOUR
BERLIN = "Europe/Berlin"
DAILY = Report(name="daily", every="day", timezone=BERLIN, by=("team", "model"), receivers=("bot",), top=1)
CONFIG = Config.model_validate({"receivers": [{"name": "bot", "url": "http://x"}], "reports": [DAILY]})


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("every", "now", "expected"),
    [
        ("day", "2026-11-21T00:14:59", "2026-11-19"),
        ("day", "2026-11-21T00:15", "2026-11-20"),
        ("week", "2026-11-23T00:15", "2026-W47"),
        ("week", "2026-11-20T12:00", "2026-W46"),
        ("month", "2026-11-07T12:00", "2026-10"),
        ("month", "2026-11-21T12:00", None),
        ("day", "2026-10-26T00:15", "2026-10-25"),
    ],
)
def test_a_report_is_due_for_the_last_period_that_is_over(every: str, now: str, expected: str | None) -> None:
    report = DAILY.model_copy(update={"every": every})
    found = due(report, moment(now))
    assert expected == (found.label if found else None)


def test_every_dimension_of_a_report_is_one_of_the_ledger() -> None:
    assert set(DIMENSIONS) <= set(COST_DIMENSIONS)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as made:
        await made.write(
            [
                call(1, nano=3_000_000_000),
                call(2, nano=2_000_000_000, team="ops"),
                call(3, nano=1_000_000_000, team=""),
                call(4, nano=4_000_000_000, at_s=-86_400),
            ]
        )
        yield made


async def test_each_period_is_reported_once_whoever_restarts(store: Store, database_url: str) -> None:
    table = NotificationTable(database_url)
    try:
        for _ in range(2):
            scheduled = Scheduled(store.reader, Courier(table, lambda: CONFIG, Metrics()), lambda: CONFIG)
            for hours in (24, 25, 36):
                await scheduled.run(T0_NS + hours * HOUR)
        sent = {each.key: json.loads(each.body) for each in await table.due(1 << 62, 100)}
    finally:
        await table.close()

    day = "report/daily/2026-11-18/bot"
    assert [day] == list(sent)
    assert "Spend of 2026-11-18: $6.00" == sent[day]["title"]
    data = sent[day]["data"]
    assert (6_000_000_000, 4_000_000_000, 1_000_000_000) == (
        data["total_nano"],
        data["before_nano"],
        data["unattributed_nano"],
    )
    assert (1, 2) == (len(data["rows"]), data["rows_left_out"])


async def test_people_read_the_change_the_dearest_and_the_rest(store: Store) -> None:
    stretch = parse("day", "2026-11-18", BERLIN)
    rows = await store.reader.cost(DAILY.by, stretch.since_ns, stretch.until_ns)
    assert (
        "## Spend of 2026-11-18: $6.00\n\n"
        "At effective prices, 2026-11-18 (Europe/Berlin); $2.00 more than the day before (+50.0%).  \n"
        "$1.00 names no team or no model.\n\n"
        "| team | model | calls | cost | share |\n| --- | --- | ---: | ---: | ---: |\n"
        "| cx | gpt-4o | 1 | $3.00 | 50.0% |\n| 2 more |  | 2 | $3.00 |  |\n"
    ) == markdown(spend_message(DAILY, stretch, rows, 4_000_000_000))


async def test_people_read_what_was_for_nothing_and_what_caches_saved() -> None:
    rows = [
        CostRow({"team": team}, 1, 0, 0, 0, {}, 4_000_000_000, saved, 4_000_000_000, wasted_nano=wasted)
        for team, saved, wasted in (
            ("cx", 0, {"error": 1_000_000_000}),
            ("ops", 5_000_000_000, {"error": 1, "retry": 2}),
        )
    ]
    message = spend_message(DAILY.model_copy(update={"by": ("team",)}), parse("day", "2026-11-18", BERLIN), rows, 0)

    assert message.text.splitlines()[1:] == [
        "$1.00 was for nothing: error $1.00, retry $0.000000.",
        "$5.00 saved by caches.",
    ]
    assert {"error": 1_000_000_001, "retry": 2, "cancelled": 0} == message.data["wasted_nano"]
    assert 5_000_000_000 == message.data["saved_nano"]


async def test_what_was_priced_again_is_said_beside_what_was_billed() -> None:
    rows = [CostRow({"team": "cx"}, 2, 0, 0, 0, {}, 4_000_000_000, 0, 1_500_000_000)]
    stretch = parse("day", "2026-11-18", BERLIN)
    effective = spend_message(DAILY.model_copy(update={"by": ("team",)}), stretch, rows, 0)
    assert "Calls were priced again: as billed it was $1.50." == effective.text.splitlines()[1]
    assert ("effective", 4_000_000_000, 1_500_000_000) == tuple(
        effective.data[name] for name in ("view", "total_nano", "billed_nano")
    )
    billed = spend_message(DAILY.model_copy(update={"view": "billed"}), stretch, [], 0)
    assert billed.text.startswith("As billed, 2026-11-18")
    assert "billed" == billed.data["view"]


async def test_a_day_without_spend_is_reported_too(sqlite_url: str) -> None:
    message = spend_message(DAILY, parse("day", "2026-11-18"), [], 0)
    assert ("Spend of 2026-11-18: $0.00", None) == (message.title, message.table)


async def test_a_collector_sends_its_reports(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "NOTIFY_EVERY_S", 0.02)
    async with hook() as there:
        config = configured(
            tmp_path,
            f"receivers: [{{name: chat, kind: slack, url: '{there.url}'}}]\n"
            "reports: [{name: daily, receivers: [chat], after: 1s, timezone: UTC}]",
        )
        async with served(sqlite_url, config=config):
            await until(lambda: there.posted)
    assert "header" == json.loads(there.bodies[0])["blocks"][0]["type"]
