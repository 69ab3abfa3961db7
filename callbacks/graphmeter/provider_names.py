"""How OpenTelemetry names the providers that LangChain names otherwise. One table: the client writes by it, the collector
reads other instrumentations of LangChain by it, so that a provider has one name whoever sends its calls.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

PROVIDERS: Final = MappingProxyType(
    {
        "amazon_bedrock": "aws.bedrock",
        "anthropic-bedrock": "aws.bedrock",
        "anthropic-mantle": "aws.bedrock",
        "aws": "aws.bedrock",
        "azure": "azure.ai.openai",
        "azure_ai": "azure.ai.inference",
        "azure_openai": "azure.ai.openai",
        "azureopenai": "azure.ai.openai",
        "bedrock": "aws.bedrock",
        "bedrock_converse": "aws.bedrock",
        "google": "gcp.gemini",
        "google_anthropic_vertex": "gcp.vertex_ai",
        "google_genai": "gcp.gemini",
        "google_vertexai": "gcp.vertex_ai",
        "googlegenerativeai": "gcp.gemini",
        "ibm": "ibm.watsonx.ai",
        "mistral": "mistral_ai",
        "mistralai": "mistral_ai",
        "moonshot": "moonshot_ai",
        "openai-mantle": "aws.bedrock",
        "vertexai": "gcp.vertex_ai",
        "watsonx": "ibm.watsonx.ai",
        "xai": "x_ai",
    }
)
"""LangChain's `ls_provider` (and a few class-name prefixes) → `gen_ai.provider.name`. What is not listed keeps its name."""
