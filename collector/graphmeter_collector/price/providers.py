"""Provider names as instrumentations write them in, provider ids of the price catalogue out.

Exact names only. The catalogue also knows looser patterns (anything that contains `openai`), but a gateway or a local
server whose name happens to match would be billed at somebody else's price; unpriced is seen, wrongly priced is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# OpenTelemetry `gen_ai.provider.name` (and the older `gen_ai.system`), then LangChain `ls_provider` and the provider
# names of `init_chat_model`. Names equal to a catalogue id, but for case and _ . -, need no entry.
_ALIASES = {
    # OpenTelemetry
    "aws-bedrock": "aws",
    "azure-ai-inference": "azure",
    "azure-ai-openai": "azure",
    "az-ai-inference": "azure",
    "az-ai-openai": "azure",
    "gcp-gemini": "google",
    "gcp-gen-ai": "google",
    "gcp-vertex-ai": "google",
    "gemini": "google",
    "vertex-ai": "google",
    "mistral-ai": "mistral",
    "moonshot-ai": "moonshotai",
    # LangChain
    "amazon-bedrock": "aws",
    "bedrock": "aws",
    "bedrock-converse": "aws",
    "anthropic-bedrock": "aws",
    "azure-openai": "azure",
    "azure-ai": "azure",
    "azureai": "azure",
    "azureopenai": "azure",
    "google-genai": "google",
    "google-vertexai": "google",
    "google-anthropic-vertex": "google",
    "anthropic-vertex": "google",
    "chatvertexai": "google",
    "vertexai": "google",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "together-ai": "together",
    "togetherai": "together",
    "fireworks-ai": "fireworks",
    "xai": "x-ai",
    "voyage": "voyageai",
    "zhipu": "zhipuai",
    "z-ai": "zai",
}

_GATEWAYS = frozenset({"", "litellm", "litellm-proxy"})
"""Say nothing of who answers; the model's prefix may: `anthropic/claude-sonnet-4-5`."""


def by_plain_name(ids: Iterable[str]) -> dict[str, str]:
    """Catalogue ids by their plain names: what `resolve` looks up in."""
    return {_plain(name): name for name in ids}


def resolve(provider: str, model: str, known: Mapping[str, str]) -> tuple[str, str]:
    """Catalogue id of the provider, empty when it cannot be told, and the model without what only names a provider."""
    if is_gateway(provider) and "/" in model:
        prefix, rest = model.split("/", 1)
        if found := _id_of(prefix, known):
            return found, rest
    found = _id_of(provider, known)
    if found == "google":
        # `models/gemini-2.5-pro`, `projects/p/locations/l/publishers/google/models/gemini-2.5-pro`
        model = model.rpartition("models/")[2]
    return found, model


def is_gateway(provider: str) -> bool:
    """Whether the provider's name leaves open who answers."""
    return _plain(provider) in _GATEWAYS


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-").replace(" ", "-")


def _id_of(name: str, known: Mapping[str, str]) -> str:
    plain = _plain(name)
    return known.get(_ALIASES.get(plain, plain), "")
