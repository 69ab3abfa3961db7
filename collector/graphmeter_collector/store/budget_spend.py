"""Billed calls in, what they add to the spend of budgets out; written in the transaction that puts them on the ledger.

Exact whatever budgets appear meanwhile, and on however many collectors: a writer takes the lock shared (on SQLite there is
one writer anyway) and looks at the version of the set of budgets; who changes the set takes it exclusively, for as long as
definitions take to write, and raises the version. So a call was either on the ledger before, and is lacking until
`budget_count` adds it, or is counted by a writer that knows of the budget. The lock is taken late, after the ledger's rows
and just before the sums: what matters is that it is held, once the version was read, until the commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from graphmeter_collector.records import SpanKey, SpanRecord
from graphmeter_collector.store.batch import Batch
from graphmeter_config import Budget
from graphmeter_config.spend import COLUMNS, TAG

if TYPE_CHECKING:
    import asyncpg

_log = structlog.stdlib.get_logger(__name__)

LOCK: Final = 0x6772_6D03
"""Advisory lock of the set of budgets: shared by who writes the ledger, exclusive for who changes the set."""
LOCK_EXCLUSIVE: Final = f"SELECT pg_advisory_xact_lock({LOCK})"
LOCK_SHARED: Final = f"SELECT pg_advisory_xact_lock_shared({LOCK})"

QUARTER_NS: Final = 900_000_000_000
"""Days of every time zone begin with a quarter of an hour of UTC, so calls of one quarter fall into one slice."""
_MOST_KNOWN: Final = 50_000
BACKFILLED: Final = -1
"""Writer slot of what was summed from the ledger when a budget appeared."""
REPRICED: Final = -2
"""Writer slot of what changed when calls were priced again."""
DEFINITIONS: Final = "SELECT key, since_ns, definition FROM budget ORDER BY key, name"
VERSION: Final = "SELECT version FROM budget_set"

ADDED: Final = (
    "ON CONFLICT (key, start_ns, scope, writer) DO UPDATE SET nano = budget_spend.nano + excluded.nano, "
    "tokens = budget_spend.tokens + excluded.tokens, calls = budget_spend.calls + excluded.calls"
)
ADD_SQLITE: Final = (
    "INSERT INTO budget_spend (key, start_ns, scope, nano, tokens, calls, writer) "  # noqa: S608 - nothing of anybody's
    f"VALUES (?, ?, ?, ?, ?, ?, ?) {ADDED}"
)
# One round trip: adds if the version is the one that the sums were made for, and tells which it is.
_ADD_POSTGRES: Final = (
    "WITH known AS (SELECT version FROM budget_set), "  # noqa: S608 - nothing of anybody's
    "added AS (INSERT INTO budget_spend (key, start_ns, scope, nano, tokens, calls, writer) "
    "SELECT given.*, $1::smallint FROM unnest($3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], "
    f"$8::bigint[]) AS given(key, start_ns, scope, nano, tokens, calls), known WHERE known.version = $2 {ADDED}) "
    "SELECT version FROM known"
)


class Change(NamedTuple):
    """What is added to one slice of one scope."""

    key: str
    start_ns: int
    scope: str
    nano: int
    tokens: int
    calls: int


class Group(NamedTuple):
    """Calls that are alike to every budget, within a quarter of an hour."""

    start_ns: int
    attributions: Mapping[str, str]
    nano: int
    tokens: int
    calls: int


class Counted(NamedTuple):
    """What is counted under one key, for however many budgets, and from when on."""

    key: str
    since_ns: int
    by: Budget


def scope_text(scope: Sequence[str]) -> str:
    """Values of a budget's `per` as one text: `["cx"]`."""
    return json.dumps(list(scope), ensure_ascii=False, separators=(",", ":"))


def scope_values(text: str) -> tuple[str, ...]:
    """The same back."""
    return tuple(json.loads(text))


def needed(counted: Iterable[Counted]) -> tuple[str, ...]:
    """Attributions that decide what any of them counts."""
    return tuple(sorted({name for each in counted for name in (*each.by.per, *each.by.match.restricting())}))


Known = dict[tuple[str, ...], list[tuple[Counted, str]]]
"""Values of attributions → what counts such calls, and for whom."""


