"""Stand-ins unless a real provider is asked for."""

from __future__ import annotations

import sys

import pytest

from graphmeter_examples.models import ProviderUnavailable, StandIns, choose_models, model_from_environment


def test_nothing_asked_for_means_stand_ins() -> None:
    assert isinstance(choose_models(""), StandIns)


def test_a_key_stands_for_a_model() -> None:
    assert model_from_environment({"ANTHROPIC_API_KEY": "k"}) == "anthropic:claude-haiku-4-5"
    assert model_from_environment({"OPENAI_API_KEY": ""}) == ""


def test_a_missing_integration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(ProviderUnavailable, match=r"openai:gpt-4o-mini: .*pip install langchain-openai"):
        choose_models("openai:gpt-4o-mini")


def test_an_unknown_provider_is_refused_by_name() -> None:
    with pytest.raises(ProviderUnavailable, match=r"nobody:model-x: .*nobody"):
        choose_models("nobody:model-x")
