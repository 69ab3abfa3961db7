"""Why a model call failed, in its provider's terms: an exception in, attributes of the span out.

`error.type` stays the exception's class. Beside it stand the HTTP status, where one was answered, and whether the provider
refused for its rate limits. The latter is decided here and not by whoever reads the status: some providers open a stream
with 200 and refuse inside of it, and AWS has throttling that is no 429.

Integrations wrap the errors of provider SDKs, so causes are looked at as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from graphmeter import names
from graphmeter.records import Value

try:
    from langchain_core.exceptions import ModelRateLimitError as _RateLimit
except ImportError:  # an older langchain-core has no such class

    class _RateLimit(Exception):  # type: ignore[no-redef]
        """Never raised."""


_MOST_CAUSES: Final = 5
_TOO_MANY_REQUESTS: Final = 429

_STATUS: Final[tuple[tuple[str, ...], ...]] = (
    ("status_code",),  # openai, anthropic, groq, cohere, ollama, huggingface
    ("response", "status_code"),  # httpx and requests: mistralai, fireworks, nvidia
    ("response", "ResponseMetadata", "HTTPStatusCode"),  # botocore
    ("code",),  # google.genai, google.api_core
    ("status",),  # aiohttp
)
"""Where exceptions keep the HTTP status: attributes, or keys of mappings; the first that holds a status counts."""

_REASONS: Final[tuple[tuple[str, ...], ...]] = (
    ("code",),  # openai, in a stream too
    ("type",),  # openai
    ("body", "error", "type"),  # anthropic, in a stream too
    ("body", "error", "code"),  # groq
    ("response", "Error", "Code"),  # botocore, in a stream too
    ("status",),  # google.genai
)
"""Where exceptions keep the provider's word for what went wrong."""

_RATE_LIMITS: Final = frozenset(
    {
        # https://platform.openai.com/docs/api-reference/responses/object#responses/object-error
        "rate_limit_exceeded",
        # https://docs.anthropic.com/en/api/errors
        "rate_limit_error",
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html; in streams with a small letter
        "ThrottlingException",
        "throttlingException",
        "TooManyRequestsException",
        # https://ai.google.dev/gemini-api/docs/troubleshooting
        "RESOURCE_EXHAUSTED",
    }
)

# langchain-openai raises what the Responses API says inside of an answer as ValueError: its error object, that object as
# text, or a text that starts with the code.
_CODE_IN_TEXT: Final = re.compile(r"(?:ResponseError\(code=')?(\w+)[:']")


def facts_of(error: BaseException) -> dict[str, Value]:
    """`http.response.status_code` and `graphmeter.rate_limited` of a failed call, as far as `error` tells them."""
    facts: dict[str, Value] = {}
    for cause in _causes(error):
        status = _status(cause)
        if status:
            facts.setdefault(names.HTTP_STATUS, status)
        if status == _TOO_MANY_REQUESTS or isinstance(cause, _RateLimit) or _is_rate_limit(cause):
            facts[names.RATE_LIMITED] = True
    return facts


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return
        yield found
        found = found.__cause__


def _status(error: BaseException) -> int:
    for path in _STATUS:
        value = _at(error, path)
        # Also http.HTTPStatus; gRPC's codes and vendors' own numbers are out of range.
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return int(value)
    return 0


def _is_rate_limit(error: BaseException) -> bool:
    if any(_word(_at(error, path)) in _RATE_LIMITS for path in _REASONS):
        return True
    said = error.args[0] if error.args else None
    if _word(getattr(said, "code", None)) in _RATE_LIMITS:
        return True
    code = _CODE_IN_TEXT.match(_word(said))
    return code is not None and code[1] in _RATE_LIMITS


def _at(found: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else getattr(found, key, None)
    return found


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
