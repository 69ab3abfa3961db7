"""The example that `graphmeter init` writes, and the JSON Schema: both say the same as the code."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from graphmeter_config import Config, annotated_example, json_schema, load


def test_the_example_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "graphmeter.yaml"
    path.write_text(annotated_example(), encoding="utf-8")
    assert Config.default() == load(path)
    assert Config.default().hash == load(path).hash


def test_the_example_shows_every_section_and_every_setting() -> None:
    text = annotated_example()
    keys = [key for key in _keys(Config.default().shown()) if f"{key}:" not in text]
    assert [] == keys


def test_the_examples_in_comments_are_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("JAEGER_TOKEN", "t"), ("SLACK_URL", "https://chat/x"), ("BILLING_TOKEN", "b")):
        monkeypatch.setenv(variable, value)
    text = annotated_example().replace("destinations: []", "destinations:")
    text = text.replace("provider_limits: []", "provider_limits:")
    for key in ("rules", "overrides", "discounts", "service_tiers", "currencies", "owners"):
        text = text.replace(f"{key}: []  ", f"{key}:  ")
    text = text.replace("\nreceivers: []", "\nreceivers:").replace("\nreports: []", "\nreports:")
    text = text.replace("\nmaintenance: []", "\nmaintenance:")
    for key in ("page", "ticket", "info"):
        text = text.replace(f"    {key}: {{}}\n", "")
    text = text.replace("  caps: {}\n", "")
    text = re.sub(r"^( +)# (?!Whom|their own)", r"\1", text, flags=re.MULTILINE)
    path = tmp_path / "graphmeter.yaml"
    path.write_text(text, encoding="utf-8")
    config = load(path)
    assert ["nodes", "tools", "models", "runs", "models", "runs", "runs"] == [slo.of for slo in config.slos[1:]]
    assert "Bearer t" == config.forward.destinations[0].headers["Authorization"]
    assert ["https://chat/x", "slack"] == [config.receivers[0].url, config.receivers[0].kind]
    assert (("team", "graph"), ("finops",)) == (config.reports[0].by, config.reports[0].receivers)
    assert {"Authorization": "Bearer b"} == config.receivers[1].headers
    assert "/etc/graphmeter/ca.pem" == config.forward.destinations[0].tls.ca_file
    assert [{"tokens": 10_000, "requests": 500}] == [limit.limits for limit in config.provider_limits]
    names = [override.name for override in config.prices.overrides]
    assert ["gpt-4o-contract", "house-llama", "laptop", "web-search"] == names
    assert 30.0 == config.sampling.rules[0].slow_s
    assert {"graph": 200, "model": 200} == config.labels.caps
    assert "http://localhost:9999/page" == config.alerting.receivers.page.webhook
    assert {"page", "ticket"} == set(config.alerting.owners[0].receivers())


def test_the_schema_accepts_the_example() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load(annotated_example()), json_schema())


@pytest.mark.parametrize("text", ["slo: []", "slos: [{name: a}]", "runs: {lost_after: 30}", "version: 2"])
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema())


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in _keys(item)}
    return {key for item in value for key in _keys(item)} if isinstance(value, list) else set()
