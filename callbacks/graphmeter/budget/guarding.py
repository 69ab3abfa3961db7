"""The guard: asked before every model call, it may keep it from being made.

How it hears of calls is in `handlers`: by itself it is one of them, and `meter()` puts it into the one that measures.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal
from uuid import UUID

from graphmeter import guard as boundary
from graphmeter import names, roots
from graphmeter.budget import counts, spending
from graphmeter.budget.accounts import Account, Caps
from graphmeter.budget.bills import AnyBill
from graphmeter.budget.cached import Cached
from graphmeter.budget.calls import OPEN, Call, Spent
from graphmeter.budget.desk import Desk, desk_of
from graphmeter.budget.exceeded import RUN, BudgetExceeded, Status, Unknown
from graphmeter.budget.handlers import HOOK, Guarding
from graphmeter.budget.modes import WAIT, Mode, Verdict
from graphmeter.budget.strict import Strict
from graphmeter.langgraph import NS
from graphmeter.records import Run
from graphmeter.runs import RUNS

OnExceeded = Literal["stop", "warn"] | Callable[[Status], object]
MODES: Final = ("cached", "strict")
_MOST_OPEN: Final = 10_000
_DEAREST: Final = Decimal(10) ** 9
_MOST_TOKENS: Final = 10**15
_LONGEST_AGE_S: Final = 3600.0
_SHORTEST_AGE_S: Final = 0.2


class BudgetGuard(Guarding):
    """Keeps model calls from being made when a budget, or the cap of their run, is used up.

    `meter(graph, budget=…)` attaches one; `config={"callbacks": [BudgetGuard(…), …]}` does, too, beside a
    GraphMeterCallbackHandler, or where `instrument()` measures. One instance serves any number of graphs, threads and tasks.

    Args:
        budget: Names of budgets of the collector; `*` is every hard budget that a call counts against.
        per_run_usd: The most that one run may spend, in USD: one invocation of the outermost graph, of which the calls are
            counted that pass this guard.
        per_run_tokens: The same in tokens of every kind.
        call_usd: The most that a single call costs. With it what is in flight is counted, too, and a cap of a run is never
            exceeded; without it by at most what calls in flight cost.
        call_tokens: The same in tokens.
        mode: How shared budgets are asked for. `cached`: by what the collector said at most `max_age_s` ago. `strict`: what
            a call takes at most (its prompt and its maximum of output tokens, or `call_usd` and `call_tokens`) is reserved
            at the collector before it is made, which takes one request.
        on_exceeded: `stop` raises BudgetExceeded before the call; `warn` logs and counts; a function gets the Status, and
            the call is made if it returns, not made if it raises. It must not block.
        fail: What happens to calls while nobody can tell (the collector is away or refuses, does not know the budget, what a
            call cost is not known): `open` lets them pass, `closed` stops them.
        max_age_s: Seconds.
        endpoint: Base URL of a collector other than the process's own.

    Raises:
        ValueError: A value makes no sense; or the collector answers, and does not know a budget.
        TypeError: `on_exceeded` is a coroutine function.
    """

    def __init__(
        self,
        budget: str | Iterable[str] | None = None,
        *,
        per_run_usd: Decimal | str | float | None = None,
        per_run_tokens: int | None = None,
        call_usd: Decimal | str | float | None = None,
        call_tokens: int | None = None,
        mode: str = "cached",
        on_exceeded: OnExceeded = "stop",
        fail: str = "open",
        max_age_s: float = 5.0,
        endpoint: str = "",
    ) -> None:
        super().__init__()
        budgets = _budgets(budget)
        self._made_with = {
            "budget": budgets,
            "per_run_usd": per_run_usd,
            "per_run_tokens": per_run_tokens,
            "call_usd": call_usd,
            "call_tokens": call_tokens,
            "mode": mode,
            "on_exceeded": on_exceeded,
            "fail": fail,
            "max_age_s": max_age_s,
            "endpoint": endpoint,
        }
        self._caps = Caps(
            _nano("per_run_usd", per_run_usd),
            _tokens("per_run_tokens", per_run_tokens),
            _nano("call_usd", call_usd) or 0,
            _tokens("call_tokens", call_tokens) or 0,
        )
        if not budgets and not self._caps:
            raise ValueError(
                "a guard without anything to guard: name a budget (budget='support'), or set per_run_usd= or per_run_tokens="
            )
        for name, cap, call in (
            ("usd", self._caps.nano, self._caps.call_nano),
            ("tokens", self._caps.tokens, self._caps.call_tokens),
        ):
            if cap is not None and call > cap:
                raise ValueError(f"call_{name} is more than per_run_{name}: no call would ever be made; raise the cap")
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is none of {', '.join(map(repr, MODES))}")
        if fail not in ("open", "closed"):
            raise ValueError(f"fail={fail!r} is neither 'open' nor 'closed'")
        if not callable(on_exceeded) and on_exceeded not in ("stop", "warn"):
            raise ValueError(f"on_exceeded={on_exceeded!r} is neither 'stop' nor 'warn' nor a function")
        if inspect.iscoroutinefunction(on_exceeded):
            raise TypeError("on_exceeded= takes a plain function: it is called inside of the graph's event loop")
        if isinstance(max_age_s, bool) or not _SHORTEST_AGE_S <= max_age_s <= _LONGEST_AGE_S:
            raise ValueError(
                f"max_age_s={max_age_s!r} is not between {_SHORTEST_AGE_S:g} and {_LONGEST_AGE_S:g} seconds"
            )
        self._budgets = budgets
        self._on_exceeded: OnExceeded = on_exceeded
        self._fail_open = fail == "open"
        self._endpoint = endpoint
        self._mode: Mode | None = None
        self.guards = (self,)
        spending.watch()
        HOOK.register()
        if budgets:
            cached = mode == "cached"
            self._mode = (
                Cached(budgets, max_age_s, endpoint) if cached else Strict(budgets, max_age_s, endpoint, self._caps)
            )
            self._mode.begin()
        self.surely: Callable[[Run], bool] = (
            self._surely_within_caps if self._caps or self._mode is None else self._mode.surely
        )
        """Whether the call that a run measures may be made, as nearly every one, and `ended` has nothing to do for it.

        False: it takes a closer look, which is `meet` and `ask`."""

    @property
    def budgets(self) -> tuple[str, ...]:
        """Names of the budgets that it watches."""
        return self._budgets

    # Graphs are copied, pickled and sent to workers with their config.
    def __copy__(self) -> BudgetGuard:
        return self

    def __deepcopy__(self, memo: object) -> BudgetGuard:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self._made_with,)

    # --- one call, step by step -------------------------------------------------------------------------------------

    def _surely_within_caps(self, run: Run) -> bool:
        if self._mode is not None and not self._mode.surely(run):
            return False
        accounts = run.tree.accounts
        account = None if accounts is None else accounts.of.get(self)
        return account is not None and account.surely(run.number)

    def meet(
        self,
        serialized: Mapping[str, Any] | None,
        messages: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
    ) -> Call | None:
        """The call that is about to be made; None: this guard has let it pass already, through another manager."""
        try:
            known = OPEN.get(run_id.int)
            if known is not None and any(guard is self for guard, _ in known):
                return None
            around = RUNS.get(run_id.int) or roots.parent_of(parent_run_id)
        except Exception as error:  # noqa: BLE001 - the guard's own fault; `ask` goes on without a run
            boundary.swallowed("budget guard", error)
            around = None
        return Call(run_id, around, serialized, messages, metadata, params)

    def ask(self, call: Call) -> tuple[Verdict, str]:
        """What does not allow `call`, or WAIT; and why nobody can tell, if so. Does not block. Allowed, it is in flight."""
        try:
            account = self._account(call)
            found, unknown = self._admit(account, call)
            if found is None and self._mode is not None:
                found = self._asked(account, call, self._mode.ask)
            return found, "" if found is not None else unknown
        except Unknown as nobody:
            return None, str(nobody)
        except Exception as error:  # noqa: BLE001 - the guard's own fault: counted, and nobody can tell
            boundary.swallowed("budget guard", error)
            return None, f"a fault of the guard ({type(error).__name__})"

    def wait(self, call: Call) -> tuple[Status | None, str]:
        """The same after `ask` has answered WAIT. Blocks."""
        try:
            account = self._account(call)
            if account is not None and account.unsettled():
                self.desk.price()
            found, unknown = self._admit(account, call)
            if found is WAIT:
                return None, "prices were asked for in vain"
            if found is None and self._mode is not None:
                mode = self._mode
                found = self._asked(account, call, mode.ask)
                if found is WAIT:
                    found = self._asked(account, call, mode.wait)
            # What waits no more is one of the two.
            return (found, "") if isinstance(found, Status) else (None, unknown)
        except Unknown as nobody:
            return None, str(nobody)
        except Exception as error:  # noqa: BLE001 - as in `ask`
            boundary.swallowed("budget guard", error)
            return None, f"a fault of the guard ({type(error).__name__})"

    @staticmethod
    def _admit(account: Account | None, call: Call) -> tuple[Verdict, str]:
        if account is None:
            return None, ""
        try:
            return account.admit(call.run_id.int, force=RUN in call.waived), ""
        except Unknown as unknown:
            return None, str(unknown)

    @staticmethod
    def _asked(account: Account | None, call: Call, ask: Callable[[Call], Verdict]) -> Verdict:
        found = ask(call)
        if found is not None and account is not None:
            account.drop(call.run_id.int)
        return found

    def decide(self, call: Call, status: Verdict, unknown: str, passed: list[tuple[BudgetGuard, Call]]) -> None:
        """What becomes of a call that a budget does not allow, or that nobody can tell of; returns if it is made.

        `passed` are the same call at other guards, where it is then not made either.

        Raises:
            BudgetExceeded: the call is not allowed.
        """
        try:
            if isinstance(status, Status):
                self._exceeded(status)
                account = self._account(call)
                if account is not None:
                    account.admit(call.run_id.int, force=True)
            elif unknown:
                self._unknown(unknown)
        except BaseException as error:
            # Also at guards that are handlers of their own, and were asked before.
            for guard, each in dict.fromkeys((*passed, *OPEN.get(call.run_id.int, ()), (self, call))):
                guard.drop(each)
            spending.stopped(call, error)
            raise

    def passes(self, call: Call, passed: list[tuple[BudgetGuard, Call]]) -> None:
        """`call` is made, as far as this guard is asked: its end is waited for."""
        entry = (self, call)
        passed.append(entry)
        if call.tree is None:
            return
        key = call.run_id.int
        others = OPEN.get(key)
        if others is not None:
            others.append(entry)
            return
        OPEN[key] = [entry]
        if len(OPEN) > _MOST_OPEN:
            _forget_unheard()

    def drop(self, call: Call) -> None:
        """`call` is not made after all."""
        try:
            others = OPEN.get(call.run_id.int)
            if others is not None and (self, call) in others:
                others.remove((self, call))
                if not others:
                    OPEN.pop(call.run_id.int, None)
            account = self._account(call)
            if account is not None:
                account.drop(call.run_id.int)
            if self._mode is not None:
                self._mode.dropped(call)
        except Unknown:
            pass  # nothing measures it, and nothing is kept of it
        except Exception as error:  # noqa: BLE001 - the call is stopped in any case
            boundary.swallowed("budget guard", error)

    def _exceeded(self, status: Status) -> None:
        if self._on_exceeded == "stop":
            counts.count(counts.STOPPED)
            raise BudgetExceeded(f"{status}; the model call was not made", status)
        if self._on_exceeded == "warn":
            counts.count(counts.WARNED)
            counts.say_once(f"exceeded {status.budget} {status.scope}", f"{status}; the guard only warns")
            return
        try:
            self._on_exceeded(status)
        except BaseException:
            counts.count(counts.STOPPED)
            raise
        counts.count(counts.LEFT)

    def _unknown(self, why: str) -> None:
        if self._fail_open:
            counts.count(counts.FAILED_OPEN)
            counts.say_once(
                f"open {why}", f"Budget guard cannot tell whether calls may be made, and lets them pass: {why}"
            )
            return
        counts.count(counts.FAILED_CLOSED)
        raise BudgetExceeded(f"the model call was not made, since nobody can tell whether it may be: {why}")

    # --- what it knows ----------------------------------------------------------------------------------------------

    def _account(self, call: Call) -> Account | None:
        if call.tree is None:
            if NS in call.metadata:
                raise Unknown(
                    "nothing measures the graph: use meter() or instrument(), or put a GraphMeterCallbackHandler beside"
                )
            return None  # a call outside of graphs is a run by itself
        if not self._caps:
            return None
        accounts = call.tree.accounts
        if accounts is None:
            accounts = call.tree.accounts = spending.accounts_of(call.tree)
        account = accounts.of.get(self)
        if account is None:
            account = accounts.of.setdefault(self, Account(self._caps))
        return account

    def statuses(self, call: Call) -> list[Status]:
        """Everything that it watches, as it stands for `call`. May block the first time.

        Raises:
            Unknown: nobody can tell.
        """
        found: list[Status] = []
        account = self._account(call)
        if account is not None:
            if account.unsettled():
                self.desk.price()
            found += account.statuses()
        if self._mode is not None:
            found += self._mode.statuses(call)
        return found

    def ended(self, call: Call, bill: AnyBill) -> None:
        """`call` has ended; its account knows already."""
        if self._mode is not None:
            nano = bill.nano()
            self._mode.ended(call, Spent(nano or 0, bill.tokens, nano is not None and bill.known))

    @property
    def desk(self) -> Desk:
        """Where its budgets and prices are asked for."""
        return desk_of(self._endpoint)

    @property
    def fails_open(self) -> bool:
        """Whether calls pass while nobody can tell."""
        return self._fail_open


def _forget_unheard() -> None:
    """Calls whose end nobody will tell: another handler has raised before they were made."""
    for key, entries in OPEN.copy().items():
        if key not in RUNS and OPEN.pop(key, None) is not None:
            for guard, call in entries:
                guard.drop(call)


def _make(made_with: dict[str, Any]) -> BudgetGuard:
    return BudgetGuard(**made_with)


def _budgets(budget: str | Iterable[str] | None) -> tuple[str, ...]:
    if budget is None:
        return ()
    given = (budget,) if isinstance(budget, str) else tuple(budget)
    for name in given:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"budget={budget!r}: {name!r} is no name of a budget; write one as in graphmeter.yaml")
    return tuple(dict.fromkeys(given))


def _nano(name: str, value: Decimal | str | float | None) -> int | None:
    if value is None:
        return None
    try:
        amount = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 < amount <= _DEAREST:
        raise ValueError(f"{name}={value!r} is not an amount of USD above zero: write 0.50")
    nano = amount * names.NANO_PER_USD
    if nano % 1:
        raise ValueError(f"{name}={value!r} is finer than a nano-USD: write at most nine decimals")
    return int(nano)


def _tokens(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_TOKENS:
        raise ValueError(f"{name}={value!r} is not a whole number of tokens above zero: write 50_000")
    return value
