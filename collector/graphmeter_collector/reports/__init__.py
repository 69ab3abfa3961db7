"""What can be asked of the store, and the rows that answer: the seam between `store` and everybody who reads.

Rows are plain frozen dataclasses of JSON-able values, so the HTTP API, the CLI's `--json` and the tests all speak the
same shapes. Ids are lower-case hex; times are ns since the epoch; money is nano-USD.
"""

from __future__ import annotations

from graphmeter_collector.reports.budgets import (
    Ask,
    Asked,
    BudgetEvent,
    BudgetRow,
    Held,
    InForce,
    Reserved,
    SloRow,
    Spent,
)
from graphmeter_collector.reports.dimensions import (
    BILLED,
    COST_ALIASES,
    COST_DIMENSIONS,
    COST_PERIODS,
    COST_SHORT,
    COST_UNITS,
    EFFECTIVE,
    EVERYTHING,
    OUTCOME_DIMENSIONS,
    TAG,
    VIEWS,
    View,
    Where,
    dimension,
)
from graphmeter_collector.reports.forwarding import Decision, Judged, OutboxItem, TracePart, WaitingTrace
from graphmeter_collector.reports.reader import Reader
from graphmeter_collector.reports.runs import (
    ClientRow,
    ContentRow,
    LostRun,
    NodeRow,
    OutcomeRow,
    RunCount,
    RunFilter,
    RunRow,
    Series,
    SpanRow,
    TopologyRow,
    Unended,
    WaitRow,
)
from graphmeter_collector.reports.spend import CostRow, OutcomeCostRow, ReportedCostRow, UnitCostRow

__all__ = [
    "BILLED",
    "COST_ALIASES",
    "COST_DIMENSIONS",
    "COST_PERIODS",
    "COST_SHORT",
    "COST_UNITS",
    "EFFECTIVE",
    "EVERYTHING",
    "OUTCOME_DIMENSIONS",
    "TAG",
    "VIEWS",
    "Ask",
    "Asked",
    "BudgetEvent",
    "BudgetRow",
    "ClientRow",
    "ContentRow",
    "CostRow",
    "Decision",
    "Held",
    "InForce",
    "Judged",
    "LostRun",
    "NodeRow",
    "OutboxItem",
    "OutcomeCostRow",
    "OutcomeRow",
    "Reader",
    "ReportedCostRow",
    "Reserved",
    "RunCount",
    "RunFilter",
    "RunRow",
    "Series",
    "SloRow",
    "SpanRow",
    "Spent",
    "TopologyRow",
    "TracePart",
    "Unended",
    "UnitCostRow",
    "View",
    "WaitRow",
    "WaitingTrace",
    "Where",
    "dimension",
]
