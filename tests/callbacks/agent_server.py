"""An agent server for RemoteGraph: real HTTP, answers as `langgraph dev` gave them (langgraph-api 0.16.7, recorded).

The server itself is under the Elastic License and no part of these tests. Endpoints and events:
https://docs.langchain.com/langsmith/server-api-ref (stateless and thread runs, "Create Run, Stream Output").
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_METADATA = ("metadata", {"run_id": "01a1fd46-297b-7384-95f4-ed2e9b66b29d", "attempt": 1})
_ASKED = {"__interrupt__": [{"value": "ok?", "id": "defb8efd268d680a651e54a83affd217", "response_schema": None}]}

RUNS: Mapping[str, list[tuple[str, Any]]] = {
    "good": [("values", {"x": 1}), ("updates", {"n": {"x": 2}}), ("values", {"x": 2})],
    "broken": [("values", {"x": 1}), ("error", {"error": "ValueError", "message": "secret"})],
    "asks": [("values", {"x": 1}), ("updates", _ASKED), ("values", {"x": 1, **_ASKED})],
    "resumed": [("values", {"x": 1}), ("updates", {"n": {"x": 5}}), ("values", {"x": 5})],
    "slow": [("values", {"x": 1}), ("wait", 5.0), ("values", {"x": 2})],
}
"""What an assistant streams; `asks` goes on as `resumed`."""


@dataclass(slots=True)
class Request:
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(slots=True)
class AgentServer:
    url: str
    requests: list[Request] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)


@contextmanager
def agent_server() -> Iterator[AgentServer]:
    """A running server; its requests are kept."""
    served = AgentServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.requests.append(Request(self.path, body, {key.lower(): said for key, said in self.headers.items()}))
            if not self.path.endswith("/runs/stream") or body["assistant_id"] not in RUNS:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.end_headers()
            name = body["assistant_id"]
            modes = body["stream_mode"]
            if name == "asks" and body.get("command"):
                name = "resumed"
            for event, data in [_METADATA, *RUNS[name]]:
                if event == "wait":
                    served.stopping.wait(data)
                elif event in ("metadata", "error") or event in modes:
                    try:
                        self.wfile.write(f"event: {event}\r\ndata: {json.dumps(data)}\r\n\r\n".encode())
                    except (BrokenPipeError, ConnectionResetError):  # whoever asked has left
                        return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its signature
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
