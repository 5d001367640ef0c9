"""HTTP server for one site, on this machine only.

Every request gets a listed file or an error. Requests with another host name (DNS rebinding) and malformed, huge or
slow requests, from web pages or other users' programs, occupy one thread for a few seconds at most.
"""

from __future__ import annotations

import errno
import io
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from skinedge.core.errors import ConfigError
from skinedge.system.progress import note
from skinedge_bench.web.site import Site

HOST = "127.0.0.1"
NAMES = ("localhost", HOST, "[::1]")  # host names that a browser on this machine may use
INDEX = "index.html"
TEXT = "text/plain; charset=utf-8"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": TEXT,
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Together they give the page a high-resolution clock for its benchmark.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
METHODS = ("GET", "HEAD")
OTHER_METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")
READ_SECONDS = 10.0  # for a complete request, and between two requests
WRITE_SECONDS = 60.0  # for a complete response
CONNECTIONS = 32  # open at the same time; a browser opens 6
REQUEST_BYTES = 32 * 1024  # request line and headers


class SiteServer(ThreadingHTTPServer):
    """Answers GET and HEAD requests for the files of the site only."""

    daemon_threads = True
    request_queue_size = 128  # connections waiting to be accepted or closed
    allow_reuse_port = False  # a second server on the same port is an error

    def __init__(self, site: Site, port: int) -> None:
        """Bind the port. Raises: ConfigError when the port is in use or not allowed."""
        self.site = site
        self.headers = {**HEADERS, "Content-Security-Policy": _policy(site)}
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "another program uses it" if taken else str(error)
            raise ConfigError(f"port {port} cannot be used: {reason}", todo="Name another: --port N (0: any)") from None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread if fewer than CONNECTIONS are open, else close the connection."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except Exception:  # e.g. no thread could be started; after Ctrl-C, a thread that was started releases it
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print one line, except for a browser that closes the connection during a response."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            note(f"a request could not be answered ({type(error).__name__})")

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    @property
    def hosts(self) -> frozenset[str]:
        """Accepted values of a request's Host header."""
        port = self.server_address[1]
        return frozenset(f"{name}:{port}" for name in NAMES) | (frozenset(NAMES) if port == 80 else frozenset())


def serve(site: Site, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. port: 0 selects a free port; ready: called with the page's address.

    Raises: ConfigError when the port cannot be used.
    """
    with SiteServer(site, port) as server:
        ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _policy(site: Site) -> str:
    """Return the page's Content-Security-Policy, plus `frame-ancestors`, which only a header can set."""
    page = site.files.get(INDEX, b"").decode(errors="replace")
    tag = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    policy = tag[1] if tag else "default-src 'none'"
    return f"{policy}; frame-ancestors 'none'"


class _TooLarge(Exception):
    """A request line and headers of more than REQUEST_BYTES."""


class _RequestReader(io.RawIOBase):
    """Reads a connection, with READ_SECONDS and REQUEST_BYTES as limits of a complete request.

    A socket's own timeout applies to a single read: a byte every few seconds would keep the connection open for ever.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.renew()

    def renew(self) -> None:
        """Reset the limits for the next request."""
        self._deadline = time.monotonic() + READ_SECONDS
        self._bytes_left = REQUEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes. Raises: TimeoutError at the request's time limit; _TooLarge."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if self._bytes_left <= 0:
            raise _TooLarge
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(buffer, min(len(buffer), self._bytes_left))
        self._bytes_left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    """Handles the requests of one connection."""

    server: SiteServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # malformed requests get a status line and headers too

    def setup(self) -> None:
        super().setup()
        self._reader = _RequestReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        self.command, self.request_version = "", self.protocol_version  # until the request line is parsed
        self._reader.renew()
        try:
            super().handle_one_request()
        except _TooLarge:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def parse_request(self) -> bool:
        """Parse the request; answer a refused one here, before any `do_` method is called."""
        if not super().parse_request():
            return False
        if refusal := self._refusal():
            self.send_error(refusal)
        return refusal is None

    def _refusal(self) -> HTTPStatus | None:
        """Return the error status of a refused request, None for an accepted one."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not self.path.startswith("/"):
            return HTTPStatus.BAD_REQUEST
        if hosts[0].strip().lower() not in self.server.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST
        if self.command not in METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED if self.command in OTHER_METHODS else HTTPStatus.NOT_IMPLEMENTED
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0").strip() != "0":
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None

    def do_GET(self) -> None:
        """Send a file of the site."""
        name = unquote(self.path.partition("?")[0].partition("#")[0]).lstrip("/") or INDEX
        content = self.server.site.files.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, content, TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))

    do_HEAD = do_GET

    def handle_expect_100(self) -> bool:
        """Never request a body."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the status as text, without any part of the request, and close the connection."""
        status = HTTPStatus(code)
        self.close_connection = True
        text = f"{status.value} {status.phrase}\n"
        if status == HTTPStatus.MISDIRECTED_REQUEST:
            text += f"This server only answers at {self.server.url}\n"
        self._send(status, text.encode(), TEXT)

    def _send(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        """Send a complete response."""
        self.connection.settimeout(WRITE_SECONDS)
        self.send_response_only(status)  # without the Server header
        headers = {"Content-Type": content_type, "Content-Length": str(len(content)), **self.server.headers}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(METHODS)
        if self.close_connection:
            headers["Connection"] = "close"
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the page reports failures."""