def changes(counted: Sequence[Counted], groups: Iterable[Group], known: Known | None = None) -> list[Change]:
    """What groups of calls add, sorted by key: the order in which rows are locked.

    `known` is kept by who asks again with the same budgets and the same attributions in the same order: matching costs
    more than all else.
    """
    known = {} if known is None else known
    slices: dict[tuple[str, int], int] = {}
    sums: dict[tuple[str, int, str], list[int]] = {}
    for group in groups:
        values = tuple(group.attributions.values())
        if values not in known:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            said = group.attributions
            known[values] = [(one, scope_text(one.by.scope_of(said))) for one in counted if one.by.matches(said)]
        quarter = group.start_ns // QUARTER_NS
        for (key, since_ns, by), scope in known[values]:
            if group.start_ns < since_ns:
                continue
            slice_ns = slices.get((key, quarter))
            if slice_ns is None:
                slice_ns = slices[key, quarter] = by.slice_at(group.start_ns).start_ns
            found = sums.setdefault((key, slice_ns, scope), [0, 0, 0])
            found[0] += group.nano
            found[1] += group.tokens
            found[2] += group.calls
    return [Change(*key, *sums[key]) for key in sorted(sums)]


def definitions(rows: Iterable[Sequence[Any]]) -> list[Counted]:
    """What is to be counted, each key once, from (key, since_ns, definition)."""
    found: dict[str, Counted] = {}
    for key, since_ns, definition in rows:
        if key in found:
            continue
        try:
            found[key] = Counted(key, since_ns, Budget.model_validate_json(definition))
        except ValueError as problem:
            # Written by a newer version; ingest must go on. `BudgetTable.recount` counts what is missing afterwards.
            _log.error("budget_not_understood", key=key, error=str(problem))
    return list(found.values())


class Spend:
    """The budgets in force as one writer knows them."""

    def __init__(self) -> None:
        self._version = -1
        self._counted: list[Counted] = []
        self._known: Known = {}
        self._names: tuple[str, ...] = ()
        self._columns: Callable[[SpanRecord], Any] = attrgetter("start_ns")
        self._tags: tuple[str, ...] = ()
        self.touched = False
        """Set when something was added; cleared by whoever looks for thresholds."""

    async def add(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        writer: int,
        batch: Batch,
        billed: Collection[SpanKey],
    ) -> None:
        """Count what this transaction of Postgres has put on the ledger; `billed` were there before."""
        calls = _calls(batch, billed)
        if not calls:
            return
        await connection.execute(LOCK_SHARED)
        while True:
            columns = map(list, zip(*self._changes(calls), strict=True))
            sums = list(columns) or [[] for _ in Change._fields]
            version = await connection.fetchval(_ADD_POSTGRES, writer, self._version, *sums)
            if version == self._version:
                return
            self._learn(version, [tuple(row) for row in await connection.fetch(DEFINITIONS)])

    def add_sqlite(
        self,
        db: sqlite3.Connection,
        writer: int,
        batch: Batch,
        billed: Collection[SpanKey],
    ) -> None:
        """The same in a transaction of SQLite."""
        calls = _calls(batch, billed)
        if not calls:
            return
        [version] = db.execute(VERSION).fetchone()
        if version != self._version:
            self._learn(version, db.execute(DEFINITIONS).fetchall())
        db.executemany(ADD_SQLITE, [(*change, writer) for change in self._changes(calls)])

    def _learn(self, version: int, rows: Iterable[Sequence[Any]]) -> None:
        self._counted = definitions(rows)
        self._known = {}
        self._version = version
        wanted = needed(self._counted)
        self._tags = tuple(name.removeprefix(TAG) for name in wanted if name.startswith(TAG))
        columns = [name for name in wanted if not name.startswith(TAG)]
        self._names = (*columns, *(TAG + tag for tag in self._tags))
        # The tool stands on the ledger where there is no model; and two attributes more make it a tuple in any case.
        self._columns = attrgetter(
            "kind", *(COLUMNS[name] for name in columns), "tool" if "model" in columns else "kind"
        )

    def _changes(self, calls: Sequence[SpanRecord]) -> list[Change]:
        if not self._counted:
            return []
        self.touched = True
        alike: dict[tuple[Any, ...], list[SpanRecord]] = {}
        columns, tags = self._columns, self._tags
        for call in calls:
            key = (call.start_ns // QUARTER_NS, columns(call), *[call.tags.get(tag, "") for tag in tags])
            try:
                alike[key].append(call)
            except KeyError:
                alike[key] = [call]
        return changes(self._counted, (self._group(key, same) for key, same in alike.items()), self._known)

    def _group(self, key: tuple[Any, ...], calls: Sequence[SpanRecord]) -> Group:
        _, values, *tags = key
        attributions = dict(zip(self._names, (*values[1:-1], *tags), strict=True))
        if attributions.get("model") == "":
            attributions["model"] = values[-1]
        return Group(
            calls[0].start_ns,
            attributions,
            sum([call.cost.total_nano for call in calls if call.cost is not None]),
            sum([sum(call.usage) for call in calls]),
            len(calls),
        )


def _calls(batch: Batch, billed: Collection[SpanKey]) -> list[SpanRecord]:
    """Calls on the ledger since this transaction that were not answered from a cache."""
    return [record for record in batch.calls if not record.cache_hit and not (billed and record.key in billed)]
