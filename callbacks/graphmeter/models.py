"""Model calls: what LangChain passes at their start and end in, OpenTelemetry attributes of the call out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from graphmeter import guard, names, providers
from graphmeter.attribution import text
from graphmeter.records import Run, Value
from graphmeter.servers import Server, server_of
from graphmeter.usage import Usage, reported, usage_of
from graphmeter.usage.streams import Told

Facts = dict[str, Value | list[str]]

PROVIDER_KEY: Final = "graphmeter_provider"
"""Metadata key of a model that says whose it is, where its integration does not know."""


_Integration = tuple[str | None, str, str, int]
_AGAIN: dict[_Integration, tuple[Mapping[str, Any] | None, str, Facts]] = {}
"""What was found of an integration's calls, by the number of the object that LangChain describes it by, the same each time.
The object is kept here, so no other one gets its number."""
_MOST_AGAIN: Final = 256
_TELLING: Final = frozenset({"stream"})
"""Parameters of a single call that its attributes are made of."""
_MODEL_KEYS: Final = ("model", "model_name", "model_id")
_TELLING_MODEL: Final = _TELLING.union(_MODEL_KEYS)
"""The same where LangChain names no model."""


def asked(
    metadata: Mapping[str, Any],
    params: Mapping[str, Any] | None,
    operation: str,
    serialized: Mapping[str, Any] | None = None,
) -> tuple[str, Facts]:
    """Name of the requested model (empty if nobody says) and the attributes known at the start of a call."""
    model, provider = metadata.get("ls_model_name"), metadata.get("ls_provider")
    if (
        type(provider) is not str
        or not (model is None or type(model) is str)
        or PROVIDER_KEY in metadata
        or (params and not (_TELLING if model else _TELLING_MODEL).isdisjoint(params))
    ):
        return _asked(metadata, params, operation, serialized)
    key = model, provider, operation, id(serialized)
    known = _AGAIN.get(key)
    if known is None:
        if len(_AGAIN) >= _MOST_AGAIN:
            _AGAIN.clear()
        known = _AGAIN[key] = (serialized, *_asked(metadata, params, operation, serialized))
    return known[1], known[2].copy()


def _asked(
    metadata: Mapping[str, Any],
    params: Mapping[str, Any] | None,
    operation: str,
    serialized: Mapping[str, Any] | None,
) -> tuple[str, Facts]:
    model = metadata.get("ls_model_name")
    if not model and params:
        model = next((params[key] for key in _MODEL_KEYS if params.get(key)), None)
    name = providers.model_name(model) if isinstance(model, str) else ""
    facts: Facts = {names.OPERATION: operation}
    if name:
        facts[names.REQUEST_MODEL] = name
    provider = metadata.get("ls_provider")
    if isinstance(provider, str) and provider:
        facts[names.PROVIDER] = providers.provider_name(provider, serialized)
    server = server_of(serialized)
    if server is not None:
        locate(facts, server)
    if PROVIDER_KEY in metadata and (said := text(metadata[PROVIDER_KEY], PROVIDER_KEY)):
        facts[names.PROVIDER] = providers.provider_name(said)
    if params and params.get("stream") is True:
        facts[names.REQUEST_STREAM] = True
    return name, facts


def locate(facts: Facts, server: Server) -> None:
    """Add to `facts` where a call goes and, if it is OpenAI's by name only, whose it is."""
    facts[names.SERVER_ADDRESS] = server.address
    if server.port is not None:
        facts[names.SERVER_PORT] = server.port
    if server.provider and facts.get(names.PROVIDER) == "openai":
        facts[names.PROVIDER] = server.provider


