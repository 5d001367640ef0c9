"""Measurement of targets side by side: load time and memory in separate processes, the rest in interleaved blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from skinedge.core.errors import UnavailableError
from skinedge.core.preprocess import Pixels
from skinedge.run.manifest import now
from skinedge.run.plugins import Session
from skinedge.system.progress import note
from skinedge_bench.device import describe_device
from skinedge_bench.latency.bench_lock import bench_lock
from skinedge_bench.latency.block_stats import Blocks, medians, noise_reasons, summarize
from skinedge_bench.latency.conditions import Conditions, conditions, cpu_clock, machine_reasons
from skinedge_bench.latency.end_to_end import Chain, EndToEnd, Photos, time_chains
from skinedge_bench.latency.probe import Probe, probe
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.roofline.peaks import Peaks
from skinedge_bench.latency.roofline.roofline import RooflineBound, measure_bounds
from skinedge_bench.latency.row import Row, with_ratios
from skinedge_bench.latency.targets import Target, why_missing
from skinedge_bench.latency.timer import Work, interleave
from skinedge_bench.runtimes.input_layout import input_side
from skinedge_bench.runtimes.session import open_as

FREE = -1  # side for a file that accepts images of any size

Images = Callable[[int], Pixels]  # side in pixels, or FREE -> (N, side, side, 3) uint8


@dataclass(frozen=True)
class Timings:
    """Results by `Target.key`: probes, samples_ms, bounds, end_to_end.

    peaks: None if they could not be measured. The rest: see `machine_reasons`.
    """

    probes: Mapping[str, Probe]
    samples_ms: Mapping[str, Blocks]
    before: Conditions
    after: Conditions
    foreign_cpu: float | None
    others: tuple[str, ...]
    peaks: Peaks | None
    bounds: Mapping[str, RooflineBound]
    end_to_end: Mapping[str, EndToEnd]


def measure(
    targets: Sequence[Target], images: Images, protocol: Protocol, seed: int = 0, photos: Photos | None = None
) -> tuple[LatencyReport, dict[str, Session]]:
    """Time all targets; return the report and the open sessions by `Target.key`. photos: to time end to end, if any.

    A target whose runtime is missing, or cannot run it here, has a row with the reason. Under an emulator nothing is
    timed: its times say nothing about the emulated machine.
    """
    sessions, missing = open_all(targets)
    device = describe_device({t.runtime.name: t.runtime.version() for t in targets if t.key in sessions})
    if device.emulated:
        note(f"this is an emulator ({device.emulated}): latency is not measured")
        emulated = f"emulated ({device.emulated}): not timed"
        rows = tuple(_row(target, missing.get(target.key, emulated)) for target in targets)
        return LatencyReport(device, protocol, seed, rows, measured_at=now()), sessions
    timings = time_all([t for t in targets if t.key in sessions], sessions, images, protocol, seed, photos)
    doubts = machine_reasons(device, timings.before, timings.after, timings.foreign_cpu, timings.others)
    rows = tuple(
        _row(t, missing[t.key]) if t.key in missing else _timed_row(t, sessions[t.key], timings, doubts)
        for t in targets
    )
    report = LatencyReport(
        device=device,
        protocol=protocol,
        seed=seed,
        rows=with_ratios(rows, timings.samples_ms, protocol.headline),
        samples_ms=timings.samples_ms,
        before=timings.before,
        after=timings.after,
        foreign_cpu=timings.foreign_cpu,
        measured_at=now(),
        peaks=timings.peaks,
        photos=photos.source if photos else None,
    )
    return report, sessions


def open_all(targets: Sequence[Target]) -> tuple[dict[str, Session], dict[str, str]]:
    """Return `Target.key` -> session, and `Target.key` -> reason for each target without one.

    Raises: SkinedgeError for a file that no machine can load.
    """
    sessions: dict[str, Session] = {}
    missing: dict[str, str] = {}
    for target in targets:
        reason = why_missing(target.runtime)
        if reason is None:
            try:
                sessions[target.key] = open_as(target.runtime, target.path, target.threads, target.output_format)
                continue
            except UnavailableError as error:
                reason = error.what
        missing[target.key] = reason
    return sessions, missing


def time_all(
    targets: Sequence[Target],
    sessions: Mapping[str, Session],
    images: Images,
    protocol: Protocol,
    seed: int,
    photos: Photos | None,
) -> Timings:
    """Measure load time, first inference and memory in separate processes, then the latencies in interleaved blocks."""
    with bench_lock() as others:
        probes = {t.key: probe(t.runtime.name, t.path, t.threads, t.output_format) for t in targets}
        work = {t.key: cycle_images(sessions[t.key], images) for t in targets}
        before, start = conditions(), cpu_clock()
        samples = interleave(work, protocol, seed)
        sides = {t.key: input_side(sessions[t.key], images(FREE).shape[1]) for t in targets}
        chains = {t.key: Chain(sessions[t.key], sides[t.key], photos, t) for t in targets} if photos else {}
        end_to_end = time_chains(chains, protocol, seed)
        peaks, bounds = measure_bounds(targets, sides)
        end, after = cpu_clock(), conditions()
        foreign = start.foreign_share(end) if start and end else None
        return Timings(probes, samples, before, after, foreign, others.met(), peaks, bounds, end_to_end)


def cycle_images(session: Session, images: Images) -> Work:
    """Return a function that runs one image per call, cycling through all of them."""
    pixels = images(input_side(session, FREE))
    return lambda index: session.run(pixels[index % len(pixels)][None])


def _row(target: Target, *reasons: str) -> Row:
    return Row(
        file=target.name,
        runtime=target.runtime.name,
        precision=target.precision,
        threads=target.threads,
        size_bytes=target.path.stat().st_size,
        sha256=target.sha256,
        in_run=target.in_run,
        reasons=reasons,
    )


def _timed_row(target: Target, session: Session, timings: Timings, doubts: Sequence[str]) -> Row:
    blocks, process = timings.samples_ms[target.key], timings.probes[target.key]
    summary = summarize(blocks)
    reasons = (*doubts, *noise_reasons(blocks))
    return replace(
        _row(target, *reasons),
        p50_ms=summary.p50_ms,
        p50_interval_ms=summary.p50_interval_ms,
        p90_ms=summary.p90_ms,
        p99_ms=summary.p99_ms,
        n=summary.n,
        load_ms=process.load_ms,
        first_inference_ms=process.first_inference_ms,
        peak_rss_mib=process.peak_rss_mib,
        partitions=session.partitions,
        outside=session.outside,
        block_medians_ms=tuple(medians(blocks).tolist()),
        floor=timings.bounds.get(target.key),
        end_to_end=timings.end_to_end.get(target.key),
        trustworthy=not reasons,
    )
