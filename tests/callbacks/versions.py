"""Which LangGraph is installed: marks tests of what older ones do not have. On the newest, nothing is skipped.

The oldest that the client supports is 1.0.0; what was added since, and when, was looked up in the published packages.
"""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

LANGGRAPH = Version(version("langgraph"))
LANGCHAIN_CORE = Version(version("langchain-core"))

INTERRUPT_EVENTS = "1.1.8"
"""on_interrupt and on_resume, for subclasses of langgraph.callbacks.GraphCallbackHandler."""
NODE_TIMEOUT = "1.2.0"
"""add_node(timeout=…)."""
ERROR_HANDLER = "1.2.0"
"""add_node(error_handler=…)."""
OWN_METADATA = "1.2.0"
"""Tasks that a synchronous @entrypoint starts at once never share their metadata; seen on 1.0.0 and 1.1.8, not since."""
CALLBACKS_OF_SUBGRAPHS = "1.2.0"
"""A compiled graph that is a node keeps the callbacks of its own config; not so on 1.0.0."""
STREAM_EVENTS_V3 = "1.2.0"
"""graph.stream_events(version="v3")."""


def needs_langgraph(since: str, what: str) -> pytest.MarkDecorator:
    """Skip a test on a LangGraph older than `since`, which has no `what`."""
    return pytest.mark.skipif(Version(since) > LANGGRAPH, reason=f"no {what} before langgraph {since}")


def needs_langchain_core(since: str, what: str) -> pytest.MarkDecorator:
    """Skip a test on a langchain-core older than `since`, which has no `what`."""
    return pytest.mark.skipif(Version(since) > LANGCHAIN_CORE, reason=f"no {what} before langchain-core {since}")
