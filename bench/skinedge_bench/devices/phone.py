"""`skinedge bench --adb`: the .tflite files of a run on an Android phone.

Two ways: TFLite's `benchmark_model`, which the user names (`phone_tool`), or our app's benchmark (`phone_app`). Both
return rows of the same report. Golden vectors are not replayed on the phone, and nothing is judged there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol as Interface

from skinedge.core.errors import BundleError, ConfigError
from skinedge.run.manifest import now
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_bench.device import INT8_DOT, Device, instruction_set
from skinedge_bench.devices.adb import Phone
from skinedge_bench.latency.block_stats import Blocks
from skinedge_bench.latency.conditions import Conditions
from skinedge_bench.latency.protocol import Protocol, read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.report_file import save_report
from skinedge_bench.latency.row import Row, with_ratios
from skinedge_bench.latency.targets import thread_counts
from skinedge_bench.loaded_model import exported

FOLDER = "/data/local/tmp"
NOT_JUDGED = "not judged on the phone; verify judges the same file here"
EMULATOR = "an Android emulator, no phone"


@dataclass(frozen=True)
class Job:
    """What is to be timed. folder: on the phone, made for this job; files: name -> file here, pushed into `folder`."""

    phone: Phone
    folder: str
    files: Mapping[str, Path]
    protocol: Protocol
    seed: int


@dataclass(frozen=True)
class Timed:
    """rows: `template`s with their figures; samples_ms: `Row.key` -> blocks, where the way gives raw samples."""

    rows: tuple[Row, ...]
    samples_ms: Mapping[str, Blocks]
    versions: Mapping[str, str]


class TimingMethod(Interface):
    """A way to time files on a phone."""

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        """templates: a row without figures for each file and number of threads. Raises: SkinedgeError."""
        ...


def bench_phone(bundle: Bundle, phone: Phone, way: TimingMethod, protocol: str, threads: str) -> LatencyReport:
    """Time a run's .tflite files on a phone, and keep the report in the run.

    protocol: its name; threads: as `--threads` takes them, 'all' being the phone's cores.
    Raises: BundleError for a run without .tflite files; ConfigError for more threads than the phone has cores;
    SkinedgeError (what, where, what to do) when the phone cannot be used. Nothing is then written here.
    """
    plan = read_protocol(protocol)
    entries = [entry for entry in exported(bundle) if entry.path.endswith(".tflite")]
    if not entries:
        raise BundleError("no .tflite file in this run", where=str(bundle.root), todo="skinedge export --format tflite")
    files = {entry.path: bundle.file(entry.path) for entry in entries}
    phone.require()
    device = describe_phone(phone)
    templates = [
        Row(e.path, "litert", str(e.info.get("precision")), n, e.size, e.sha256, accuracy_note=NOT_JUDGED)
        for e in entries
        for n in _threads(threads, device.cores)
    ]
    before = conditions(phone)
    with pushed(phone, files) as folder:
        timed = way.time(Job(phone, folder, files, plan, seed=0), templates)
    after = conditions(phone)
    doubts = reasons(phone, device)
    rows = tuple(replace(row, reasons=(*doubts, *row.reasons)) for row in timed.rows)
    report = LatencyReport(
        device=replace(device, versions=timed.versions),
        protocol=plan,
        seed=0,
        rows=with_ratios([replace(row, trustworthy=not row.reasons) for row in rows], timed.samples_ms, plan.headline),
        samples_ms=timed.samples_ms,
        before=before,
        after=after,
        measured_at=now(),
        model_id=bundle.manifest.id,
        model_sha256=bundle.model_sha256,
        host=device.machine,
    )
    save_report(bundle, report, device.machine)
    return report


@contextmanager
def pushed(phone: Phone, files: Mapping[str, Path]) -> Iterator[str]:
    """A folder on the phone with the files in it, for the time of the block."""
    folder = f"{FOLDER}/skinedge-{secrets.token_hex(4)}"
    phone.shell("mkdir", "-p", folder)
    try:
        for name, path in files.items():
            phone.push(path, f"{folder}/{name}")
        note(f"{phone.where}: {len(files)} files are in {folder}; removed afterwards")
        yield folder
    finally:
        phone.there("rm", "-rf", folder)


def describe_phone(phone: Phone) -> Device:
    """The phone, as its properties and /proc tell."""
    brand, model = phone.tells("getprop", "ro.product.manufacturer"), phone.tells("getprop", "ro.product.model")
    cpuinfo = phone.tells("cat", "/proc/cpuinfo")
    found = re.search(r"^Features\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    features = found.group(1).split() if found else []
    cores = phone.tells("nproc")
    emulator = phone.tells("getprop", "ro.boot.qemu") == "1" or phone.tells("getprop", "ro.kernel.qemu") == "1"
    highest = phone.tells("cat", "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return Device(
        machine=f"{brand} {model}".strip() or "Android phone",
        cpu=phone.tells("getprop", "ro.soc.model") or phone.tells("getprop", "ro.board.platform") or "unknown",
        system=f"Android {phone.tells('getprop', 'ro.build.version.release')}, {phone.tells('uname', '-m')}",
        python="none",
        features=instruction_set(features),
        int8_dot_product=any(name in features for name in INT8_DOT) if features else None,
        cores=int(cores) if cores.isdigit() else 1,
        governor=phone.tells("cat", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        max_frequency_mhz=int(highest) / 1000 if highest.isdigit() else None,
        emulated=None,
        virtualization=("virtual machine",) if emulator else (),
        versions={},
    )


def conditions(phone: Phone) -> Conditions:
    """What the phone tells of its state."""
    battery = phone.tells("dumpsys", "battery")
    powered = re.search(r"(AC|USB|Wireless|Dock) powered: true", battery)
    return Conditions(power="mains" if powered else "battery" if battery else None)


def reasons(phone: Phone, device: Device) -> tuple[str, ...]:
    """Why timings of this phone should not be trusted: it is none, or it was throttled at the end of them."""
    found = [EMULATOR] if device.virtualization else []
    status = re.search(r"Thermal Status: ([1-9])", phone.tells("dumpsys", "thermalservice"))
    if status:  # android.os.PowerManager: 1 light, 2 moderate, 3 severe, ... 6 shutdown
        found.append(f"the phone was throttled for heat (thermal status {status.group(1)})")
    return tuple(found)


def _threads(text: str, cores: int) -> tuple[int, ...]:
    counts = thread_counts(re.sub(r"\ball\b", str(cores), text))
    for count in counts:
        if not 1 <= count <= cores:
            raise ConfigError(f"--threads {count}: this phone has {cores} cores")
    return counts
