"""Model calls: what LangChain passes at their start and end in, OpenTelemetry attributes of the call out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphmeter import names, providers
from graphmeter.attribution import text
from graphmeter.records import Value
from graphmeter.servers import Server, server_of
from graphmeter.usage import Usage, usage_of
from graphmeter.usage.streams import Told

Facts = dict[str, Value | list[str]]

PROVIDER_KEY: Final = "graphmeter_provider"
"""Metadata key of a model that says whose it is, where its integration does not know."""


def asked(
    metadata: Mapping[str, Any],
    params: Mapping[str, Any] | None,
    operation: str,
    serialized: Mapping[str, Any] | None = None,
) -> tuple[str, Facts]:
    """Name of the requested model (empty if nobody says) and the attributes known at the start of a call."""
    model = metadata.get("ls_model_name")
    if not model and params:
        model = params.get("model") or params.get("model_name") or params.get("model_id")
    name = providers.model_name(model) if isinstance(model, str) else ""
    facts: Facts = {names.OPERATION: operation}
    if name:
        facts[names.REQUEST_MODEL] = name
    provider = metadata.get("ls_provider")
    if isinstance(provider, str) and provider:
        facts[names.PROVIDER] = providers.provider_name(provider, serialized)
    locate(facts, server_of(serialized))
    if PROVIDER_KEY in metadata and (said := text(metadata[PROVIDER_KEY], PROVIDER_KEY)):
        facts[names.PROVIDER] = providers.provider_name(said)
    if params and params.get("stream") is True:
        facts[names.REQUEST_STREAM] = True
    return name, facts


def locate(facts: Facts, server: Server | None) -> None:
    """Add to `facts` where a call goes and, if it is OpenAI's by name only, whose it is."""
    if server is None:
        return
    facts[names.SERVER_ADDRESS] = server.address
    if server.port is not None:
        facts[names.SERVER_PORT] = server.port
    if server.provider and facts.get(names.PROVIDER) == "openai":
        facts[names.PROVIDER] = server.provider


def answered(facts: Facts, response: Any, told: Told | None = None) -> None:
    """Add to `facts` what the answer says: model, id, finish reasons, usage.

    `response` is an LLMResult, `told` what chunks told of usage if it was streamed.
    """
    generations: Sequence[Any] = response.generations[0] if response.generations else ()
    first = generations[0] if generations else None
    message = getattr(first, "message", None)
    output: Mapping[str, Any] = response.llm_output or {}
    said: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}

    model = providers.answering_model(said, output, str(facts.get(names.REQUEST_MODEL, "")))
    if model:
        facts[names.RESPONSE_MODEL] = model
    identity = providers.identity(said, output, message)
    if identity:
        facts[names.RESPONSE_ID] = identity
    if names.PROVIDER not in facts and isinstance(said.get("model_provider"), str):
        facts[names.PROVIDER] = providers.provider_name(said["model_provider"])
    reasons = [reason for generation in generations if (reason := _finish_reason(generation))]
    if reasons:
        facts[names.FINISH_REASONS] = reasons
    tier = providers.tier(said) or (providers.tier(output) if output else "")
    if tier:
        facts[names.SERVICE_TIER] = tier

    _use(
        facts,
        usage_of(
            message,
            output,
            getattr(first, "generation_info", None),
            str(facts.get(names.PROVIDER, "")),
            told.whole if told is not None else None,
        ),
    )


def broken_off(facts: Facts, told: Told) -> None:
    """Add to `facts` of a call whose answer never came what its stream had told of usage by then."""
    if names.USAGE_INPUT in facts or names.USAGE_OUTPUT in facts:
        return
    usage = usage_of(None, None, None, str(facts.get(names.PROVIDER, "")), told.so_far)
    if usage is not None:
        _use(facts, usage)


def _use(facts: Facts, usage: Usage | None) -> None:
    if usage is None:
        facts[names.USAGE_MISSING] = True
    elif usage.cached:
        facts[names.CACHE_HIT] = True
        facts.update({names.SAVED_PREFIX + key: value for key, value in usage.attributes.items()})
    else:
        facts.update(usage.attributes)
        if not usage.complete:
            facts[names.USAGE_MISSING] = True


def _finish_reason(generation: Any) -> str:
    """Why the provider stopped, in its own word."""
    metadata = getattr(getattr(generation, "message", None), "response_metadata", None) or {}
    info = getattr(generation, "generation_info", None) or {}
    for place in (metadata, info):
        for key in ("finish_reason", "stop_reason", "done_reason", "stopReason"):
            reason = place.get(key)
            if isinstance(reason, str) and reason:
                return providers.once(reason)
    # OpenAI's Responses API has a status, and a reason only for what is not complete.
    incomplete = metadata.get("incomplete_details")
    for reason in (incomplete.get("reason") if isinstance(incomplete, Mapping) else None, metadata.get("status")):
        if isinstance(reason, str) and reason:
            return reason
    return ""
