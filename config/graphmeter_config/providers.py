"""Names of providers as instrumentations and people write them in, one id per provider out.

The ids are those of the genai-prices catalogue. Names equal to an id, but for case and _ . -, need no entry.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

# OpenTelemetry `gen_ai.provider.name` (and the older `gen_ai.system`), then LangChain `ls_provider` and the provider
# names of `init_chat_model`.
ALIASES: Final = MappingProxyType(
    {
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
)


def plain(name: str) -> str:
    """The name without what spellings differ in: `Azure_OpenAI` → `azure-openai`."""
    return name.strip().lower().replace("_", "-").replace(".", "-").replace(" ", "-")


def canonical(name: str) -> str:
    """The id that the name means: `azure.ai.openai` → `azure`; a name nobody knows is its own id."""
    known = plain(name)
    return ALIASES.get(known, known)
