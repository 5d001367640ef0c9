"""`skinedge bench`: latency, memory, size and accuracy of a run's files, side by side in one run."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skinedge import __version__, documents, golden, metrics, parity
from skinedge.bundle import MODEL, Bundle
from skinedge.errors import ConfigError, DataError, MissingDependencyError
from skinedge.plugins import Runtime, Session, runtimes_for
from skinedge.preprocess import Pixels
from skinedge.progress import bar, note
from skinedge_bench.device import cpu_clock, describe_device, machine_reasons, throttle_events, usable_cores
from skinedge_bench.earlier import REPORT as PARITY
from skinedge_bench.images import locate, place_of, test_split
from skinedge_bench.latency_report import LatencyReport, Row, noise_reasons, summarize
from skinedge_bench.model import exported, open_file
from skinedge_bench.probe import probe
from skinedge_bench.protocol import Protocol, read_protocol
from skinedge_bench.verify import EXACT, read_reference, run_all

REPORT = "reports/latency.json"
SEED = 0
SETTLE = 2  # inferences at the start of a block that are not counted: another file has just used the caches

Blocks = list[list[float]]


@dataclass(frozen=True)
class Target:
    """One file in one runtime, to be measured."""

    path: Path
    sha256: str
    precision: str
    runtime: Runtime

    @property
    def key(self) -> str:
        return f"{self.runtime.name} {self.path.name}"


def bench(
    bundle: Bundle, data: Path | None = None, *, threads: int = 1, protocol: str = "standard", seed: int = SEED
) -> LatencyReport:
    """Benchmark every model file of a run and keep the report in it.

    data: where the images are now (for the accuracy), if not at the manifest's data_root.
    Raises: ConfigError for an unknown protocol or more threads than cores; BundleError when there is
    nothing to measure or a file was changed; DataError when `data` does not hold the test images.
    """
    plan = _checked(protocol, threads)
    if data is not None:
        locate(bundle, test_split(bundle), data)  # a mistyped folder should not cost a benchmark
    targets = run_targets(bundle)
    vectors = golden.load(bundle.file("golden.npz"))
    report, sessions = measure(targets, vectors.pixels, plan, threads, seed)
    known = accuracies(bundle, data, targets, sessions)
    rows = tuple(
        _with_quality(row, known.get(row.file), sessions.get(target.key), vectors, target.precision)
        for row, target in zip(report.rows, targets, strict=True)
    )
    report = replace(report, rows=rows, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    with bundle.stage("bench", f"skinedge {__version__}", {t.path.name: t.sha256 for t in targets}) as stage:
        body = {**report.document(), "samples_ms": report.samples_ms}
        document = documents.document("bench", body, model_id=report.model_id, model_sha256=report.model_sha256)
        stage.path(REPORT).write_text(documents.to_text(document), encoding="utf-8")
    return report


def bench_file(path: Path, *, threads: int = 1, protocol: str = "standard", seed: int = SEED) -> LatencyReport:
    """Benchmark a model file of anybody's, on random pixels, in every runtime that takes it.

    Raises: as `bench`; ConfigError when it is no image classifier.
    """
    plan = _checked(protocol, threads)
    model = open_file(path)
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    pixels = np.random.default_rng(seed).integers(0, 256, (16, model.size, model.size, 3)).astype(np.uint8)
    targets = [Target(path, model.sha256, model.precision, runtime) for runtime in runtimes_for(path)]
    report, _ = measure(targets, pixels, plan, threads, seed)
    rows = tuple(replace(row, accuracy_note="a file alone: no images to judge") for row in report.rows)
    return replace(report, rows=rows, model_id=model.model_id, model_sha256=model.sha256)


def run_targets(bundle: Bundle) -> list[Target]:
    """The merged model and every exported file, each in every runtime that takes it; hashes checked.

    Raises: BundleError when nothing was exported.
    """
    entries = exported(bundle)
    merged = bundle.entries().get(MODEL)
    return [
        Target(bundle.file(entry.path), entry.sha256, str(entry.info.get("precision", "fp32")), runtime)
        for entry in ([merged] if merged else []) + entries
        for runtime in runtimes_for(bundle.root / entry.path)
    ]


def measure(
    targets: Sequence[Target], images: Pixels, protocol: Protocol, threads: int, seed: int
) -> tuple[LatencyReport, dict[str, Session]]:
    """Time all targets, and hand back the open sessions by `Target.key`; a missing runtime gives an empty row.

    images: (N, S, S, 3) uint8, used in turn.
    """
    installed = {target.key: _version(target.runtime) for target in targets}
    usable = [target for target in targets if installed[target.key]]
    device = describe_device({t.runtime.name: installed[t.key] or "" for t in usable})
    probes = {target.key: probe(target.runtime.name, target.path, threads) for target in usable}
    sessions = {target.key: target.runtime.open(target.path, threads) for target in usable}
    before = cpu_clock()
    samples = interleave(sessions, images, protocol, seed)
    after = cpu_clock()
    foreign = before.foreign_share(after) if before and after else None
    doubts = machine_reasons(device, throttle_events(), foreign)
    rows = []
    for target in targets:
        row = _row(target, threads)
        if target.key in sessions:
            blocks = samples[target.key]
            reasons = (*doubts, *noise_reasons(blocks))
            figures: dict[str, Any] = {**summarize(blocks), **asdict(probes[target.key])}
            partitions = sessions[target.key].partitions
            row = replace(row, **figures, partitions=partitions, trustworthy=not reasons, reasons=reasons)
        rows.append(row)
    return LatencyReport(device, protocol, seed, tuple(rows), samples, foreign), sessions


def interleave(sessions: Mapping[str, Session], images: Pixels, protocol: Protocol, seed: int) -> dict[str, Blocks]:
    """Samples in ms, block by block: in each round every session has one block, in a new random order.

    So a busy minute of the machine falls on all files alike.
    """
    rng = np.random.default_rng(seed)
    for session in sessions.values():
        _block(session, images, protocol.warmup)
    samples: dict[str, Blocks] = {key: [] for key in sessions}
    keys = list(sessions)
    with bar("timing", protocol.blocks, "rounds") as advance, _no_collector():
        while keys and (len(samples[keys[0]]) < protocol.blocks or _seconds(samples) < protocol.min_seconds):
            for place in rng.permutation(len(keys)):
                key = keys[place]
                _block(sessions[key], images, SETTLE)
                samples[key].append(_block(sessions[key], images, protocol.block))
            advance(1)
    return samples


def accuracies(
    bundle: Bundle, data: Path | None, targets: Sequence[Target], sessions: Mapping[str, Session]
) -> dict[str, tuple[float | None, str]]:
    """file -> (balanced accuracy on the run's test split, or None; where it is from, or why it is not there).

    Taken from the parity report where it speaks of these very bytes, else measured.
    """
    known = _from_parity(bundle, targets)
    if bundle.has("reference.npz"):
        reference = read_reference(bundle)
        predicted = reference.logits.argmax(axis=1)
        known[MODEL] = (metrics.balanced_accuracy(reference.labels, predicted), "reference.npz")
    open_now = {t.path.name: sessions[t.key] for t in targets if t.key in sessions and t.path.name not in known}
    if not open_now:
        return known
    samples = test_split(bundle)
    truth = np.array([bundle.manifest.labels.index(sample.label) for sample in samples], dtype=np.int64)
    try:
        root = locate(bundle, samples, data)
        if root is None:
            why = f"the test images are not {place_of(bundle.manifest)}; golden vectors were replayed instead"
            return {**known, **dict.fromkeys(open_now, (None, why))}
        note(f"accuracy: {len(open_now)} files on {len(samples)} test images")
        outputs = run_all(open_now, root, samples, bundle.manifest.preprocess.size)
    except DataError as error:
        return {**known, **dict.fromkeys(open_now, (None, str(error)))}
    for name, output in outputs.items():
        known[name] = (metrics.balanced_accuracy(truth, output.probabilities.argmax(axis=1)), "measured")
    return known


def _from_parity(bundle: Bundle, targets: Sequence[Target]) -> dict[str, tuple[float | None, str]]:
    if not bundle.has(PARITY):
        return {}
    files = json.loads(bundle.file(PARITY).read_text(encoding="utf-8"))["files"]
    same = {t.path.name: files[t.path.name] for t in targets if files.get(t.path.name, {}).get("sha256") == t.sha256}
    return {name: (said["metrics"]["balanced_accuracy"], PARITY) for name, said in same.items() if said["metrics"]}


def _with_quality(
    row: Row, accuracy: tuple[float | None, str] | None, session: Session | None, vectors: golden.Golden, precision: str
) -> Row:
    value, where = accuracy or (None, "not measured: the runtime is not installed")
    if session is None:
        return replace(row, balanced_accuracy=value, accuracy_note=where)
    gates = parity.golden_gates(vectors.logits, session.run(vectors.pixels), exact=precision in EXACT)
    failed = [gate.name for gate in gates if gate.verdict == "fail"]
    undecided = any(gate.verdict == "underpowered" for gate in gates)
    verdict = "fail" if failed else "underpowered" if undecided else "pass"
    reasons = (*row.reasons, *(f"the golden vectors fail: {name}" for name in failed))
    return replace(
        row, balanced_accuracy=value, accuracy_note=where, golden=verdict, reasons=reasons, trustworthy=not reasons
    )


def _row(target: Target, threads: int) -> Row:
    size = target.path.stat().st_size
    missing = () if _version(target.runtime) else ("not installed",)
    return Row(target.path.name, target.runtime.name, target.precision, threads, size, target.sha256, reasons=missing)


def _block(session: Session, images: Pixels, count: int) -> list[float]:
    """Milliseconds of `count` inferences of one image each."""
    times = []
    for index in range(count):
        image = images[index % len(images)][None]
        started = time.perf_counter_ns()
        session.run(image)
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python's garbage collector out of the timings."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(samples: Mapping[str, Blocks]) -> float:
    """Measured seconds of the file that has fewest."""
    return min(sum(map(sum, blocks)) for blocks in samples.values()) / 1e3


def _version(runtime: Runtime) -> str | None:
    try:
        return runtime.version()
    except MissingDependencyError:
        return None


def _checked(protocol: str, threads: int) -> Protocol:
    cores = usable_cores()
    if not 1 <= threads <= cores:
        raise ConfigError(f"--threads {threads}: this machine lets us use 1 to {cores}")
    return read_protocol(protocol)
