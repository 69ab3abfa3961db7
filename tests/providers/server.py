"""A model provider on this machine: real HTTP, answers that the test lays out, requests kept.

with provider() as openai:
    openai.says(json_answer({"choices": [...]}))
    ChatOpenAI(base_url=openai.url, api_key="x").invoke("hi")
    assert "/chat/completions" == openai.requests[0].path
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One HTTP answer."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = {}
    broken: bool = False
    """Promises more than `body` and hangs up after it, as a connection that breaks."""


class Request(NamedTuple):
    """One HTTP request."""

    path: str
    body: Any
    """Parsed JSON; None if there was none."""
    headers: Mapping[str, str] = {}


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value).encode(), "application/json", status, headers or {})


def json_lines(values: Sequence[Any]) -> Answer:
    """Newline-delimited JSON, as Ollama streams."""
    return Answer("".join(json.dumps(value) + "\n" for value in values).encode(), "application/x-ndjson")


def events(
    values: Sequence[Mapping[str, Any]], *, named: bool = False, done: bool = False, broken: bool = False
) -> Answer:
    """Server-sent events; `named` by the `type` of each, as Anthropic does; `done` ends with OpenAI's `[DONE]`."""
    parts = [(f"event: {value['type']}\n" if named else "") + f"data: {json.dumps(value)}\n\n" for value in values]
    text = "".join(parts) + ("data: [DONE]\n\n" if done else "")
    return Answer(text.encode(), "text/event-stream", broken=broken)


class Provider:
    """Answers every request with the next answer; the last one is given again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        """What was asked so far."""
        self._answers: list[Answer] = []
        self._lock = threading.Lock()

    def says(self, *answers: Answer) -> None:
        with self._lock:
            self._answers = list(answers)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = here.answer(Request(self.path, json.loads(body or b"null"), headers))
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-type": answer.content_type}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body) + answer.broken))
            # Integrations leave idle connections to the garbage collector, which warns of each.
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        here = Provider(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            thread.join()
