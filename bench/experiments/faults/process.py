"""Run one command in a process forked from this one, which has already imported the frameworks."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from experiments.faults.strike import Call, Strike, Watcher

TRAINING = (
    "numpy", "PIL.Image", "torch", "timm", "peft", "accelerate", "safetensors.torch", "rich.table", "filelock", "typer",
    "skinedge.cli", "skinedge.training.train", "skinedge.training.merge",
)  # fmt: skip
BEYOND = (
    "onnx", "onnxscript", "onnxruntime", "onnxruntime.quantization", "ai_edge_litert.interpreter", "ai_edge_quantizer",
    "litert_torch", "matplotlib.figure", "matplotlib.backends.backend_agg", "pytorch_grad_cam",
    "skinedge.publish.package",
    "skinedge_export.export", "skinedge_bench.verify.verify", "skinedge_bench.verify.layers.compare",
    "skinedge_bench.latency.bench",
    "skinedge_bench.evaluate.evaluate", "skinedge_bench.report.draw", "skinedge_bench.web.site",
    "skinedge_bench.explain.explain",
    "skinedge_bench.evaluate.plots",
)  # fmt: skip
LIMIT = 300.0  # timeout of a command in seconds, generous for a busy machine
GRACE = 4.0  # seconds for a command's child processes to end after it
POLL = 0.002  # seconds


@dataclass(frozen=True)
class Kill:
    """A signal `after` seconds, to the command or to one of its child processes."""

    action: str
    after: float
    to_child: bool = False


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    status: as `os.waitstatus_to_exitcode` returns it; calls: logged by the watcher; orphans: command lines of the child
    processes that outlived it; sent: the timed signal came before the end; modules: imported by the command, if it
    ended by itself.
    """

    status: int
    output: str
    errors: str
    seconds: float
    cpu_seconds: float
    calls: tuple[Call, ...]
    orphans: tuple[str, ...]
    sent: bool
    modules: tuple[str, ...]


def import_ahead(*, beyond_training: bool) -> None:
    """Import the modules of the commands without starting a thread, since a forked process has no other threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in (*TRAINING, *(BEYOND if beyond_training else ())):
        importlib.import_module(name)
    from skinedge.network import lora

    lora.import_peft()
    gc.freeze()


def import_more(names: Iterable[str]) -> None:
    """Import the modules that a command without a fault imported, once for all later ones."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()


def launch(
    box: Path,
    arguments: Sequence[str],
    *,
    strike: Strike | None = None,
    kill: Kill | None = None,
    largest_file: int | None = None,
) -> Ending:
    """Run `skinedge ARGUMENTS` in `box`/work. largest_file: bytes, as RLIMIT_FSIZE."""
    logs = box.with_name(f"{box.name}.logs")
    logs.mkdir(exist_ok=True)
    for old in logs.iterdir():
        old.unlink()
    for name in ("calls", "modules", "stdout", "stderr"):
        (logs / name).touch()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_command(box, logs, arguments, strike, largest_file)
    status, usage, sent = _wait(child, logs / "begun", kill)
    seconds = time.monotonic() - started
    orphans = tuple(_orphans(child))
    calls = tuple(Call(**json.loads(line)) for line in (logs / "calls").read_text().splitlines())
    output, errors = ((logs / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    modules = tuple((logs / "modules").read_text().split())
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Ending(status, output, errors, seconds, cpu_seconds, calls, orphans, sent, modules)


def _run_command(
    box: Path, logs: Path, arguments: Sequence[str], strike: Strike | None, largest: int | None
) -> NoReturn:
    """Run the command in the forked process."""
    try:
        os.setsid()  # identifies its child processes
        os.chdir(box / "work")
        folders = {"TMPDIR": "tmp", "HOME": "home", "XDG_CACHE_HOME": "home/.cache", "XDG_RUNTIME_DIR": "run"}
        os.environ.update({name: str(box / folder) for name, folder in folders.items()})
        os.environ["SKINEDGE_SHIPPED"] = ""
        tempfile.tempdir = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(logs / name, flags), descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        from skinedge.cli import process

        sys.argv, imported, original_exit = ["skinedge", *arguments], set(sys.modules), os._exit

        def exit_(code: int) -> NoReturn:
            if largest is None and strike is None:
                (logs / "modules").write_text("\n".join(name for name in list(sys.modules) if name not in imported))
            original_exit(code)

        os._exit = exit_
        if largest is None:  # the size limit would apply to the log of the calls too
            Watcher(box, logs / "calls", strike).install()
        (logs / "begun").touch()
        process()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _wait(child: int, begun: Path, kill: Kill | None) -> tuple[int, resource.struct_rusage, bool]:
    """Wait for the command and send the timed signal. begun: a file that exists once the command has begun."""
    sent, started = False, time.monotonic()
    while kill is not None and not begun.exists():
        time.sleep(POLL)
    begun_at = time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage, sent
        if time.monotonic() - started > LIMIT:
            os.kill(child, signal.SIGKILL)
        if kill is not None and not sent and time.monotonic() - begun_at >= kill.after:
            targets = [pid for pid in session(child) if pid != child] if kill.to_child else [child]
            for pid in targets[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, getattr(signal, f"SIG{kill.action}"))
                    sent = True
        time.sleep(POLL)


def session(leader: int) -> list[int]:
    """Return the live processes of a session, without zombies."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == leader and state not in "ZX":
                    pids.append(int(entry.name))
    return pids


def _orphans(leader: int) -> Iterator[str]:
    """Kill the processes that outlive the command; yield their command lines."""
    deadline = time.monotonic() + GRACE
    while (pids := session(leader)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in pids:
        with contextlib.suppress(OSError):
            yield Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            os.kill(pid, signal.SIGKILL)
