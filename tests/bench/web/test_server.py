"""The server of `skinedge web`: requests of browsers, of other sites' pages and of hostile programs."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from skinedge.core.errors import ConfigError
from skinedge_bench.web import server as server_module
from skinedge_bench.web.assets import PAGE
from skinedge_bench.web.server import SiteServer
from skinedge_bench.web.site import Site

CODE = {"index.html": b"<p>", "code.js": b"1", "a/lib.wasm": b"\0asm", "m.tflite": b"TFL3"}
SEED = 20_261_130
TRIES = 400
REQUESTS = (
    b"GET /code.js HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAccept: */*\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nHost: localhost:PORT\r\nConnection: keep-alive\r\n\r\n",
    b"GET /code.js HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /code.js HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 4\r\n\r\nbody",
    b"GET http://localhost:PORT/code.js HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n",
)
HOSTILE = (
    b"[",
    b"]",
    b"%",
    b"%00",
    b"\0",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b"//",
    b"..",
    b"\xff\xfe",
    b"HTTP/",
)
HOSTILE += (
    b"9" * 5000,
    b"A" * 40_000,
    b"X: 1\r\n" * 200,
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
)


@pytest.fixture
def site() -> Site:
    return Site(CODE, "m.tflite")


@contextlib.contextmanager
def running(site: Site) -> Iterator[SiteServer]:
    with SiteServer(site, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(site: Site) -> Iterator[SiteServer]:
    with running(site) as server:
        yield server


def ask(server: SiteServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return (status, headers, body)."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)  # type: ignore[misc]
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def raw(server: SiteServer, request: bytes) -> bytes:
    """Send raw bytes; return the complete response, until the server closes the connection."""
    chunks = []
    with socket.create_connection(server.server_address[:2], timeout=20) as client:  # type: ignore[arg-type]
        with contextlib.suppress(OSError):  # refused before the request was read completely
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(65536):
                chunks.append(chunk)
    return b"".join(chunks)


def status(answer: bytes) -> int:
    line = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert line, answer[:80]
    return int(line[1])


# --- files served -----------------------------------------------------------------------------------------------


def test_files_have_their_types(server: SiteServer) -> None:
    types = {
        "/": "text/html; charset=utf-8",
        "/index.html?x=1": "text/html; charset=utf-8",
        "/code.js": "text/javascript; charset=utf-8",
        "/a/lib.wasm": "application/wasm",
        "/m.tflite": "application/octet-stream",
    }
    for path, kind in types.items():
        code, headers, body = ask(server, path)
        assert (code, headers["Content-Type"], headers["Content-Length"]) == (200, kind, str(len(body))), path
    assert ask(server, "/code.js", "HEAD")[1]["Content-Length"] == "1" and ask(server, "/code.js", "HEAD")[2] == b""


@pytest.mark.parametrize(
    "path", ["/../web.py", "/%2e%2e/web.py", "/a", "/a/", "/a/../code.js", "//etc/passwd", "/nothing", "/%", "/%00"]
)
def test_other_paths_are_not_found(server: SiteServer, path: str) -> None:
    assert ask(server, path)[0] == 404
    assert ask(server, path, "HEAD")[2] == b""


def test_other_methods_are_refused(server: SiteServer) -> None:
    for method in server_module.OTHER_METHODS:
        code, headers, _ = ask(server, "/code.js", method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD"), method
    for method in ("BREW", "get", "__class__", "error"):
        assert ask(server, "/code.js", method)[0] == 501, method


def test_the_server_listens_on_this_machine_only(server: SiteServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_an_error(server: SiteServer, site: Site) -> None:
    with pytest.raises(ConfigError, match="another program uses it"):
        SiteServer(site, server.server_address[1])


# --- host names and headers -------------------------------------------------------------------------------------


def test_another_host_name_is_refused(server: SiteServer) -> None:
    """DNS rebinding: a site's name that resolves to this machine lets its page send requests as if it were ours."""
    port = server.server_address[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"):
        assert ask(server, "/code.js", Host=host)[0] == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost",
        f"localhost:{port + 1}",
        "",
        f"localhost.:{port}",
    ):
        code, headers, body = ask(server, "/code.js", Host=host)
        assert code == 421 and body.startswith(b"421 ") and b"evil" not in body and headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /code.js HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /code.js HTTP/1.1\r\nHost: localhost:PORT\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET http://evil.example/code.js HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 404),
        (b"GET * HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET /code.js\r\n\r\n", 400),
        (b"GET / code.js HTTP/1.1\r\n\r\n", 400),
        (b"GET /code.js HTTP/2.0\r\n\r\n", 505),
        (b"GET /code.js HTTP/1.1.1\r\n\r\n", 400),
        (b"GET /code.js HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 100000000000\r\n\r\n", 413),
        (b"GET /code.js HTTP/1.1\r\nHost: localhost:PORT\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431),
    ],
)
def test_malformed_and_huge_requests_get_a_one_line_error(
    server: SiteServer, capfd: pytest.CaptureFixture[str], request_: bytes, code: int
) -> None:
    answer = raw(server, request_.replace(b"PORT", str(server.server_address[1]).encode()))
    assert status(answer) == code
    assert b"\r\nConnection: close\r\n" in answer and answer.split(b"\r\n\r\n")[1].startswith(str(code).encode())
    assert capfd.readouterr() == ("", "")


