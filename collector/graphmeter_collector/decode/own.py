"""Spans of our own client: everything is said on the span itself, so each one is attributed alone.

In: attributes of a span and of its resource. Out: what they say about identity and attribution.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from graphmeter import names
from graphmeter_collector.decode.attributes import Repairs, Table, count, flag, label, ordinal, raw, span_id, span_ids
from graphmeter_collector.decode.genai import GENAI
from graphmeter_collector.decode.notes import NOTES

_MOST_RESERVATIONS: Final = 16
"""Of one call: as many strict budgets may count it."""
_RESERVATION: Final = re.compile(names.RESERVATION_ID)


def reservations(value: AnyValue, repairs: Repairs) -> tuple[str, ...] | None:
    """Ids with spaces in between; what cannot be one is left out."""
    written = raw(value, repairs)
    if written is None:
        return None
    given = written.split(maxsplit=_MOST_RESERVATIONS)
    found = tuple(each for each in given if _RESERVATION.fullmatch(each))
    if len(found) < len(given):
        repairs["bad_reservation"] += 1
    return found


ATTRIBUTION: Final[Table] = MappingProxyType(
    dict.fromkeys(
        (
            names.RUN_ID,
            names.GRAPH,
            names.NODE_PATH,
            names.TEAM,
            names.TENANT,
            names.ENVIRONMENT,
            names.RELEASE,
            names.USER,
            names.SESSION,
        ),
        label,
    )
)
"""Read on spans of every sender: whoever sets them means them."""

OWN: Final[Table] = MappingProxyType(
    {
        **GENAI,
        **ATTRIBUTION,
        names.KIND: label,
        names.STATUS: label,
        names.ATTEMPT: ordinal,
        names.ATTEMPT_FINAL: flag,
        names.ATTEMPT_SPAN: span_id,
        names.OUTER_ATTEMPTS: span_ids,
        names.MIRRORED: flag,
        names.LANGGRAPH_STEP: ordinal,
        names.LANGGRAPH_CHECKPOINT_ID: label,
        names.RESUMED_FROM: label,
        names.RESUMED_RUN: label,
        names.STATE_BYTES: count,
        names.RATE_LIMITED: flag,
        names.RESERVATION: reservations,
        **NOTES,
    }
)

RESOURCE: Final[Table] = MappingProxyType(
    dict.fromkeys(
        (
            names.SERVICE_NAME,
            names.SERVICE_VERSION,
            names.DEPLOYMENT_ENVIRONMENT,
            names.DEPLOYMENT_ENVIRONMENT_OLD,
            names.RESOURCE_TEAM,
            names.TENANT,
        ),
        label,
    )
)

_OWN_KINDS: Final = frozenset({*names.KINDS, *names.NOTES}) - {names.SPAN}
_NOTES: Final = frozenset(names.NOTES)


def kind(found: dict[str, Any]) -> str:
    """The kind a span of ours claims; `span` when it claims none that exists (a newer client)."""
    claimed: str = found.get(names.KIND, "")
    return claimed if claimed in _OWN_KINDS else names.SPAN


def is_note(kind: str) -> bool:
    return kind in _NOTES
