"""Where calls go, and whose server it is, by the base URL that an integration was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from graphmeter import models, names, servers
from graphmeter.servers import Server, server_of


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    servers.forget()
    yield
    servers.forget()


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        pytest.param("https://openrouter.ai/api/v1", Server("openrouter.ai", None, "openrouter"), id="openrouter"),
        pytest.param("https://api.deepseek.com", Server("api.deepseek.com", None, "deepseek"), id="deepseek"),
        pytest.param(
            "https://cx.openai.azure.com/openai/v1/",
            Server("cx.openai.azure.com", None, "azure.ai.openai"),
            id="azure-v1",
        ),
        pytest.param(
            "https://us-central1-aiplatform.googleapis.com/v1/openapi",
            Server("us-central1-aiplatform.googleapis.com", None, "gcp.vertex_ai"),
            id="vertex-region",
        ),
        pytest.param(
            "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1",
            Server("bedrock-runtime.us-east-1.amazonaws.com", None, "aws.bedrock"),
            id="bedrock",
        ),
        pytest.param(
            "http://vllm-1.us-east-1.elb.amazonaws.com",
            Server("vllm-1.us-east-1.elb.amazonaws.com", None, ""),
            id="load-balancer-at-amazon",
        ),
        pytest.param("http://localhost:8000/v1", Server("localhost", 8000, ""), id="self-hosted"),
        pytest.param("vllm.cluster:8000", Server("vllm.cluster", 8000, ""), id="without-scheme"),
        pytest.param("http://[::1]:8000/v1", Server("::1", 8000, ""), id="ipv6"),
        pytest.param("https://user:secret@proxy.corp/v1", Server("proxy.corp", None, ""), id="without-credentials"),
        pytest.param("https://notopenrouter.ai/v1", Server("notopenrouter.ai", None, ""), id="another-host"),
        pytest.param("http://[::1", None, id="no-url"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_base_url_names_server_and_provider(base: str, expected: Server | None) -> None:
    assert expected == server_of({"kwargs": {"openai_api_base": base}})


@pytest.mark.parametrize("serialized", [None, {}, {"kwargs": None}, {"repr": "Chat()"}, {"kwargs": {"base_url": 7}}])
def test_without_a_base_url_nothing_is_said(serialized: Any) -> None:
    assert server_of(serialized) is None


@pytest.mark.parametrize("variable", ["OPENAI_API_BASE", "OPENAI_BASE_URL"])
def test_the_environment_points_openai_elsewhere_too(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://litellm:4000")
    assert Server("litellm", 4000, "") == server_of({"kwargs": {"openai_api_key": "…"}})
    assert server_of({"kwargs": {"groq_api_key": "…"}}) is None


def test_only_who_calls_itself_openai_is_renamed_after_the_server() -> None:
    there = {"kwargs": {"openai_api_base": "https://openrouter.ai/api/v1"}}
    _, facts = models.asked({"ls_provider": "openai"}, None, names.OP_CHAT, there)
    assert "openrouter" == facts[names.PROVIDER]
    _, facts = models.asked({"ls_provider": "deepseek"}, None, names.OP_CHAT, there)
    assert ("deepseek", "openrouter.ai") == (facts[names.PROVIDER], facts[names.SERVER_ADDRESS])


def test_a_model_may_say_whose_it_is() -> None:
    said = {"ls_provider": "openai", "graphmeter_provider": "vllm"}
    _, facts = models.asked(said, None, names.OP_CHAT, {"kwargs": {"openai_api_base": "http://gpu-7:8000/v1"}})
    expected = {names.PROVIDER: "vllm", names.SERVER_ADDRESS: "gpu-7", names.SERVER_PORT: 8000}
    assert {names.OPERATION: "chat", **expected} == facts


def test_what_is_remembered_of_an_integration_is_told_of_no_other() -> None:
    said = {"ls_model_name": "m", "ls_provider": "openai"}

    def address(serialized: dict[str, Any]) -> Any:
        name, facts = models.asked(said, None, names.OP_CHAT, serialized)
        assert ("m", "openai", False) == (name, facts[names.PROVIDER], "mine" in facts)
        facts["mine"] = True  # what is added to one call is no part of the next
        return facts[names.SERVER_ADDRESS]

    kept = {"kwargs": {"base_url": "http://kept:1/v1"}}
    for number in range(1_000):
        # Objects that nobody else holds: the next one may be where the last one was.
        assert f"host{number}" == address({"kwargs": {"base_url": f"http://host{number}:1/v1"}})
        assert "kept" == address(kept)


@pytest.mark.parametrize("odd", [{"a": 1}, ["openai"], 3, None])
def test_what_no_integration_says_is_looked_at_each_time(odd: Any) -> None:
    for key in ("ls_model_name", "ls_provider"):
        said = {"ls_model_name": "m", "ls_provider": "openai", key: odd}
        name, facts = models.asked(said, {"model": "asked"}, names.OP_CHAT, {"kwargs": {}})
        assert ("openai" if key == "ls_model_name" else None) == facts.get(names.PROVIDER)
        assert name in ("", "m", "asked")


@pytest.mark.parametrize("unnamed", [{}, {"ls_model_name": None}, {"ls_model_name": ""}])
def test_where_nobody_names_a_model_each_call_is_asked_for_its_own(unnamed: dict[str, Any]) -> None:
    said = {"ls_provider": "openai", **unnamed}
    described: dict[str, Any] = {"kwargs": {}}

    def name(params: dict[str, Any] | None) -> str:
        return models.asked(said, params, names.OP_CHAT, described)[0]

    assert ["", "a", "b", "c", "", "d", ""] == [
        name(params)
        for params in (
            None,
            {"model": "a"},
            {"model": "", "model_name": "b"},
            {"model_id": "models/c"},
            {"stop": None},
            {"model": None, "model_id": "d"},
            {},
        )
    ]
