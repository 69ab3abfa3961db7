"""One model call through a real integration class, and what came of it: the exported span, and the collector's record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from graphmeter import names
from graphmeter.testing import InMemorySpans, RecordedSpan
from graphmeter_collector.decode.request import Window, decode_request
from graphmeter_collector.records import SpanRecord

How = Literal["invoke", "ainvoke", "stream", "astream"]
HOWS: Final[tuple[How, ...]] = ("invoke", "ainvoke", "stream", "astream")
ANY_TIME: Final = Window(0, 1 << 62)

_SAID: Final = (
    names.PROVIDER,
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.RESPONSE_ID,
    names.FINISH_REASONS,
    names.SERVICE_TIER,
    names.USAGE_MISSING,
)


class Exported(InMemorySpans):
    """Keeps spans, also as the collector reads them off the wire."""

    def __init__(self) -> None:
        super().__init__()
        self._exported: list[ReadableSpan] = []

    def __enter__(self) -> Exported:
        return self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._exported.extend(spans)
        return super().export(spans)

    def clear(self) -> None:
        super().clear()
        self._exported.clear()

    def record(self, repairs: dict[str, int] | None = None) -> SpanRecord:
        """The only model call, as the collector decodes it, with no more to repair than `repairs`."""
        self.one(names.MODEL)
        decoded = decode_request(encode_spans(self._exported), ANY_TIME)
        assert [] == decoded.rejections
        assert (repairs or {}) == dict(decoded.repairs)
        (record,) = (record for record in decoded.records if record.kind == names.MODEL)
        return record


async def ask(model: BaseChatModel, how: How, spans: InMemorySpans, asked: Any = "hello", **more: Any) -> BaseMessage:
    """Ask `model` in one of the four ways; the answer, put together if it was streamed."""
    config: Any = {"callbacks": [spans.handler()]}
    if how == "invoke":
        return model.invoke(asked, config, **more)
    if how == "ainvoke":
        return await model.ainvoke(asked, config, **more)
    chunks: list[Any] = (
        list(model.stream(asked, config, **more))
        if how == "stream"
        else [chunk async for chunk in model.astream(asked, config, **more)]
    )
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, BaseMessage)
    return whole


def told(call: RecordedSpan) -> dict[str, Any]:
    """What a model span says of provider, model, answer and usage."""
    usage = ("gen_ai.usage.", "graphmeter.usage.")
    return {
        key: list(value) if key == names.FINISH_REASONS else value
        for key, value in call.attributes.items()
        if key in _SAID or key.startswith(usage)
    }


def tokens(record: SpanRecord) -> dict[str, int]:
    """The exclusive buckets that are not empty."""
    return {kind: count for kind, count in zip(names.TOKEN_TYPES, record.usage, strict=True) if count}
