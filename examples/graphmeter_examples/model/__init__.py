"""The one stand-in: a chat model that behaves as OpenAI's, Anthropic's and Google's integrations do, without a network."""

from graphmeter_examples.model.catalogue import MODELS, ModelSpec, Rates
from graphmeter_examples.model.standin import (
    NO_TROUBLE,
    InternalServerError,
    ProviderError,
    RateLimitError,
    StandInChatModel,
    Trouble,
)

__all__ = [
    "MODELS",
    "NO_TROUBLE",
    "InternalServerError",
    "ModelSpec",
    "ProviderError",
    "RateLimitError",
    "Rates",
    "StandInChatModel",
    "Trouble",
]
