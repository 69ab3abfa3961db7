"""Budgets enforced where money is spent: guards in the graph, by the collector's figures and prices.

    graph = meter(builder.compile(), budget="support")            # stops at the limit
    if graphmeter.budget.status("support").remaining_ratio < 0.2: # or chooses a cheaper model in time
    graphmeter.budget.gate()                                      # or asks a human

`guarding` is the callback handler, `accounts` the spend of one run, `cached` shared budgets by what the collector said
lately (`modes` is what such a way has to be), `desk` asks the collector, `states` and `prices` keep its answers, `spending`
hears of every call that has ended.
"""

from __future__ import annotations

from graphmeter.budget.asking import CONTINUE, STOP, gate, status
from graphmeter.budget.exceeded import BudgetExceeded, Status
from graphmeter.budget.guarding import BudgetGuard

__all__ = ["CONTINUE", "STOP", "BudgetExceeded", "BudgetGuard", "Status", "gate", "status"]
