"""`skinedge bench --adb`: the .tflite files of a run on an Android phone.

Two timing methods: TFLite's `benchmark_model`, named by the user (`phone_tool`), and our app's benchmark (`phone_app`).
Both return rows of the same report. Neither golden vectors nor accuracy are checked on the phone.
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
from skinedge.system.cpu_features import INT8_DOT, instruction_set
from skinedge.system.progress import note
from skinedge_bench.device import Device
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
NOT_JUDGED = "not measured on the phone; skinedge verify checks the same file here"
EMULATOR = "an Android emulator, not a phone"


@dataclass(frozen=True)
class Job:
    """The files to time. folder: temporary, on the phone; files: name -> local file, pushed into `folder`."""

    phone: Phone
    folder: str
    files: Mapping[str, Path]
    protocol: Protocol
    seed: int


@dataclass(frozen=True)
class Timed:
    """Result of a timing method. rows: templates with their figures; samples_ms: `Row.key` -> blocks, if available."""

    rows: tuple[Row, ...]
    samples_ms: Mapping[str, Blocks]
    versions: Mapping[str, str]


class TimingMethod(Interface):
    """A method to time files on a phone."""

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        """Time the files. templates: a row without figures per file and number of threads. Raises: SkinedgeError."""
        ...


def bench_phone(bundle: Bundle, phone: Phone, method: TimingMethod, protocol: str, threads: str) -> LatencyReport:
    """Time a run's .tflite files on a phone, and write the report into the run.

    protocol: its name; threads: as for `--threads`, with 'all' for the phone's cores.
    Raises: BundleError for a run without .tflite files; ConfigError for more threads than the phone has cores;
    SkinedgeError if the phone cannot be used. Then nothing is written here.
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
        timed = method.time(Job(phone, folder, files, plan, seed=0), templates)
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
    """Create a folder with the files on the phone, and remove it after the block."""
    folder = f"{FOLDER}/skinedge-{secrets.token_hex(4)}"
    phone.shell("mkdir", "-p", folder)
    try:
        for name, path in files.items():
            phone.push(path, f"{folder}/{name}")
        note(f"{phone.where}: copied {len(files)} files to {folder}; they are removed afterwards")
        yield folder
    finally:
        phone.run_on_phone("rm", "-rf", folder)


def describe_phone(phone: Phone) -> Device:
    """Describe the phone from its properties and /proc."""
    brand, model = phone.query("getprop", "ro.product.manufacturer"), phone.query("getprop", "ro.product.model")
    cpuinfo = phone.query("cat", "/proc/cpuinfo")
    feature_line = re.search(r"^Features\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    features = feature_line.group(1).split() if feature_line else []
    cores = phone.query("nproc")
    emulator = phone.query("getprop", "ro.boot.qemu") == "1" or phone.query("getprop", "ro.kernel.qemu") == "1"
    highest = phone.query("cat", "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return Device(
        machine=f"{brand} {model}".strip() or "Android phone",
        cpu=phone.query("getprop", "ro.soc.model") or phone.query("getprop", "ro.board.platform") or "unknown",
        system=f"Android {phone.query('getprop', 'ro.build.version.release')}, {phone.query('uname', '-m')}",
        python="none",
        features=instruction_set(features),
        int8_dot_product=any(name in features for name in INT8_DOT) if features else None,
        cores=int(cores) if cores.isdigit() else 1,
        governor=phone.query("cat", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        max_frequency_mhz=int(highest) / 1000 if highest.isdigit() else None,
        emulated=None,
        virtualization=("virtual machine",) if emulator else (),
        versions={},
    )


def conditions(phone: Phone) -> Conditions:
    """Read the phone's power source."""
    battery = phone.query("dumpsys", "battery")
    powered = re.search(r"(AC|USB|Wireless|Dock) powered: true", battery)
    return Conditions(power="mains" if powered else "battery" if battery else None)


def reasons(phone: Phone, device: Device) -> tuple[str, ...]:
    """Return reasons to distrust timings of this phone: an emulator, or throttled at the end."""
    doubts = [EMULATOR] if device.virtualization else []
    status = re.search(r"Thermal Status: ([1-9])", phone.query("dumpsys", "thermalservice"))
    if status:  # android.os.PowerManager: 1 light, 2 moderate, 3 severe, ... 6 shutdown
        doubts.append(f"the phone was throttled for heat (thermal status {status.group(1)})")
    return tuple(doubts)


def _threads(text: str, cores: int) -> tuple[int, ...]:
    """Parse `--threads` for a phone. Raises: ConfigError."""
    counts = thread_counts(re.sub(r"\ball\b", str(cores), text))
    for count in counts:
        if not 1 <= count <= cores:
            raise ConfigError(f"--threads {count}: must be between 1 and {cores} (the phone's cores)")
    return counts
