"""What LangGraph tells every callback, hence every instrumentation of LangChain: run metadata in, graph, node and step out.

All of a node's metadata is inherited by what runs inside it, so a span with `langgraph_node` need not be that node. Its own
words still tell most: a node has the name with which its checkpoint namespace ends, and `checkpoint_ns`, which LangChain
copies from the configuration of whoever started it, is that of the graph around. (Measured on langgraph 0.6 to 1.2.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graphmeter import names
from graphmeter.provider_names import PROVIDERS
from graphmeter_collector.decode.attributes import LABEL_BYTES, MAX_ORDINAL, Repairs, clean

NODE: Final = "langgraph_node"
STEP: Final = "langgraph_step"
NAMESPACE: Final = "langgraph_checkpoint_ns"
OUTER_NAMESPACE: Final = "checkpoint_ns"
THREAD: Final = "thread_id"
INTEGRATION: Final = "ls_integration"
PROVIDER: Final = "ls_provider"
MODEL: Final = "ls_model_name"
RETRIEVER: Final = "ls_retriever_name"
KEYS: Final = (NODE, STEP, NAMESPACE, OUTER_NAMESPACE, THREAD, INTEGRATION, PROVIDER, MODEL, RETRIEVER)
"""Of the metadata, what is read here; the rest is the application's."""

UNNAMED: Final = "LangGraph"
"""What LangGraph calls a graph compiled without a name."""
_HIDDEN: Final = "__start__"


def fill(found: dict[str, Any], metadata: Mapping[str, Any], repairs: Repairs) -> None:
    """Say in common words where the run with this metadata stands. What the span said of itself stays."""
    path = node_path(metadata)
    if path:
        found.setdefault(names.NODE_PATH, clean(path, LABEL_BYTES, repairs))
    step = _step(metadata.get(STEP))
    if step is not None:
        found.setdefault(names.LANGGRAPH_STEP, step)
    thread = metadata.get(THREAD)
    if isinstance(thread, str | int) and thread != "":
        found.setdefault(names.CONVERSATION_ID, clean(str(thread), LABEL_BYTES, repairs))


def node_path(metadata: Mapping[str, Any]) -> str:
    """`billing.decide` for the namespace `billing:<task>|decide:<task>`; empty outside of nodes."""
    namespace = metadata.get(NAMESPACE)
    if not isinstance(namespace, str) or not namespace:
        node = metadata.get(NODE)
        return node if isinstance(node, str) and node != _HIDDEN else ""
    # The second graph that a node calls stands behind a number of its own: `a:<task>|1|b:<task>`.
    path = [_name(part) for part in namespace.split("|") if not part.isdigit()]
    return "" if path[:1] == [_HIDDEN] else ".".join(path)


def chain_kind(metadata: Mapping[str, Any], name: str) -> str:
    """What a chain of LangChain stands for, by its own metadata and name."""
    namespace = metadata.get(NAMESPACE)
    if not isinstance(namespace, str) or not namespace:
        # LangGraph stamps its graphs (from 1.1.4 on); whatever is inside of one has a namespace besides.
        is_graph = NODE not in metadata and (INTEGRATION in metadata or name == UNNAMED)
        return names.RUN if is_graph else names.SPAN
    node = _name(namespace.rpartition("|")[2])
    if node == _HIDDEN:
        return names.SPAN
    if metadata.get(OUTER_NAMESPACE) == namespace:
        return names.SUBGRAPH if name in (node, UNNAMED) else names.SPAN
    return names.NODE if name == node else names.SPAN


def provider(name: object) -> str:
    """OpenTelemetry's name of a provider as LangChain spells it; empty for none."""
    if not isinstance(name, str):
        return ""
    return PROVIDERS.get(name) or PROVIDERS.get(name.lower(), name.lower())


def _name(part: str) -> str:
    return part.rpartition(":")[0] or part


def _step(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(value, MAX_ORDINAL)
    return None
