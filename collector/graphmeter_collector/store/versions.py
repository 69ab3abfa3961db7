"""Prices of calls that are on the ledger already: calls in their order out, what they cost anew in, as versions.

The ledger is never written over. A transaction puts versions into force, takes those before them out of it, and adds the
difference to the spend of budgets, under the lock of who bills calls (see `budget_spend`): so spend is at any moment what a
recount of effective costs comes to. One repricing runs at a time; and were there two, a call has at most one version in
force by a unique index, so that the later of them fails rather than counts twice.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import MISSING, fields
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, insert, select, text, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from graphmeter import names
from graphmeter_collector.errors import Busy, StartupError
from graphmeter_collector.ledger import CallKey, Repriced, Run, StoredCall, Which
from graphmeter_collector.records import Cost, Envelope, SpanRecord, TokenUsage
from graphmeter_collector.store import budget_spend, spend, spent
from graphmeter_collector.store.aside import Aside, calm
from graphmeter_collector.store.engine import is_sqlite, sqlite_path
from graphmeter_collector.store.lock import FileLock
from graphmeter_collector.store.tables import column_names, ledger, ledger_price, repricing
from graphmeter_config.spend import COLUMNS, TAG

AT_ONCE: Final = 1_000
"""Calls per question, and so per transaction: on SQLite ingest waits for it, some 0.05 s if all of them change."""
LOCK: Final = 0x6772_6D05
"""Advisory lock of a repricing, for as long as it takes."""
_BUSY: Final = "calls of this database are being priced again already: wait until that is done"
_COLUMNS: Final = column_names(ledger)
_AT: Final = {name: place for place, name in enumerate(_COLUMNS)}
_READ: Final = itemgetter(
    *(
        _AT[name]
        for name in (
            *("tags", "operation", "model", "start_ns", "duration_ns"),
            *("price_status", "price_source", "price", "cost_nano", "saved_nano"),
        )
    )
)
_TOKENS, _PARTS = (
    slice(_AT[f"{names.TOKEN_TYPES[0]}_{what}"], _AT[f"{names.TOKEN_TYPES[-1]}_{what}"] + 1)
    for what in ("tokens", "nano")
)
_MADE: Final = ("kind", "tool", "end_ns", "usage", "tags", "cost")
"""Fields of a record that follow from several columns, or are told otherwise."""
_NOT_TOLD: Final = ("response_id", "attempt_span", "outer_attempts")
"""Columns whose fields nobody needs here; None where the record has nothing."""
_KINDS: Final = {names.OP_TOOL: names.TOOL, names.OP_RETRIEVAL: names.RETRIEVER, names.OP_RERANK: names.RETRIEVER}

_columns = ledger_price.c
_SUPERSEDE: Final = (
    update(ledger_price)
    .where(
        _columns.trace_id == bindparam("of_trace"),
        _columns.span_id == bindparam("of_span"),
        _columns.version == bindparam("of_version"),
    )
    .values(effective=False)
)
_ADD: Final = text(
    "INSERT INTO budget_spend (key, start_ns, scope, nano, tokens, calls, writer) "  # noqa: S608 - nothing of anybody's
    f"VALUES (:key, :start_ns, :scope, :nano, :tokens, :calls, {budget_spend.REPRICED}) {budget_spend.ADDED}"
)


async def calls(reader: spent.Rows, which: Which, after: CallKey | None = None) -> list[StoredCall]:
    """The next calls in order; none: that was all."""
    return [_call(row, len(which.by)) for row in await spend.calls(reader, which, after, AT_ONCE)]


class PriceVersions(Aside):
    """The `ledger.Versions` of one database."""

    about = "prices of calls"

    @calm
    async def rows(self, statement: Select[Any]) -> Sequence[RowMapping]:
        async with self._question() as connection:
            found: Sequence[RowMapping] = (await connection.execute(statement)).mappings().all()
            return found

    async def calls(self, which: Which, after: CallKey | None = None) -> list[StoredCall]:
        return await calls(self, which, after)

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        if is_sqlite(self._url):
            lock = FileLock(sqlite_path(self._url), "reprice", _BUSY)
            try:
                lock.acquire()
            except StartupError as problem:
                raise Busy(str(problem)) from problem
            try:
                yield
            finally:
                lock.release()
            return
        async with self._connected() as connection:
            if not (await connection.execute(text(f"SELECT pg_try_advisory_lock({LOCK})"))).scalar_one():
                raise Busy(_BUSY)
            await connection.commit()
            try:
                yield
            finally:
                await connection.execute(text(f"SELECT pg_advisory_unlock({LOCK})"))

    @calm
    async def write(self, run: Run, changed: list[Repriced]) -> None:
        try:
            async with self._transaction() as connection:
                version = await _written_down(connection, run, changed)
                before = [
                    {"of_trace": call.record.trace_id, "of_span": call.record.span_id, "of_version": call.version}
                    for call, _ in changed
                    if call.version
                ]
                if before:
                    await connection.execute(_SUPERSEDE, before)
                await connection.execute(insert(ledger_price), [_version_row(each, version) for each in changed])
                await self._count(connection, changed)
        except IntegrityError as problem:
            raise Busy(_BUSY) from problem
        run.version = version

    async def _count(self, connection: AsyncConnection, changed: Sequence[Repriced]) -> None:
        """Add what the calls cost more or less to the spend of budgets."""
        moved = [each for each in changed if _more(each) and not each.call.record.cache_hit]
        if not moved:
            return
        if not is_sqlite(self._url):
            await connection.execute(text(budget_spend.LOCK_SHARED))
        found = await connection.execute(text(budget_spend.DEFINITIONS))
        counted = budget_spend.definitions([tuple(row) for row in found])
        wanted = budget_spend.needed(counted)
        groups = [
            budget_spend.Group(each.call.record.start_ns, _attributions(each.call.record, wanted), _more(each), 0, 0)
            for each in moved
        ]
        changes = budget_spend.changes(counted, groups)
        if changes:
            await connection.execute(_ADD, [change._asdict() for change in changes])

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection for longer than a transaction."""
        engine = self._writer()
        async with self._reachable(), engine.connect() as connection:
            yield connection


