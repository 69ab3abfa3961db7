"""graphmeter.yaml as types: SLOs, error budgets, money budgets and burn-rate maths; knows no Prometheus and no Grafana."""

from __future__ import annotations

from graphmeter_config.budget import Budget
from graphmeter_config.errors import ConfigError, Problem
from graphmeter_config.example import annotated_example, json_schema
from graphmeter_config.forward import Destination, Forward, Tls
from graphmeter_config.indicators import BAD_STATUSES, GOOD_STATUSES
from graphmeter_config.load import load
from graphmeter_config.model import Config, Labels, Retention, Runs
from graphmeter_config.prices import Prices
from graphmeter_config.receivers import Receiver
from graphmeter_config.reporting import Report
from graphmeter_config.sampling import Sampling
from graphmeter_config.section import Selector
from graphmeter_config.slo import EventSelector, Slo, SloStatus, slo_status

annotated = annotated_example

__all__ = [
    "BAD_STATUSES",
    "GOOD_STATUSES",
    "Budget",
    "Config",
    "ConfigError",
    "Destination",
    "EventSelector",
    "Forward",
    "Labels",
    "Prices",
    "Problem",
    "Receiver",
    "Report",
    "Retention",
    "Runs",
    "Sampling",
    "Selector",
    "Slo",
    "SloStatus",
    "Tls",
    "annotated",
    "annotated_example",
    "json_schema",
    "load",
    "slo_status",
]