class Answer:
    """What an LLMResult says of a call, to be read later and elsewhere: in place, where nothing of ours is in the caches of
    the processor any more, reading takes three times as long.

    The application has the message, and LangChain's cache keeps it and marks it at the next hit. So what is read of it is
    copied, as deep as an application might write in it that adds up its usage.
    """

    __slots__ = ("billed", "id", "info", "others", "output", "response_metadata", "usage_metadata")

    def __init__(self, response: Any) -> None:
        generations: Sequence[Any] = response.generations[0] if response.generations else ()
        first = generations[0] if generations else None
        message = getattr(first, "message", None)
        self.usage_metadata = _copy(getattr(message, "usage_metadata", None))
        """This and the next two as in the first choice's AIMessage."""
        self.response_metadata = _copy(getattr(message, "response_metadata", None)) or {}
        self.id = getattr(message, "id", None)
        self.info = getattr(first, "generation_info", None)
        """What else the first choice came with."""
        self.output: Mapping[str, Any] = response.llm_output or {}
        self.others: Sequence[str] = [_reason_of(other) for other in generations[1:]] if len(generations) > 1 else ()
        """Why the other choices ended."""
        self.billed = False
        """What decides its cost has been read."""


def _copy(said: Any) -> Any:
    if type(said) is not dict:
        return said
    copied = said.copy()
    for key, value in said.items():
        if type(value) is dict:
            copied[key] = value.copy()
    return copied


def answered(facts: Facts, answer: Answer, told: Told | None = None) -> None:
    """Add to `facts` what the answer says: model, id, finish reasons, usage.

    `told` is what chunks told of usage if it was streamed.
    """
    if not answer.billed:
        _bill(facts, answer, told)
    output, said = answer.output, answer.response_metadata
    identity = providers.identity(said, output, answer)
    if identity:
        facts[names.RESPONSE_ID] = identity
    reasons = [reason for reason in (_finish_reason(said, answer.info or {}), *answer.others) if reason]
    if reasons:
        facts[names.FINISH_REASONS] = reasons
    # A cached answer repeats what the call cost that filled the cache.
    if names.CACHE_HIT not in facts and (cost := reported.cost_of(said, output)) is not None:
        facts[names.REPORTED_COST_USD] = cost


def _bill(facts: Facts, answer: Answer, told: Told | None) -> None:
    """Add what decides what the call costs: who answered, at which tier of service, and usage."""
    output, said = answer.output, answer.response_metadata
    model = providers.answering_model(said, output, str(facts.get(names.REQUEST_MODEL, "")))
    if model:
        facts[names.RESPONSE_MODEL] = model
    if names.PROVIDER not in facts and isinstance(said.get("model_provider"), str):
        facts[names.PROVIDER] = providers.provider_name(said["model_provider"])
    tier = providers.tier(said) or (providers.tier(output) if output else "")
    if tier:
        facts[names.SERVICE_TIER] = tier
    whole = told.whole if told is not None else None
    _use(facts, usage_of(answer, output, answer.info, str(facts.get(names.PROVIDER, "")), whole))
    answer.billed = True


def read(run: Run) -> None:
    """Add to the facts of the finished `run` what its answer says.

    The exporter's thread and a budget guard may do so at the same time: both write the same, and whoever returns has written
    all of it. (With a lock the graph would wait for the exporter's turn.)
    """
    answer = run.answer
    if answer is not None and run.facts is not None:
        _safely(answered, run.facts, answer, run.told)
    run.answer = None


def read_bill(run: Run) -> None:
    """The same of what decides what the call costs; the rest can wait for `read`."""
    answer = run.answer
    if answer is not None and not answer.billed and run.facts is not None:
        _safely(_bill, run.facts, answer, run.told)


def _safely(add: Callable[[Facts, Answer, Told | None], None], facts: Facts, answer: Answer, told: Told | None) -> None:
    try:
        add(facts, answer, told)
    except Exception as error:  # noqa: BLE001 - an answer that we cannot read has been paid for all the same
        guard.swallowed("read answer", error)
        if names.USAGE_INPUT not in facts:
            facts[names.USAGE_MISSING] = True


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


def _reason_of(generation: Any) -> str:
    metadata = getattr(getattr(generation, "message", None), "response_metadata", None) or {}
    return _finish_reason(metadata, getattr(generation, "generation_info", None) or {})


def _finish_reason(metadata: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Why the provider stopped, in its own word."""
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
