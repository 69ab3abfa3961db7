"""A process's dealings with one collector: budgets and prices asked for in one background thread, answers kept for all.

A guard answers from what is kept. Somebody waits for a request only where nothing is known that may be used: at the first
call, in a forked child, after minutes without any call, and for the price of a model that is met for the first time. While
the collector does not answer nobody waits for it at all.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace
from typing import Final

from graphmeter import client, destination, forks, guard
from graphmeter.budget import counts, lately
from graphmeter.budget.exceeded import Unknown
from graphmeter.budget.objectives import MAX_AGE_S, Objectives
from graphmeter.budget.pool import Pool
from graphmeter.budget.prices import Prices
from graphmeter.budget.source import TRACES, Http, Silent, Source
from graphmeter.budget.states import States

_log = logging.getLogger("graphmeter")

PATIENCE_S: Final = 2.0
"""Longest wait for one answer."""
LEAST_PATIENCE_S: Final = 1.0
"""The same where budgets may hardly be older than an answer takes."""
IDLE_S: Final = 300.0
"""The thread ends when nobody has asked for so long; the next call waits for an answer and starts it again."""
PRICES_S: Final = 60.0
"""How old prices may be before it is asked whether they have changed."""
RETRY_S: Final = 1.0
"""How soon after a failure somebody who waits may cause another request."""
_NEVER: Final = float("-inf")


class Desk:
    """What is known of one collector.

    Args:
        source: Whom to ask; made when it is first needed.
    """

    def __init__(self, endpoint: str, source: Source | None = None) -> None:
        self._endpoint = endpoint
        self._source = source
        self._pool: Pool | None = None
        self.states = States(client.settings().flush_interval_s)
        self.prices = Prices()
        self.lately = lately.Lately()
        self.most_lately = 1
        """So many calls that have ended are to be counted by whoever ends one more."""
        self.slos = Objectives()
        self.max_age_s = float("inf")
        """How old budgets may be: the least of what guards want."""
        self._prices_at = _NEVER
        self.used_at = _NEVER
        """When a guard last asked, or a call was counted."""
        self._failed_at = {"budgets": _NEVER, "prices": _NEVER, "slos": _NEVER}
        self._why = {"budgets": "", "prices": "", "slos": ""}
        self._reset()

    def _reset(self) -> None:
        self._asking = {"budgets": threading.Lock(), "prices": threading.Lock(), "slos": threading.Lock()}
        self._starting = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def where(self) -> str:
        """The collector's address, for messages."""
        return self._ask_whom().where

    # --- what guards use --------------------------------------------------------------------------------------------

    def fresh(self) -> bool:
        """Whether what is known of budgets may be used. False: `look`, unless `failing`."""
        self.used_at = now = time.monotonic()
        return now - self.states.asked_at <= self.max_age_s

    @property
    def failing(self) -> bool:
        """Whether the collector was asked for budgets and did not answer, and the thread keeps asking."""
        return self._failed_at["budgets"] > self.states.asked_at and self._thread is not None

    @property
    def why(self) -> str:
        """What went wrong when budgets were asked for."""
        return f"{self.where}: {self._why['budgets']}"

    def look(self) -> None:
        """Ask for budgets now, unless somebody has just done so. Blocks.

        Raises:
            Unknown: the collector does not answer.
        """
        self.start()
        began = self.used_at = time.monotonic()
        with self._asking["budgets"]:
            if time.monotonic() - self.states.asked_at <= min(self.max_age_s, IDLE_S):
                return
            if self._failed_at["budgets"] <= began - RETRY_S:
                self._ask_budgets()
        if self._failed_at["budgets"] > self.states.asked_at:
            raise Unknown(self.why)

    def price(self) -> None:
        """Ask for prices that are wanted, unless somebody has just done so. Blocks; afterwards every bill has an amount."""
        self.start()
        began = time.monotonic()
        with self._asking["prices"]:
            if self.prices.due and self._failed_at["prices"] <= began - RETRY_S:
                self._ask_prices()
        self.states.settle()

    def know_slos(self, *, wait: bool) -> bool:
        """See that objectives are known, and asked for as long as somebody wants them; whether the collector answers.

        With `wait` the first question may block; nobody waits for a collector that has just not answered.
        """
        began = self.used_at = self.slos.used_at = time.monotonic()
        failing = self._failed_at["slos"] > self.slos.asked_at
        if self.slos.age_s > MAX_AGE_S and not (failing and self._thread is not None):
            self.start()
            if wait and self.slos.age_s > IDLE_S:
                with self._asking["slos"]:
                    if self.slos.age_s > MAX_AGE_S and self._failed_at["slos"] <= began - RETRY_S:
                        self._ask_slos()
            else:
                self._bell.set()
        return self._failed_at["slos"] <= self.slos.asked_at

    @property
    def why_no_slos(self) -> str:
        """What went wrong when objectives were asked for; empty: nothing did."""
        why = self._why["slos"] if self._failed_at["slos"] > self.slos.asked_at else ""
        return why and f"the collector at {self.where} does not answer: {why}"

    def count(self) -> None:
        """Count all calls that have ended."""
        if self.lately:
            self.used()
            if not self.lately.count(self.states, self.prices):
                self.hurry()
            self.most_lately = lately.MOST if self.prices.known else 1

    def used(self) -> None:
        """A call has ended that counts here: what is known has to be kept up to date."""
        self.used_at = time.monotonic()
        if self._thread is None and (self.prices.known or self.max_age_s < float("inf")):
            self.start()

    def hurry(self) -> None:
        """A price is wanted: ask for it soon."""
        self.start()
        self._bell.set()

    def start(self) -> None:
        """See that the thread runs."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                self.used_at = time.monotonic()
                thread = threading.Thread(target=self._serve, name="graphmeter-budgets", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the interpreter is going down
                    guard.swallowed("start budgets thread", error)
                    return
                self._thread = thread

    @property
    def pool(self) -> Pool:
        """Connections for what a call waits for."""
        if self._pool is None:
            target = self._target()
            self._pool = Pool(target.url.removesuffix(TRACES), target.headers)
        return self._pool

    # --- the thread -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            self._bell.wait(self._rest_s())
            self._bell.clear()
            self._count()
            now = time.monotonic()
            if now - self.used_at > IDLE_S and not self.prices.wanted:
                with self._starting:
                    self._thread = None
                return
            self._round(now)

    @guard.guarded
    def _count(self) -> None:
        if self.lately:
            self.lately.count(self.states, self.prices)

    def _rest_s(self) -> float:
        slos_s = MAX_AGE_S if self._wants_slos() else PRICES_S
        return max(min(self.max_age_s, slos_s, PRICES_S) / 2, 0.1)

    def _wants_slos(self) -> bool:
        return time.monotonic() - self.slos.used_at <= IDLE_S

    @guard.guarded
    def _round(self, now: float) -> None:
        if self.max_age_s < float("inf"):
            with self._asking["budgets"]:
                if now - self.states.asked_at >= self._rest_s() * 0.9:
                    self._ask_budgets()
        if self._wants_slos():
            with self._asking["slos"]:
                if self.slos.age_s >= MAX_AGE_S / 2 * 0.9:
                    self._ask_slos()
        with self._asking["prices"]:
            if self.prices.due or (self.prices.keys() and now - self._prices_at >= PRICES_S):
                self._ask_prices()
        self.states.settle()

    def _ask_budgets(self) -> None:
        at = time.monotonic()
        try:
            # So that an answer is not too old when it comes.
            patience_s = max(min(PATIENCE_S, self.max_age_s / 2), LEAST_PATIENCE_S)
            answer = self._ask_whom().ask("/api/budgets/status", (), self.states.etag, patience_s)
            if answer.said is not None:
                self.states.learn(answer.said, answer.etag)
            self.states.answered(at)
            self._over("budgets")
        except Silent as silence:
            self._failed("budgets", str(silence))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._failed("budgets", f"its answer was not understood ({error!r}); is it a collector of this version?")

    def _ask_slos(self) -> None:
        at = time.monotonic()
        try:
            answer = self._ask_whom().ask("/api/slos/status", (), self.slos.etag, PATIENCE_S)
            if answer.said is not None:
                self.slos.learn(answer.said, answer.etag)
            self.slos.asked_at = at
            self._over("slos")
        except Silent as silence:
            self._failed("slos", str(silence))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._failed("slos", f"its answer was not understood ({error!r}); is it a collector of this version?")

    def _ask_prices(self) -> None:
        keys = self.prices.keys()
        if not keys:
            return
        try:
            query = [("call", key_text(key)) for key in keys]
            etag = self.prices.etag if self.prices.etag_of == keys else ""
            answer = self._ask_whom().ask("/api/prices", query, etag, PATIENCE_S)
            if answer.said is not None:
                self.prices.learn(keys, answer.said, answer.etag)
            self.prices.answered(keys)
            self._prices_at = time.monotonic()
            self._over("prices")
        except Silent as silence:
            self.prices.away = True
            self._failed("prices", str(silence))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.prices.away = True
            self._failed("prices", f"its answer was not understood ({error!r}); is it a collector of this version?")

    def _failed(self, what: str, why: str) -> None:
        self._failed_at[what], self._why[what] = time.monotonic(), why
        who = "graphmeter.slo.status()" if what == "slos" else "Budget guards"
        counts.say_once(f"{what} {self._endpoint}", f"{who} cannot learn {what} from {self.where}: {why}")

    def _over(self, what: str) -> None:
        if self._failed_at[what] > _NEVER:
            self._failed_at[what] = _NEVER
            counts.unsay(f"{what} {self._endpoint}")
            _log.info("Learning %s from %s again", what, self.where)

    def _ask_whom(self) -> Source:
        if self._source is None:
            target = self._target()
            self._source = Http(target.url, target.headers)
        return self._source

    def _target(self) -> destination.Destination:
        settings = client.settings()
        return destination.choose(replace(settings, endpoint=self._endpoint) if self._endpoint else settings)

    def after_fork(self) -> None:
        """In a forked child: no thread, and locks that the parent's may have held."""
        self._reset()
        self.states.after_fork()
        self.lately.after_fork()
        self._failed_at = dict.fromkeys(self._failed_at, _NEVER)


def key_text(key: tuple[str, ...]) -> str:
    """A call as `/api/prices` takes it: JSON."""
    return json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))


_desks: dict[str, Desk] = {}
IN_USE: Final[list[Desk]] = []
"""All of them, or the one that takes their place."""
_diverted: Desk | None = None
_lock = threading.Lock()


def desk_of(endpoint: str = "") -> Desk:
    """The desk for the collector at `endpoint`; empty: the process's own."""
    if _diverted is not None:
        return _diverted
    found = _desks.get(endpoint)
    if found is None:
        with _lock:
            found = _desks.setdefault(endpoint, Desk(endpoint))
            if found not in IN_USE:
                IN_USE.append(found)
    return found


def diverted() -> Desk | None:
    """What takes the place of all collectors; None: nothing."""
    return _diverted


def divert(desk: Desk | None) -> None:
    """Let `desk` take the place of all collectors, for tests; None: no longer."""
    global _diverted  # of the process, as the desks are
    _diverted = desk
    IN_USE[:] = _desks.values() if desk is None else [desk]


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()
    for desk in (*_desks.values(), *([_diverted] if _diverted is not None else ())):
        desk.after_fork()


forks.in_child(_after_fork)
