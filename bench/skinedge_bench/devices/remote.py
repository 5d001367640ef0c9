"""`skinedge bench --host`: the same benchmark on another machine, over SSH.

The host needs no skinedge. Our code is sent with the run; its requirements (the base install) are installed once into
an environment by the host's own pip, or are in the Python named by --python. Everything is in ~/.cache/skinedge/bench:
the environment is kept for later benchmarks, the job's folder is removed with the job, even if the connection breaks.
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
ENVIRONMENT_SPACE = 450_000_000  # bytes: 250e6 for the environment, the rest for pip while it unpacks


@dataclass(frozen=True)
class HostState:
    """Properties of a host. machine: from uname; free: bytes; python, version, bits: of the interpreter, None without
    one; environments: names of the existing environments.
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
    """Benchmark a run on `host`, and write the report into the local run.

    options: for `skinedge bench` on the host; images: from `payload.split_images`, or none; python: an interpreter
    there with the base install, None to use an environment of ours.
    Raises: SkinedgeError if the host cannot be used; then nothing is written here.
    """
    payload = build_payload(bundle, dict(images))
    with connect(host) as connection:
        state = inspect_host(connection, python or "python3")
        check(host, state, python or "python3")
        needed = 0 if python or environment(state) in state.environments else ENVIRONMENT_SPACE
        check_space(host, state, payload.size + needed)
        interpreter = _check_python(connection, str(state.python)) if python else _install(connection, state)
        job = f"{FOLDER}/job-{secrets.token_hex(4)}"
        megabytes = payload.size / 1e6
        note(f"{host.name}: copying {len(payload.files)} files, {megabytes:.1f} MB; they are removed afterwards")
        send(connection, payload, job)
        data = ["--data", DATA] if images else []
        document = _run(connection, job, [interpreter, *options, *data])
    report = replace(report_of(document, host.name), host=host.name)
    if report.model_id != bundle.manifest.id:
        raise SkinedgeError("the returned report is of another run", where=host.address)
    save_report(bundle, report, host.name)
    return report


def inspect_host(connection: Connection, python: str) -> HostState:
    """Read the host's properties. Raises: SkinedgeError without a usable shell."""
    _, out, err = connection.ask("inspect.sh", python, FOLDER)
    pairs = [line.partition(" ")[::2] for line in out.splitlines()]
    values = dict(pairs)
    if "machine" not in values:
        last = (err.strip().splitlines() or ["no answer"])[-1]
        raise SkinedgeError(f"this host has no usable POSIX shell ({last})", where=connection.host.address)
    version = values.get("version", "").split(".")
    return HostState(
        machine=values["machine"],
        free=int(values["free"]) * 1024 if values.get("free", "").isdigit() else None,
        python=values.get("python"),
        version=(int(version[0]), int(version[1])) if len(version) == 2 else None,
        bits=int(values["bits"]) if "bits" in values else None,
        environments=frozenset(name for key, name in pairs if key == "kept"),
    )


def check(host: Host, state: HostState, python: str) -> None:
    """Raises: SkinedgeError for a 32-bit system, or if Python is missing or too old."""
    if state.machine not in WORDS_64 or state.bits == 32:
        bits = "" if state.bits is None else f", with a {state.bits}-bit Python"
        raise SkinedgeError(f"{NEED_64}. This is {state.machine}{bits}", where=host.address, todo=INSTALL_64)
    if state.version is None:
        raise SkinedgeError(
            f"'{python}' not found there", where=host.address, todo="Install it, or name another with --python."
        )
    if state.version < OLDEST:
        raise SkinedgeError(
            f"'{python}' is Python {state.version[0]}.{state.version[1]} there, skinedge needs {OLDEST[0]}.{OLDEST[1]}",
            where=host.address,
            todo="Name a newer one with --python, or install a newer system (Pi OS since bookworm has it).",
        )


