"""skinedge bench --host against a real sshd on this machine, and its errors."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from skinedge.core.errors import BundleError, ConfigError
from skinedge.run.run_directory import Bundle
from skinedge_bench.devices import ssh
from skinedge_bench.devices.payload import Payload, build_payload, code, requirements, split_images
from skinedge_bench.devices.ssh import FAILURES, Host, failure
from skinedge_bench.latency import bench as latency_bench
from skinedge_bench.latency.report_file import report_of
from skinedge_bench.latency.targets import BenchRequest
from skinedge_bench.verify import verify

Cli = Callable[..., tuple[int, str, str]]
FOLDER = ".cache/skinedge/bench"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is not installed: make sshd")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0

# Runs every command of a login in a separate home folder with the test's settings.
FRONT = """#!/bin/sh
HOME={home}; export HOME
PATH=$HOME/first:$PATH
[ ! -f "$HOME/settings" ] || . "$HOME/settings"
cd && exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand {folder}/front
"""
CLIENT = """
Host *
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True)
class Pi:
    """This machine, as a host. home: its login folder; folder: keys and settings of both ends."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def arguments(self) -> list[str]:
        return ["--host", f"{getpass.getuser()}@127.0.0.1", "--port", str(self.port), "--protocol", "quick"]

    def program(self, name: str, text: str) -> None:
        """Install a program that the host finds before its own."""
        path = self.home / "first" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def remaining(self) -> list[str]:
        """List our folder on the host."""
        folder = self.home / FOLDER
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    folder = tmp_path_factory.mktemp("sshd")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    (folder / "front").write_text(FRONT.format(home=folder / "home"))
    (folder / "front").chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/client "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    if is_root:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a root's sshd locks itself in
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "server"], stderr=log)
    try:
        until(lambda: "listening" in (folder / "log").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield Pi(folder, port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def pi(server: Pi, monkeypatch: pytest.MonkeyPatch) -> Pi:
    """The host with an empty home and a known key."""
    shutil.rmtree(server.home, ignore_errors=True)
    (server.home / "first").mkdir(parents=True)
    key = (server.folder / "host.pub").read_text().split()
    (server.folder / "known").write_text(f"[127.0.0.1]:{server.port} {key[0]} {key[1]}\n")
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    return server


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


@needs_sshd
def test_the_report_has_the_accuracy_on_sent_images(cli: Cli, pi: Pi, run: Bundle) -> None:
    assert run.manifest.data_root
    status, out, err = cli("bench", run.root, *pi.arguments, "--with-data", "--python", sys.executable, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["host"] == f"127.0.0.1:{pi.port}" and document["model_id"] == run.manifest.id
    figures = {file.name: file.figures for file in verify.verify(run).files}
    assert [row["file"] for row in document["rows"]] == [entry.path for entry in run.model_files()]
    for row in document["rows"]:  # the merged network is not sent, so it has no row
        expected = figures[row["file"]]
        assert row["n"] == 120 and row["p50_ms"] > 0 and row["golden"] in ("pass", "inconclusive")
        assert expected is not None and row["balanced_accuracy"] == pytest.approx(expected.balanced_accuracy)
        assert row["accuracy_note"] == "measured"
    name = f"reports/latency.127.0.0.1-{pi.port}.json"
    saved = json.loads(run.reload().file(name).read_text())
    assert saved["host"] == document["host"] and len(saved["samples_ms"]) == len(document["rows"])
    assert not run.reload().has("reports/latency.json")
    assert str(pi.home) not in json.dumps(saved)
    assert pi.remaining() == [], "images or model were left on the host"


@needs_sshd
def test_the_environment_is_created_once(cli: Cli, pi: Pi, imageless: Bundle) -> None:
    """The packages are found in PYTHONPATH, so that the real pip has nothing to download."""
    packages = Path(pytest.__file__).parents[1]
    (pi.home / "settings").write_text(f"export PYTHONPATH={packages} PIP_NO_INDEX=1\n")
    status, out, err = cli("bench", imageless.root, *pi.arguments, "--runtime", "litert")
    assert status == 0, err
    assert f"127.0.0.1:{pi.port}: " in out and "model.int8.tflite" in out and "installing" in err
    (environment,) = pi.remaining()
    created = (pi.home / FOLDER / environment).stat().st_mtime_ns
    status, _, err = cli("bench", imageless.root, *pi.arguments, "--runtime", "litert")
    assert status == 0 and "installing" not in err
    assert pi.remaining() == [environment] and (pi.home / FOLDER / environment).stat().st_mtime_ns == created


@needs_sshd
def test_packages_that_cannot_be_installed(cli: Cli, pi: Pi, run: Bundle) -> None:
    before = contents(run.root)
    (pi.home / "settings").write_text("export PIP_NO_INDEX=1 PIP_FIND_LINKS=\n")
    pi.program("python3", f'exec {Path(sys.executable).resolve()} "$@"')
    status, out, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and out == "" and "cannot install the packages there (ERROR: " in err and "--python" in err
    assert pi.remaining() == [] and contents(run.root) == before


@needs_sshd
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_interruption_leaves_nothing_here_or_on_the_host(pi: Pi, run: Bundle, end: signal.Signals) -> None:
    before = contents(run.root)
    command = [sys.executable, "-m", "skinedge", "bench", str(run.root), *pi.arguments, "--python", sys.executable]
    command[command.index("quick")] = "mlperf"  # minutes
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        until(lambda: list((pi.home / FOLDER).glob("job-*/out")) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        if end is signal.SIGINT:
            os.killpg(process.pid, end)  # as a terminal does
        else:
            process.kill()
        process.communicate(timeout=60)
        assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL)
        until(lambda: pi.remaining() == [])
    finally:
        process.kill()
    assert contents(run.root) == before


@needs_sshd
@pytest.mark.parametrize("machine", ["armv7l", "armv6l", "i686"])
def test_a_32_bit_host_is_refused(cli: Cli, pi: Pi, run: Bundle, machine: str) -> None:
    pi.program("uname", f"echo {machine}")
    status, out, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and out == "" and "64-bit system" in err and f"This is {machine}" in err and pi.remaining() == []


@needs_sshd
def test_a_32_bit_python_on_a_64_bit_kernel_is_refused(cli: Cli, pi: Pi, run: Bundle) -> None:
    pi.program("python3", "echo version 3.11; echo bits 32")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "with a 32-bit Python" in err and pi.remaining() == []


@needs_sshd
def test_a_host_without_python_or_with_an_old_one(cli: Cli, pi: Pi, run: Bundle) -> None:
    pi.program("python3", "echo version 3.9; echo bits 64")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "Python 3.9 there, skinedge needs 3.11" in err and "--python" in err
    status, _, err = cli("bench", run.root, *pi.arguments, "--python", "python3.99")
    assert status == 1 and "'python3.99' not found there" in err
    (pi.home / "tools").mkdir()
    for name in ("sh", "uname", "df", "awk", "mkdir", "find", "basename", "dirname", "cat"):
        (pi.home / "tools" / name).symlink_to(str(shutil.which(name)))
    (pi.home / "settings").write_text(f"PATH={pi.home / 'tools'}\n")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "'python3' not found there" in err and pi.remaining() == []


@needs_sshd
def test_a_python_that_lacks_a_module(cli: Cli, pi: Pi, run: Bundle) -> None:
    bare = Path(sys.executable).resolve()  # outside any environment
    here = [name for name in ("onnxruntime", "ai_edge_litert") if not has(bare, name)]
    if not here:
        pytest.skip(f"{bare} has the runtimes")
    status, _, err = cli("bench", run.root, *pi.arguments, "--python", bare)
    assert status == 1 and f"{bare} lacks the modules" in err and all(name in err for name in here)
    assert pi.remaining() == []


def has(python: Path, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


@needs_sshd
def test_a_host_with_too_little_space(cli: Cli, pi: Pi, run: Bundle) -> None:
    pi.program("df", "echo header; echo none 9 9 2000 9% /")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "2 MB are free" in err and "are needed" in err and pi.remaining() == []


@needs_sshd
@pytest.mark.skipif(not is_root, reason="only root can mount a small disk")
def test_a_disk_that_becomes_full(cli: Cli, pi: Pi, run: Bundle) -> None:
    before = contents(run.root)
    disk = pi.home / ".cache"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        pi.program("df", "echo header; echo none 9 9 9999999 9% /")  # full only later
        status, out, err = cli("bench", run.root, *pi.arguments, "--python", sys.executable)
        assert status == 1 and out == "" and "the disk is full there; nothing is left behind" in err
        assert pi.remaining() == []
    finally:
        subprocess.run(["umount", disk], check=True)
    assert contents(run.root) == before


@pytest.mark.parametrize("complete", [True, False])
def test_files_arrive_completely_or_not_at_all(tmp_path: Path, complete: bool) -> None:
    """tar accepts an archive truncated between two files, as when the next file cannot be read."""
    script = (Path(str(ssh.__file__)).with_name("on_host") / "receive.sh").read_text()
    payload, stream = Payload({"data/a.png": b"a", "run/manifest.json": b"{}"}), io.BytesIO()
    payload.write(stream)
    archive = stream.getvalue() if complete else stream.getvalue()[:1024]  # a header and a block of content
    command = ["sh", "-c", script, "receive.sh", str(tmp_path / "job"), payload.last]
    done = subprocess.run(command, input=archive, check=False)
    assert (done.returncode == 0) == complete == (tmp_path / "job").exists()


@needs_sshd
def test_no_connection_outlives_the_command_with_any_user_settings(
    cli: Cli, pi: Pi, run: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(pi.folder))
    pi.program("uname", "echo armv7l")
    (pi.folder / "client").write_text(f"{CLIENT.format(folder=pi.folder)}  ControlPersist 60\n")
    try:
        status, _, err = cli("bench", run.root, *pi.arguments)
        assert status == 1 and "This is armv7l" in err
        time.sleep(1)
        assert connections(pi.folder) == []
    finally:
        (pi.folder / "client").write_text(CLIENT.format(folder=pi.folder))
        for process in connections(pi.folder):
            os.kill(process, signal.SIGTERM)


def connections(folder: Path) -> list[int]:
    """Return the ids of ssh processes with their socket in the folder."""
    ids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/skinedge-ssh-".encode() in path.read_bytes():
                ids.append(int(path.parent.name))
    return ids


@needs_sshd
def test_a_benchmark_that_fails_on_the_host_gives_the_reason(cli: Cli, pi: Pi, run: Bundle) -> None:
    status, out, err = cli("bench", run.root, *pi.arguments, "--python", sys.executable, "--threads", "4096")
    assert status == 1 and out == "" and "the benchmark failed there: --threads 4096" in err and pi.remaining() == []


@needs_sshd
def test_unreachable_hosts(cli: Cli, pi: Pi, run: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = [*pi.arguments]
    closed[closed.index(str(pi.port))] = "1"
    status, _, err = cli("bench", run.root, *closed)
    assert status == 1 and "its SSH port refuses connections" in err and "--port" in err
    status, _, err = cli("bench", run.root, "--host", "pi@no-such-host.invalid")
    assert status == 1 and "unknown host name" in err
    (pi.folder / "known").write_text("")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "its host key is unknown" in err and "ssh " in err
    other = (pi.folder / "user.pub").read_text().split()
    (pi.folder / "known").write_text(f"[127.0.0.1]:{pi.port} {other[0]} {other[1]}\n")
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "differs from the known one" in err
    monkeypatch.setenv("PATH", str(pi.home))
    status, _, err = cli("bench", run.root, *pi.arguments)
    assert status == 1 and "'ssh', which is not installed" in err


@needs_sshd
def test_denied_login(cli: Cli, pi: Pi, run: Bundle) -> None:
    (pi.folder / "client").write_text(CLIENT.format(folder=pi.folder).replace("/user\n", "/host\n"))
    try:
        status, _, err = cli("bench", run.root, *pi.arguments)
    finally:
        (pi.folder / "client").write_text(CLIENT.format(folder=pi.folder))
    assert status == 1 and "login denied" in err


def test_every_failure_of_ssh_has_its_message() -> None:
    for sign, what, todo in FAILURES:
        error = failure(Host("pi@there"), f"debug\nssh: {sign} port 22\n")
        assert error.what == what and error.todo == todo.replace("HOST", "pi@there") and error.where == "pi@there"
    assert "ssh failed (strange)" in str(failure(Host("pi@there"), "\nstrange\n"))
    assert "no output" in str(failure(Host("pi@there"), ""))


def test_options_that_do_not_go_together(cli: Cli, tiny_run: Path) -> None:
    for arguments, message in (
        (["--port", "1"], "--port requires --host"),
        (["--with-data"], "--with-data requires --host"),
        (["--tool", "x"], "--tool requires --adb"),
        (["--host", "a", "--adb"], "two devices"),
        (["--host", "a", "--data", "."], "--with-data"),
        (["--host", "a", "--with", "x.onnx"], "--with"),
        (["--host", "-oProxyCommand=x"], "is not an address"),
        (["--host", "a b"], "is not an address"),
    ):
        status, out, err = cli("bench", tiny_run, *arguments)
        assert status == 1 and out == "" and message in err, arguments
    with pytest.raises(ConfigError):
        Host("")


def test_the_payload(imageless: Bundle, run: Bundle, tmp_path: Path) -> None:
    """Unpacked, it is a run that its code can benchmark: without this machine's paths and the merged network."""
    payload = build_payload(imageless, {})
    names = set(payload.files)
    assert {"run/manifest.json", "run/golden.npz", "run/model.int8.tflite", "code/skinedge/core/errors.py"} <= names
    assert {"code/skinedge_bench/latency/protocols/quick.toml", "code/skinedge_bench/devices/on_host/bench.sh"} <= names
    assert not [n for n in names if "flagship" in n or "__pycache__" in n or n.endswith("safetensors")]
    with (tmp_path / "payload.tar").open("wb") as stream:
        payload.write(stream)
    shutil.unpack_archive(tmp_path / "payload.tar", tmp_path / "there", filter="data")
    assert set(contents(tmp_path / "there")) == names
    there = Bundle.open(tmp_path / "there" / "run")
    assert there.manifest.data_root == "" and there.model_sha256 == imageless.model_sha256
    assert [there.file(name) for name in there.entries()] and there.model_files() == imageless.model_files()
    assert all(there.fits_model(entry) for entry in there.model_files())
    split = [line.split(",") for line in (run.root / "split.csv").read_text().splitlines()[1:]]
    expected = {f"data/{row[4]}" for row in split if row[3] == "test"}
    assert set(split_images(run, None)) == expected and len(expected) > 5


def test_a_run_with_a_missing_file_is_not_sent(cli: Cli, run: Bundle) -> None:
    (run.root / "model.int8.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        build_payload(run, {})
    assert code() and any(text.startswith("numpy") for text in requirements())
    assert not any("torch" in text for text in requirements())


def test_a_report_survives_a_round_trip(run: Bundle) -> None:
    report = latency_bench.bench(run, BenchRequest("quick", runtimes=("litert",)))
    text = run.reload().file("reports/latency.json").read_text()
    again = report_of(json.loads(text), "here")
    assert again == report and again.to_text() == text
    assert isinstance(again.rows[0].p50_interval_ms, tuple)


def test_other_documents_are_not_reports() -> None:
    for document in ({}, {"schema": "skinedge.verify/1"}, {"schema": "skinedge.bench/1"}):
        with pytest.raises(BundleError, match="report"):
            report_of(document, "there")
