"""Where a graph's chat models come from: stand-ins by default, a real provider when one is asked for.

A graph asks `models(graph, node, model)` for each node that talks to a model; the same graph runs on either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from langchain_core.language_models import BaseChatModel

from graphmeter_examples.luck import Luck
from graphmeter_examples.model import MODELS, ProviderError, StandInChatModel, Trouble
from graphmeter_examples.tally import Tally

KEYS = {
    "OPENAI_API_KEY": "openai:gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic:claude-haiku-4-5",
    "GOOGLE_API_KEY": "google_genai:gemini-2.5-flash",
}
"""Which real model a key in the environment stands for."""

_PACKAGES = {"openai": "langchain-openai", "anthropic": "langchain-anthropic", "google_genai": "langchain-google-genai"}


class ProviderUnavailable(Exception):
    """The provider asked for cannot be used; the message says what to install or set."""


class Models(Protocol):
    """Gives every node its chat model."""

    tally: Tally
    luck: Luck
    time_scale: float
    """Seconds waited per second that a real dependency would take."""
    exact: bool
    """True when the tally knows every token and cent; False with a real provider, whose bill is its own."""
    failures: tuple[type[Exception], ...]
    """What a call may raise without it being a fault of the example."""

    def __call__(self, graph: str, node: str, model: str) -> BaseChatModel:
        """The chat model of a node. `model` is one of `model.MODELS`; a real provider may use another."""
        ...


class StandIns:
    """Stand-in models that share a seed and a tally."""

    exact = True
    failures: tuple[type[Exception], ...] = (ProviderError,)

    def __init__(
        self,
        seed: int = 7,
        tally: Tally | None = None,
        *,
        time_scale: float = 0.0,
        trouble: Trouble | None = None,
    ) -> None:
        self.luck = Luck(seed)
        self.tally = Tally() if tally is None else tally
        self.time_scale = time_scale
        self.trouble = Trouble() if trouble is None else trouble

    def __call__(self, graph: str, node: str, model: str) -> BaseChatModel:
        return StandInChatModel(
            spec=MODELS[model],
            graph=graph,
            node=node,
            luck=self.luck,
            tally=self.tally,
            trouble=self.trouble,
            time_scale=self.time_scale,
        )


class RealModels:
    """One real model for every node, through LangChain's own integration of the provider."""

    exact = False
    failures: tuple[type[Exception], ...] = (Exception,)
    time_scale = 0.0

    def __init__(self, model: str, tally: Tally | None = None, *, seed: int = 7) -> None:
        """`model` is `provider:model`, such as `openai:gpt-4o-mini`; the key comes from the provider's own variable.

        Raises:
            ProviderUnavailable: the integration package is missing, or it refuses the key or the name.
        """
        # langchain is heavy and only needed here: the stand-ins need langchain-core alone.
        from langchain.chat_models import init_chat_model

        self.luck = Luck(seed)
        self.tally = Tally() if tally is None else tally
        provider = model.partition(":")[0]
        try:
            self._model: BaseChatModel = init_chat_model(model)
        except ImportError as error:
            package = _PACKAGES.get(provider, f"langchain-{provider}")
            raise ProviderUnavailable(
                f"{model}: its LangChain integration is not installed (pip install {package})"
            ) from error
        # Each integration checks its key and name in its own way, with exceptions of its own.
        except Exception as error:
            raise ProviderUnavailable(f"{model}: {error}") from error

    def __call__(self, graph: str, node: str, model: str) -> BaseChatModel:
        return self._model


def model_from_environment(environ: Mapping[str, str] = os.environ) -> str:
    """The real model that a key in the environment stands for; empty when there is none."""
    return next((model for key, model in KEYS.items() if environ.get(key)), "")


def choose_models(
    model: str = "",
    tally: Tally | None = None,
    *,
    seed: int = 7,
    time_scale: float = 0.0,
    trouble: Trouble | None = None,
) -> Models:
    """Stand-ins when `model` is empty, else the real `provider:model`."""
    if model:
        return RealModels(model, tally, seed=seed)
    return StandIns(seed, tally, time_scale=time_scale, trouble=trouble)
