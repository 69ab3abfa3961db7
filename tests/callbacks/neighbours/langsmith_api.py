"""LangSmith's API as far as its client needs it to deliver runs: https://docs.smith.langchain.com/reference"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# A multipart request has a part `post.<run id>` for each run that starts, `patch.<run id>` for each that ends.
_POSTED = re.compile(rb'name="post\.([0-9a-f-]{36})"\r\n.*?\r\n\r\n(\{.*?)\r\n--', re.DOTALL)


_LIMITS = {
    "use_multipart_endpoint": True,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 16,
    "scale_down_nempty_trigger": 4,
    "size_limit": 100,
    "size_limit_bytes": 20_971_520,
}


class Api:
    """Keeps the runs that were posted, by id."""

    def __init__(self) -> None:
        self.url = ""
        self.runs: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        return sorted(run["name"] for run in self.runs.values())


@contextmanager
def serving() -> Iterator[Api]:
    """A server on a free port."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"version": "0.12", "batch_ingest_config": _LIMITS})

        def do_POST(self) -> None:
            if self.headers["transfer-encoding"] == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                body = b"".join(parts)
            else:
                body = self.rfile.read(int(self.headers["content-length"]))
            for run_id, run in _POSTED.findall(body):
                api.runs[run_id.decode()] = json.loads(run)
            self._answer(202, {})

        def _answer(self, status: int, said: object) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
