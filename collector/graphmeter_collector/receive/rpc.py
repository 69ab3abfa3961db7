"""OTLP/gRPC: the same requests as over HTTP in, the same acknowledgements out, as gRPC says them.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc: what may be sent again is UNAVAILABLE with a RetryInfo, everything else
is for good. Messages are taken as bytes, so that damaged text is mended as it is over HTTP. gRPC itself decompresses, and
refuses what is larger than the limit (RESOURCE_EXHAUSTED) before we see it. An older gRPC inflates a message whole before it
looks at its size; `pyproject.toml` names the first that stops at the limit.

How large a message is, gRPC tells only when it has all of it. So calls wait for a turn before their message is read:
what lies in memory uncounted is a few messages, and the rest stays with its sender until there is room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import grpc
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]

from graphmeter import names
from graphmeter_collector.errors import BadRequest, CollectorError, NoRoom, TooManyRequests, TooSlow, Transient
from graphmeter_collector.receive.answers import PROTOBUF, fault_of, response_to, status_of, violations_of
from graphmeter_collector.receive.body import Limits, Room
from graphmeter_collector.receive.http import Accept, accepted, check_spans, from_protobuf, told
from graphmeter_collector.receive.passing import Passing
from graphmeter_collector.records import Caller
from graphmeter_collector.telemetry import Metrics

_SERVICE: Final = "opentelemetry.proto.collector.{0}.v1.{1}Service"
_DETAILS: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

MOST_CALLS: Final = 2_000
"""Under way at once; more are told to come again. gRPC's own limit answers RESOURCE_EXHAUSTED: senders give up on that."""
USUAL_BYTES: Final = 8 * 1024 * 1024
"""More than official exporters send at once, 512 spans; as many such messages as the room holds are read at a time."""
TURN_WITHIN_S: Final = 5.0
"""Official exporters give a call ten seconds."""

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

    reading = asyncio.Semaphore(max(room.most_bytes // USUAL_BYTES, 4))
    calls = 0

    async def traces(body: bytes, caller: Caller) -> bytes:
        repairs: Counter[str] = Counter()
        request = from_protobuf(body, repairs)
        check_spans(request, limits)
        ack = told(await accepted(accept, request, caller, repairs), repairs, metrics)
        metrics.inc(names.COLLECTOR_REQUESTS, names.GRPC)
        return response_to(ack).SerializeToString()

    def signal(name: str) -> Answer:
        async def passed(body: bytes, _: Caller) -> bytes:
            await passing.send(name, body, {"content-type": PROTOBUF})
            metrics.inc(names.COLLECTOR_PASSED, name)
            return b""

        return passed

    def export(answer: Answer) -> Any:
        async def handle(_: Any, context: Any) -> bytes:
            nonlocal calls
            try:
                caller = admit(_authorization(context))
            except CollectorError as error:
                return await _refuse(context, error)
            calls += 1
            try:
                if calls > MOST_CALLS:
                    raise TooManyRequests(f"{calls} calls are under way: send again later")
                with room.share() as share:
                    share.grow_to(1)  # nothing is read while others fill the room
                    async with _turn(reading):
                        body = await _read(context, limits)
                        share.grow_to(len(body))
                    return await answer(body, caller)
            except CollectorError as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 - logged with its traceback, and told in OTLP's words
                refusal = fault_of(error)
            finally:
                calls -= 1
            metrics.inc(names.COLLECTOR_REQUESTS_REFUSED, refusal.reason)
            return await _refuse(context, refusal)

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


@asynccontextmanager
async def _turn(reading: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of the few whose message is read now.

    Raises:
        NoRoom: the messages of others take too long.
    """
    try:
        async with asyncio.timeout(TURN_WITHIN_S):
            await reading.acquire()
    except TimeoutError:
        raise NoRoom("many other messages are being read: send again later") from None
    try:
        yield
    finally:
        reading.release()


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


async def _refuse(context: Any, error: CollectorError) -> NoReturn:
    """End the call with the error's status: a RetryInfo if it may be sent again, what is wrong if the data is bad."""
    retry = None
    if isinstance(error, Transient):
        retry = RetryInfo()
        retry.retry_delay.seconds = error.retry_after_s
    status = status_of(error, retry, violations_of(error))
    # HTTP/2 headers are ASCII; the details carry the sentence as it is.
    sentence = status.message.encode("ascii", "replace").decode()
    await context.abort(_CODES[status.code], sentence, ((_DETAILS, status.SerializeToString()),))
    raise AssertionError("an abort ends the call")
