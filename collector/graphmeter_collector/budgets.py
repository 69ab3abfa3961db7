"""Budgets of one collector: graphmeter.yaml's brought into the database, states read from there, crossed thresholds told.

What is in force is in the database, whichever collector or request it came from; so every collector counts, tells and
answers the same. An event is raised by whichever collector sees a threshold crossed first, right after a commit of its own
or on its rounds, and is one row whoever else sees it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import structlog

from graphmeter import names
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.expose import state
from graphmeter_collector.notify.message import Message
from graphmeter_collector.records import SpanRecord, WriteResult
from graphmeter_collector.reports import Asked, BudgetEvent, BudgetRow, Held, InForce, Spent
from graphmeter_collector.telemetry import Metrics
from graphmeter_config import Budget, Config

_log = structlog.stdlib.get_logger(__name__)

NS: Final = 1_000_000_000
FRESH_S: Final = 1.0
"""How old a state that is asked for repeatedly may be before it is read again."""
STALE_S: Final = 3.0
"""How old it may be while it is being read again."""
LOOK_EVERY_S: Final = 1.0
"""How soon after a commit thresholds are looked at."""
LOOK_AT_LEAST_EVERY_S: Final = 15.0
"""What another collector counted and did not live to tell is found within so long."""
LOOK_REST: Final = 20
"""With very many scopes a look takes long: the next one comes after so many times as long."""
KEEP_EVENTS_NS: Final = 400 * 86_400 * NS
KEEP_SPEND_NS: Final = 400 * 86_400 * NS
COUNTED_AT_ONCE_S: Final = 2.0
"""How long it is waited for that a budget which is new is counted; then that goes on by itself."""
_MARGIN_NS: Final = 8 * 86_400 * NS


class Table(Protocol):
    """What is needed of the store."""

    async def version(self) -> int: ...

    async def in_force(self) -> list[InForce]: ...

    async def take(self, budgets: Sequence[Budget], now_ns: int, *, count: bool) -> list[str]: ...

    async def put(self, one: Budget, now_ns: int, *, count: bool) -> bool: ...

    async def remove(self, name: str, now_ns: int, *, count: bool) -> bool: ...

    async def counted(self) -> None: ...

    async def spent(self, asked: Sequence[Asked]) -> list[Spent]: ...

    async def reserved(self, now_ns: int) -> list[Held]: ...

    async def expire(self, before: dict[str, int]) -> int: ...

    async def raise_(self, events: Sequence[BudgetEvent]) -> list[BudgetEvent]: ...

    async def events(self, since_ns: int = 0, *, untold: bool = False, limit: int = 1000) -> list[BudgetEvent]: ...

    async def told(self, event: BudgetEvent, now_ns: int) -> None: ...

    async def expire_events(self, before_ns: int) -> int: ...


Tell = Callable[[str, Sequence[str], Message], Awaitable[object]]
"""Owes a message, under a key, to receivers: `Courier.tell`."""


@dataclass(frozen=True, slots=True)
class States:
    """The budgets at one moment."""

    as_of_ns: int
    rows: Sequence[BudgetRow]
    in_force: Sequence[InForce]
    etag: str
    """Of what is told, whenever it was read."""


class Budgets:
    """The budgets of the database, as this collector serves them."""

    def __init__(self, table: Table, config: Callable[[], Config], metrics: Metrics, tell: Tell) -> None:
        self._table = table
        self._config = config
        self._metrics = metrics
        self._tell = tell
        self._taken: Config | None = None
        self._version = -1
        self._reading = asyncio.Lock()
        self._states = States(0, (), (), "")
        self._refreshing: asyncio.Task[States] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._to_count = False
        self._bell = asyncio.Event()
        self._rest_s = LOOK_EVERY_S
        self._labels = state.BudgetLabels()
        self.in_force: Sequence[InForce] = ()
        """As they were when last looked at."""

    # --- definitions ------------------------------------------------------------------------------------------------

    async def take(self) -> None:
        """Bring the budgets of the configuration in force into the database, unless they are there."""
        config = self._config()
        if config is self._taken:
            return
        before = await self._table.version()
        for name in await self._table.take(config.budgets, time.time_ns(), count=False):
            _log.warning("budget_taken_over", budget=name, why="graphmeter.yaml has one of this name, too")
        self._taken = config
        if before != await self._table.version():
            await self._count()

    async def put(self, one: Budget) -> bool:
        """Put a budget into force through the API; whether it is new.

        Raises:
            Owned: graphmeter.yaml has one of this name.
        """
        new = await self._table.put(one, time.time_ns(), count=False)
        await self._count()
        return new

    async def remove(self, name: str) -> bool:
        """Take one out of force; whether there was one.

        Raises:
            Owned: it is one of graphmeter.yaml.
        """
        gone = await self._table.remove(name, time.time_ns(), count=False)
        await self._count()
        return gone

    async def _count(self) -> None:
        """Have counted what is new, by this collector or another one; waits no longer than a short ledger takes."""
        self._to_count = True
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._catch_up())
        await asyncio.wait({self._counting}, timeout=COUNTED_AT_ONCE_S)

    async def _catch_up(self) -> None:
        began = time.monotonic()
        try:
            while self._to_count:
                self._to_count = False
                await self._table.counted()
            _log.info("budgets_counted", seconds=round(time.monotonic() - began, 3))
        except CollectorError as problem:
            # What is left is found, and counted, when thresholds are looked at next.
            _log.warning("budgets_not_counted", error=str(problem))
        except Exception:  # noqa: BLE001 - logged with its traceback; nobody awaits the task
            _log.exception("budgets_not_counted")
        self._bell.set()

    async def definitions(self) -> Sequence[InForce]:
        """Those in force, as the database has them now."""
        await self.take()
        version = await self._table.version()
        if version != self._version:
            self.in_force = await self._table.in_force()
            self._labels = state.BudgetLabels(self.in_force)
            self._version = version
        return self.in_force

    async def events(self, since_ns: int, limit: int) -> list[BudgetEvent]:
        """Thresholds that were crossed since then, the newest first."""
        return await self._table.events(since_ns, limit=limit)

    def receivers(self) -> list[str]:
        """Names that a budget may tell."""
        return [each.name for each in self._config().receivers]

    def labels_of(self, record: SpanRecord) -> tuple[tuple[str, str, str], ...]:
        """Budgets that a call counts against, as labels of metrics."""
        return self._labels.of(record)

    # --- states -----------------------------------------------------------------------------------------------------

    async def states(self, now_ns: int | None = None) -> States:
        """What the database says now."""
        async with self._reading:
            now_ns = time.time_ns() if now_ns is None else now_ns
            while True:
                in_force = await self.definitions()
                # First what is reserved: a call that is billed meanwhile stands in both, and not in neither.
                held = await self._table.reserved(now_ns)
                spent = await self._table.spent(state.asked(in_force, now_ns))
                # Of a budget that is another one now, spend may not be counted.
                if await self._table.version() == self._version:
                    break
            rows: list[BudgetRow] = []
            for some in state.budget_by_budget(in_force, spent, held, now_ns):
                rows += some
                await asyncio.sleep(0)  # whoever asks meanwhile gets the states before
            self._states = States(now_ns, rows, in_force, _etag(rows, in_force))
            return self._states

    async def rows(self) -> Sequence[BudgetRow]:
        """The rows of `states`."""
        return (await self.states()).rows

    async def recent(self) -> States:
        """The same, at most `STALE_S` old: for those who ask all the time."""
        age_s = (time.time_ns() - self._states.as_of_ns) / NS
        if age_s > STALE_S:
            return await self.states()
        if age_s > FRESH_S and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self.states())
            self._refreshing.add_done_callback(_forget)
        return self._states

    async def show(self) -> None:
        """Tell the states in the metrics."""
        metrics, found = self._metrics, state.shown((await self.states()).rows)
        money = {labels: row for labels, row in found.items() if row.unit == "usd"}
        tokens = {labels: row for labels, row in found.items() if row.unit == "tokens"}
        nano = float(names.NANO_PER_USD)
        metrics.replace(names.BUDGET_SPENT, {labels: row.spent_nano / nano for labels, row in money.items()})
        metrics.replace(names.BUDGET_LIMIT, {labels: row.limit_nano / nano for labels, row in money.items()})
        metrics.replace(names.BUDGET_SPENT_TOKENS, {labels: float(row.spent_tokens) for labels, row in tokens.items()})
        metrics.replace(names.BUDGET_LIMIT_TOKENS, {labels: float(row.limit_tokens) for labels, row in tokens.items()})
        metrics.replace(names.BUDGET_RESERVED, {labels: row.reserved_nano / nano for labels, row in money.items()})
        metrics.replace(
            names.BUDGET_RESERVED_TOKENS, {labels: float(row.reserved_tokens) for labels, row in tokens.items()}
        )
        metrics.replace(names.BUDGET_START, {labels: row.period_start_ns / NS for labels, row in found.items()})
        metrics.replace(names.BUDGET_END, {labels: row.period_end_ns / NS for labels, row in found.items()})
        leading = {labels: row.forecast_ratio for labels, row in found.items()}
        metrics.replace(
            names.BUDGET_FORECAST, {labels: ratio for labels, ratio in leading.items() if ratio is not None}
        )
        for labels in money:
            metrics.declare(names.BUDGET_COST, *labels)

    # --- events -----------------------------------------------------------------------------------------------------

    def notice(self, result: WriteResult) -> None:
        """Hear of a commit: thresholds may have been crossed."""
        if any(record.cost is not None for record in (*result.new, *result.settled)):
            self._bell.set()

    async def look(self) -> None:
        """Wait for a commit, but not for ever; then tell what was crossed."""
        await asyncio.sleep(self._rest_s)
        try:
            async with asyncio.timeout(LOOK_AT_LEAST_EVERY_S):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()
        began = time.monotonic()
        if not all(one.counted for one in await self.definitions()):
            await self._count()
        await self.check()
        self._rest_s = max(LOOK_EVERY_S, LOOK_REST * (time.monotonic() - began))

    async def check(self, now_ns: int | None = None) -> list[BudgetEvent]:
        """Raise an event for each threshold that is crossed and not told yet; returns those."""
        found = await self.states(now_ns)
        by_name = {one.budget.name: one.budget for one in self.in_force}
        crossed = [
            event for row in found.rows if row.crossed for event in _events(by_name[row.budget], row, found.as_of_ns)
        ]
        known = {_once(event) for event in await self._known(crossed)}
        new = await self._table.raise_([event for event in crossed if _once(event) not in known]) if crossed else []
        for event in new:
            self._metrics.inc(names.COLLECTOR_BUDGET_EVENTS, event.budget, event.threshold)
            _log.warning("budget_crossed", budget=event.budget, scope=event.scope, threshold=event.threshold)
        await self._hand_over(by_name)
        return new

    async def _known(self, crossed: Sequence[BudgetEvent]) -> list[BudgetEvent]:
        """Spares the database most inserts of what it has: states of long crossed thresholds are the usual case."""
        if not crossed:
            return []
        return await self._table.events(min(event.period_ns for event in crossed), limit=10_000)

    async def _hand_over(self, by_name: dict[str, Budget]) -> None:
        for event in await self._table.events(untold=True):
            budget = by_name.get(event.budget)
            if budget is not None and budget.receivers:
                await self._tell(event_key(event), budget.receivers, message(event))
            await self._table.told(event, time.time_ns())

    async def expire(self, now_ns: int) -> None:
        """Delete spend and events that nobody asks for any more."""
        before = {}
        for one in await self.definitions():
            kept_ns = one.budget.rolling_ns + _MARGIN_NS if one.budget.rolling_ns else KEEP_SPEND_NS
            before[one.budget.key] = now_ns - kept_ns
        await self._table.expire(before)
        await self._table.expire_events(now_ns - KEEP_EVENTS_NS)


def _forget(task: asyncio.Task[States]) -> None:
    # Whoever asks next, when the old states are too old, gets the error itself.
    if not task.cancelled():
        task.exception()


def _etag(rows: Sequence[BudgetRow], in_force: Sequence[InForce]) -> str:
    # Forecasts move with every second; what was spent does not.
    told: list[object] = [
        (one.budget.name, one.budget.key, one.budget.limit, one.budget.hard, one.counted) for one in in_force
    ]
    for row in rows:
        spent, period = (row.spent_nano, row.spent_tokens), (row.period_start_ns, row.period_end_ns)
        reserved = (row.reserved_nano, row.reserved_tokens, row.reservations)
        told.append((row.budget, *row.scope.values(), spent, reserved, period))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _once(event: BudgetEvent) -> tuple[object, ...]:
    return event[:5]


def _events(budget: Budget, row: BudgetRow, now_ns: int) -> Iterator[BudgetEvent]:
    """An event for every threshold that a state has crossed."""
    period_ns = row.period_start_ns
    if budget.rolling_ns:
        # It has no periods: a threshold is told at most once in as long as its window.
        period_ns = now_ns // budget.rolling_ns * budget.rolling_ns
    said = json.dumps(asdict(row), ensure_ascii=False, sort_keys=True)
    for threshold in row.crossed:
        yield BudgetEvent(budget.name, tuple(row.scope.values()), period_ns, threshold, budget.limit, said, now_ns)


def event_key(event: BudgetEvent) -> str:
    """What a notification of the event is known by, for all times."""
    scope = ",".join(event.scope)
    return f"budget/{event.budget}/{scope}/{event.period_ns // NS}/{event.threshold}/{event.limit_units}"


def message(event: BudgetEvent) -> Message:
    """What receivers are told of an event."""
    said = json.loads(event.state)
    whose = ", ".join(f"{name} {value or names.UNATTRIBUTED}" for name, value in said["scope"].items())
    who = f"{event.budget} ({whose})" if whose else event.budget
    when = f"in the last {said['period']}" if said["rolling"] else f"in this {said['period']}"
    lines = [f"{_amount(said, 'spent')} of {_amount(said, 'limit')} are spent {when}."]
    if said["forecast_ratio"] is not None and not said["rolling"]:
        lines.append(f"At the current rate the period ends at {said['forecast_ratio']:.0%} of the limit.")
    if said["hard"]:
        lines.append("The budget is hard: guards in applications stop what would exceed it.")
    data = {"budget": event.budget, "threshold": event.threshold, "at_ns": event.at_ns, "state": said}
    return Message("budget", f"Budget {who} has reached {event.threshold}", "\n".join(lines), data=data)


def _amount(said: dict[str, Any], what: str) -> str:
    if said["unit"] == "usd":
        return f"{said[f'{what}_nano'] / names.NANO_PER_USD:,.2f} USD"
    return f"{said[f'{what}_tokens']:,} tokens"
