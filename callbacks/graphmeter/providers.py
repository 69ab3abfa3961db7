"""What is peculiar to a provider: its name, how it names models, its tiers, its ids. In: what LangChain passes on.

Usage has a package of its own, `graphmeter.usage`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeGuard

from graphmeter.provider_names import PROVIDERS
from graphmeter.usage.shapes import details

_TIERS: Final = (
    ("usage", "service_tier"),  # anthropic
    ("serviceTier", "type"),  # bedrock converse
    ("usage_metadata", "service_tier"),  # gemini
    ("usage_metadata", "traffic_type"),  # vertex
)
"""Where else than at `service_tier` answers say how they were served: details of `response_metadata`, the first that says
it counts."""
_TELL_TIER: Final = frozenset({"service_tier", "performanceConfig", *(outer for outer, _ in _TIERS)})
_STANDARD: Final = frozenset({"auto", "default", "standard", "on_demand", "traffic_type_unspecified", "unspecified"})
_MADE_UP: Final = ("lc_run-", "run-", "lc_")
"""Ids that LangChain makes of run ids; they identify nothing at the provider."""


def provider_name(provider: str, serialized: Mapping[str, Any] | None = None) -> str:
    """The OpenTelemetry name of a provider as LangChain spells it.

    `serialized` is the model as LangChain describes it to callbacks: one class of Google's serves two providers.
    """
    known = PROVIDERS.get(provider)
    if known is None:
        lower = provider.lower()
        known = PROVIDERS.get(lower, lower)
    if known == "gcp.gemini" and serialized is not None and _is_vertex(details(serialized, "kwargs")):
        return "gcp.vertex_ai"
    return known


def _is_vertex(made_with: Mapping[str, Any]) -> bool:
    """Whether langchain-google-genai asks Vertex AI; the order of precedence is its own."""
    chosen = made_with.get("vertexai")
    if chosen is not None:
        return bool(chosen)
    variable = os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower()
    if variable in ("true", "1", "yes"):
        return True
    if variable in ("false", "0", "no"):
        return False
    return made_with.get("credentials") is not None or made_with.get("project") is not None


def model_name(model: str) -> str:
    """`model` without what is no part of its name: the ARN around Bedrock's ids, with account and region, and Google's
    `models/`. What AWS names by an id of the account's own (`application-inference-profile/abc`) keeps its kind.
    """
    if model.startswith("arn:"):
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
        resource = model.split(":", 5)[-1]
        kind, _, name = resource.partition("/")
        return name if name and kind in ("foundation-model", "inference-profile") else resource
    return model.removeprefix("models/")


def answering_model(said: Mapping[str, Any], output: Mapping[str, Any], asked: str) -> str:
    """The model that answered, from `response_metadata` or `llm_output`; empty if neither says."""
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_PromptRouterTrace.html
    routed = details(details(said, "trace"), "promptRouter").get("invokedModelId") if "trace" in said else None
    if isinstance(routed, str) and routed:
        return model_name(routed)
    for place in (said, output):
        model = place.get("model_name") or place.get("model") or place.get("model_id")
        if isinstance(model, str) and model:
            return _answering(model, asked)
    return ""


@lru_cache(maxsize=1024)
def _answering(model: str, asked: str) -> str:
    name = once(model_name(model))
    # Claude on Bedrock answers with Anthropic's name; Bedrock's own says version and region, which is the price.
    return asked if f".{name}" in asked else name


def identity(said: Mapping[str, Any], output: Mapping[str, Any], message: Any) -> str:
    """The provider's id of the answer, never one that LangChain made up; empty if there is none."""
    found = said.get("id")
    if _is_identity(found):
        return found
    aws = details(said, "ResponseMetadata").get("RequestId") if "ResponseMetadata" in said else None
    return next((one for one in (getattr(message, "id", None), output.get("id"), aws) if _is_identity(one)), "")


def _is_identity(found: object) -> TypeGuard[str]:
    return isinstance(found, str) and found != "" and not found.startswith(_MADE_UP)


def tier(said: Mapping[str, Any]) -> str:
    """The tier of service, if it is not the provider's standard one."""
    if _TELL_TIER.isdisjoint(said):
        return ""
    found = said.get("service_tier")  # openai
    for outer, inner in () if found else _TIERS:
        if outer in said and (found := details(said, outer).get(inner)):
            break
    if isinstance(found, str) and found and (name := once(found.lower())) not in _STANDARD:
        return name
    # https://platform.claude.com/docs/en/build-with-claude/fast-mode: the standard tier at another price.
    if "usage" in said and details(said, "usage").get("speed") == "fast":
        return "fast"
    if "performanceConfig" not in said:
        return ""
    # https://docs.aws.amazon.com/bedrock/latest/userguide/latency-optimized-inference.html
    return "latency_optimized" if details(said, "performanceConfig").get("latency") == "optimized" else ""


@lru_cache(maxsize=1024)
def once(text: str) -> str:
    """`text`, or what it repeats: LangChain joins texts of chunks, those of metadata that comes twice, too: `STOPSTOP`."""
    period = (text + text).find(text, 1)
    return text[:period]
