"""What embeddings cost: LangChain's embedding classes drop it, so it is read where their own client answers.

One row per integration: where its client hangs, which method asks the provider, and how to read tokens and model from the
answer. A tap sits on that one client object, does nothing outside of a measured call, and hands on the answer untouched.
"""

from __future__ import annotations

import functools
import inspect
import io
import json
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from graphmeter import forks, guard
from graphmeter.providers import model_name
from graphmeter.usage import reported

_MARK: Final = "_graphmeter_tap"


class Reading(NamedTuple):
    """What one answer of a provider says."""

    tokens: int | None
    """Input tokens; None: it does not say."""
    model: str = ""
    """The model that answered, if the answer names it."""
    cost_usd: float | None = None
    """What it cost, if the answer says."""


class Tap(NamedTuple):
    """Where the answers of one integration pass."""

    provider: str
    """gen_ai.provider.name."""
    clients: tuple[tuple[str, str], ...] = ()
    """Path from the embeddings object to a client, and the client's method; a client that is not there is skipped."""
    read: Callable[[Any], Reading] = lambda _: Reading(None)


def tap_of(embeddings: Any) -> Tap:
    """The row for `embeddings`, by its class or the nearest known base class.

    Unknown ones are named as LangChain names chat models that do not name themselves: by their class.
    """
    for kind in type(embeddings).__mro__:
        found = _TAPS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
        if found is not None:
            return found
    name = type(embeddings).__name__
    return Tap(name.removesuffix("Embeddings").removesuffix("Embedding").lower() or name.lower())


def model_of(embeddings: Any) -> str:
    """Name of the model that `embeddings` asks for; empty if it has none."""
    for key in ("model", "model_id", "model_name"):
        value = getattr(embeddings, key, None)
        if isinstance(value, str) and value:
            return model_name(value)
    return ""


def provider_of(embeddings: Any, tap: Tap) -> str:
    """The provider that `embeddings` ask: one class of Google's serves two, and decides when it is made."""
    if tap.provider == "gcp.gemini" and getattr(getattr(embeddings, "client", None), "vertexai", False):
        return "gcp.vertex_ai"
    return tap.provider


@guard.guarded
def install(embeddings: Any, tap: Tap, told: Callable[[Reading], None]) -> None:
    """See to it that `told` hears what the clients of `embeddings` answer. Once per client; later calls are cheap."""
    for path, method in tap.clients:
        client = embeddings
        for step in path.split("."):
            client = getattr(client, step, None)
        if client is not None and not hasattr(getattr(client, method, None), _MARK):
            _install(client, method, tap.read, told)


