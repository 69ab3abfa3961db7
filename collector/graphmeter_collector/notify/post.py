"""One POST: a receiver and a body in, what became of it out. No word of the URL or the headers gets into the result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from graphmeter_config import Receiver

if TYPE_CHECKING:
    import aiohttp

CONTENT_FAULTS: Final = frozenset({400, 413, 415, 422})
"""Answers that blame what was sent: sending it again changes nothing. A wrong address or key can be mended meanwhile."""
DELIVERY_ID: Final = "X-Graphmeter-Delivery"
"""Header with the notification's key, percent-encoded: of two with one key (an answer was lost) the second is a copy."""
_LONGEST_ANSWER: Final = 200
_LARGEST_ANSWER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Told:
    """What a POST came to."""

    delivered: bool
    error: str = ""
    """Why not, safe to print."""
    again: bool = False
    """Whether trying again may help."""
    after_s: float = 0.0
    """How long the receiver asked to wait."""


async def post(session: aiohttp.ClientSession, receiver: Receiver, key: str, content_type: str, body: str) -> Told:
    """Post a body to a receiver, within its timeout."""
    import aiohttp  # a tenth of the time to get ready, and most collectors tell nobody

    own = {
        "Content-Type": content_type,
        "User-Agent": f"graphmeter/{version('graphmeter')}",
        DELIVERY_ID: quote(key, safe="/"),
    }
    try:
        async with session.post(
            str(receiver.url),
            data=body.encode(),
            headers={**own, **receiver.headers},
            # A POST that follows a redirect becomes a GET, or takes its secrets elsewhere.
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=receiver.timeout_s),
        ) as response:
            if 200 <= response.status < 300:
                return Told(delivered=True)
            said = (await response.content.read(_LARGEST_ANSWER_BYTES)).decode(errors="replace")
            return Told(
                delivered=False,
                error=_safe(f"HTTP {response.status} {' '.join(said.split())}".strip(), receiver),
                again=response.status not in CONTENT_FAULTS,
                after_s=seconds(response.headers.get("Retry-After", "")),
            )
    except TimeoutError:
        return Told(delivered=False, error=f"no answer within {receiver.timeout_s:g} s", again=True)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: a URL or header that the client library refuses, though the configuration's check did not.
        return Told(delivered=False, error=_safe(f"{type(error).__name__}: {error}", receiver), again=True)


def _safe(text: str, receiver: Receiver) -> str:
    """What a receiver or library said, without what they may have repeated of our secrets."""
    for secret in sorted({str(receiver.url), *map(str, receiver.headers.values())}, key=len, reverse=True):
        text = text.replace(secret, "***") if secret else text
    return text[:_LONGEST_ANSWER]


def seconds(retry_after: str) -> float:
    """A Retry-After header as seconds from now; 0 for one that says nothing."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
