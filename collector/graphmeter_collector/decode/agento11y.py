"""agento11y (Grafana, formerly Sigil): GenAI names with operations of its own, LangChain's run ids, a node's last name.

Source: agento11y 0.21.0 and agento11y-langgraph 0.21.0. Its spans do not nest: outside of an application's own span, every
call is a trace of its own. So the root chain is a run without the calls it made, and chains below it are plain spans: a
node cannot be told from what runs inside it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import genai, langgraph
from graphmeter_collector.decode.attributes import Repairs, Table, count, label

SCOPES: Final = ("github.com/grafana/sigil/sdks/", "agento11y")
SDK: Final = "agento11y.sdk.name"
RUN_TYPE: Final = "agento11y.framework.run_type"
_FRAMEWORK: Final = "agento11y.framework.name"
_RUN: Final = "agento11y.framework.run_id"
_PARENT_RUN: Final = "agento11y.framework.parent_run_id"
_THREAD: Final = "agento11y.framework.thread_id"
_NODE: Final = "agento11y.framework.langgraph.node"
_COMPONENT: Final = "agento11y.framework.component_name"
_CACHE_WRITE: Final = "gen_ai.usage.cache_write_input_tokens"
_REASONING: Final = "gen_ai.usage.reasoning_tokens"
_SEMANTICS: Final = "gen_ai.token.semantics"

TABLE: Final[Table] = MappingProxyType(
    {
        **dict.fromkeys(
            (SDK, RUN_TYPE, _FRAMEWORK, _RUN, _PARENT_RUN, _THREAD, _NODE, _COMPONENT, _SEMANTICS, names.AGENT_NAME),
            label,
        ),
        _CACHE_WRITE: count,
        _REASONING: count,
    }
)

_PROVIDERS: Final = MappingProxyType({"gemini": "gcp.gemini"})
_CHATS: Final = frozenset({"generateText", "streamText"})
_CHAIN: Final = "framework_chain"
_RETRIEVER: Final = "framework_retriever"
_ANY_ERROR: Final = "framework_error"


def translate(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    """Say in common words what the span says in agento11y's; returns its kind."""
    operation = found.get(names.OPERATION, "")
    if _THREAD in found:
        found.setdefault(names.CONVERSATION_ID, found[_THREAD])
    if _NODE in found:
        found.setdefault(names.NODE_PATH, found[_NODE])
    if names.AGENT_NAME in found:
        found.setdefault(names.GRAPH, found[names.AGENT_NAME])
    if found.get(names.ERROR_TYPE) == _ANY_ERROR:
        del found[names.ERROR_TYPE]  # the exception beside it says which
    if operation == _CHAIN:
        return _chain(found)
    if operation == _RETRIEVER:
        if _COMPONENT in found:
            found.setdefault(names.TOOL_NAME, found[_COMPONENT])
        found[names.OPERATION] = names.OP_RETRIEVAL
        return names.RETRIEVER
    if operation in _CHATS:
        found[names.OPERATION] = names.OP_CHAT
        if named := found.get(names.PROVIDER):
            found[names.PROVIDER] = _PROVIDERS.get(named) or langgraph.provider(named)
        _usage(found, streamed=operation == "streamText")
        return names.MODEL
    return genai.translate(found, span, repairs)


def _chain(found: dict[str, Any]) -> str:
    if found.get(_FRAMEWORK) != "langgraph" or _PARENT_RUN in found or _NODE in found:
        return names.SPAN
    return names.RUN


def _usage(found: dict[str, Any], *, streamed: bool) -> None:
    if _CACHE_WRITE in found:
        found.setdefault(names.USAGE_CACHE_WRITE, found[_CACHE_WRITE])
    if _REASONING in found:
        found.setdefault(names.USAGE_REASONING, found[_REASONING])
    # Anthropic's own figures leave out what was cached. They are passed on as they are, without the mark, when LangChain's
    # integration hands them on (an answer in one piece); its own sum, of a stream and by others, contains it.
    raw = _SEMANTICS not in found and not streamed and found.get(_COMPONENT, "").startswith("ChatAnthropic")
    cached = genai.cached(found)
    given = found.get(names.USAGE_INPUT)
    if cached and given is not None and (raw or given < cached):
        found[names.USAGE_INPUT] = given + cached
