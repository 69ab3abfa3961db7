"""Models and their providers: how fast they answer, how often they fail or refuse, what tokens cost, what caches save."""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import links, panels, pieces, queries, thresholds
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.panels import GREEN
from graphmeter_dashboards.pieces import MINUTE, MODEL_LEGEND
from graphmeter_dashboards.queries import MODEL, RANGE
from graphmeter_dashboards.sdk import Builder, dashboard, table, timeseries, units
from graphmeter_dashboards.targets import at_end, buckets, over_time

_FAILED: Final = f'status="{names.ERROR}"'
_OUTPUT: Final = f'type=~"{"|".join(names.OUTPUT_TOKEN_TYPES)}"'


def models(config: Config) -> Json:
    """The dashboard `graphmeter-models`; colours of errors are drawn from the SLOs of `config`."""
    return page(
        links.MODELS,
        "Graphmeter / Models and providers",
        "Models that LangGraph applications call: latency, first tokens, throughput, errors, rate limits, cost, caches.",
        [
            Section("", _numbers(config)),
            Section("Models", [_table()]),
            Section("Latency", _latency()),
            Section("Throughput", _throughput()),
            Section("Errors and rate limits", [*_errors(), *_limits(config)]),
            Section("Cost", _cost()),
            Section("Caches", _caches()),
            Section("Not known", [pieces.unpriced((12, 8)), pieces.usage_missing((12, 8))]),
        ],
    )


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    return [
        panels.number(
            "Model calls",
            "Calls within the time range, whatever their status; answers from LangChain's cache excluded.",
            at_end(queries.count(names.LLM_CALLS)),
            unit=units.Short,
            size=size,
            decimals=0,
        ),
        panels.number(
            "Error ratio of calls",
            "Share of calls that failed, those that were tried again included; cancelled ones are left out. "
            "Colours: the error budgets of SLOs of models.",
            at_end(queries.error_ratio(names.LLM_CALLS)),
            unit=units.PercentUnit,
            size=size,
            decimals=2,
            colors=thresholds.errors(config, "models"),
        ),
        panels.number(
            "Call p95",
            "95 % of the calls within the time range took no longer. Colours: the thresholds of SLOs of models.",
            at_end(queries.quantile(0.95, names.LLM_DURATION, window=RANGE)),
            unit=units.Seconds,
            size=size,
            colors=thresholds.slow(config, "models"),
        ),
        panels.number(
            "First token p95",
            "In 95 % of the streamed calls within the time range the first token came no later.",
            at_end(queries.quantile(0.95, names.LLM_TTFT, window=RANGE)),
            unit=units.Seconds,
            size=size,
            colors=thresholds.slow(config, "models", "first_token"),
            empty="no call was streamed",
        ),
        panels.number(
            "Rate limited",
            "Calls within the time range that providers refused for their rate limits.",
            at_end(queries.count(names.RATE_LIMITED_CALLS)),
            unit=units.Short,
            size=size,
            decimals=0,
            colors=thresholds.NONE_IS_GOOD,
            empty="none",
        ),
        panels.number(
            "Cost per 1000 tokens",
            "Of all models that have a price, within the time range; a mix that changes changes it, too.",
            at_end(queries.cost_per_1k()),
            unit=units.Dollars,
            size=size,
            decimals=5,
        ),
    ]


def _table() -> table.Panel:
    asked = {
        "Calls": (queries.count(names.LLM_CALLS, by=MODEL), units.Short),
        "Errors": (queries.count(names.LLM_CALLS, _FAILED, by=MODEL), units.Short),
        "p95": (queries.quantile(0.95, names.LLM_DURATION, MODEL, RANGE), units.Seconds),
        "First token p95": (queries.quantile(0.95, names.LLM_TTFT, MODEL, RANGE), units.Seconds),
        "Tokens per second": (queries.tokens_per_second(_OUTPUT, MODEL, RANGE), units.Short),
        "Spend": (queries.count(names.COST, by=MODEL), units.Dollars),
        "Per 1000 tokens": (queries.cost_per_1k(MODEL), units.Dollars),
    }
    panel = panels.grid(
        "All models",
        "What every model did within the time range. Failed calls stand under the name that was asked for: no answer told "
        "its own. Tools that have a price have spend only.",
        [at_end(expr, as_table=True) for expr, _ in asked.values()],
        unit=units.Short,
        size=(24, 9),
        columns={
            "provider": "Provider",
            "model": "Model",
            **{f"Value #{chr(ord('A') + number)}": heading for number, heading in enumerate(asked)},
        },
        sort_by="Spend",
    )
    for heading in ("Calls", "Errors"):
        panel = panels.column(panel, heading, decimals=0)
    for heading in ("p95", "First token p95"):
        panel = panels.column(panel, heading, unit=asked[heading][1])
    panel = panels.column(panel, "Per 1000 tokens", unit=units.Dollars, decimals=5)
    this = {"title": "This model", "url": links.to(links.MODELS, model=links.VALUE)}
    panel = panels.column(panel, "Model", links=[this])
    spend = {"title": "Spend on this model", "url": links.to(links.SPEND, model=links.field("Model"))}
    return panels.column(panel, "Spend", unit=units.Dollars, links=[spend])


