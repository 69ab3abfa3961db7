"""Where budgets and prices are asked for: a collector's API over HTTP, or whatever takes its place in a test."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

_MOST_BYTES: Final = 64 * 1024 * 1024
TRACES: Final = "/v1/traces"
_KEY_PROBLEMS: Final = (401, 403)


class Answer(NamedTuple):
    """What a collector said."""

    said: Any
    """JSON; None: nothing has changed."""
    etag: str


class Silent(Exception):
    """The collector said nothing of use: it is away, or refuses."""


class Source(Protocol):
    """Somebody who knows budgets and prices."""

    where: str
    """For messages."""

    def ask(self, path: str, query: Sequence[tuple[str, str]], etag: str, timeout_s: float, body: Any = None) -> Answer:
        """JSON of a path below `/api`; with a `body`, what posting it is answered with.

        Raises:
            Silent: there is none.
        """


class Http:
    """A collector."""

    def __init__(self, traces_url: str, headers: Mapping[str, str]) -> None:
        from graphmeter.send import opener

        self.where = traces_url.removesuffix(TRACES)
        self._headers = {**headers, "accept": "application/json", "user-agent": "graphmeter-client"}
        self._opener = opener(traces_url)

    def ask(self, path: str, query: Sequence[tuple[str, str]], etag: str, timeout_s: float, body: Any = None) -> Answer:
        """See `Source`."""
        url = f"{self.where}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self._headers, "if-none-match": f'"{etag}"'} if etag else dict(self._headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        request = urllib.request.Request(url, data, headers)  # noqa: S310 - destination.choose takes http and https only
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                said = json.loads(response.read(_MOST_BYTES))
                return Answer(said, (response.headers.get("etag") or "").strip().removeprefix("W/").strip('"'))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304:
                    return Answer(None, etag)
                text = error.read(300).decode("utf-8", "replace").strip()
            raise Silent(explained(error.code, text, "read")) from None
        except urllib.error.URLError as error:
            raise Silent(str(error.reason) or type(error.reason).__name__) from None
        except (OSError, HTTPException, ValueError) as error:
            raise Silent(str(error) or type(error).__name__) from None


def explained(status: int, text: str, scope: str) -> str:
    """What a refusal means; `scope` is what the client's key needs for what was asked."""
    both = "`read` besides `ingest`" if scope == "read" else f"`{scope}`"
    remedy = f"; the client's key needs the scope {both}" if status in _KEY_PROBLEMS else ""
    return f"HTTP {status} {text}{remedy}"
