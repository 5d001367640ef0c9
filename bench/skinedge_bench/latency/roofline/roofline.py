"""Roofline bound: a lower bound of an inference's time from the hardware's peak rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.system.progress import note
from skinedge_bench.latency.roofline.peaks import Peaks, measure_peaks
from skinedge_bench.latency.roofline.workload import Workload, count
from skinedge_bench.latency.targets import Target

ON_CPU = ("litert", "onnxruntime")  # runtimes on the cores with measured peaks

METHOD = (
    "The roofline bound is the larger of two times. Arithmetic: multiply-accumulates of the file's convolutions and "
    "matrix products, int8 and fp32 each divided by the best rate of one core in a matrix product (the faster of "
    "NumPy's BLAS and ONNX Runtime, of signed and unsigned bytes). Memory: the weights, each read once, divided by the "
    "best rate at which NumPy repeatedly read as many bytes: from the cache if they fit, as in consecutive inferences. "
    "It is a lower bound: depthwise convolutions and small layers cannot reach the rate of a matrix product, and "
    "activations and all other operations are not counted. Each thread counts as one core."
)


@dataclass(frozen=True)
class RooflineBound:
    """Lower bound of an inference's time. bound_by: 'arithmetic' or 'memory'."""

    ms: float
    bound_by: str
    workload: Workload


def roofline_bound(workload: Workload, peaks: Peaks, threads: int) -> RooflineBound | None:
    """Return the bound of one inference; None for a file with a data type of unknown rate.

    peaks: with a reading rate for `workload.weight_bytes`.
    """
    if workload.other_macs or not workload.macs:
        return None
    arithmetic = workload.int8_macs / peaks.int8_gmacs + workload.float32_macs / peaks.fp32_gmacs
    memory = workload.weight_bytes / dict(peaks.read_gb_s)[workload.weight_bytes]
    return RooflineBound(
        max(arithmetic, memory) / 1e6 / threads, "arithmetic" if arithmetic >= memory else "memory", workload
    )


def measure_bounds(
    targets: Sequence[Target], sides: Mapping[str, int]
) -> tuple[Peaks | None, dict[str, RooflineBound]]:
    """Return this machine's peaks, and the bound of each target by `Target.key`, if it has one.

    If the peaks cannot be measured, prints a note and returns (None, {}), so that the benchmark is not lost.

    sides: of the images in pixels, by key.
    """
    counts = {t.key: _count(t, sides[t.key]) for t in targets if t.runtime.name in ON_CPU}
    workloads = {key: workload for key, workload in counts.items() if workload is not None}
    try:
        peaks = measure_peaks(sorted({workload.weight_bytes for workload in workloads.values()}))
    except SkinedgeError as error:
        note(f"no roofline bound: {error.what}")
        return None, {}
    threads = {t.key: t.threads for t in targets}
    bounds = {key: roofline_bound(workload, peaks, threads[key]) for key, workload in workloads.items()}
    return peaks, {key: bound for key, bound in bounds.items() if bound is not None}


def _count(target: Target, side: int) -> Workload | None:
    """Return the workload; print a note and return None if the runtime cannot tell."""
    try:
        return count(target.path, side)
    except BundleError as error:
        note(f"no roofline bound: {error.what}")
        return None
