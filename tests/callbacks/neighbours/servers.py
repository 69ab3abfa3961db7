"""Something to talk to: an HTTP server that answers everything, and enough of Redis for its real client."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class _Redis(socketserver.StreamRequestHandler):
    """RESP, https://redis.io/docs/latest/develop/reference/protocol-spec/: commands are arrays of strings."""

    def handle(self) -> None:
        while header := self.rfile.readline():
            command = [self._text() for _ in range(int(header[1:]))]
            self.wfile.write({"HELLO": b"%1\r\n+proto\r\n:3\r\n", "GET": b"$3\r\nyes\r\n"}.get(command[0], b"+OK\r\n"))

    def _text(self) -> str:
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2].decode().upper()


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def http() -> Iterator[str]:
    """URL of a server that answers GET and POST."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Http)
    server.daemon_threads = True
    with _serving(server) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def redis() -> Iterator[int]:
    """Port of a server where every key has the value `yes`."""
    with _serving(_TcpServer(("127.0.0.1", 0), _Redis)) as port:
        yield port