def check_space(host: Host, state: HostState, needed: int) -> None:
    """Raises: SkinedgeError if fewer bytes are free there."""
    if state.free is not None and state.free < needed:
        raise SkinedgeError(
            f"not enough space in ~/.cache there: {state.free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed",
            where=host.address,
            todo="Free some space there.",
        )


def environment(state: HostState) -> str:
    """Return the environment's name, which depends on the requirements and the Python version."""
    digest = hashlib.sha256("\n".join(requirements()).encode()).hexdigest()[:8]
    return f"venv-{digest}-py{'.'.join(map(str, state.version or ()))}"


def _install(connection: Connection, state: HostState) -> str:
    """Return the environment's Python; create the environment if it does not exist."""
    folder = f"{FOLDER}/{environment(state)}"
    if environment(state) not in state.environments:
        note(f"{connection.host.name}: installing {', '.join(base())} (once, takes minutes)")
        code, _, err = connection.ask("install.sh", folder, str(state.python), *requirements())
        if code:
            raise _install_failure(connection.host, err)
    return f"{folder}/bin/python"


def _install_failure(host: Host, output: str) -> SkinedgeError:
    if "ensurepip" in output or "No module named venv" in output:
        todo = "On the host: sudo apt install python3-venv"
        return SkinedgeError("its Python cannot create environments", where=host.address, todo=todo)
    todo = "The host must reach a package index. Otherwise name a Python with these packages: --python PATH."
    return _script_failure(host, "cannot install the packages there", output, todo)


def _script_failure(host: Host, what: str, output: str, todo: str) -> SkinedgeError:
    """Return the error for a script that failed on the host and cleaned up."""
    if "No space left" in output or "Disk quota" in output:
        what, todo = "the disk is full there; nothing is left behind", "Free some space there."
        return SkinedgeError(what, where=host.address, todo=todo)
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
    return SkinedgeError(f"{what} ({reason[:300]})", where=host.address, todo=todo)


def _check_python(connection: Connection, python: str) -> str:
    """Return `python` if it has the base install. Raises: SkinedgeError with the missing modules."""
    _, out, _ = connection.ask("missing.sh", python, *map(module_of, base()))
    if missing := out.split():
        raise SkinedgeError(
            f"{python} lacks the modules {', '.join(missing)} there",
            where=connection.host.address,
            todo="Install them, or omit --python to use an environment of its own.",
        )
    return python


def _pipe(stream: IO[bytes] | None, connection: Connection) -> IO[bytes]:
    """Return a stream of a started process. Raises: SkinedgeError if it has none."""
    if stream is None:
        raise SkinedgeError("ssh was started without a pipe to it", where=connection.host.address)
    return stream


def send(connection: Connection, payload: Payload, job: str) -> None:
    """Copy the payload into a new folder `job`. Raises: SkinedgeError if incomplete; then nothing is left there."""
    with tempfile.TemporaryFile() as messages:
        pipe, discard = subprocess.PIPE, subprocess.DEVNULL
        process = connection.start("receive.sh", job, payload.last, stdin=pipe, stdout=discard, stderr=messages)
        with contextlib.suppress(BrokenPipeError), _pipe(process.stdin, connection) as stream:
            payload.write(stream)
        process.wait()
        messages.seek(0)
        err = messages.read().decode(errors="replace")
    if connection.exit_code(process, err):
        raise _script_failure(connection.host, "the files did not arrive", err, "Run the command again.")


def _run(connection: Connection, job: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run the benchmark and return its report, even if golden vectors fail; print the host's messages."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as out,
        connection.start("bench.sh", job, *arguments, stdin=pipe, stdout=out, stderr=pipe) as process,
    ):  # its standard input stays open while we wait
        messages = relay(connection.host, _pipe(process.stderr, connection))
        code = connection.exit_code(process, messages)
        out.seek(0)
        text = out.read().decode(errors="replace")
    try:
        return parse_json(text, dict[str, Any], connection.host.address)
    except BundleError:
        error = messages.rpartition("error: ")[2] or f"exit code {code}"
        raise SkinedgeError(f"the benchmark failed there: {error}", where=connection.host.address) from None
