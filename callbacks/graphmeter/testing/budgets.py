"""Budgets for tests of applications: what their graphs do at a limit, with no collector and no money.

    with budgets(support={"limit_usd": 10, "spent_usd": 9.99}, call_usd="0.02"):
        with pytest.raises(BudgetExceeded):
            application.answer("I want my money back")

Guards ask here meanwhile, however and whenever they were made. Calls of graphs that are measured (by `measure()`, `meter()`,
`instrument()`) are added as they end, as in production.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

from graphmeter import names
from graphmeter.budget import desk as desks
from graphmeter.budget.desk import Desk
from graphmeter.budget.exceeded import Unknown
from graphmeter.budget.pool import Pool
from graphmeter.budget.prices import Prices

_KNOWN: Final = frozenset(
    {"limit_usd", "limit_tokens", "spent_usd", "spent_tokens", "match", "per", "scope", "hard", "counted"}
)


class KnownBudgets:
    """The budgets of one `with` block. See `budgets`."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]], call_usd: Decimal | str | float | None) -> None:
        self._budgets = {name: _checked(name, said) for name, said in given.items()}
        self._desk = _Desk(self._answer(), call_usd)

    def spend(
        self, budget: str, *, usd: Decimal | str | float = 0, tokens: int = 0, scope: Mapping[str, str] | None = None
    ) -> None:
        """Somebody else spends of a budget; where it is divided, in the given scope (`{"team": "cx"}`)."""
        said = self._budgets[budget]
        key = tuple(sorted((scope or said.get("scope") or {}).items()))
        before = said["spent"].get(key, 0)
        said["spent"][key] = before + (_nano(usd) if said["unit"] == "usd" else tokens)
        self._desk.tell(self._answer())

    def fail(self, *, failing: bool = True) -> None:
        """The collector cannot be reached any more: guards fail open or closed. With `failing=False` it is back."""
        self._desk.go_away(away=failing)

    @property
    def desk(self) -> Desk:
        """What guards ask."""
        return self._desk

    def _answer(self) -> dict[str, Any]:
        definitions, rows = [], []
        for name, said in self._budgets.items():
            match = {key: [globs] if isinstance(globs, str) else list(globs) for key, globs in said["match"].items()}
            definitions.append(
                {
                    "budget": name,
                    "unit": said["unit"],
                    "limit": said["limit"],
                    "hard": said["hard"],
                    "match": match,
                    "per": said["per"],
                    "counted": said["counted"],
                }
            )
            for scope, spent in said["spent"].items():
                row = {"budget": name, "unit": said["unit"], "scope": dict(scope), "rolling": True}
                rows.append({**row, "spent_nano": spent, "spent_tokens": spent, "period_end_ns": 0})
        return {"definitions": definitions, "budgets": rows}


class _Desk(Desk):
    """Knows what it was told, and asks nobody."""

    def __init__(self, said: Mapping[str, Any], call_usd: Decimal | str | float | None) -> None:
        super().__init__("")
        self.prices = Prices(listed=call_usd is None)
        self._call_nano = 0 if call_usd is None else _nano(call_usd)
        self.away = False
        self._pool = _Pool(self)
        self.tell(said)

    def tell(self, said: Mapping[str, Any]) -> None:
        self.states.learn(said, "")
        self.go_away(away=self.away)

    def go_away(self, *, away: bool) -> None:
        self.away = away
        self.states.asked_at = float("-inf") if away else time.monotonic()

    @property
    def where(self) -> str:
        return "graphmeter.testing"

    @property
    def failing(self) -> bool:
        return self.away

    @property
    def why(self) -> str:
        return "graphmeter.testing: said to fail"

    def know_slos(self, *, wait: bool) -> bool:
        self.slos.asked_at = time.monotonic()
        return not self.slos_away

    @property
    def slos_away(self) -> bool:
        """Whether `slos()` says that the collector cannot be reached."""
        return getattr(self.slos, "away", False)

    @property
    def why_no_slos(self) -> str:
        return "graphmeter.testing: said to fail" if self.slos_away else ""

    def fresh(self) -> bool:
        return not self.away

    def look(self) -> None:
        if self.away:
            raise Unknown(self.why)

    def start(self) -> None:
        """There is no thread."""

    def hurry(self) -> None:
        self.price()

    def price(self) -> None:
        keys = self.prices.keys()
        self.prices.learn(keys, {"models": [self._priced(key) for key in keys], "until_ns": 2**62}, "")
        self.states.settle()

    def _priced(self, key: Sequence[str]) -> dict[str, Any]:
        rates = {"above": None, "per_token": [0] * len(names.TOKEN_TYPES), "scale": 1, "per_request": self._call_nano}
        provider, model, request_model, server = key
        return {
            "provider": provider,
            "model": model,
            "request_model": request_model,
            "server": server,
            "price": {"bill_failed": False, "tariffs": [{"from_time_ns": 0, "tiers": [rates]}]},
            "service_tiers": {},
        }


