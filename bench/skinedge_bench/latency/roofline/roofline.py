"""The least time that an inference can take here: a bound from the hardware, to hold measured times against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.system.progress import note
from skinedge_bench.latency.roofline.peaks import Peaks, measure_peaks
from skinedge_bench.latency.roofline.workload import Workload, count
from skinedge_bench.latency.targets import Target

ON_CPU = ("litert", "onnxruntime")  # runtimes that compute on the cores whose peaks are measured

METHOD = (
    "The floor is the larger of two times. Arithmetic: multiply-accumulates of the file's convolutions and matrix "
    "products, int8 and fp32 each over the best rate that one core reached here in a matrix product (the faster of "
    "NumPy's BLAS and ONNX Runtime, of signed and unsigned bytes). Memory: the weights, each read once, over the best "
    "rate at which NumPy read as many bytes again and again: from the cache where they fit into it, as between two "
    "inferences in a row. It is a bound from below: depthwise convolutions and small layers cannot reach the rate of a "
    "matrix product, and activations and all other operations count nothing. Several threads count as so many cores."
)


@dataclass(frozen=True)
class RooflineBound:
    """ms: the bound; bound_by: 'arithmetic' or 'memory'."""

    ms: float
    bound_by: str
    workload: Workload


def roofline_bound(workload: Workload, peaks: Peaks, threads: int) -> RooflineBound | None:
    """The bound of one inference; None for a file that computes in a type whose rate was not measured.

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
    """This machine's peaks, and the bound of each target by `Target.key`, as far as there is one.

    Without either, and with a note, where they cannot be measured: a benchmark is over by then, and should not be lost.

    sides: of the images in pixels, by key.
    """
    counted = {t.key: _counted(t, sides[t.key]) for t in targets if t.runtime.name in ON_CPU}
    known = {key: workload for key, workload in counted.items() if workload is not None}
    try:
        peaks = measure_peaks(sorted({workload.weight_bytes for workload in known.values()}))
    except SkinedgeError as error:
        note(f"no floor: {error.what}")
        return None, {}
    threads = {t.key: t.threads for t in targets}
    floors = {key: roofline_bound(workload, peaks, threads[key]) for key, workload in known.items()}
    return peaks, {key: floor for key, floor in floors.items() if floor is not None}


def _counted(target: Target, side: int) -> Workload | None:
    """None, and a note, where the runtime cannot say: a bound that is missing should not cost a benchmark."""
    try:
        return count(target.path, side)
    except BundleError as error:
        note(f"no floor: {error.what}")
        return None
