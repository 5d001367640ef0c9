"""Serves one site on this machine alone."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from skinedge.errors import ConfigError
from skinedge_bench.web import Site

HOST = "127.0.0.1"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # Together they give the page a clock of fine steps, for its benchmark.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class SiteServer(ThreadingHTTPServer):
    """Answers GET and HEAD for the files of the site, and for nothing else."""

    daemon_threads = True
    allow_reuse_port = False  # a second server on the same port is an error, not a lottery

    def __init__(self, site: Site, port: int) -> None:
        """Raises: ConfigError when the port is taken or not allowed."""
        self.site = site
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "another program uses it" if taken else str(error)
            raise ConfigError(f"port {port} cannot be used: {why}", todo="Name another: --port N (0: any)") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}/"


def serve(site: Site, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. port: 0 takes any that is free; ready: called with the page's address.

    Raises: ConfigError when the port cannot be used.
    """
    with SiteServer(site, port) as server:
        ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    server_version = "skinedge"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self._head()
        if content is not None:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes | None:
        """Answer all but the body, and return the body; None when there is no such file."""
        name = unquote(urlsplit(self.path).path).lstrip("/") or INDEX
        found = self.server.site.files.get(name)
        try:
            content = found.read_bytes() if isinstance(found, Path) else found
        except OSError:  # removed since the site was built
            content = None
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        for header, value in HEADERS.items():
            self.send_header(header, value)
        self.end_headers()
        return content

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what goes well; the page says what does not."""