def test_every_response_has_the_security_headers(server: SiteServer) -> None:
    for path, method in (("/", "GET"), ("/code.js", "HEAD"), ("/nothing", "GET"), ("/", "POST")):
        headers = ask(server, path, method)[1]
        assert server_module.HEADERS.items() <= headers.items()
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "Server" not in headers
    assert b"Python" not in raw(server, b"GET http://[\r\n\r\n")


def test_the_policy_header_matches_the_page() -> None:
    html = (PAGE / "index.html").read_bytes()
    with running(Site({"index.html": html}, "m")) as server:
        policy = ask(server, "/")[1]["Content-Security-Policy"]
    tags = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html.decode())
    assert [policy] == [f"{tags[0]}; frame-ancestors 'none'"] and "connect-src 'self'" in policy


# --- hostile programs -------------------------------------------------------------------------------------------


def test_a_browser_that_disconnects_is_not_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with running(Site({"index.html": bytes(2**26)}, "m")) as server:
        server.daemon_threads = False  # so that shutdown waits for the response
        with socket.create_connection(server.server_address[:2]) as browser:  # type: ignore[arg-type]
            browser.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{server.server_address[1]}\r\n\r\n".encode())
            assert browser.recv(13) == b"HTTP/1.1 200 "
    assert capfd.readouterr().err == ""


def mutated(rng: random.Random, port: int) -> bytes:
    """Return a request with a few bytes changed, removed, repeated or replaced by hostile text."""
    request = bytearray(rng.choice(REQUESTS).replace(b"PORT", str(port).encode()))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(request) + 1)
        end = min(len(request), at + rng.randint(0, 12))
        kind = rng.randrange(4)
        request[at:end] = (rng.randbytes(end - at), b"", request[at:end] * 3, rng.choice(HOSTILE))[kind]
    return bytes(request)


def test_mutated_requests_get_a_response_or_are_closed(server: SiteServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Only files of the site are sent, and nothing is printed."""
    rng = random.Random(SEED)
    codes = set()
    for number in range(TRIES):
        request = mutated(rng, server.server_address[1])
        answer = raw(server, request)
        codes.add(status(answer) if answer else None)
        if answer.startswith(b"HTTP/1.1 200"):
            body = answer.split(b"\r\n\r\n", 1)[1]
            assert body == b"" or any(body.startswith(content) for content in CODE.values()), (number, request[:200])
        assert b"Traceback" not in answer
    assert capfd.readouterr() == ("", "")
    assert {200, 400, 404, 405, 413, 421, 431, 501} <= codes, codes
    assert ask(server, "/code.js")[2] == b"1"


def test_slow_connections_end_and_use_a_limited_number_of_threads(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """200 clients that send single bytes: most are closed at once, the others at the time limit of a request."""
    monkeypatch.setattr(server_module, "READ_SECONDS", 1.5)
    with running(site) as server, contextlib.ExitStack() as stack:
        before = threading.active_count()
        clients = [
            stack.enter_context(socket.create_connection(server.server_address[:2], timeout=20))  # type: ignore[arg-type]
            for _ in range(200)
        ]
        started = time.monotonic()
        largest = 0
        while time.monotonic() - started < 1:  # each byte is within the timeout of a single read
            largest = max(largest, threading.active_count() - before)
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"G")
            time.sleep(0.1)
        assert 1 <= largest <= server_module.CONNECTIONS
        for client in clients:
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""
        assert ask(server, "/code.js")[2] == b"1"
    assert capfd.readouterr() == ("", "")


def test_a_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "WRITE_SECONDS", 0.3)
    with running(Site({"index.html": bytes(2**26)}, "m")) as server:
        before = threading.active_count()
        with socket.create_connection(server.server_address[:2], timeout=20) as client:  # type: ignore[arg-type]
            client.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{server.server_address[1]}\r\n\r\n".encode())
            while threading.active_count() == before:
                time.sleep(0.01)
            while threading.active_count() > before:
                time.sleep(0.01)


def test_an_internal_error_prints_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_module, "TYPES", None)
    with running(site) as server:
        port = server.server_address[1]
        assert raw(server, f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()) == b""
    assert capfd.readouterr() == ("", "a request could not be answered (AttributeError)\n")


def test_ctrl_c_just_after_a_connections_thread_was_started_ends_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread may have released its slot already: a second release would hide the Ctrl-C."""

    def start_and_interrupt(server: SiteServer, *arguments: object) -> None:
        server.process_request_thread(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "process_request", start_and_interrupt)
    with SiteServer(site, port=0) as server, socket.create_connection(server.server_address) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: localhost:%d\r\n\r\n" % server.server_address[1])
        with pytest.raises(KeyboardInterrupt):
            server.handle_request()