class _Pool(Pool):
    """Grants what there is room for, with what this process has spent; what calls under way reserve is not held."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("http://graphmeter.testing", {})
        self._desk = desk

    def ask(self, method: str, path: str, body: object, timeout_s: float) -> tuple[int, Any]:
        snapshot = self._desk.states.snapshot
        if method != "POST" or not isinstance(body, Mapping) or snapshot is None:
            return 204, None
        name = unquote(path.split("/")[3])
        one = next(each for each in snapshot.definitions if each.name == name)
        self._desk.count()
        units = body.get("nano_usd", 0) if one.unit == "usd" else body["tokens"]
        spent = self._desk.states.units((one, tuple(body["attributes"].get(each, "") for each in one.per)))
        said = {"units": units, "spent": spent, "reserved": 0, "limit": one.limit_units, "counted": True}
        return 200, {**said, "granted": spent + units <= one.limit_units}


@contextmanager
def budgets(*, call_usd: Decimal | str | float | None = None, **given: Mapping[str, Any]) -> Iterator[KnownBudgets]:
    """Let guards know these budgets, and no others, until the block ends. For one `with` block at a time.

    Args:
        call_usd: What every model call costs; default: list prices of the extra `prices`.
        given: By name, `{"limit_usd": 10, "spent_usd": 9.5}`, or `limit_tokens` and `spent_tokens`; as in graphmeter.yaml
            `match`, `per` and `hard`; `counted: False` for one that the collector is still counting; of a divided budget
            `scope` says whose limit `spent_usd` is of. Names that are no Python names: `**{"team-monthly": {…}}`.

    Raises:
        ValueError: a budget without a limit, or with something else besides.
    """
    known, before = KnownBudgets(given, call_usd), desks.diverted()
    if before is not None:
        known.desk.slos = before.slos  # of `slos()` around
    desks.divert(known.desk)
    try:
        yield known
    finally:
        desks.divert(before)


def _checked(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(said.keys() - _KNOWN)
    if unknown:
        raise ValueError(f"budget {name!r}: {unknown[0]} is none of {', '.join(sorted(_KNOWN))}")
    if ("limit_usd" in said) == ("limit_tokens" in said):
        raise ValueError(f"budget {name!r}: give limit_usd or limit_tokens")
    money = "limit_usd" in said
    limit = _nano(said["limit_usd"]) if money else int(said["limit_tokens"])
    spent = _nano(said.get("spent_usd", 0)) if money else int(said.get("spent_tokens", 0))
    per = said.get("per", ())
    scope = dict(said.get("scope", {}))
    return {
        "unit": "usd" if money else "tokens",
        "limit": limit,
        "hard": bool(said.get("hard", False)),
        "counted": bool(said.get("counted", True)),
        "match": dict(said.get("match", {})),
        "per": [per] if isinstance(per, str) else list(per),
        "scope": scope,
        "spent": {tuple(sorted(scope.items())): spent} if spent else {},
    }


def _nano(usd: Decimal | str | float) -> int:
    return int(Decimal(str(usd)) * names.NANO_PER_USD)
