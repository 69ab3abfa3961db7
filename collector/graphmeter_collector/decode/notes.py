"""What a client says besides spans: attributes of a note in, the record's typed facts out, or why it cannot be kept.

A note travels as a span without duration (`graphmeter.names.NOTES`). One whose very subject is missing or absurd is rejected
with a sentence; what is merely unusable beside it is left out and counted.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

from graphmeter import names
from graphmeter_collector.decode.attributes import Table, count, flag, label, number, raw, seconds
from graphmeter_collector.records import Outcome, Report, SpanRecord, Topology

MOST_TOPOLOGY_BYTES: Final = 64 * 1024
_MOST_SEQUENCE: Final = 2**53
_HEX: Final = frozenset("0123456789abcdef")

NOTES: Final[Table] = MappingProxyType(
    {
        names.HEARTBEAT_S: seconds,
        names.OUTCOME_KIND: label,
        names.OUTCOME_GOOD: flag,
        names.OUTCOME_VALUE: number,
        names.TOPOLOGY_JSON: raw,
        names.CLIENT_ID: label,
        **dict.fromkeys(
            (
                names.CLIENT_SEQUENCE,
                names.CLIENT_EXPORTED,
                names.CLIENT_DROPPED,
                names.CLIENT_FAILED,
                names.CLIENT_QUEUED,
                names.CLIENT_FAULTS,
                names.CLIENT_OPEN_RUNS,
            ),
            count,
        ),
    }
)

_ABOUT_A_RUN: Final = frozenset({names.HEARTBEAT, names.OUTCOME, names.TAGS})


class Unusable(ValueError):
    """A note that can never be kept; `reason` is a word for the metric, the message completes "note …"."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason


def read(record: SpanRecord, found: dict[str, Any]) -> None:
    """Put into the record of a note what its attributes say.

    Raises:
        Unusable: nothing of it can be kept.
    """
    record.forwardable = False
    kind = record.kind
    if kind in _ABOUT_A_RUN and not record.run_id:
        raise Unusable("no_run", f"is about a run and names none: set {names.RUN_ID}")
    if kind == names.START:
        record.status = names.RUNNING
        record.heartbeat_ns = found.get(names.HEARTBEAT_S, 0)
    elif kind == names.OUTCOME:
        record.said = _outcome(found)
    elif kind == names.TOPOLOGY:
        record.said = _topology(found)
    elif kind == names.REPORT:
        record.said = _report(found)


def _outcome(found: dict[str, Any]) -> Outcome:
    kind: str = found.get(names.OUTCOME_KIND, "").strip()
    if not kind:
        raise Unusable("no_outcome_kind", f"names no kind of outcome: set {names.OUTCOME_KIND}")
    return Outcome(kind, found.get(names.OUTCOME_GOOD), found.get(names.OUTCOME_VALUE))


def _topology(found: dict[str, Any]) -> Topology:
    text: str = found.get(names.TOPOLOGY_JSON, "")
    size = len(text.encode())
    if size > MOST_TOPOLOGY_BYTES:
        raise Unusable("topology_too_large", f"holds {size} bytes of topology; {MOST_TOPOLOGY_BYTES} are kept at most")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable("bad_topology", f"holds no JSON in {names.TOPOLOGY_JSON}: {text[:40]!r}") from None
    if not _is_topology(said):
        raise Unusable(
            "bad_topology", f'holds no {{"nodes": […], "edges": [[from, to, conditional], …]}}: {text[:40]!r}'
        )
    canonical = json.dumps({"nodes": said["nodes"], "edges": said["edges"]}, separators=(",", ":"))
    return Topology(blake2b(canonical.encode(), digest_size=16).digest(), canonical)


def _is_topology(said: object) -> bool:
    if not isinstance(said, dict):
        return False
    nodes, edges = said.get("nodes"), said.get("edges")
    return (
        isinstance(nodes, list)
        and all(isinstance(node, str) for node in nodes)
        and isinstance(edges, list)
        and all(
            isinstance(edge, list)
            and len(edge) == 3
            and isinstance(edge[0], str)
            and isinstance(edge[1], str)
            and isinstance(edge[2], bool)
            for edge in edges
        )
    )


def _report(found: dict[str, Any]) -> Report:
    client_id: str = found.get(names.CLIENT_ID, "").lower()
    if len(client_id) != 32 or not _HEX.issuperset(client_id):
        raise Unusable("bad_client_id", f"names the client {client_id[:40]!r}, which is not of 32 hex digits")
    sequence: int = found.get(names.CLIENT_SEQUENCE, 0)
    if not 1 <= sequence < _MOST_SEQUENCE:
        raise Unusable("bad_sequence", f"has the number {sequence}; reports count from 1 ({names.CLIENT_SEQUENCE})")
    return Report(
        client_id,
        sequence,
        exported=found.get(names.CLIENT_EXPORTED, 0),
        dropped=found.get(names.CLIENT_DROPPED, 0),
        failed=found.get(names.CLIENT_FAILED, 0),
        queued=found.get(names.CLIENT_QUEUED, 0),
        faults=found.get(names.CLIENT_FAULTS, 0),
        open_runs=found.get(names.CLIENT_OPEN_RUNS, 0),
    )
