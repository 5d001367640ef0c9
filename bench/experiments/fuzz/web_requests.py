"""Mutated HTTP requests to the server of `skinedge web`, on loopback."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from experiments.fuzz.box import Box
from experiments.fuzz.case import Base, Case, Outcome
from experiments.fuzz.fixture import RUN
from experiments.fuzz.mutate import NAMES, mutated
from experiments.fuzz.oracles import TRACEBACK, Finding

PLAIN = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\n\r\n"
TARGETS = (
    "/", "/index.html", "/model.tflite", "/..%2f..%2fvictim.txt", "/%00", "http://[", "//", "*", "/?" + "x" * 70_000,
    "/%zz", "http://[::1", "/" + "a/" * 5000, "/\xff", "/%ff%fe", "/index.html#x", "http://127.0.0.1:x/", "/.",
    "/;x",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", "G" * 5000, "", "GET GET")
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "HTTP/9",
    "HTTP/1.1.1",
    "HTTP/" + "9" * 5000 + ".1",
    "HTTP/-1.0",
    "x",
    "",
)
HEADERS = (
    "Host: evil.example", "Host:", "Host: 127.0.0.1:PORT", "Host: 127.0.0.1:PORT", "Host: 127.0.0.1", "Host: [::1]",
    "Host: localhost:x", "Content-Length: -1",
    "Range: bytes=0-1,2-", "Content-Length: 99999999999", "Transfer-Encoding: chunked", "Expect: 100-continue",
    ": x", "A" * 70_000, "X: " + "y" * 9000, "\0: 1", "Connection: upgrade", "Origin: null", "Upgrade: websocket",
    "X-" + "z" * 100 + ": \x1b[31m",
)  # fmt: skip


def case(rng: Random, base: Base) -> Case:
    """Mutate one request."""
    if rng.random() < 0.2:
        return Case("request", request=mutated(rng, PLAIN))
    target = rng.choice((*TARGETS, *("/" + name for name in NAMES)))
    line = f"{rng.choice((*METHODS[:1] * 8, *METHODS))} {target} {rng.choice((*VERSIONS[:1] * 6, *VERSIONS))}"
    headers = [rng.choice(HEADERS) for _ in range(rng.choice((0, 1, 1, 2, 3, 300)))]
    end = rng.choice(("\r\n", "\r\n", "\r\n", "\n", "\r"))
    text = end.join([line, *headers, "", ""]) + rng.choice(("", "", "5\r\nhello\r\n", "x" * 1000))
    request = text.encode("utf-8", "surrogatepass")
    return Case("request", request=mutated(rng, request) if rng.random() < 0.2 else request)


class Server:
    """`skinedge web` for the box's run, as a user starts it."""

    def __init__(self, box: Box) -> None:
        environ = {name: value for name, value in {**os.environ, **box.environment}.items() if value is not None}
        self._log = box.root.with_name(f"{box.root.name}-web.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "skinedge", "web", "--run", RUN, "--port", "0"],
                cwd=box.work, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        self._port = self._announced_port()
        self._log_size = 0
        self._index = self._response(PLAIN)

    def run(self, case: Case) -> tuple[Outcome, list[Finding]]:
        """Send one request, then the plain one, whose response must be unchanged."""
        started = time.monotonic()
        response = self._response(case.request)
        failure = "hang" if response is None else ""
        seconds = time.monotonic() - started
        faults = [Finding("hang", "the response does not end")] if response is None else []
        if response and not re.match(rb"HTTP/1\.[01] \d{3} ", response) and b"<" not in response[:200]:
            faults.append(Finding("altered", f"not an HTTP response: {response[:100]!r}"))
        if b"must stay as it is" in (response or b""):
            faults.append(Finding("outside", "a file outside the site was sent"))
        if self._process.poll() is not None or self._response(PLAIN) != self._index:
            faults.append(Finding("crash", "the response to the plain request has changed"))
        log, self._log_size = self._log.read_bytes()[self._log_size :], self._log.stat().st_size
        if TRACEBACK.search(log):
            faults.append(Finding("traceback", log.decode("utf-8", "replace").strip().splitlines()[-1]))
        refused = not re.match(rb"HTTP/1\.[01] 2", response or b"")
        return Outcome(int(refused), response or b"", log, failure, self._peak_mib(), seconds=seconds), faults

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _announced_port(self) -> int:
        """Return the port in the address that the command prints. Raises: RuntimeError without one."""
        stdout, deadline = self._process.stdout, time.monotonic() + 120
        while stdout is not None and time.monotonic() < deadline:
            if select.select([stdout], [], [], 1)[0]:
                line = stdout.readline()
                address = re.search(rb"http://127\.0\.0\.1:(\d+)/", line)
                if address:
                    return int(address.group(1))
                if not line:
                    break
        self.close()
        raise RuntimeError(f"skinedge web did not start: {self._log.read_text()}")

    def _response(self, request: bytes) -> bytes | None:
        """Return all bytes until the server closes the connection, without the date; None after a timeout of 10 s.

        A broken connection gives the bytes received so far.
        """
        parts: list[bytes] = []
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
                connection.sendall(request.replace(b"PORT", str(self._port).encode()))
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 20):
                    parts.append(part)
        except TimeoutError:
            return None
        except OSError:
            pass
        return re.sub(rb"\r\nDate: [^\r]*", b"", b"".join(parts))

    def _peak_mib(self) -> float:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return 0.0
