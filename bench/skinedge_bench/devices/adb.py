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
FAILURES = (  # what adb says -> what is wrong, what to do
    (
        "unauthorized",
        "the phone has not allowed this computer yet",
        "Unlock it, and accept the question on its screen.",
    ),
    (
        "more than one",
        "several phones are connected",
        "Name one of them with --serial; they are listed by: adb devices",
    ),
    (
        "no devices",
        "no phone is connected",
        "Connect one by USB, and switch on USB debugging in its developer options.",
    ),
    ("not found", "this phone is not connected", "Connected ones are listed by: adb devices"),
    ("offline", "the phone does not answer", "Unlock it, and connect it again."),
    (FULL, "the phone's storage is full", "Free some space there."),
)


@dataclass(frozen=True)
class Phone:
    """serial: as `adb devices` names it, None for the only one."""

    serial: str | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`adb ARGUMENTS`, to its end. Raises: SkinedgeError where adb is not installed."""
        if not shutil.which("adb"):
            raise SkinedgeError(
                "--adb needs the program 'adb', which is not installed", todo="It is in Android's platform tools."
            )
        chosen = [] if self.serial is None else ["-s", self.serial]
        command = ["adb", *chosen, *arguments]
        return run_program(command)

    def there(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on the phone, to its end."""
        return self.run("shell", shlex.join(words))

    def shell(self, *words: str) -> str:
        """What a command on the phone prints. Raises: SkinedgeError when it, or the connection, fails."""
        return self._checked(self.there(*words), words[0])

    def tells(self, *words: str) -> str:
        """As `shell`, for what a phone may not know: '' where it fails."""
        done = self.there(*words)
        return done.stdout.strip() if done.returncode == 0 else ""

    def require(self) -> None:
        """Raises: SkinedgeError unless one phone answers."""
        said = self._checked(self.run("get-state"), "get-state").strip()
        if said != "device":
            raise SkinedgeError(f"the phone is in the state '{said}'", where=self.where, todo="Start it as usual.")

    def push(self, path: Path, to: str) -> None:
        """Copy a file to the phone, and compare it there. Raises: SkinedgeError."""
        self._checked(self.run("push", str(path.absolute()), to), "push")
        self.compare(path, ["sha256sum", to])

    def compare(self, path: Path, asked: Sequence[str]) -> None:
        """Raises: SkinedgeError when the command `asked` does not print the sha256 of the file at `path`."""
        if self.shell(*asked).partition(" ")[0].strip() != sha256(path):
            raise SkinedgeError(f"{path.name} did not arrive as it is", where=self.where, todo="Run the command again.")

    @property
    def where(self) -> str:
        return f"phone {self.serial}" if self.serial else "phone"

    def _checked(self, done: subprocess.CompletedProcess[str], what: str) -> str:
        if done.returncode == 0:
            return done.stdout
        raise self.failure(what, done.stderr + done.stdout)

    def failure(self, what: str, said: str) -> SkinedgeError:
        """What adb, or a program on the phone, said, as what is wrong, where, and what to do."""
        for sign, problem, todo in FAILURES:
            if sign in said and (sign == FULL or said.lstrip().startswith(("adb: ", "error: "))):
                return SkinedgeError(problem, where=self.where, todo=todo)
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        return SkinedgeError(f"'{what}' failed on the phone ({last})", where=self.where)
