"""OTLP/gRPC: the same requests as over HTTP in, the same acknowledgements out, as gRPC says them.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc: what may be sent again is UNAVAILABLE with a RetryInfo, everything else
is for good. Messages are taken as bytes, so that damaged text is mended as it is over HTTP. gRPC itself decompresses, and
refuses what is larger than the limit (RESOURCE_EXHAUSTED) before we see it. An older gRPC inflates a message whole before it
looks at its size; `pyproject.toml` names the first that stops at the limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from graphmeter import names
from graphmeter_collector.errors import BadRequest, CollectorError, TooSlow, Transient
from graphmeter_collector.receive.answers import PROTOBUF, Ack, code_of, response_to
from graphmeter_collector.receive.body import Limits, Room
from graphmeter_collector.receive.http import Accept, check_spans, from_protobuf
from graphmeter_collector.receive.passing import Passing
from graphmeter_collector.records import Caller
from graphmeter_collector.telemetry import Metrics

_SERVICE: Final = "opentelemetry.proto.collector.{0}.v1.{1}Service"
_DETAILS: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

Admit = Callable[[str], Caller]
"""The door: the value of `authorization` in, the caller out.

Raises:
    Permanent: it may not come in; counted.
"""
Answer = Callable[[bytes, Caller], Awaitable[bytes]]


def make_server(
    accept: Accept, admit: Admit, limits: Limits, metrics: Metrics, passing: Passing, room: Room
) -> grpc.aio.Server:
    """A server for traces, logs and metrics; it has no port yet. Start it in a running event loop."""

    async def traces(body: bytes, caller: Caller) -> bytes:
        repairs: Counter[str] = Counter()
        message = from_protobuf(body, repairs)
        check_spans(message, limits)
        for reason, times in repairs.items():
            metrics.inc(names.COLLECTOR_REPAIRED, reason, by=times)
        ack: Ack = await accept(message, caller)
        return response_to(ack).SerializeToString()

    def signal(name: str) -> Answer:
        async def passed(body: bytes, _: Caller) -> bytes:
            await passing.send(name, body, {"content-type": PROTOBUF})
            metrics.inc(names.COLLECTOR_PASSED, name)
            return b""

        return passed

    def export(answer: Answer) -> Any:
        async def handle(_: Any, context: Any) -> bytes:
            try:
                caller = admit(_authorization(context))
            except CollectorError as error:
                await _refuse(context, error)
                raise  # not reached: the abort has ended the call
            try:
                with room.share() as share:
                    body = await _read(context, limits)
                    share.grow_to(len(body))
                    return await answer(body, caller)
            except CollectorError as error:
                metrics.inc(names.COLLECTOR_REQUESTS_REFUSED, error.reason)
                await _refuse(context, error)
                raise  # as above

        # A stream of one message is the same call on the wire, but we read it ourselves: nothing of who may not come in,
        # and nothing for longer than over HTTP.
        return grpc.stream_unary_rpc_method_handler(handle)

    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", limits.decompressed_bytes),
            # A second process on the same port would share its connections, unnoticed.
            ("grpc.so_reuseport", 0),
        )
    )
    services = {
        _SERVICE.format("trace", "Trace"): traces,
        _SERVICE.format("logs", "Logs"): signal("logs"),
        _SERVICE.format("metrics", "Metrics"): signal("metrics"),
    }
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"Export": export(answer)}) for name, answer in services.items()
        )
    )
    return server


async def _read(context: Any, limits: Limits) -> bytes:
    """The message of the call.

    Raises:
        TooSlow: it does not end in time.
        BadRequest: there is none; gRPC has by then refused one that was too large.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            body = await context.read()
    except TimeoutError:
        raise TooSlow(f"the message did not arrive within {limits.seconds:g} s: send smaller batches") from None
    if not isinstance(body, bytes):
        raise BadRequest("the call holds no message that could be read", reason="unreadable_message")
    return body


def _authorization(context: Any) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


async def _refuse(context: Any, error: CollectorError) -> None:
    """End the call with the error's status; with a RetryInfo if it may be sent again."""
    code, message = code_of(error), str(error)[:1000]
    details = []
    if isinstance(error, Transient):
        retry = RetryInfo()
        retry.retry_delay.seconds = error.retry_after_s
        packed = AnyMessage()
        packed.Pack(retry)
        details.append(packed)
    status = Status(code=code, message=message, details=details)
    # HTTP/2 headers are ASCII; the details carry the sentence as it is.
    await context.abort(
        _CODES[code], message.encode("ascii", "replace").decode(), ((_DETAILS, status.SerializeToString()),)
    )
