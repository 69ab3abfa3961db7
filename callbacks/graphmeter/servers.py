"""Where a model call goes: what LangChain says of the integration's object in, server and provider out.

Many providers speak OpenAI's API, and are reached with `ChatOpenAI(base_url=…)`, which calls itself "openai" whoever
answers. The server tells them apart: a host of a known provider names it. Any other host (a gateway of the house, vLLM,
LM Studio) may pass calls on to OpenAI or not; the provider stays what the integration says, `server.address` shows where the
call went, and `metadata={"graphmeter_provider": "vllm"}` on the model says it better.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from graphmeter.usage.shapes import is_mapping

_BASES: Final = (
    "openai_api_base",
    "azure_endpoint",
    "groq_api_base",
    "api_base",
    "anthropic_api_url",
    "base_url",
    "endpoint_url",
    "endpoint",
)
"""Constructor arguments of integrations that hold a base URL."""
_KEY: Final = "openai_api_key"
_TELLING: Final = frozenset({*_BASES, _KEY})

_PROVIDERS: Final[Mapping[str, str]] = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x_ai",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "integrate.api.nvidia.com": "nvidia",
    "openai.azure.com": "azure.ai.openai",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
    "services.ai.azure.com": "azure.ai.inference",
}
"""Host, or what it ends with after a dot → `gen_ai.provider.name`. Names as OpenTelemetry and, where it has
none, genai-prices spell them."""

# Amazon's and Google's domains hold much else, load balancers of self-hosted models included.
_REGIONAL: Final = (
    (re.compile(r"bedrock-[a-z-]+\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|api\.aws)"), "aws.bedrock"),
    (re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com"), "gcp.vertex_ai"),
)


class Server(NamedTuple):
    """Where calls go."""

    address: str
    """Host name or address, without scheme and port."""
    port: int | None
    """As far as the URL says one."""
    provider: str
    """`gen_ai.provider.name` of the host; empty if it tells none."""


def server_of(serialized: Mapping[str, Any] | None) -> Server | None:
    """The server that an integration was told to call; None where it was told nothing, and calls its provider's own.

    `serialized` is LangChain's description of the object: constructor arguments, secrets left out.
    """
    said = serialized.get("kwargs") if serialized else None
    return server_among(said) if is_mapping(said) else None


def server_among(said: Mapping[str, Any]) -> Server | None:
    """The same, from arguments or attributes of an integration by their names."""
    if _TELLING.isdisjoint(said):
        return None
    for key in _BASES:
        base = said.get(key)
        if isinstance(base, str) and base:
            return _server(base)
    # The one integration that is pointed at other servers by its environment, too, which it does not tell.
    if _KEY in said and (base := _openai_base()):
        return _server(base)
    return None


@lru_cache(maxsize=1)
def _openai_base() -> str:
    """Where OpenAI's integration calls if its arguments do not say; asked once, since clients do not ask twice either."""
    return os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL") or ""


def forget() -> None:
    """Ask the environment anew."""
    _openai_base.cache_clear()


@lru_cache(maxsize=256)
def _server(base: str) -> Server | None:
    try:
        url = urlsplit(base if "//" in base else f"//{base}")
        address, port = url.hostname, url.port
    except ValueError:  # the call will fail and say so
        return None
    if not address:
        return None
    return Server(address, port, _provider(address))


def _provider(host: str) -> str:
    for pattern, provider in _REGIONAL:
        if pattern.fullmatch(host):
            return provider
    labels = host.split(".")
    for start in range(len(labels) - 1):
        known = _PROVIDERS.get(".".join(labels[start:]))
        if known is not None:
            return known
    return ""
