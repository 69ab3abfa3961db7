"""Which words a sender speaks: the name of an instrumentation scope in, the table and the translation of its dialect out.

A dialect reads what its table names and says it again in the words of `graphmeter.names`, so that everything after it knows
one vocabulary. The scope decides, once per scope; spans of a scope that nobody knows here are told by their attributes, each
for itself: SDKs of other languages, collectors and gateways rename scopes and leave attributes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter import names
from graphmeter_collector.decode import agento11y, genai, langfuse, openinference, openllmetry
from graphmeter_collector.decode.attributes import Repairs, Table, flag
from graphmeter_collector.decode.own import ATTRIBUTION

Translate = Callable[[dict[str, Any], Span, Repairs], str]
"""Adds to what was found what it means in common words, and returns the kind (`graphmeter.names.KINDS`)."""

_EVERYWHERE: Final[Table] = MappingProxyType(
    {**genai.GENAI, **genai.OF_FRAMEWORKS, **ATTRIBUTION, names.MIRRORED: flag}
)


class Dialect(NamedTuple):
    """How the spans of some scopes are read."""

    name: str
    table: Table
    translate: Translate


def _dialect(name: str, table: Table, translate: Translate) -> Dialect:
    return Dialect(name, MappingProxyType({**_EVERYWHERE, **table}), translate)


def _by_attributes(found: dict[str, Any], span: Span, repairs: Repairs) -> str:
    if not found:  # a database, a server: most of what is sent
        return names.SPAN
    for mark, dialect in _MARKS:
        if mark in found:
            return dialect.translate(found, span, repairs)
    return genai.translate(found, span, repairs)


OPENINFERENCE: Final = _dialect("openinference", openinference.TABLE, openinference.translate)
OPENLLMETRY: Final = _dialect("openllmetry", openllmetry.TABLE, openllmetry.translate)
AGENTO11Y: Final = _dialect("agento11y", agento11y.TABLE, agento11y.translate)
BEDROCK: Final = _dialect("openllmetry", openllmetry.TABLE, openllmetry.translate_bedrock)
LANGFUSE: Final = _dialect("langfuse", langfuse.TABLE, langfuse.translate)
_MARKS: Final = (
    (openinference.KIND, OPENINFERENCE),
    (openllmetry.KIND, OPENLLMETRY),
    (openllmetry.REQUEST_TYPE, OPENLLMETRY),
    (agento11y.SDK, AGENTO11Y),
    (agento11y.RUN_TYPE, AGENTO11Y),
    (langfuse.KIND, LANGFUSE),
)
ANY: Final = _dialect(
    "any", {**openinference.TABLE, **openllmetry.TABLE, **agento11y.TABLE, **langfuse.TABLE}, _by_attributes
)


@lru_cache(maxsize=512)
def of_scope(scope: str) -> Dialect:
    """The dialect that spans of a scope of this name are read by."""
    if scope.startswith("openinference."):
        return OPENINFERENCE
    if scope.startswith(agento11y.SCOPES):
        return AGENTO11Y
    if scope == langfuse.SCOPE:
        return LANGFUSE
    if scope == openllmetry.BEDROCK_SCOPE:
        return BEDROCK
    if scope.startswith(openllmetry.SCOPES):
        return OPENLLMETRY
    return ANY
