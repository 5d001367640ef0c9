"""What one core of this machine can do at best: multiply-accumulates a second in int8 and fp32, bytes read a second.

Run as `python -m skinedge_bench.latency.roofline.peaks BYTES...`; prints one line of
JSON. In a process of its own, since the threads of NumPy's matrix products can only be set before NumPy is loaded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from skinedge.core.errors import SkinedgeError
from skinedge.core.json_io import parse_json
from skinedge.system.child_process import run_python

SIDES = (256, 512)  # of the square matrices: large enough for any kernel's full speed, a call short enough to be quiet
SECONDS = 0.05  # for each candidate, of which the fastest call counts
LEAST_CALLS = 3
BEYOND_CACHE = 2  # times the last cache: what cannot lie in it
UNKNOWN_CACHE, MOST = 32 << 20, 256 << 20  # bytes: where the OS does not tell; a small device has no more to spare


@dataclass(frozen=True)
class Peaks:
    """Of one core. int8_gmacs, fp32_gmacs: 1e9 multiply-accumulates a second; read_gb_s: pairs of how many bytes are
    read over and over, and 1e9 bytes a second; memory_bytes: the one of these sizes that lies beyond the last cache.
    """

    int8_gmacs: float
    fp32_gmacs: float
    read_gb_s: tuple[tuple[int, float], ...]
    memory_bytes: int


def measure_peaks(sizes: Sequence[int]) -> Peaks:
    """Measure in a fresh process. sizes: of the models' weights in bytes.

    Raises: SkinedgeError when that process fails.
    """
    done = run_python("skinedge_bench.latency.roofline.peaks", *(str(size) for size in sizes))
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SkinedgeError(f"the peak rates of this machine could not be measured ({last})")
    return parse_json(done.stdout.strip().rpartition("\n")[2], Peaks, "peak rates", error=SkinedgeError)


def measure(sizes: Sequence[int]) -> Peaks:
    """Measure in this process, which should have one thread."""
    beyond = memory_bytes()
    reading = tuple((size, read_gb_s(size)) for size in sorted({*sizes, beyond}))
    return Peaks(int8_gmacs(), fp32_gmacs(), reading, beyond)


def fp32_gmacs() -> float:
    """NumPy's matrix product (its BLAS) and ONNX Runtime's, whichever is faster."""
    rates = [onnx_gmacs(side, "float32", "float32") for side in SIDES]
    rates += [numpy_gmacs(side) for side in SIDES]
    return max(rates)


def numpy_gmacs(side: int) -> float:
    """A product of two square float32 matrices."""
    import numpy as np

    first = np.ones((side, side), dtype=np.float32)
    second, result = first.copy(), np.empty_like(first)
    return side**3 / fastest(lambda: np.matmul(first, second, out=result)) / 1e9


def int8_gmacs() -> float:
    """ONNX Runtime's integer matrix product, of signed and unsigned bytes: CPUs differ in which they like."""
    return max(onnx_gmacs(side, a, b) for side, a, b in product(SIDES, ("uint8", "int8"), ("uint8", "int8")))


def onnx_gmacs(side: int, first: str, second: str) -> float:
    """A product of two square matrices, of which the second is constant, as the weights of a layer are."""
    import numpy as np
    import onnxruntime

    from skinedge_bench.latency.roofline.tiny_onnx import matrix_product

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = matrix_product(side, first, second)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"a": np.ones((side, side), dtype=first)}
    return side**3 / fastest(lambda: session.run(None, feed)) / 1e9


def read_gb_s(size: int) -> float:
    """The fastest of NumPy's maximum of bytes, its copy (which writes as many) and its matrix by vector."""
    import numpy as np

    width = 1024
    source = np.ones((max(1, size // (4 * width)), width), dtype=np.float32)
    target, vector, raw = np.empty_like(source), np.ones(width, dtype=np.float32), source.view(np.uint8)
    seconds = min(
        fastest(lambda: raw.max()), fastest(lambda: source @ vector), fastest(lambda: np.copyto(target, source)) / 2
    )
    return source.nbytes / seconds / 1e9


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest call: whatever else the machine does only slows one down."""
    call()
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def memory_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """A size that lies beyond the last cache, as far as the OS tells how large that is, and at most 256 MiB."""
    told = [path.read_text(encoding="utf-8").strip() for path in root.glob("index*/size")]
    units = {"K": 1 << 10, "M": 1 << 20}
    caches = [int(text[:-1]) * units[text[-1]] for text in told if text[-1:] in units and text[:-1].isdigit()]
    return min(MOST, BEYOND_CACHE * max(caches, default=UNKNOWN_CACHE))


if __name__ == "__main__":
    from dataclasses import asdict

    print(json.dumps(asdict(measure([int(size) for size in sys.argv[1:]]))))
