"""The dashboard Models and providers: what a person finds on it, in which order, and where it leads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dashboards.pages import columns_with_links, panel, steps, titles
from graphmeter_config import Config, Slo
from graphmeter_dashboards.models import models as models_of

Json = dict[str, Any]


def test_numbers_stand_on_top_and_everything_asked_for_is_there(models: Json) -> None:
    assert titles(models) == [
        "Model calls",
        "Error ratio of calls",
        "Call p95",
        "First token p95",
        "Rate limited",
        "Cost per 1000 tokens",
        "Models",
        "All models",
        "Latency",
        "Call latency, p50",
        "Call latency, p95",
        "Call latency, p99",
        "Time to first token, p50",
        "Time to first token, p95",
        "Durations of calls",
        "Throughput",
        "Calls per minute",
        "Tokens per second of a call",
        "Tokens per minute",
        "Errors and rate limits",
        "Failed calls per minute",
        "Error ratio per provider",
        "Rate limited per minute",
        "Cost",
        "Cost per 1000 tokens, by model",
        "Spend per provider",
        "Spend per model",
        "Caches",
        "Input from the provider's cache",
        "Cached answers per minute",
        "Saved by cached answers",
        "Not known",
        "Calls without a price",
        "Calls without usage",
    ]


@pytest.mark.parametrize("title", ["Call latency, p99", "Time to first token, p95", "Failed calls per minute"])
def test_latency_and_errors_lead_to_traces_by_exemplars(title: str, models: Json) -> None:
    assert [True] == [target["exemplar"] for target in panel(models, title)["targets"]]


def test_colours_are_those_of_slos_of_models() -> None:
    slos = (
        Slo(name="answers", objective=Decimal(95), of="models"),
        Slo(name="quick", objective=Decimal(95), of="models", indicator="latency", threshold_s=10.0),
        Slo(name="first", objective=Decimal(95), of="models", indicator="first_token", threshold_s=1.5),
    )
    page = models_of(Config(slos=slos))
    assert [(None, "green"), (0.05, "red")] == steps(panel(page, "Error ratio of calls"))
    assert [(None, "green"), (10.0, "red")] == steps(panel(page, "Call p95"))
    assert [(None, "green"), (1.5, "red")] == steps(panel(page, "First token p95"))


def test_limits_of_providers_are_drawn_where_there_are_any(models: Json) -> None:
    limits = [{"name": "openai", "provider": "openai", "requests_per_minute": 500, "warn_at": "70%"}]
    page = models_of(Config.model_validate({"provider_limits": limits}))
    assert [(None, "green"), (0.7, "red")] == steps(panel(page, "Limits of providers used"))
    assert "Limits of providers used" not in titles(models)


def test_without_slos_of_models_nothing_is_red(models: Json) -> None:
    assert [[(None, "green")], [(None, "blue")]] == [
        steps(panel(models, title)) for title in ("Error ratio of calls", "Call p95")
    ]


def test_a_model_of_the_table_leads_to_itself_and_to_its_spend(models: Json) -> None:
    assert ["Model", "Spend"] == columns_with_links(panel(models, "All models"))


def test_the_table_has_a_column_for_each_question(models: Json) -> None:
    shown = panel(models, "All models")
    (renamed,) = [each["options"]["renameByName"] for each in shown["transformations"] if each["id"] == "organize"]
    assert {"provider", "model", *(f"Value #{target['refId']}" for target in shown["targets"])} == set(renamed)
