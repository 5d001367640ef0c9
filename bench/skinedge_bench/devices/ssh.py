"""One connection to a host through the system's `ssh`, over which shell scripts run."""

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

PATIENCE = 15  # seconds without an answer, after which a host counts as gone
LOST = 255  # what ssh exits with when the connection itself failed
SWITCHED_ON = "Check that it is on, and on this network."
FAILURES = (  # what ssh says -> what is wrong, what to do
    ("Could not resolve hostname", "no host of this name is known", f"Check its spelling. {SWITCHED_ON}"),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known here",
        "Find out why; then forget the old one with: ssh-keygen -R HOST",
    ),
    ("Host key verification failed", "its host key is not known here", "Log in once by hand and accept it: ssh HOST"),
    ("Permission denied", "it does not let us in", "Try by hand: ssh HOST   (a key is best: ssh-copy-id HOST)"),
    (
        "Connection refused",
        "it cannot be reached: nothing answers at its SSH port",
        "Switch SSH on there (on a Pi: raspi-config, Interface Options), or name the port with --port.",
    ),
    ("timed out", "it cannot be reached: no answer", SWITCHED_ON),
    ("No route to host", "it cannot be reached: no route to it", SWITCHED_ON),
    ("unreachable", "it cannot be reached: no route to it", SWITCHED_ON),
)


@dataclass(frozen=True)
class Host:
    """address: as `ssh` takes it ('pi@raspberrypi.local', a name of ~/.ssh/config); port: None for ssh's own choice."""

    address: str
    port: int | None = None

    def __post_init__(self) -> None:
        if not self.address.strip() or self.address.startswith("-") or any(c.isspace() for c in self.address):
            raise ConfigError(f"--host '{self.address}' is no address", todo="For example: --host pi@raspberrypi.local")

    @property
    def name(self) -> str:
        """Without the user, with the port: what reports call it."""
        name = self.address.rpartition("@")[2]
        return name if self.port is None else f"{name}:{self.port}"


Popen = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Connection:
    """An open connection to `host`, shared by all that runs over it (ssh's ControlMaster at `socket`)."""

    host: Host
    socket: Path

    def start(
        self, script: str, *arguments: str, stdin: int, stdout: IO[bytes] | int, stderr: IO[bytes] | int
    ) -> Popen:
        """Start a script of `on_host/` there by the POSIX shell, in the login folder."""
        text = files("skinedge_bench").joinpath("devices", "on_host", script).read_text(encoding="utf-8")
        command = shlex.join(["sh", "-c", text, script, *arguments])
        full = ["ssh", "-S", str(self.socket), "-T", *_port(self.host), "--", self.host.address, command]
        return subprocess.Popen(full, stdin=stdin, stdout=stdout, stderr=stderr)

    def ask(self, script: str, *arguments: str) -> tuple[int, str, str]:
        """Run a script to its end: (exit code, stdout, stderr). Raises: SkinedgeError when the connection broke."""
        pipe = subprocess.PIPE
        process = self.start(script, *arguments, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        out, err = (part.decode(errors="replace") for part in process.communicate())
        return self.ended(process, err), out, err

    def ended(self, process: Popen, said: str) -> int:
        """The exit code of a process that ended. Raises: SkinedgeError when it was the connection that ended."""
        code = process.wait()
        if code == LOST:
            raise failure(self.host, said or "the connection was lost")
        return code


@contextlib.contextmanager
def connect(host: Host) -> Iterator[Connection]:
    """Open a connection, asking for a password or a new host's key only where a person can answer.

    Raises: SkinedgeError when ssh is not installed, or the host cannot be reached or does not let us in.
    """
    if not shutil.which("ssh"):
        raise SkinedgeError("--host needs the program 'ssh', which is not installed", todo="Install OpenSSH's client.")
    with scratch_folder() as folder, (folder / "said").open("w+b") as said:
        socket = folder / "s"
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(_master(host, socket), stdin=pipe, stdout=nowhere, stderr=said) as master:
            try:
                while not socket.exists():
                    if master.poll() is not None:
                        said.seek(0)
                        raise failure(host, said.read().decode(errors="replace"))
                    time.sleep(0.02)
                yield Connection(host, socket)
            finally:
                master.terminate()


def _master(host: Host, socket: Path) -> list[str]:
    settings = {"ConnectTimeout": str(PATIENCE), "ServerAliveInterval": str(PATIENCE), "ServerAliveCountMax": "2"}
    settings["ControlPersist"] = "no"  # a user's own setting would leave the connection open behind us
    if not sys.stdin.isatty():
        settings = {**settings, "BatchMode": "yes"}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    # `cat` ends with its input, so the connection does not outlive us, however we end
    return ["ssh", "-M", "-T", "-S", str(socket), *options, *_port(host), "--", host.address, "cat"]


def _port(host: Host) -> list[str]:
    return [] if host.port is None else ["-p", str(host.port)]


def failure(host: Host, said: str) -> SkinedgeError:
    """What ssh said, as what is wrong, where, and what to do."""
    for sign, what, todo in FAILURES:
        if sign in said:
            return SkinedgeError(what, where=host.address, todo=todo.replace("HOST", host.address))
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    return SkinedgeError(f"ssh failed ({last})", where=host.address, todo=f"Try by hand: ssh {host.address}")


def relay(host: Host, stream: IO[bytes]) -> str:
    """Show what a host says, line by line, as it comes; returns all of it."""
    lines = []
    for raw in stream:
        lines.append(raw.decode(errors="replace").rstrip())
        note(f"{host.name}: {lines[-1]}")
    return "\n".join(lines)
