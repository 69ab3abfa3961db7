"""Shared budgets with room reserved before each call: what a call takes at most in, the collector's decision out.

The collector grants it if spend, what calls under way have reserved everywhere, and this stay within the limit. It releases
it in the transaction that bills the call, whose span names what was reserved for it. So beyond the limit goes at most what
calls take beyond what was reserved for them. A call that is not made gives it up; that of a process that died expires.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from graphmeter import guard
from graphmeter.budget import counts
from graphmeter.budget.accounts import Caps
from graphmeter.budget.bounds import Bound, bound
from graphmeter.budget.cached import Cached, NotCounted
from graphmeter.budget.calls import Call, Held, Spent
from graphmeter.budget.desk import PATIENCE_S, RETRY_S, Desk
from graphmeter.budget.exceeded import Status, Unknown
from graphmeter.budget.matching import Account
from graphmeter.budget.modes import WAIT, Verdict
from graphmeter.budget.source import Silent
from graphmeter.records import Run

TTL_S: Final = 900.0
"""Longer than any model call and the delivery of its span take."""


class Strict(Cached):
    """See the module.

    Args:
        budgets: Names of budgets; `*` is every hard one.
        max_age_s: How old definitions of budgets may be.
        endpoint: Base URL of the collector; empty: the process's own.
        caps: What a single call takes at most, if the application says so.
    """

    def __init__(self, budgets: Sequence[str], max_age_s: float, endpoint: str, caps: Caps) -> None:
        super().__init__(budgets, max_age_s, endpoint)
        self._caps = caps
        self._failed_at = float("-inf")
        self._why = ""

    def surely(self, run: Run) -> bool:
        """See `Mode`: it has to be reserved for."""
        return False

    def ask(self, call: Call) -> Verdict:
        """See `Mode`: whoever spends has to wait."""
        desk = self._desk()
        if desk.fresh():
            if not self._accounts(desk, call):
                return None
        elif desk.failing:
            raise Unknown(desk.why)
        # Here, not in the thread that reserves: whoever drops the call meanwhile has to find it.
        call.held = call.held or Held()
        return WAIT

    def wait(self, call: Call) -> Status | None:
        """See `Mode`."""
        desk = self._desk()
        if not desk.fresh():
            desk.look()
        accounts = self._accounts(desk, call)
        if not accounts:
            return None
        if call.tree is None:
            raise Unknown("nothing measures the call, so nobody would release what is reserved for it")
        most = self._most(desk, call, accounts)
        held = call.held = call.held or Held()
        # The others are held to all the same.
        for account in sorted(accounts, key=lambda each: not each[0].counted):
            if not account[0].counted:
                raise NotCounted(account[0].name, desk.where)
            refused = self._reserve(desk, call, held, account, most)
            if refused is not None:
                return refused
        return None

    def dropped(self, call: Call) -> None:
        """See `Mode`: what was reserved is given up, behind the application's back."""
        ids = call.held.drop() if call.held is not None else []
        if ids:
            threading.Thread(target=self._give_up, args=(self._desk(), ids), daemon=True).start()

    def ended(self, call: Call, spent: Spent) -> None:
        """See `Mode`: its span says what to release."""

    def _accounts(self, desk: Desk, call: Call) -> list[Account]:
        self._known(desk)
        waived = call.waived
        return [
            account
            for account in desk.states.accounts(call)
            if self._watches(account[0]) and account[0].name not in waived
        ]

    def _most(self, desk: Desk, call: Call, accounts: Sequence[Account]) -> Bound:
        most = bound(call, desk.prices, self._caps.call_nano, self._caps.call_tokens)
        if not any(definition.unit == "usd" for definition, _ in accounts):
            return most
        if most.nano is None:
            desk.price()
            most = bound(call, desk.prices, self._caps.call_nano, self._caps.call_tokens)
        if most.nano is None or not most.known:
            raise Unknown(
                f"nobody knows a price of {call.provider or 'an unknown provider'}/{call.model or 'an unknown model'}: "
                "add one to `prices:` in graphmeter.yaml, or set call_usd= on the guard"
            )
        return most

    def _reserve(self, desk: Desk, call: Call, held: Held, account: Account, most: Bound) -> Status | None:
        """Reserve what the call takes of one budget; its state, if there is no room.

        Raises:
            Unknown: the collector does not say.
        """
        if time.monotonic() < self._failed_at + RETRY_S:
            raise Unknown(self._why)
        definition, scope = account
        reservation = uuid.uuid4().hex
        # Before it is asked for: should the answer be lost, the span, or whoever drops the call, names it all the same.
        if not held.add(definition.name, reservation):
            return None
        snapshot = desk.states.snapshot
        asked: dict[str, Any] = {
            "id": reservation,
            "attributes": {} if snapshot is None else snapshot.matcher.said(call, desk.states.resource),
            "tokens": most.tokens,
            "ttl_s": TTL_S,
        }
        if most.nano is not None:
            asked["nano_usd"] = most.nano
        try:
            _, said = desk.pool.ask("POST", _path(definition.name), asked, PATIENCE_S)
            granted, counted = bool(said["granted"]), bool(said["counted"])
            units, spent, reserved = int(said["units"]), int(said["spent"]), int(said["reserved"])
            limit = int(said["limit"])
        except (Silent, KeyError, TypeError, ValueError) as problem:
            why = str(problem) if isinstance(problem, Silent) else f"its answer was not understood ({problem!r})"
            self._failed_at, self._why = time.monotonic(), f"{desk.where}: {why}"
            raise Unknown(self._why) from None
        if granted and counted:
            return None
        held.forget(reservation)
        if granted:
            return None
        return Status(
            definition.name,
            definition.unit,
            limit,
            spent,
            dict(zip(definition.per, scope, strict=True)),
            definition.hard,
            reserved_units=reserved,
            asked_units=units,
        )

    @guard.guarded
    def _give_up(self, desk: Desk, ids: Sequence[tuple[str, str]]) -> None:
        for budget, reservation in ids:
            try:
                desk.pool.ask("DELETE", f"{_path(budget)}/{reservation}", None, PATIENCE_S)
            except Silent as silence:
                counts.say_once(
                    f"give up {desk.where}", f"A reservation was not given up, and expires by itself: {silence}"
                )


def _path(budget: str) -> str:
    return f"/api/budgets/{quote(budget, safe='')}/reservations"
