"""A connection to a host through the system's `ssh`, to run shell scripts there."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.system.progress import note
from skinedge.system.temporary_folder import scratch_folder

TIMEOUT = 15  # seconds without an answer until the connection counts as lost
LOST = 255  # exit code of ssh if the connection itself failed
CHECK_POWER = "Check that it is switched on and on this network."
FAILURES = (  # ssh's message -> problem, remedy
    ("Could not resolve hostname", "unknown host name", f"Check its spelling. {CHECK_POWER}"),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key differs from the known one",
        "Find out why, then remove the old key with: ssh-keygen -R HOST",
    ),
    ("Host key verification failed", "its host key is unknown", "Log in once and accept it: ssh HOST"),
    ("Permission denied", "login denied", "Check the login with: ssh HOST   (better with a key: ssh-copy-id HOST)"),
    (
        "Connection refused",
        "unreachable: its SSH port refuses connections",
        "Enable SSH there (on a Pi: raspi-config, Interface Options), or set the port with --port.",
    ),
    ("timed out", "unreachable: no answer", CHECK_POWER),
    ("No route to host", "unreachable: no route to it", CHECK_POWER),
    ("unreachable", "unreachable: no route to it", CHECK_POWER),
)


@dataclass(frozen=True)
class Host:
    """A host. address: as for `ssh` ('pi@raspberrypi.local', a name of ~/.ssh/config); port: None for ssh's default."""

    address: str
    port: int | None = None

    def __post_init__(self) -> None:
        if not self.address.strip() or self.address.startswith("-") or any(c.isspace() for c in self.address):
            raise ConfigError(
                f"--host '{self.address}' is not an address", todo="For example: --host pi@raspberrypi.local"
            )

    @property
    def name(self) -> str:
        """Return its name in reports: without the user, with the port."""
        name = self.address.rpartition("@")[2]
        return name if self.port is None else f"{name}:{self.port}"


Popen = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Connection:
    """An open connection to `host`, shared by all scripts (ssh's ControlMaster at `socket`)."""

    host: Host
    socket: Path

    def start(
        self, script: str, *arguments: str, stdin: int, stdout: IO[bytes] | int, stderr: IO[bytes] | int
    ) -> Popen:
        """Start a script of `on_host/` in the host's POSIX shell, in the login folder."""
        text = files("skinedge_bench").joinpath("devices", "on_host", script).read_text(encoding="utf-8")
        command = shlex.join(["sh", "-c", text, script, *arguments])
        ssh_command = ["ssh", "-S", str(self.socket), "-T", *_port(self.host), "--", self.host.address, command]
        return subprocess.Popen(ssh_command, stdin=stdin, stdout=stdout, stderr=stderr)

    def ask(self, script: str, *arguments: str) -> tuple[int, str, str]:
        """Run a script. Returns (exit code, stdout, stderr). Raises: SkinedgeError if the connection broke."""
        pipe = subprocess.PIPE
        process = self.start(script, *arguments, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        out, err = (part.decode(errors="replace") for part in process.communicate())
        return self.exit_code(process, err), out, err

    def exit_code(self, process: Popen, messages: str) -> int:
        """Wait for a process and return its exit code. Raises: SkinedgeError if the connection broke."""
        code = process.wait()
        if code == LOST:
            raise failure(self.host, messages or "the connection was lost")
        return code


@contextlib.contextmanager
def connect(host: Host) -> Iterator[Connection]:
    """Open a connection; ssh asks for a password or a new host key only on a terminal.

    Raises: SkinedgeError if ssh is not installed, the host is unreachable, or login is denied.
    """
    if not shutil.which("ssh"):
        raise SkinedgeError("--host needs the program 'ssh', which is not installed", todo="Install OpenSSH's client.")
    with scratch_folder() as folder, (folder / "messages").open("w+b") as messages:
        socket = folder / "s"
        pipe, discard = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(_master(host, socket), stdin=pipe, stdout=discard, stderr=messages) as master:
            try:
                while not socket.exists():
                    if master.poll() is not None:
                        messages.seek(0)
                        raise failure(host, messages.read().decode(errors="replace"))
                    time.sleep(0.02)
                yield Connection(host, socket)
            finally:
                master.terminate()


def _master(host: Host, socket: Path) -> list[str]:
    settings = {"ConnectTimeout": str(TIMEOUT), "ServerAliveInterval": str(TIMEOUT), "ServerAliveCountMax": "2"}
    settings["ControlPersist"] = "no"  # a user's setting could keep the connection open
    if not sys.stdin.isatty():
        settings = {**settings, "BatchMode": "yes"}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    # `cat` ends with its input, so the connection ends with this process, even if killed
    return ["ssh", "-M", "-T", "-S", str(socket), *options, *_port(host), "--", host.address, "cat"]


def _port(host: Host) -> list[str]:
    return [] if host.port is None else ["-p", str(host.port)]


def failure(host: Host, messages: str) -> SkinedgeError:
    """Return the error for ssh's messages."""
    for sign, what, todo in FAILURES:
        if sign in messages:
            return SkinedgeError(what, where=host.address, todo=todo.replace("HOST", host.address))
    last = (messages.strip().splitlines() or ["no output"])[-1]
    return SkinedgeError(f"ssh failed ({last})", where=host.address, todo=f"Check the login with: ssh {host.address}")


def relay(host: Host, stream: IO[bytes]) -> str:
    """Print a host's messages line by line as they arrive. Returns all of them."""
    lines = []
    for raw in stream:
        lines.append(raw.decode(errors="replace").rstrip())
        note(f"{host.name}: {lines[-1]}")
    return "\n".join(lines)
