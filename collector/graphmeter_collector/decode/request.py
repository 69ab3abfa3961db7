"""One OTLP trace request in; a SpanRecord per good span out, and a sentence per span that will never be stored.

The one pass over a request: resource and scope are read once and shared, each span is read through the table of its
dialect. Nothing here waits or looks anything up, so the same bytes give the same records wherever they are decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from graphmeter import names
from graphmeter_collector import otlp
from graphmeter_collector.decode import dialects, foreign, genai, likeness, notes, own, trim, twins, wire
from graphmeter_collector.decode.attributes import LABEL_BYTES, SHORT, TEXT_BYTES, Repairs, clean, label, pick
from graphmeter_collector.records import ANONYMOUS, NO_USAGE, Caller, Envelope, Rejection, SpanRecord

DAY_NS: Final = 86_400_000_000_000
_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)
_EXCEPTION_TYPE: Final = {"exception.type": label}
_OWN: Final = wire.Attributes(own.OWN, names.TAG_PREFIX, likeness.DIFFERING)
_MOLDS: Final = likeness.Molds()


class Window(NamedTuple):
    """Times that are accepted, ns since the epoch, both ends included: no start before it, no end after it.

    Bounded so that a span lies in a partition that still exists: only then can a second delivery be seen as such. And a
    span is sent when it has ended: one end in a far future would outweigh every real duration in the sums.
    """

    oldest_ns: int
    newest_ns: int

    @classmethod
    def around(cls, now_ns: int, retention_days: int) -> Window:
        """From a day before the end of retention to a day ahead, for clocks that are off."""
        return cls(now_ns - (retention_days + 1) * DAY_NS, now_ns + DAY_NS)


class Decoded(NamedTuple):
    """What became of one request."""

    records: list[SpanRecord]
    rejections: list[Rejection]
    repairs: Repairs
    """Values changed in `records`, by reason."""


class _Origin(NamedTuple):
    """What resource and scope say, for all their spans."""

    service: str
    environment: str
    team: str
    tenant: str
    release: str
    scope: str = ""


def decode_request(given: otlp.AnyRequest, window: Window, caller: Caller = ANONYMOUS) -> Decoded:
    """Read every span of a request. The caller's team, if it is bound to one, is that of everything it sends.

    Raises:
        google.protobuf.message.DecodeError: an attribute is not what OTLP has: text that is no UTF-8, for one.
    """
    decoded = Decoded([], [], Counter())
    resource = None
    for scope in otlp.of(given).scopes:
        if scope.resource is not resource:
            resource = scope.resource
            whole = _origin(resource, decoded.repairs)
            trim.shared(resource, decoded.repairs)
        origin = whole._replace(scope=scope.scope.name)
        trim.shared(scope.scope, decoded.repairs)
        shared = envelope(resource, scope.scope, scope.resource_schema_url, scope.schema_url)
        if origin.scope == names.SCOPE:
            _read_all_own(scope, shared, origin, caller.team, window, decoded)
            continue
        for raw, body in zip(scope.spans, scope.bodies, strict=True):
            if (begun := _begin(raw, body, window, decoded)) is not None:
                record = _record(begun, shared, origin)
                _read_foreign(record, Span.FromString(body), origin, decoded.repairs)
                _bind(record, caller.team)
                decoded.records.append(record)
    return decoded


def _read_all_own(
    scope: otlp.Scope, shared: Envelope, origin: _Origin, team: str, window: Window, decoded: Decoded
) -> None:
    """Spans of our own client."""
    records, repairs, find = decoded.records, decoded.repairs, _MOLDS.find
    sender = _MOLDS.sender(origin, team)
    for raw, body in zip(scope.spans, scope.bodies, strict=True):
        if (begun := _begin(raw, body, window, decoded)) is None:
            continue
        trace_id, span_id, parent_id, name, start_ns, end_ns, body = begun
        attributes = raw.attributes[:]
        # A status says more than attributes do.
        entries = None if raw.HasField("status") else _OWN.entries(attributes)
        if entries is not None:
            key = (sender, name, *map(likeness.mark_of, entries))
            mold = find(key)
            if mold is not None:
                # By position: a name for each costs half of what making the record does.
                records.append(
                    mold.cast(trace_id, span_id, parent_id, start_ns, end_ns, shared, body, entries, repairs)
                )
                continue
        record = _record(begun, shared, origin)
        try:
            _read_own(record, raw, attributes, origin, repairs)
        except notes.Unusable as fault:
            decoded.rejections.append(_reject(fault.reason, raw, str(fault)))
            continue
        _bind(record, team)
        records.append(record)
        if entries is not None and not record.error_type:
            _MOLDS.keep(key, record, entries)


_Begun: TypeAlias = tuple[bytes, bytes, bytes, str, int, int, bytes]
"""Trace, span and parent id, name, start, end (ns), and the bytes that are kept."""


def _begin(span: otlp.RawSpan, body: bytes, window: Window, decoded: Decoded) -> _Begun | None:
    """What every span has; None for a span that is rejected."""
    trace_id, span_id = span.trace_id, span.span_id
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    # What nearly every span is like needs no look at what else it might be.
    oldest_ns, newest_ns = window
    if not (len(trace_id) == 16 and len(span_id) == 8 and oldest_ns <= start_ns <= end_ns <= newest_ns) or (
        trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID
    ):
        reason, why = _fault(trace_id, span_id, start_ns, end_ns, window)
        decoded.rejections.append(_reject(reason, span, why))
        return None
    repairs = decoded.repairs
    parent_id, name = span.parent_span_id, span.name
    if len(parent_id) != 8 or parent_id in (_NO_SPAN_ID, span_id):
        parent_id = _parent(parent_id, repairs)
    if len(name) > SHORT or "\x00" in name:
        name = clean(name, LABEL_BYTES, repairs)
    if len(body) > trim.UNSUSPECTED:
        body = trim.span(body, repairs)
    return trace_id, span_id, parent_id, name, start_ns, end_ns, body


def _record(begun: _Begun, shared: Envelope, origin: _Origin) -> SpanRecord:
    trace_id, span_id, parent_id, name, start_ns, end_ns, body = begun
    record = SpanRecord(trace_id, span_id, parent_id, name, names.SPAN, start_ns, end_ns, shared, body)
    record.service = origin.service
    return record


def _bind(record: SpanRecord, team: str) -> None:
    """What the caller is bound to takes the place of what the span claims."""
    if team:
        record.team, record.team_bound = team, True


def _fault(trace_id: bytes, span_id: bytes, start: int, end: int, window: Window) -> tuple[str, str]:
    """Why a span cannot be stored: without ids it cannot be told from its copies, without time it has no place."""
    if len(trace_id) != 16 or trace_id == _NO_TRACE_ID:
        return "no_ids", "needs a trace id of 16 bytes, not all zero"
    if len(span_id) != 8 or span_id == _NO_SPAN_ID:
        return "no_ids", "needs a span id of 8 bytes, not all zero"
    if start == 0:
        return "no_start", "has no start time: set start_time_unix_nano"
    if end < start:
        return "ends_before_start", f"ends {start - end} ns before it starts: check the sender's clock"
    if start < window.oldest_ns:
        return "too_old", "started before the retention of spans: it would be deleted at once"
    return "in_the_future", "ends more than a day from now: check the sender's clock"


def _reject(reason: str, span: otlp.RawSpan, why: str) -> Rejection:
    return Rejection(reason, f"span {span.name[:80]!r} (id {span.span_id[:8].hex() or 'missing'}) {why}")


def _parent(parent: bytes, repairs: Repairs) -> bytes:
    """None, of a parent id that is none."""
    if parent and parent != _NO_SPAN_ID:
        repairs["bad_parent"] += 1
    return b""


def _origin(resource: Resource, repairs: Repairs) -> _Origin:
    found = pick(resource.attributes, own.RESOURCE, repairs)
    return _Origin(
        service=found.get(names.SERVICE_NAME, ""),
        environment=found.get(names.DEPLOYMENT_ENVIRONMENT) or found.get(names.DEPLOYMENT_ENVIRONMENT_OLD, ""),
        team=found.get(names.RESOURCE_TEAM, ""),
        tenant=found.get(names.TENANT, ""),
        release=found.get(names.SERVICE_VERSION, ""),
    )


def envelope(resource: Resource, scope: InstrumentationScope, resource_schema: str, scope_schema: str) -> Envelope:
    """Resource and scope as bytes, named by their content."""
    # A schema URL is passed on, never shown or grouped by: cutting one is not worth a metric.
    repairs: Repairs = Counter()
    parts = (
        resource.SerializeToString(deterministic=True),
        scope.SerializeToString(deterministic=True),
        clean(resource_schema, LABEL_BYTES, repairs),
        clean(scope_schema, LABEL_BYTES, repairs),
    )
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return Envelope(digest.digest(), *parts)


def _read_own(
    record: SpanRecord, span: otlp.RawSpan, attributes: Sequence[bytes], origin: _Origin, repairs: Repairs
) -> None:
    found, tags = _OWN.read(attributes, repairs)
    get = found.get
    if tags:
        record.tags = tags
    kind = record.kind = own.kind(found)
    record.run_id = get(names.RUN_ID, "")
    record.step = get(names.LANGGRAPH_STEP, 0)
    record.attempt = get(names.ATTEMPT) or 1
    record.attempt_final = get(names.ATTEMPT_FINAL, True)
    record.attempt_span = get(names.ATTEMPT_SPAN, b"")
    record.outer_attempts = get(names.OUTER_ATTEMPTS, b"")
    record.forwardable = not get(names.MIRRORED, False)
    _attribute(record, found, origin)
    if own.is_note(kind):
        # An outcome or a tag may come from a process that does not know the graph.
        if kind not in (names.OUTCOME, names.TAGS, names.REPORT):
            record.graph = record.graph or origin.service
        notes.read(record, found)
        return
    # An unnamed graph takes the name of its service.
    record.graph = record.graph or origin.service
    _read_status(record, span, found, repairs)
    claimed = get(names.STATUS, "")
    if claimed in names.SPAN_STATUSES:
        record.status = claimed
    if kind == names.RUN:
        record.checkpoint_id = get(names.LANGGRAPH_CHECKPOINT_ID, "")
        record.resumed_from = get(names.RESUMED_FROM, "")
        record.resumed_run_id = get(names.RESUMED_RUN, "")
    elif kind == names.NODE:
        record.state_bytes = get(names.STATE_BYTES)
    elif kind == names.MODEL:
        record.rate_limited = record.status == names.ERROR and get(names.RATE_LIMITED, False)
        record.reservations = get(names.RESERVATION, ())
    _read_call(record, found, repairs)


def _read_foreign(record: SpanRecord, span: Span, origin: _Origin, repairs: Repairs) -> None:
    dialect = dialects.of_scope(origin.scope)
    found = pick(span.attributes, dialect.table, repairs)
    record.forwardable = not found.get(names.MIRRORED, False)
    record.kind = dialect.translate(found, span, repairs)
    if twins.is_twin(span, record.kind, origin.scope, origin.service):
        if record.kind == names.MODEL:
            # Tells those who look at the ancestors of another span that this is a call.
            record.model = found.get(names.RESPONSE_MODEL) or found.get(names.REQUEST_MODEL, "")
        record.kind = names.SPAN
        record.twin = True
    _attribute(record, found, origin)
    foreign.identify(record, found, origin.service)
    _read_status(record, span, found, repairs)
    foreign.outcome(record, span, repairs)
    _read_call(record, found, repairs)


def _attribute(record: SpanRecord, found: dict[str, Any], origin: _Origin) -> None:
    """Whose span it is; what the span says wins over its resource."""
    get = found.get
    record.graph = get(names.GRAPH, "")
    record.node = get(names.NODE_PATH, "")
    record.team = get(names.TEAM) or origin.team
    record.tenant = get(names.TENANT) or origin.tenant
    record.environment = get(names.ENVIRONMENT) or origin.environment
    record.release = get(names.RELEASE) or origin.release
    record.thread_id = get(names.CONVERSATION_ID, "")
    record.user_id = get(names.USER, "")
    record.session_id = get(names.SESSION, "")


def _read_status(record: SpanRecord, span: otlp.RawSpan | Span, found: dict[str, Any], repairs: Repairs) -> None:
    """`error` by the OTLP status, or by an error type of a sender that left the status unset."""
    status = span.status
    failed = status.code == Status.STATUS_CODE_ERROR
    if not failed and not (status.code == Status.STATUS_CODE_UNSET and names.ERROR_TYPE in found):
        return
    record.status = names.ERROR
    record.error_type = found.get(names.ERROR_TYPE) or _exception_type(record.body, repairs)
    record.status_message = clean(status.message, TEXT_BYTES, repairs)


def _exception_type(body: bytes, repairs: Repairs) -> str:
    for event in reversed(Span.FromString(body).events):
        if event.name == "exception":
            found = pick(event.attributes, _EXCEPTION_TYPE, repairs)
            return str(found.get("exception.type", ""))
    return ""


def _read_call(record: SpanRecord, found: dict[str, Any], repairs: Repairs) -> None:
    """What a model, tool or retriever call says of itself."""
    record.operation = found.get(names.OPERATION, "")
    if record.kind in (names.TOOL, names.RETRIEVER):
        # Span names of both are `{operation} {name}`.
        record.tool = found.get(names.TOOL_NAME) or found.get(names.DATA_SOURCE_ID) or record.name.partition(" ")[2]
        record.images = found.get(names.USAGE_IMAGES, 0)
    if record.kind != names.MODEL:
        return
    record.provider = genai.provider(found)
    record.request_model = found.get(names.REQUEST_MODEL, "")
    record.model = found.get(names.RESPONSE_MODEL) or record.request_model
    record.response_id = found.get(names.RESPONSE_ID, "")
    record.service_tier = genai.service_tier(found)
    record.server = found.get(names.SERVER_ADDRESS, "")
    record.images = found.get(names.USAGE_IMAGES, 0)
    record.cache_hit = found.get(names.CACHE_HIT, False)
    record.reported_nano = genai.reported_cost(found)
    prefix = names.SAVED_PREFIX if record.cache_hit else ""
    record.usage = genai.usage(found, repairs, prefix)
    # A call that failed has usually nothing to report; one that succeeded has, and silence would be a free call. So would
    # be that of a cancelled one: its sender stopped listening, the provider did work.
    silent = record.usage == NO_USAGE and not genai.usage_reported(found, prefix)
    record.usage_missing = not record.cache_hit and (
        found.get(names.USAGE_MISSING, False) or (silent and record.status != names.ERROR)
    )
    record.ttft_ns = genai.within(found.get(names.TIME_TO_FIRST_CHUNK, 0), record.duration_ns, repairs)
