"""Questions on spend: whatever it is grouped by, whichever database answers, every nano-USD of the ledger is there once."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from collector.store.dump import opened
from graphmeter import names
from graphmeter_collector.errors import BadRequest
from graphmeter_collector.records import Cost, Outcome, SpanRecord
from graphmeter_collector.reports import (
    BILLED,
    COST_DIMENSIONS,
    COST_PERIODS,
    COST_UNITS,
    EFFECTIVE,
    Reader,
    ReportedCostRow,
    View,
)
from graphmeter_collector.spending import movers, waste
from graphmeter_collector.store.engine import parse
from graphmeter_collector.store.read import SqlReader, open_reader
from support.records import SECOND, T0_NS, call, note, priced

DAY = 86_400
ALL = (T0_NS - DAY * SECOND, T0_NS + 40 * DAY * SECOND)
ZONE = "America/New_York"
GROUPS = [*COST_DIMENSIONS, "tag:plan", "tag:né w"]

_Answer = TypeVar("_Answer")


def calls(count: int = 150) -> list[SpanRecord]:
    """Calls of many kinds over five weeks, always the same ones; every dimension is sometimes not said."""
    dice = random.Random(7)

    def made(number: int) -> SpanRecord:
        kind = dice.choice(("priced", "priced", "priced", "cached", "unpriced", "usage_missing"))
        cost = {
            "priced": priced(dice.randrange(10**6)),
            "cached": priced(0, status="cached", saved_nano=dice.randrange(1000)),
        }.get(kind, Cost(0, (0,) * 10, kind))
        said: dict[str, Any] = {
            name: dice.choice(("", f"{name}-1", f"{name}-2"))
            for name in ("team", "tenant", "graph", "node", "model", "release", "thread_id", "user_id", "session_id")
        }
        return call(
            number,
            of=dice.randrange(1, 40),
            at_s=dice.randrange(35 * DAY),
            cost=cost,
            cache_hit=kind == "cached",
            usage_missing=kind == "usage_missing",
            status=dice.choice((names.OK, names.OK, names.ERROR, names.CANCELLED)),
            tags={key: value for key in ("plan", "né w") if (value := dice.choice(("", "free", 'p"ro')))},
            **said,
        )

    return [made(number) for number in range(1, count + 1)]


CALLS = calls()


def fill(url: str, records: Iterable[SpanRecord]) -> None:
    async def write() -> None:
        async with opened(url) as store:
            result = await store.write(list(records))
            assert not result.rejected

    asyncio.run(write())


def ask(url: str, question: Callable[[Reader], Awaitable[_Answer]]) -> _Answer:
    async def answer() -> _Answer:
        async with open_reader(url) as reader:
            return await question(reader)

    return asyncio.run(answer())


def value(record: SpanRecord, name: str) -> str:
    """What a group of a dimension is called."""
    if name.startswith("tag:"):
        return record.tags.get(name.removeprefix("tag:"), "")
    if name == "price_status":
        assert record.cost is not None
        return record.cost.status
    if name in COST_PERIODS:
        day = datetime.fromtimestamp(record.start_ns / SECOND, ZoneInfo(ZONE))
        year, week, _ = day.isocalendar()
        return {"day": f"{day:%Y-%m-%d}", "month": f"{day:%Y-%m}", "week": f"{year}-W{week:02}"}[name]
    return str(getattr(record, name))


def nano(records: Iterable[SpanRecord]) -> int:
    return sum(each.cost.total_nano for each in records if each.cost)


def test_totals_of_any_grouping_and_filter_are_those_of_the_ledger(database_url: str) -> None:
    fill(database_url, CALLS)

    @given(
        st.lists(st.sampled_from([*GROUPS, *COST_PERIODS]), max_size=4, unique=True),
        st.dictionaries(st.sampled_from(GROUPS), st.lists(st.integers(0, len(CALLS) - 1), max_size=3), max_size=2),
    )
    @settings(max_examples=25)
    def agree(by: list[str], like: dict[str, list[int]]) -> None:
        where = {name: [value(CALLS[index], name) for index in some] for name, some in like.items()}
        counted = [each for each in CALLS if all(value(each, name) in wanted for name, wanted in where.items())]
        expected: dict[tuple[str, ...], list[SpanRecord]] = defaultdict(list)
        for each in counted:
            expected[tuple(value(each, name) for name in by)].append(each)

        rows = ask(database_url, lambda reader: reader.cost(by, *ALL, where=where, timezone=ZONE, detail=True))
        plain = ask(database_url, lambda reader: reader.cost(by, *ALL, where=where, timezone=ZONE))
        assert [(row.group, row.cost_nano, row.calls) for row in rows] == [
            (row.group, row.cost_nano, row.calls) for row in plain
        ]

        assert {key: nano(each) for key, each in expected.items()} == {
            tuple(row.group.values()): row.cost_nano for row in rows
        }
        assert nano(counted) == sum(row.cost_nano for row in rows)
        assert len(counted) == sum(row.calls + row.cache_hits for row in rows)
        assert [row.cost_nano for row in rows] == [sum((row.nano or {}).values()) for row in rows]
        failed = [each for each in counted if each.status in (names.ERROR, names.CANCELLED) and not each.cache_hit]
        assert (len(failed), nano(failed)) == (
            sum(row.failed_calls or 0 for row in rows),
            sum(row.failed_nano or 0 for row in rows),
        )
        for row in rows:
            mine = [each for each in expected[tuple(row.group.values())] if not each.cache_hit]
            for why in (names.ERROR, names.CANCELLED):
                ended = [each for each in mine if each.status == why]
                assert (len(ended), nano(ended)) == (row.wasted_calls.get(why, 0), row.wasted_nano.get(why, 0))
        # Whether sums come from the ledger or from rollups.
        assert [(row.wasted_calls, row.wasted_nano) for row in rows] == [
            (row.wasted_calls, row.wasted_nano) for row in plain
        ]

    agree()


@pytest.mark.parametrize("view", [BILLED, EFFECTIVE])
@pytest.mark.parametrize("by", [["team"], ["tag:plan"], ["day", "run_id"]], ids=str)
def test_what_was_for_nothing_is_found_without_reading_the_ledger(sqlite_url: str, by: list[str], view: View) -> None:
    fill(sqlite_url, [call(1, status=names.ERROR), call(2)])
    asked: list[Any] = []

    class Listening(SqlReader):
        async def rows(self, statement: Any) -> Any:
            asked.append(statement)
            return await super().rows(statement)

    async def ask_and_listen() -> None:
        reader = Listening(parse(sqlite_url))
        assert [1] == [row.wasted_calls[names.ERROR] for row in await reader.cost(by, *ALL, view=view)]
        await reader.close()

    database = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    with database:
        database.execute(
            "INSERT INTO ledger_price (trace_id, span_id, version, start_ns, effective, cost_nano) "
            "SELECT trace_id, span_id, 1, start_ns, 1, 5 FROM ledger"
        )
    asyncio.run(ask_and_listen())
    text = str(asked[-1].compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    plan = [row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {text}")]
    database.close()

    first, second = [step for step in plan if step.split()[1].startswith("ledger")][:2]
    assert first.startswith("SEARCH ledger_waste USING INDEX ix_ledger_waste_start_ns")
    assert second.startswith("SEARCH ledger USING INDEX sqlite_autoindex_ledger_1 (trace_id=? AND span_id=?)")


def test_what_was_for_nothing_is_listed_by_group_and_reason_the_dearest_first(database_url: str) -> None:
    failed: dict[str, Any] = {"status": names.ERROR}
    fill(
        database_url,
        [
            call(1, nano=60, node="plan"),
            call(2, nano=30, node="plan", **failed),
            call(3, nano=10, node="plan", status=names.CANCELLED),
            call(4, nano=50, node="answer", **failed),
            call(5, nano=0, node="local", cost=priced(0, status="free"), **failed),
            call(6, nano=9, node="plan", at_s=50 * DAY, **failed),
        ],
    )
    rows = waste(ask(database_url, lambda reader: reader.cost(["node"], *ALL)))

    assert [
        ("answer", names.ERROR, 1, 50, 50, 1.0),
        ("plan", names.ERROR, 1, 30, 100, 0.3),
        ("plan", names.CANCELLED, 1, 10, 100, 0.1),
        ("local", names.ERROR, 1, 0, 0, None),
    ] == [(row.group["node"], row.reason, row.calls, row.cost_nano, row.spent_nano, row.share) for row in rows]


def test_what_providers_say_is_beside_what_the_same_calls_cost_by_our_prices(database_url: str) -> None:
    fill(
        database_url,
        [
            call(1, nano=100, reported_nano=90),
            call(2, nano=50, reported_nano=70),
            call(3, nano=10),
            call(4, reported_nano=5, cost=Cost(0, (0,) * 10, "unpriced")),
            call(5, model="grok-4", nano=8, reported_nano=0),
            call(6, nano=9, reported_nano=9, at_s=50 * DAY),
        ],
    )
    rows = ask(database_url, lambda reader: reader.reported_cost(["model"], *ALL))
    [total] = ask(database_url, lambda reader: reader.reported_cost([], *ALL, where={"provider": ["openai"]}))

    assert [
        ReportedCostRow({"model": "gpt-4o"}, 3, 150, 165, -15, 1, 0),
        ReportedCostRow({"model": "grok-4"}, 1, 8, 0, 8, 0, 0),
    ] == rows
    assert (4, 158, 165, -7) == (total.calls, total.cost_nano, total.reported_nano, total.drift_nano)
    assert [] == ask(database_url, lambda reader: reader.reported_cost([], *ALL, where={"team": ["nobody"]}))


def nearest_rank(costs: list[int], percent: int) -> int:
    return sorted(costs)[math.ceil(len(costs) * percent / 100) - 1]


@pytest.mark.parametrize("by", [(), ("graph",), ("team", "tag:plan")], ids=str)
def test_what_one_unit_costs_is_exact(database_url: str, by: tuple[str, ...]) -> None:
    fill(database_url, CALLS)
    for unit in COST_UNITS:
        groups: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for each in CALLS:
            groups[tuple(value(each, name) for name in by)][value(each, unit)] += nano([each])
        rows = ask(database_url, lambda reader, unit=unit: reader.unit_cost(unit, by, *ALL))  # type: ignore[misc]

        assert set(groups) == {tuple(row.group.values()) for row in rows}
        for row in rows:
            units = dict(groups[tuple(row.group.values())])
            rest = units.pop("", 0)
            costs = list(units.values())
            assert (len(costs), sum(costs), rest) == (row.units, row.cost_nano, row.rest_nano)
            if costs:
                found = (row.median_nano, row.p95_nano, row.max_nano, row.mean_nano)
                assert (
                    nearest_rank(costs, 50),
                    nearest_rank(costs, 95),
                    max(costs),
                    sum(costs) // len(costs),
                ) == found


def test_a_good_outcome_costs_all_spend_of_its_group_by_their_number(database_url: str) -> None:
    def outcome(number: int, kind: str, good: bool | None, **facts: Any) -> SpanRecord:
        return note(number, names.OUTCOME, said=Outcome(kind, good, None), **facts)

    fill(
        database_url,
        [
            call(1, nano=700),
            call(2, nano=300, graph="sales"),
            outcome(10, "resolved", True),
            outcome(11, "resolved", True),
            outcome(12, "resolved", False),
            outcome(13, "escalated", None),
            outcome(14, "sold", False, graph="sales"),
        ],
    )
    rows = ask(database_url, lambda reader: reader.outcome_cost(["graph"], *ALL))
    assert [
        ("support", "escalated", 0, 0, 1, 700, None),
        ("support", "resolved", 2, 1, 0, 700, 350),
        ("sales", "sold", 0, 1, 0, 300, None),
    ] == [
        (row.group["graph"], row.kind, row.good, row.bad, row.unjudged, row.cost_nano, row.per_good_nano)
        for row in rows
    ]
    [only] = ask(database_url, lambda reader: reader.outcome_cost([], *ALL, where={"graph": ["sales"]}))
    assert ("sold", 300) == (only.kind, only.cost_nano)
    with pytest.raises(BadRequest, match="outcomes do not say their model"):
        ask(database_url, lambda reader: reader.outcome_cost(["model"], *ALL))


def test_a_tag_said_afterwards_by_run_id_counts_for_the_whole_run(database_url: str) -> None:
    fill(
        database_url,
        [
            call(1, nano=5, tags={"plan": "free"}),
            call(2, nano=7),
            call(3, of=2, nano=11, tags={"plan": "pro"}),
            note(9, names.TAGS, tags={"plan": "team"}),
        ],
    )
    rows = ask(database_url, lambda reader: reader.cost(["tag:plan"], *ALL))
    assert [("team", 12), ("pro", 11)] == [(row.group["tag:plan"], row.cost_nano) for row in rows]


def test_days_are_those_of_the_time_zone_also_where_the_clock_is_changed(database_url: str) -> None:
    # 2026-11-01 has 25 hours in New York: from 04:00 UTC to 05:00 UTC of the next day.
    first = round(datetime(2026, 11, 1, tzinfo=ZoneInfo(ZONE)).timestamp()) * SECOND
    fill(
        database_url,
        [
            call(number, nano=10**number, at_s=(first - T0_NS) / SECOND + at_s)
            for number, at_s in enumerate((-1, 0, 25 * 3600 - 1, 25 * 3600), 1)
        ],
    )
    span = (first - DAY * SECOND, first + 3 * DAY * SECOND)
    rows = ask(database_url, lambda reader: reader.cost(["day"], *span, timezone=ZONE))
    assert {"2026-10-31": 10, "2026-11-01": 1100, "2026-11-02": 10_000} == {
        row.group["day"]: row.cost_nano for row in rows
    }


def test_only_the_dearest_are_told_where_somebody_asks_for_a_few(database_url: str) -> None:
    fill(database_url, [call(number, of=number, nano=number) for number in range(1, 10)])
    rows = ask(database_url, lambda reader: reader.cost(["run"], *ALL, limit=2))
    assert [9, 8] == [row.cost_nano for row in rows]
    assert ["run_id", "run_id"] == [name for row in rows for name in row.group]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (lambda reader: reader.cost(["moon"], *ALL), "cannot group spend by 'moon': choose from service"),
        (lambda reader: reader.cost(["tag:"], *ALL), "cannot group spend by 'tag:'"),
        (lambda reader: reader.cost(['tag:a"b'], *ALL), "cannot group spend by 'tag:a"),
        (lambda reader: reader.cost(["day"], 0, ALL[1]), "more than 400 days"),
        (lambda reader: reader.cost(["day"], *ALL, timezone="Mars/X"), "'Mars/X' is an unknown time zone"),
        (lambda reader: reader.unit_cost("model", [], *ALL), "no cost per 'model': choose from run_id"),
        (lambda reader: reader.unit_cost("user", ["user"], *ALL), "cannot group the cost per user_id by user_id"),
    ],
    ids=["moon", "tag", "quote", "days", "zone", "unit", "twice"],
)
def test_an_impossible_question_is_answered_with_what_is_possible(
    sqlite_url: str, question: Callable[[Reader], Awaitable[Any]], said: str
) -> None:
    with pytest.raises(BadRequest, match=said.replace("[", r"\[")):
        ask(sqlite_url, question)


def test_movers_are_everything_that_was_or_is_with_what_moved_most_first(sqlite_url: str) -> None:
    def spent(number: int, model: str, nano: int, day: int) -> SpanRecord:
        return call(number, model=model, nano=nano, at_s=day * DAY)

    fill(
        sqlite_url,
        [
            *(spent(1, "same", 5, 0), spent(2, "same", 5, 1), spent(3, "gone", 7, 0), spent(4, "new", 100, 1)),
            *(spent(5, "half", 40, 0), spent(6, "half", 20, 1)),
        ],
    )
    times = [(T0_NS + day * DAY * SECOND, T0_NS + (day + 1) * DAY * SECOND) for day in (0, 1)]
    before, now = (ask(sqlite_url, lambda reader, t=t: reader.cost(["model"], *t)) for t in times)  # type: ignore[misc]
    rows = movers(now, before)
    assert [
        ("new", 100, None, "new"),
        ("half", -20, -0.5, "moved"),
        ("gone", -7, -1, "vanished"),
        ("same", 0, 0, "moved"),
    ] == [(row.group["model"], row.change_nano, row.change_ratio, row.state) for row in rows]
    assert nano_of(now) - nano_of(before) == sum(row.change_nano for row in rows)


def nano_of(rows: Iterable[Any]) -> int:
    return sum(row.cost_nano for row in rows)
