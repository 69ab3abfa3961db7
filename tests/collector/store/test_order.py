"""Order of arrival must not matter: any permutation, split and repetition of the same spans gives the same bytes."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.dump import Dump, dump, fresh, opened
from graphmeter import names
from graphmeter_collector.records import Outcome, SpanRecord
from graphmeter_collector.store.batch import Delivery
from graphmeter_collector.store.migrate import migrate
from support import postgres
from support.records import call, note, record, report, topology, whole_run


def unruly() -> list[SpanRecord]:
    """A failed run whose spans know different things about it, one that never ends, calls of others, text of all kinds."""
    first = whole_run(1)
    # Attribution that sorts differently by language and by code point, and tags that differ from span to span.
    for each, team, tags in zip(
        first, ("Zebra", "apple", "", "ähre", "Apple"), ({}, {"a": "1"}, {"B": "ü"}, {}, {"b": "2"}), strict=False
    ):
        each.team, each.tags = team, tags
    endless = whole_run(2, at_s=3_599, status=names.ERROR)[:-1]
    for each, team in zip(endless, ("zebra", "Apple", "ähre", "", "_", "Zoo", "10", "9"), strict=True):
        each.team, each.user_id, each.tags = team, team[::-1], {team: "x"} if team else {}
    others: dict[str, Any] = {"run_id": "", "graph": "", "node": "", "of": 3}
    return [
        *first,
        *endless,
        *whole_run(4, at_s=86_399.5, status=names.CANCELLED),
        call(1, **others),
        record(2, kind=names.SPAN, **others),
        call(33, cost=None, at_s=7_200, of=2),
        record(34, kind=names.NODE, node="gate", status=names.INTERRUPTED, of=2, step=9, at_s=-40, s=90),
        record(35, kind=names.SUBGRAPH, node="gate", of=2, step=70),
        record(36, kind=names.NODE, node="gate.inner", of=2, step=70),
        *whole_run(5, status=names.INTERRUPTED),
        note(40, names.HEARTBEAT, of=2, at_s=9_000, team="a", heartbeat_ns=5),
        note(41, names.HEARTBEAT, of=6, at_s=3),
        note(42, names.OUTCOME, of=5, said=Outcome("resolved", True, 1.5)),
        note(43, names.OUTCOME, of=5, said=Outcome("resolved", None, None)),
        note(44, names.TAGS, of=5, at_s=2, tags={"a": "Z", "b": "1"}),
        note(45, names.TAGS, of=5, at_s=2, tags={"a": "ä", "b": "2"}),
        note(46, names.TAGS, of=5, at_s=1, tags={"a": "x", "c": "3"}),
        note(47, names.TOPOLOGY, of=5, at_s=2, said=topology("plan", "answer")),
        note(48, names.TOPOLOGY, of=4, at_s=1, said=topology("plan", "answer")),
        report(1, exported=5),
        report(2, exported=9, dropped=1),
        report(3, exported=9, dropped=2, failed=1),
    ]


SPANS = unruly()
assert len(SPANS) == len({each.key for each in SPANS})
batches = st.tuples(
    st.permutations(range(len(SPANS))),
    st.lists(st.integers(0, len(SPANS) - 1), max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
)


def cut(order: Sequence[int], repeated: Sequence[int], sizes: Sequence[int]) -> Iterator[list[SpanRecord]]:
    """The spans in an order, some of them again at the end, in batches of the sizes given, over and over."""
    rest = [*order, *repeated]
    while rest:
        for size in sizes:
            yield fresh(SPANS[index] for index in rest[:size])
            rest = rest[size:]


@cache
def template() -> Path:
    """A migrated SQLite file to copy from."""
    path = Path(tempfile.mkdtemp()) / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@cache
def expected() -> Dump:
    """What the tables hold after one batch in the order of sending."""

    async def write_at_once(url: str) -> Dump:
        async with opened(url) as store:
            await store.write(fresh(SPANS))
        return await dump(url)

    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template(), folder)
        return asyncio.run(write_at_once(f"sqlite:///{path}"))


async def write_in_pieces(url: str, pieces: Iterator[list[SpanRecord]]) -> Dump:
    async with opened(url) as store:
        # In twos, as senders that come at the same time.
        deliveries = [Delivery(piece) for piece in pieces if piece]
        written = [await store.write(deliveries[at : at + 2]) for at in range(0, len(deliveries), 2)]
    ended = [totals for result in written for totals in result.finished]
    # Whatever the order: what reports add sums to what the last one says.
    reported = [change[2:] for result in written for change in result.clients]
    assert (9, 2, 1) == tuple(map(sum, zip(*reported, strict=True)))
    assert 2 == sum(each.kind == names.OUTCOME for result in written for each in result.new)
    assert 3 == len(ended)
    return await dump(url)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_sqlite_is_the_same_after_any_order_of_arrival(how: tuple[list[int], list[int], list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template(), folder)
        assert expected() == asyncio.run(write_in_pieces(f"sqlite:///{path}", cut(*how)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_postgres_is_the_same_after_any_order_of_arrival(
    postgres_url: str, how: tuple[list[int], list[int], list[int]]
) -> None:
    tables = ", ".join(expected())
    postgres.execute(postgres_url, f"TRUNCATE {tables}")

    assert expected() == asyncio.run(write_in_pieces(postgres_url, cut(*how)))


@pytest.mark.parametrize("seed", range(2))
async def test_two_collectors_in_any_order_give_the_same_tables(seed: int, postgres_url: str) -> None:
    luck = random.Random(seed)
    indexes = list(range(len(SPANS)))

    async def send() -> None:
        mine = luck.sample(indexes, len(indexes))
        async with opened(postgres_url) as store:
            for piece in cut(mine, mine[:9], [luck.randint(1, 5)]):
                await store.write(piece)

    await asyncio.gather(send(), send())

    assert await asyncio.to_thread(expected) == await dump(postgres_url)
