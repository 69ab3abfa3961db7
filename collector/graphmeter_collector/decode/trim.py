"""A span's bytes in, the same or fewer out: what is kept for the trace view and for forwarding has bounds, too.

SDKs limit what they put on a span, but senders may switch that off, and one that does would fill the database with spans
that nobody can look at. What is too much is left out as an SDK would leave it out: counted on the span itself
(`dropped_attributes_count`) and in a metric, and the span is kept. Facts are read from the whole span, so nothing that is
counted or billed is lost here.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from graphmeter_collector.decode.attributes import Repairs

MOST_ATTRIBUTES: Final = 1024
"""On a span, a resource or a scope. SDKs stop at 128, unless told otherwise; flattened conversations take hundreds."""
MOST_EVENT_ATTRIBUTES: Final = 128
"""On an event or a link; what SDKs stop at."""
MOST_EVENTS: Final = 1024
MOST_LINKS: Final = 1024
LONGEST_VALUE: Final = 256 * 1024
"""Bytes of an attribute's value, of a name and of a status message."""
LONGEST_KEY: Final = 1024
"""Characters of an attribute's name."""

UNSUSPECTED: Final = 16 * 1024
"""Bytes that are kept without a look, whatever is in them: most spans have a tenth of that."""
_MOST_COUNTED: Final = 2**32 - 1
_MATTER: Final = ("graphmeter.", "gen_ai.")
"""Attributes with such names are kept first."""


_Bearer: TypeAlias = Span | Span.Event | Span.Link | Resource | InstrumentationScope


def span(body: bytes, repairs: Repairs) -> bytes:
    """The bytes of a span within bounds; those given if they are."""
    if len(body) <= UNSUSPECTED:
        return body
    whole = Span.FromString(body)
    before = repairs.total()
    _fewer(whole, MOST_ATTRIBUTES, repairs)
    whole.name = _cut(whole.name, repairs)
    whole.status.message = _cut(whole.status.message, repairs)
    if (extra := len(whole.events) - MOST_EVENTS) > 0:
        # The last ones tell how it ended.
        del whole.events[:extra]
        whole.dropped_events_count = min(whole.dropped_events_count + extra, _MOST_COUNTED)
        repairs["too_many_events"] += extra
    if (extra := len(whole.links) - MOST_LINKS) > 0:
        del whole.links[MOST_LINKS:]
        whole.dropped_links_count = min(whole.dropped_links_count + extra, _MOST_COUNTED)
        repairs["too_many_links"] += extra
    for event in whole.events:
        _fewer(event, MOST_EVENT_ATTRIBUTES, repairs)
    for link in whole.links:
        _fewer(link, MOST_EVENT_ATTRIBUTES, repairs)
    written = whole.SerializeToString()
    # Fields that were sent more than once are there once now.
    return written if repairs.total() > before or len(written) < len(body) else body


def shared(bearer: Resource | InstrumentationScope, repairs: Repairs) -> None:
    """Bring a resource or a scope within bounds, in place."""
    if bearer.ByteSize() > UNSUSPECTED:
        _fewer(bearer, MOST_ATTRIBUTES, repairs)


def _fewer(bearer: _Bearer, most: int, repairs: Repairs) -> None:
    """Leave out attributes: those that are too large to be shortened, then the last ones."""
    given = bearer.attributes
    kept = [pair for pair in given if len(pair.key) <= LONGEST_KEY and _fits(pair.value, repairs)]
    if unfit := len(given) - len(kept):
        repairs["long_value"] += unfit
    if len(kept) > most:
        repairs["too_many_attributes"] += len(kept) - most
        first = sorted(range(len(kept)), key=lambda index: not kept[index].key.startswith(_MATTER))[:most]
        kept = [kept[index] for index in sorted(first)]
    if left_out := len(given) - len(kept):
        copies = [KeyValue.FromString(pair.SerializeToString()) for pair in kept]
        del given[:]
        given.extend(copies)
        bearer.dropped_attributes_count = min(bearer.dropped_attributes_count + left_out, _MOST_COUNTED)


def _fits(value: AnyValue, repairs: Repairs) -> bool:
    """Whether a value is within bounds, if need be after it was cut; half a list or a map would be a lie."""
    if value.ByteSize() <= LONGEST_VALUE:
        return True
    kind = value.WhichOneof("value")
    if kind == "string_value":
        value.string_value = _cut(value.string_value, repairs)
    elif kind == "bytes_value":
        value.bytes_value = value.bytes_value[:LONGEST_VALUE]
        repairs["long_value"] += 1
    else:
        return False
    return True


def _cut(text: str, repairs: Repairs) -> str:
    if len(text) * 4 <= LONGEST_VALUE or len(encoded := text.encode()) <= LONGEST_VALUE:
        return text
    repairs["long_value"] += 1
    ellipsis = "…"
    return encoded[: LONGEST_VALUE - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