def _latency() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        *(_percentile("Call latency", names.LLM_DURATION, percent) for percent in (50, 95, 99)),
        _percentile("Time to first token", names.LLM_TTFT, 50),
        _percentile("Time to first token", names.LLM_TTFT, 95),
        panels.distribution(
            "Durations of calls",
            "Calls by how long they took. The dots are single traces: click one to open it in Jaeger.",
            buckets(queries.buckets(names.LLM_DURATION)),
            unit=units.Seconds,
            size=size,
        ),
    ]


def _percentile(what: str, metric: names.Metric, percent: int) -> timeseries.Panel:
    return panels.lines(
        f"{what}, p{percent}",
        f"{percent} % of the calls of a model took no longer. The dots are single traces: click one to open it in Jaeger.",
        [over_time(queries.quantile(percent / 100, metric, MODEL), MODEL_LEGEND, exemplars=True)],
        unit=units.Seconds,
        size=(8, 9),
    )


def _throughput() -> list[Builder[dashboard.Panel]]:
    return [
        _speed(
            "Calls per minute",
            "Calls by model, whatever their status.",
            queries.per_second(names.LLM_CALLS, by=MODEL, times=MINUTE),
        ),
        panels.lines(
            "Tokens per second of a call",
            "Tokens that a model wrote per second that its calls took: what a user who waits sees.",
            [over_time(queries.tokens_per_second(_OUTPUT, MODEL), MODEL_LEGEND)],
            unit=units.Short,
            size=(8, 9),
        ),
        _speed(
            "Tokens per minute",
            "Tokens of every kind by model: what limits of providers count.",
            queries.per_second(names.TOKENS, by=MODEL, times=MINUTE),
        ),
    ]


def _speed(title: str, description: str, expr: str) -> timeseries.Panel:
    targets = [over_time(expr, MODEL_LEGEND, exemplars=True)]
    return panels.lines(title, description, targets, unit=units.Short, size=(8, 9), stacked=True)


def _errors() -> list[Builder[dashboard.Panel]]:
    return [
        _speed(
            "Failed calls per minute",
            "Calls that failed, those that were tried again included. Errors by type stand on Graph.",
            queries.per_second(names.LLM_CALLS, _FAILED, by=MODEL, times=MINUTE),
        ),
        panels.lines(
            "Error ratio per provider",
            "Share of calls that failed. By provider: a failed call stands under the model that was asked for, another "
            "under the one that answered.",
            [over_time(queries.error_ratio(names.LLM_CALLS, ("provider",), queries.STEP), "{{provider}}")],
            unit=units.PercentUnit,
            size=(8, 9),
        ),
        _speed(
            "Rate limited per minute",
            "Calls that providers refused for their rate limits.",
            queries.per_second(names.RATE_LIMITED_CALLS, by=MODEL, times=MINUTE),
        ),
    ]


def _limits(config: Config) -> list[Builder[dashboard.Panel]]:
    """Where graphmeter.yaml knows limits of providers, how much of them is used."""
    if not config.provider_limits:
        return []
    panel = panels.lines(
        "Limits of providers used",
        "Share of what `provider_limits` of graphmeter.yaml allows in a minute, in the mean of the window of each. "
        "Dashed: from where on the alerts fire.",
        [over_time(queries.provider_limits_used(), "{{limit}} {{of}} {{provider}} {{model}}")],
        unit=units.PercentUnit,
        size=(24, 8),
        limits=thresholds.beyond([float(limit.warn_at) for limit in config.provider_limits], GREEN),
    )
    return [panel]


def _cost() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        panels.lines(
            "Cost per 1000 tokens, by model",
            "Of all kinds of tokens together: more output or fewer cached tokens make it dearer.",
            [over_time(queries.cost_per_1k(MODEL, queries.STEP), MODEL_LEGEND)],
            unit=units.Dollars,
            size=size,
        ),
        pieces.money_per_hour(
            "Spend per provider",
            "USD per hour at the speed of the moment.",
            names.COST,
            ("provider",),
            "{{provider}}",
            size,
        ),
        pieces.spend_per_model(size),
    ]


def _caches() -> list[Builder[dashboard.Panel]]:
    return [pieces.prompt_cache((8, 8)), pieces.cached_answers((8, 8)), pieces.saved((8, 8))]
