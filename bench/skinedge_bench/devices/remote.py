"""`skinedge bench --host`: the same benchmark on another machine, over SSH.

Nothing of skinedge needs to be there. Our code travels with the run; what it needs (the base install) is put into an
environment there by that machine's own pip, once, or is in the Python that --python names. All of it lies in
~/.cache/skinedge/bench: the environment stays for the next time, the job's folder goes with its job, also when the
connection breaks.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.json_io import parse_json
from skinedge.run.run_directory import Bundle
from skinedge.system.platform_check import INSTALL_64, NEED_64
from skinedge.system.progress import note
from skinedge.system.requirements import base, module_of
from skinedge_bench.devices.payload import DATA, Payload, build_payload, requirements
from skinedge_bench.devices.ssh import Connection, Host, connect, relay
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.report_file import report_of, save_report

FOLDER = ".cache/skinedge/bench"
OLDEST = (3, 11)
WORDS_64 = ("x86_64", "aarch64", "arm64", "riscv64", "ppc64le", "s390x", "loongarch64")
ENVIRONMENT_SPACE = 450_000_000  # bytes: 250e6 stay, pip unpacks beside them


@dataclass(frozen=True)
class HostState:
    """What a host is. machine: as uname says; free: bytes; python, version, bits: of the interpreter, None without;
    environments: names of those that were made before.
    """

    machine: str
    free: int | None
    python: str | None
    version: tuple[int, int] | None
    bits: int | None
    environments: frozenset[str]


def bench_on(
    bundle: Bundle, host: Host, options: Sequence[str], images: Mapping[str, Any], python: str | None = None
) -> LatencyReport:
    """Benchmark a run on `host`, and keep the report in the run here.

    options: of `skinedge bench`, for there; images: of `travel.split_images`, or none; python: an interpreter there
    that has the base install already, None for an environment that is made there.
    Raises: SkinedgeError (what, where, what to do) when the host cannot be used; nothing is then written here.
    """
    sent = build_payload(bundle, dict(images))
    with connect(host) as connection:
        seen = inspect_host(connection, python or "python3")
        check(host, seen, python or "python3")
        check_space(
            host, seen, sent.size + (0 if python or environment(seen) in seen.environments else ENVIRONMENT_SPACE)
        )
        ready = _checked(connection, str(seen.python)) if python else _installed(connection, seen)
        job = f"{FOLDER}/job-{secrets.token_hex(4)}"
        note(f"{host.name}: {len(sent.files)} files, {sent.size / 1e6:.1f} MB are copied there; removed afterwards")
        send(connection, sent, job)
        data = ["--data", DATA] if images else []
        document = _run(connection, job, [ready, *options, *data])
    report = replace(report_of(document, host.name), host=host.name)
    if report.model_id != bundle.manifest.id:
        raise SkinedgeError("the report that came back is of another run", where=host.address)
    save_report(bundle, report, host.name)
    return report


def inspect_host(connection: Connection, python: str) -> HostState:
    """Raises: SkinedgeError when the host answers in no way that we know."""
    _, out, err = connection.ask("look.sh", python, FOLDER)
    pairs = [line.partition(" ")[::2] for line in out.splitlines()]
    known = dict(pairs)
    if "machine" not in known:
        last = (err.strip().splitlines() or ["no answer"])[-1]
        raise SkinedgeError(f"this host has no POSIX shell that we can use ({last})", where=connection.host.address)
    version = known.get("version", "").split(".")
    return HostState(
        machine=known["machine"],
        free=int(known["free"]) * 1024 if known.get("free", "").isdigit() else None,
        python=known.get("python"),
        version=(int(version[0]), int(version[1])) if len(version) == 2 else None,
        bits=int(known["bits"]) if "bits" in known else None,
        environments=frozenset(name for key, name in pairs if key == "kept"),
    )


def check(host: Host, seen: HostState, python: str) -> None:
    """Raises: SkinedgeError when it is a 32-bit system, or its Python is missing or too old."""
    if seen.machine not in WORDS_64 or seen.bits == 32:
        bits = "" if seen.bits is None else f", with a {seen.bits}-bit Python"
        raise SkinedgeError(f"{NEED_64}. This is {seen.machine}{bits}", where=host.address, todo=INSTALL_64)
    if seen.version is None:
        raise SkinedgeError(f"there is no '{python}' there", where=host.address, todo="Install it, or see --python.")
    if seen.version < OLDEST:
        raise SkinedgeError(
            f"'{python}' is Python {seen.version[0]}.{seen.version[1]} there, skinedge needs {OLDEST[0]}.{OLDEST[1]}",
            where=host.address,
            todo="Name a newer one with --python, or install a newer system (Pi OS from bookworm on has it).",
        )


def check_space(host: Host, seen: HostState, needed: int) -> None:
    """Raises: SkinedgeError when fewer bytes are free there."""
    if seen.free is not None and seen.free < needed:
        raise SkinedgeError(
            f"{seen.free / 1e6:.0f} MB are free in ~/.cache there, {needed / 1e6:.0f} MB are needed",
            where=host.address,
            todo="Free some space there.",
        )


def environment(seen: HostState) -> str:
    """Name of the environment there: for other requirements or another Python, another one."""
    digest = hashlib.sha256("\n".join(requirements()).encode()).hexdigest()[:8]
    return f"venv-{digest}-py{'.'.join(map(str, seen.version or ()))}"


def _installed(connection: Connection, seen: HostState) -> str:
    """The Python of the environment, which is made where it is not there."""
    folder = f"{FOLDER}/{environment(seen)}"
    if environment(seen) not in seen.environments:
        note(f"{connection.host.name}: installing {', '.join(base())} (once, some minutes) ...")
        code, _, err = connection.ask("install.sh", folder, str(seen.python), *requirements())
        if code:
            raise _not_installed(connection.host, err)
    return f"{folder}/bin/python"


def _not_installed(host: Host, said: str) -> SkinedgeError:
    if "ensurepip" in said or "No module named venv" in said:
        todo = "There: sudo apt install python3-venv"
        return SkinedgeError("its Python cannot make environments", where=host.address, todo=todo)
    todo = "It needs a package index in reach; or name a Python that has it all with --python."
    return _broke(host, "cannot install the packages there", said, todo)


def _broke(host: Host, what: str, said: str, todo: str) -> SkinedgeError:
    """A script that failed there, and cleaned up: for want of disk, or for what it said."""
    if "No space left" in said or "Disk quota" in said:
        what, todo = "the disk is full there; nothing is left behind", "Free some space there."
        return SkinedgeError(what, where=host.address, todo=todo)
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason given"]
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
    return SkinedgeError(f"{what} ({reason[:300]})", where=host.address, todo=todo)


def _checked(connection: Connection, python: str) -> str:
    """The named Python itself, if it has all of the base install. Raises: SkinedgeError naming what is missing."""
    _, out, _ = connection.ask("missing.sh", python, *map(module_of, base()))
    if missing := out.split():
        raise SkinedgeError(
            f"{python} lacks the modules {', '.join(missing)} there",
            where=connection.host.address,
            todo="Install the base install into it, or leave --python out: then an environment is made.",
        )
    return python


def _pipe(stream: IO[bytes] | None, connection: Connection) -> IO[bytes]:
    """Return a stream of a started process. Raises: SkinedgeError where it has none."""
    if stream is None:
        raise SkinedgeError("ssh was started without a pipe to it", where=connection.host.address)
    return stream


def send(connection: Connection, sent: Payload, job: str) -> None:
    """Raises: SkinedgeError when it did not arrive whole; nothing is left there then."""
    with tempfile.TemporaryFile() as said:
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        process = connection.start("receive.sh", job, sent.last, stdin=pipe, stdout=nowhere, stderr=said)
        with contextlib.suppress(BrokenPipeError), _pipe(process.stdin, connection) as stream:
            sent.write(stream)
        process.wait()
        said.seek(0)
        err = said.read().decode(errors="replace")
    if connection.ended(process, err):
        raise _broke(connection.host, "the files did not arrive", err, "Run the command again.")


def _run(connection: Connection, job: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The report as JSON; a report with failed golden vectors is one. What the host says is shown as it comes."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as out,
        connection.start("bench.sh", job, *arguments, stdin=pipe, stdout=out, stderr=pipe) as process,
    ):  # its standard input is open as long as we wait
        said = relay(connection.host, _pipe(process.stderr, connection))
        code = connection.ended(process, said)
        out.seek(0)
        text = out.read().decode(errors="replace")
    try:
        return parse_json(text, dict[str, Any], connection.host.address)
    except BundleError:
        error = said.rpartition("error: ")[2] or f"exit code {code}"
        raise SkinedgeError(f"the benchmark failed there: {error}", where=connection.host.address) from None
