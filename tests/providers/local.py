"""A model provider on this machine: real HTTP, answers that the test lays out, requests kept."""

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


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value).encode(), "application/json", status, headers or {})


def json_lines(values: Sequence[Any]) -> Answer:
    """Newline-delimited JSON, as Ollama streams."""
    return Answer("".join(json.dumps(value) + "\n" for value in values).encode(), "application/x-ndjson")


def events(values: Sequence[Mapping[str, Any]], *, named: bool = False, done: bool = False) -> Answer:
    """Server-sent events; `named` by the `type` of each, as Anthropic does; `done` ends with OpenAI's `[DONE]`."""
    parts = [(f"event: {value['type']}\n" if named else "") + f"data: {json.dumps(value)}\n\n" for value in values]
    return Answer(("".join(parts) + ("data: [DONE]\n\n" if done else "")).encode(), "text/event-stream")


class Provider:
    """Answers every request with the next answer; the last one is given again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, Any]] = []
        """Path and JSON body of each request so far."""

    def says(self, *answers: Answer) -> None:
        self.answers = list(answers)


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            here.requests.append((self.path, json.loads(body or b"null")))
            answer = here.answers.pop(0) if len(here.answers) > 1 else here.answers[0]
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-type": answer.content_type}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
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