def _install(client: Any, method: str, read: Callable[[Any], Reading], told: Callable[[Reading], None]) -> None:
    with _lock:
        original = getattr(client, method, None)
        if not callable(original) or hasattr(original, _MARK):
            return

        # Not bound to `client`: a method that refers to its own object would keep it alive.
        @functools.wraps(original)
        def tapped(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            if inspect.isawaitable(answer):
                return _awaited(answer, read, told)
            _tell(answer, read, told)
            return answer

        setattr(tapped, _MARK, True)
        setattr(client, method, tapped)
        try:
            _installed.append((weakref.ref(client), method))
        except TypeError:  # cannot be referred to weakly: stays tapped, which is harmless
            return
        if len(_installed) > _MANY:
            _installed[:] = [(ref, name) for ref, name in _installed if ref() is not None]


async def _awaited(answer: Awaitable[Any], read: Callable[[Any], Reading], told: Callable[[Reading], None]) -> Any:
    result = await answer
    _tell(result, read, told)
    return result


@guard.guarded
def _tell(answer: Any, read: Callable[[Any], Reading], told: Callable[[Reading], None]) -> None:
    told(read(answer))


def remove() -> None:
    """Take every tap off again."""
    with _lock:
        for ref, method in _installed:
            client = ref()
            if client is not None and hasattr(vars(client).get(method), _MARK):
                delattr(client, method)
        _installed.clear()


_MANY: Final = 256
_lock = threading.Lock()
_installed: list[tuple[weakref.ref[Any], str]] = []


def _after_fork() -> None:
    global _lock  # the parent may have held it at the moment of the fork
    _lock = threading.Lock()


forks.in_child(_after_fork)


# --- providers' answers -----------------------------------------------------------------------------------------------


def _field(answer: Any, *path: str) -> Any:
    """Field of a nested object, whether its levels are mappings or objects; None where one is missing."""
    for key in path:
        answer = answer.get(key) if isinstance(answer, Mapping) else getattr(answer, key, None)
    return answer


def _tokens(value: Any) -> int | None:
    """`value` as a token count; providers write some as floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if value != value or value < 0 or value != int(value):
        guard.noticed("unusable token count of embeddings", repr(value)[:80])
        return None
    return int(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _openai(answer: Any) -> Reading:
    # https://platform.openai.com/docs/api-reference/embeddings/create
    usage = _field(answer, "usage")
    # Gateways that speak as OpenAI does add what a call cost.
    cost = reported.of_usage({key: _field(usage, key) for key in reported.KEYS})
    return Reading(_tokens(_field(usage, "prompt_tokens")), _text(_field(answer, "model")), cost)


def _mistral(answer: Any) -> Reading:
    # An httpx response, read again by the integration: https://docs.mistral.ai/api/endpoint/embeddings
    return _openai(answer.json()) if answer.status_code == 200 else Reading(0)


def _ollama(answer: Any) -> Reading:
    # https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
    return Reading(_tokens(_field(answer, "prompt_eval_count")), _text(_field(answer, "model")))


def _cohere(answer: Any) -> Reading:
    # https://docs.cohere.com/v1/reference/embed
    return Reading(_tokens(_field(answer, "meta", "billed_units", "input_tokens")))


def _google(answer: Any) -> Reading:
    # Vertex AI counts per text; the Gemini API answers without any count. https://ai.google.dev/api/embeddings
    counts = [_tokens(_field(one, "statistics", "token_count")) for one in _field(answer, "embeddings") or ()]
    return Reading(None if not counts or None in counts else sum(count or 0 for count in counts))


def _bedrock(answer: Any) -> Reading:
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
    headers = _field(answer, "ResponseMetadata", "HTTPHeaders") or {}
    counted = headers.get("x-amzn-bedrock-input-token-count")
    if isinstance(counted, str) and counted.isascii() and counted.isdigit():
        return Reading(int(counted))
    # The body can be read once; whoever asked for it gets one like it.
    raw = answer["body"].read()
    answer["body"] = _again(raw)
    return Reading(_tokens(_field(json.loads(raw), "inputTextTokenCount")))


def _again(raw: bytes) -> Any:
    from botocore.response import StreamingBody  # type: ignore[import-untyped]

    return StreamingBody(io.BytesIO(raw), len(raw))


_CREATE: Final = (("client", "create"), ("async_client", "create"))
_TAPS: Final[Mapping[str, Tap]] = {
    "langchain_aws.BedrockEmbeddings": Tap("aws.bedrock", (("client", "invoke_model"),), _bedrock),
    "langchain_cohere.CohereEmbeddings": Tap("cohere", (("client", "embed"), ("async_client", "embed")), _cohere),
    "langchain_google_genai.GoogleGenerativeAIEmbeddings": Tap(
        "gcp.gemini", (("client.models", "embed_content"), ("client.aio.models", "embed_content")), _google
    ),
    "langchain_mistralai.MistralAIEmbeddings": Tap(
        "mistral_ai", (("client", "post"), ("async_client", "post")), _mistral
    ),
    "langchain_ollama.OllamaEmbeddings": Tap("ollama", (("_client", "embed"), ("_async_client", "embed")), _ollama),
    "langchain_openai.AzureOpenAIEmbeddings": Tap("azure.ai.openai", _CREATE, _openai),
    "langchain_openai.OpenAIEmbeddings": Tap("openai", _CREATE, _openai),
}
"""By top-level module and class."""