def _more(each: Repriced) -> int:
    before = each.call.record.cost
    assert before is not None  # every call of the ledger has one
    return each.cost.total_nano - before.total_nano


def _attributions(record: SpanRecord, wanted: Sequence[str]) -> dict[str, str]:
    return {
        name: record.tags.get(name.removeprefix(TAG), "") if name.startswith(TAG) else getattr(record, COLUMNS[name])
        for name in wanted
    }


async def _written_down(connection: AsyncConnection, run: Run, changed: Sequence[Repriced]) -> int:
    """Note what the run did; returns its version."""
    columns = repricing.c
    after = sum(each.cost.total_nano for each in changed)
    before = after - sum(map(_more, changed))
    if run.version:
        sums = {"calls": len(changed), "before_nano": before, "after_nano": after}
        added = {name: columns[name] + value for name, value in sums.items()}
        await connection.execute(update(repricing).where(columns.version == run.version).values(added))
        return run.version
    version = 1 + (await connection.execute(select(func.coalesce(func.max(columns.version), 0)))).scalar_one()
    said = {name: getattr(run, name) for name in ("at_ns", "prices", "reason", "since_ns", "until_ns")}
    sums = {"calls": len(changed), "before_nano": before, "after_nano": after}
    await connection.execute(insert(repricing).values(version=version, **said, **sums))
    return int(version)


def _version_row(each: Repriced, version: int) -> dict[str, Any]:
    record, cost = each.call.record, each.cost
    parts = zip(names.TOKEN_TYPES, cost.parts, strict=True)
    return {
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "version": version,
        "start_ns": record.start_ns,
        "effective": True,
        "price_status": cost.status,
        "price_source": cost.source,
        "price": cost.price,
        "cost_nano": cost.total_nano,
        "saved_nano": cost.saved_nano,
        **{f"{bucket}_nano": part or None for bucket, part in parts},
    }


def _order() -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Picks a record's fields, in their order, from columns of the ledger, then `_MADE`, then `_REST`."""
    places = {name: len(_COLUMNS) + len(_MADE) + place for place, name in enumerate(_REST)}
    places |= {name: place for name, place in _AT.items() if name not in _NOT_TOLD}
    places |= {name: len(_COLUMNS) + place for place, name in enumerate(_MADE)}
    return itemgetter(*(places[each.name] for each in fields(SpanRecord) if each.init))


_REST: Final = {
    **{each.name: each.default for each in fields(SpanRecord) if each.default is not MISSING},
    "parent_id": b"",
    "name": "",
    "envelope": Envelope(b"", b"", b""),
    "body": b"",
}
"""What the ledger does not say of a call."""
_RESTS: Final = tuple(_REST.values())
_IN_ORDER: Final = _order()


def _call(row: RowMapping, groups: int) -> StoredCall:
    """By place, not by name: look-ups of sixty columns, and fifty arguments with names, take longer than all else."""
    values: tuple[Any, ...] = tuple(row.values())
    columns, (version, billed_nano, billed_status) = values[groups:-3], values[-3:]
    tags, operation, model, start_ns, duration_ns, status, source, price, cost_nano, saved_nano = _READ(columns)
    # Of tools and retrievers the name stands where models have theirs.
    kind = _KINDS.get(operation, names.MODEL)
    made = (
        kind,
        "" if kind == names.MODEL else model,
        start_ns + duration_ns,
        TokenUsage(*[count or 0 for count in columns[_TOKENS]]),
        {} if tags == "{}" else json.loads(tags),
        Cost(cost_nano, tuple([part or 0 for part in columns[_PARTS]]), status, saved_nano, source, price),
    )
    record = SpanRecord(*_IN_ORDER((*columns, *made, *_RESTS)))
    record.usage_missing = _silent(record, billed_status, billed_nano)
    return StoredCall(record, values[:groups], version)


def _silent(record: SpanRecord, billed_status: str, billed_nano: int) -> bool:
    """Whether the call did not say its usage.

    The ledger knows where that mattered for the price. Where it did not, as for what is free or costs something per second,
    a call without tokens that did not fail is taken to be silent, as on its arrival: a price by tokens makes it not free.
    """
    if billed_status == "usage_missing":
        return True
    by_other = billed_status == "free" or (billed_status == "priced" and billed_nano > 0)
    return by_other and not any(record.usage) and not record.cache_hit and record.status != names.ERROR
