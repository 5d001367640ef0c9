"""An Android phone through the system's `adb`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import SkinedgeError
from skinedge.core.files import sha256
from skinedge.system.child_process import run_program

FULL = "No space left on device"
FAILURES = (  # adb's message -> problem, remedy
    (
        "unauthorized",
        "the phone has not authorized this computer yet",
        "Unlock it and accept the dialog on its screen.",
    ),
    (
        "more than one",
        "several phones are connected",
        "Name one with --serial; list them with: adb devices",
    ),
    (
        "no devices",
        "no phone is connected",
        "Connect one by USB, and enable USB debugging in its developer options.",
    ),
    ("not found", "this phone is not connected", "List the connected phones with: adb devices"),
    ("offline", "the phone does not respond", "Unlock it and connect it again."),
    (FULL, "the phone's storage is full", "Free some space there."),
)


@dataclass(frozen=True)
class Phone:
    """A phone. serial: as listed by `adb devices`, None for the only one."""

    serial: str | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `adb ARGUMENTS`. Raises: SkinedgeError if adb is not installed."""
        if not shutil.which("adb"):
            raise SkinedgeError(
                "--adb needs the program 'adb', which is not installed", todo="It is in Android's platform tools."
            )
        serial = [] if self.serial is None else ["-s", self.serial]
        return run_program(["adb", *serial, *arguments])

    def run_on_phone(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the phone."""
        return self.run("shell", shlex.join(words))

    def shell(self, *words: str) -> str:
        """Return the output of a command on the phone. Raises: SkinedgeError if it, or the connection, fails."""
        return self._checked(self.run_on_phone(*words), words[0])

    def query(self, *words: str) -> str:
        """Return the stripped output of a command on the phone; '' if it fails."""
        done = self.run_on_phone(*words)
        return done.stdout.strip() if done.returncode == 0 else ""

    def require(self) -> None:
        """Raises: SkinedgeError unless one phone answers."""
        state = self._checked(self.run("get-state"), "get-state").strip()
        if state != "device":
            raise SkinedgeError(f"the phone is in the state '{state}'", where=self.where, todo="Boot it normally.")

    def push(self, path: Path, to: str) -> None:
        """Copy a file to the phone and verify its sha256 there. Raises: SkinedgeError."""
        self._checked(self.run("push", str(path.absolute()), to), "push")
        self.compare(path, ["sha256sum", to])

    def compare(self, path: Path, command: Sequence[str]) -> None:
        """Raises: SkinedgeError unless `command` on the phone prints the sha256 of the file at `path`."""
        if self.shell(*command).partition(" ")[0].strip() != sha256(path):
            raise SkinedgeError(f"{path.name} was damaged in transfer", where=self.where, todo="Run the command again.")

    @property
    def where(self) -> str:
        """Return the phone's name in messages."""
        return f"phone {self.serial}" if self.serial else "phone"

    def _checked(self, done: subprocess.CompletedProcess[str], command: str) -> str:
        if done.returncode == 0:
            return done.stdout
        raise self.failure(command, done.stderr + done.stdout)

    def failure(self, command: str, output: str) -> SkinedgeError:
        """Return the error for the output of adb, or of a program on the phone."""
        for sign, problem, todo in FAILURES:
            if sign in output and (sign == FULL or output.lstrip().startswith(("adb: ", "error: "))):
                return SkinedgeError(problem, where=self.where, todo=todo)
        last = (output.strip().splitlines() or ["no output"])[-1]
        return SkinedgeError(f"'{command}' failed on the phone ({last})", where=self.where)
