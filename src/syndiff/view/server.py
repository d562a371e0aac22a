"""A page served to the browsers of this machine, and to nobody else.

It listens on 127.0.0.1 only. Its address holds a random word that no other page can guess, and
the Host header must name this machine, so that a foreign page whose name was pointed to 127.0.0.1
(DNS rebinding) is refused. What is served stands in a table in memory; no path reaches the disk.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from syndiff.errors import UserError
from syndiff.view.page import policy_of_site

HERE = "127.0.0.1"
TOKEN_BYTES = 24
IDLE_S = 30.0  # after which a silent connection is closed
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

Content = Mapping[str, tuple[str, bytes]]  # name → type and bytes


@dataclass(frozen=True)
class Served:
    """A page that is being served.

    Attributes:
        url: where a browser finds it; it holds the random word.
        port: the port on 127.0.0.1.
    """

    url: str
    port: int


@contextmanager
def served(content: Content, port: int = 0) -> Iterator[Served]:
    """Serve a site in another thread until the end of the block.

    Args:
        content: name → type and bytes; "" is the page itself.
        port: on 127.0.0.1; 0 takes a free one.

    Raises:
        UserError: the port cannot be had.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        server = _Server((HERE, port), _Handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be had ({error.strerror})", "a free port", "leave `port` out"
        ) from error
    server.content, server.token = content, token
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
    thread.start()
    try:
        yield Served(f"http://{HERE}:{server.server_port}/{token}/", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    content: Content
    token: str
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of an image is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = IDLE_S
    server_version, sys_version = "syndiff", ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _refused(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"only GET\n")

    def do_POST(self) -> None:
        self._refused()

    def do_PUT(self) -> None:
        self._refused()

    def do_DELETE(self) -> None:
        self._refused()

    def do_PATCH(self) -> None:
        self._refused()

    def do_OPTIONS(self) -> None:
        self._refused()

    def _answer(self) -> None:
        port = self.server.server_port
        hosts = [host.lower() for host in self.headers.get_all("Host") or []]
        if len(hosts) != 1 or hosts[0] not in (f"{HERE}:{port}", f"localhost:{port}"):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"another host\n")
            return
        path = self.path.partition("?")[0].partition("#")[0]
        before, given, name = path.partition("/")[2].partition("/")
        held = secrets.compare_digest(before.encode(), self.server.token.encode())
        found = self.server.content.get(name) if held and given else None
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"nothing here\n")
            return
        self._send(HTTPStatus.OK, *found)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        policy = f"{policy_of_site()}; frame-ancestors 'none'"
        for name, value in {**HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """No log: its lines would hold the random word."""
