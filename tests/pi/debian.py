"""Debian packages of any release and architecture, unpacked into a folder: no root, and the host stays as it is.

The mirror is the one that this machine's apt uses. Releases are pinned by name; versions cannot be, since a point
release replaces them in the archive. So apt checks Debian's signature instead of a hash of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from skinedge.core.errors import SkinedgeError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Unreachable(SkinedgeError):
    """Debian's archive cannot be had here: no Debian host, or no network."""


def own_architecture() -> str:
    """As Debian calls it: amd64, arm64. Raises: Unreachable where this is no Debian."""
    if not shutil.which("dpkg"):
        raise Unreachable("this host has no dpkg: it is no Debian")
    return _run(["dpkg", "--print-architecture"]).strip()


def mirror() -> str:
    """Address of the Debian archive that this machine's apt uses.

    Raises: Unreachable where this is no Debian, or its apt was never updated.
    """
    if not shutil.which("apt-get") or not KEYRING.is_file():
        raise Unreachable("this host has no apt with Debian's keys")
    told = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"])
    for line in told.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and address.rstrip("/").endswith("/debian"):
            return address
    raise Unreachable("this host's apt knows no Debian archive", todo="Run: apt-get update")


def unpack(packages: Sequence[str], release: str, architecture: str, to: Path) -> None:
    """Download packages with all that they depend on, and unpack them into the folder `to`, which appears whole.

    Raises: Unreachable when the archive is out of reach or has no such package.
    """
    part = to.with_name(f"{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    work = part / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
        (work / folder).mkdir(parents=True)
    configure(work, release, architecture)
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-q", "update"], environment)
    options = ["--download-only", "--no-install-recommends", "--yes", "-q"]
    _run(["apt-get", *options, "install", *packages], environment)
    for package in sorted((work / "cache" / "archives").glob("*.deb")):
        _run(["dpkg", "--extract", str(package), str(part / "tree")])
    shutil.rmtree(to, ignore_errors=True)
    (part / "tree").rename(to)
    shutil.rmtree(part)


def configure(work: Path, release: str, architecture: str) -> None:
    """Write a private apt configuration: nothing is installed in its view, and nothing of the host's is touched."""
    (work / "status").touch()
    source = f"deb [arch={architecture} signed-by={KEYRING}] {mirror()} {release} main\n"
    (work / "etc" / "sources.list").write_text(source, encoding="utf-8")
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "etc" / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Retries": "3",
    }
    lines = [f'{name} "{value}";\n' for name, value in settings.items()]
    (work / "apt.conf").write_text("".join(lines), encoding="utf-8")


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or [done.stderr.strip()[-300:]]
        raise Unreachable(f"{command[0]} cannot get the packages ({said[-1]})")
    return done.stdout
