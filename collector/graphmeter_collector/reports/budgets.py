"""What is left: of budgets, with what is reserved of them, and of error budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from graphmeter_config import Budget


@dataclass(frozen=True, slots=True)
class InForce:
    """A budget in force."""

    budget: Budget
    source: str
    """`yaml` or `api`: who may change it."""
    since_ns: int
    """Everything that started since then is counted."""
    changed_ns: int
    counted: bool = True
    """False: calls of its period from before it was in force are being counted, and its spend cannot be told yet."""


class Asked(NamedTuple):
    """Which spend of a key: that of [first, last), and of it what started since `recent`."""

    key: str
    first_ns: int
    last_ns: int
    recent_ns: int


class Spent(NamedTuple):
    """What one scope has spent."""

    key: str
    scope: tuple[str, ...]
    nano: int
    tokens: int
    calls: int
    recent_nano: int
    recent_tokens: int


class Ask(NamedTuple):
    """A call that is about to be made, and what it may cost at most."""

    id: str
    """Made by who asks, so that asking again changes nothing."""
    budget: str
    attributions: Mapping[str, str]
    """Of the call, as far as they are known: they decide whether the budget counts it, and whose limit it is."""
    nano: int | None
    """Needed of a budget in USD."""
    tokens: int | None
    """Needed of a budget in tokens."""
    ttl_ns: int
    """How long it is reserved at most, should nothing be heard of the call."""


class Held(NamedTuple):
    """What calls under way have reserved of one scope of a budget."""

    budget: str
    scope: tuple[str, ...]
    """Values of the budget's `per`."""
    unit: str
    """`usd` or `tokens`."""
    units: int
    """Nano-USD or tokens."""
    calls: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was decided on an ask. Amounts are nano-USD or tokens, as `unit` says."""

    id: str
    granted: bool
    budget: str
    scope: dict[str, str]
    unit: str
    units: int
    """What was asked for."""
    limit: int
    spent: int
    reserved: int
    """By calls under way, this one included if it was granted."""
    remaining: int
    """Limit less spend and what is reserved."""
    expires_ns: int
    """When it is given up; 0 if nothing is reserved."""
    counted: bool = True
    """Whether the budget counts such calls; if not, it lets them pass and reserves nothing."""


class BudgetEvent(NamedTuple):
    """A threshold that was crossed: one for each budget, scope, period, threshold and limit."""

    budget: str
    scope: tuple[str, ...]
    """Values of the budget's `per`."""
    period_ns: int
    """Start of the period; of a rolling budget that of a stretch as long as its window."""
    threshold: str
    """`80%`."""
    limit_units: int
    """The limit then, in nano-USD or tokens: a new limit has thresholds of its own."""
    state: str
    """The BudgetRow of that moment, as JSON."""
    at_ns: int
    told_ns: int = 0
    """When it was handed to those who deliver it; 0: not yet."""


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """State of one budget, for one scope where it is divided by attributions."""

    budget: str
    team: str
    limit_nano: int
    """0 for a limit in tokens."""
    spent_nano: int
    """Opening spend included."""
    period_start_ns: int
    period_end_ns: int
    """Of a rolling window: when its oldest hour leaves it."""
    used_ratio: float
    per_team: bool
    """Whether each team has the limit for itself; `team` is then empty for spend that names none, else always."""
    crossed: tuple[str, ...] = ()
    """Thresholds reached, as written in the configuration: `80%`."""
    scope: dict[str, str] = field(default_factory=dict)
    """Attribution → value, of those the budget is divided by."""
    unit: str = "usd"
    """What the limit is counted in: `usd` or `tokens`."""
    limit_tokens: int = 0
    """0 for a limit in USD."""
    spent_tokens: int = 0
    calls: int = 0
    """Calls counted in the period. 0 for long: the budget may match nothing."""
    remaining: int = 0
    """Limit less spend in nano-USD or tokens, as `unit` says; negative when overspent."""
    remaining_ratio: float = 0.0
    """The same as a share of the limit."""
    forecast: int | None = None
    """Spend at the period's end if it goes on as now, in nano-USD or tokens; None in the first hundredth of a period."""
    forecast_ratio: float | None = None
    """The same as a share of the limit."""
    exhausted_at_ns: int | None = None
    """When the limit is reached then; None: not within the period, or it is already."""
    period: str = "month"
    """`month`, `week`, `day`, or the length of a rolling window."""
    rolling: bool = False
    hard: bool = False
    source: str = "yaml"
    """Whose the budget is: `yaml` or `api`."""
    reserved_nano: int = 0
    """By calls under way, of strict guards; neither spent nor taken off what remains."""
    reserved_tokens: int = 0
    reservations: int = 0
    """How many such calls there are."""
