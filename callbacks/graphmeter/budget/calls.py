"""Model calls that pass a guard: what is known before they are made, and what they cost afterwards."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from graphmeter import attribution, client, models, names
from graphmeter.records import Run, Tree, Value, attempt_at

if TYPE_CHECKING:
    from graphmeter.budget.guarding import BudgetGuard

_NO_METADATA: Mapping[str, Any] = {}


class Held:
    """What is reserved for one call. One thread may reserve while another finds that the call is not made."""

    __slots__ = ("_dropped", "_lock", "ids")

    def __init__(self) -> None:
        self.ids: list[tuple[str, str]] = []
        """Budget and reservation."""
        self._lock = threading.Lock()
        self._dropped = False

    def add(self, budget: str, reservation: str) -> bool:
        """Whether the call may still be made."""
        with self._lock:
            if not self._dropped:
                self.ids.append((budget, reservation))
            return not self._dropped

    def forget(self, reservation: str) -> None:
        """Nothing was reserved."""
        with self._lock:
            self.ids = [each for each in self.ids if each[1] != reservation]

    def drop(self) -> list[tuple[str, str]]:
        """The call is not made: what has to be given up."""
        with self._lock:
            self._dropped = True
            ids, self.ids = self.ids, []
            return ids


class Call:
    """A model call that is about to be made; or the place of code that asks what one would be told."""

    __slots__ = ("_asked", "around", "held", "messages", "metadata", "params", "run_id", "serialized", "tree")

    def __init__(
        self,
        run_id: UUID,
        around: Run | None,
        serialized: Mapping[str, Any] | None,
        messages: Any,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.run_id = run_id
        self.tree: Tree | None = None if around is None else around.tree
        """What the run shares that it is part of; None: nothing measures it."""
        self.around = around
        """The innermost open run."""
        self.serialized = serialized
        self.messages = messages
        """The prompt: messages, or texts."""
        self.metadata = _NO_METADATA if metadata is None else metadata
        self.params = params
        """What is asked of the provider, `max_tokens` among it, as its integration tells."""
        self.held: Held | None = None
        """What is reserved for it; None: nothing is."""
        self._asked: tuple[str, models.Facts] | None = None

    @property
    def shared(self) -> Mapping[str, Value]:
        """Attribution, as span attributes."""
        if self.tree is not None:
            return self.tree.shared
        return attribution.read(self.metadata, attribution.Attribution().over(client.settings()).shared())

    @property
    def node(self) -> str:
        """Path of the node around; empty outside of nodes."""
        return "" if self.around is None else self.around.node

    @property
    def task(self) -> Run | None:
        """The node attempt around."""
        return None if self.around is None else attempt_at(self.around)

    @property
    def graph(self) -> str:
        """Name of the root graph; empty: named after the service."""
        return "" if self.tree is None else self.tree.graph

    @property
    def waived(self) -> frozenset[str]:
        """Budgets that somebody who was asked has lifted for the rest of the run."""
        accounts = None if self.tree is None else self.tree.accounts
        return frozenset() if accounts is None else accounts.waived

    @property
    def model(self) -> str:
        """The one that is asked for; which one answers is not known yet."""
        return self._facts()[0]

    @property
    def provider(self) -> str:
        return str(self._facts()[1].get(names.PROVIDER, ""))

    @property
    def server(self) -> str:
        return str(self._facts()[1].get(names.SERVER_ADDRESS, ""))

    def _facts(self) -> tuple[str, models.Facts]:
        if self._asked is None:
            self._asked = models.asked(self.metadata, self.params, names.OP_CHAT, self.serialized)
        return self._asked


class Measured(NamedTuple):
    """A call that is measured, as budgets look at it."""

    run: Run

    @property
    def shared(self) -> Mapping[str, Value]:
        return self.run.shared

    @property
    def graph(self) -> str:
        return self.run.tree.graph

    @property
    def node(self) -> str:
        return self.run.node

    @property
    def provider(self) -> str:
        return str((self.run.facts or {}).get(names.PROVIDER, ""))

    @property
    def model(self) -> str:
        facts = self.run.facts or {}
        return str(facts.get(names.RESPONSE_MODEL) or facts.get(names.REQUEST_MODEL) or "")


class Spent(NamedTuple):
    """What a call cost that has ended."""

    nano: int
    """Nano-USD; 0 where the price is not known."""
    tokens: int
    known: bool
    """False: it told no usage, or nobody knows its price."""


OPEN: dict[int, list[tuple[BudgetGuard, Call]]] = {}
"""Calls that guards let pass and that have not ended, by the number of their run id."""
