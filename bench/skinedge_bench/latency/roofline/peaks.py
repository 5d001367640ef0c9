"""Peak rates of one core of this machine: multiply-accumulates per second in int8 and fp32, bytes read per second.

Run as `python -m skinedge_bench.latency.roofline.peaks BYTES...`; prints one line of JSON. It is a separate process,
since the threads of NumPy's matrix products can only be set before NumPy is loaded.
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

SIDES = (256, 512)  # of the square matrices: large enough for full speed, small enough for a call without interruption
SECONDS = 0.05  # per candidate; the fastest call counts
LEAST_CALLS = 3
BEYOND_CACHE = 2  # times the last-level cache: a size that does not fit into it
UNKNOWN_CACHE, MOST = 32 << 20, 256 << 20  # bytes: if the OS does not tell; limit for small devices


@dataclass(frozen=True)
class Peaks:
    """Peak rates of one core. int8_gmacs, fp32_gmacs: 1e9 multiply-accumulates per second; read_gb_s: pairs (bytes that
    are read repeatedly, 1e9 bytes per second); memory_bytes: the one of these sizes beyond the last-level cache.
    """

    int8_gmacs: float
    fp32_gmacs: float
    read_gb_s: tuple[tuple[int, float], ...]
    memory_bytes: int


def measure_peaks(sizes: Sequence[int]) -> Peaks:
    """Measure in a fresh process. sizes: of the models' weights in bytes.

    Raises: SkinedgeError if that process fails.
    """
    done = run_python("skinedge_bench.latency.roofline.peaks", *(str(size) for size in sizes))
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SkinedgeError(f"cannot measure this machine's peak rates ({last})")
    return parse_json(done.stdout.strip().rpartition("\n")[2], Peaks, "peak rates", error=SkinedgeError)


def measure(sizes: Sequence[int]) -> Peaks:
    """Measure in this process, which must have one thread."""
    beyond = memory_bytes()
    reading = tuple((size, read_gb_s(size)) for size in sorted({*sizes, beyond}))
    return Peaks(int8_gmacs(), fp32_gmacs(), reading, beyond)


def fp32_gmacs() -> float:
    """Return the faster rate of NumPy's matrix product (its BLAS) and ONNX Runtime's."""
    rates = [onnx_gmacs(side, "float32", "float32") for side in SIDES]
    rates += [numpy_gmacs(side) for side in SIDES]
    return max(rates)


def numpy_gmacs(side: int) -> float:
    """Return the rate of NumPy's product of two square float32 matrices."""
    import numpy as np

    first = np.ones((side, side), dtype=np.float32)
    second, result = first.copy(), np.empty_like(first)
    return side**3 / fastest(lambda: np.matmul(first, second, out=result)) / 1e9


def int8_gmacs() -> float:
    """Return the best rate of ONNX Runtime's integer matrix product over signed and unsigned bytes."""
    return max(onnx_gmacs(side, a, b) for side, a, b in product(SIDES, ("uint8", "int8"), ("uint8", "int8")))


def onnx_gmacs(side: int, first: str, second: str) -> float:
    """Return the rate of ONNX Runtime's product of two square matrices, the second constant like a layer's weights."""
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
    """Return the best read rate of NumPy's maximum of bytes, copy (which writes as much) and matrix-vector product."""
    import numpy as np

    width = 1024
    source = np.ones((max(1, size // (4 * width)), width), dtype=np.float32)
    target, vector, raw = np.empty_like(source), np.ones(width, dtype=np.float32), source.view(np.uint8)
    seconds = min(
        fastest(lambda: raw.max()), fastest(lambda: source @ vector), fastest(lambda: np.copyto(target, source)) / 2
    )
    return source.nbytes / seconds / 1e9


def fastest(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest call: other load can only slow a call down."""
    call()
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def memory_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Return a size beyond the last-level cache, if the OS tells it, and at most 256 MiB."""
    sizes = [path.read_text(encoding="utf-8").strip() for path in root.glob("index*/size")]
    units = {"K": 1 << 10, "M": 1 << 20}
    caches = [int(text[:-1]) * units[text[-1]] for text in sizes if text[-1:] in units and text[:-1].isdigit()]
    return min(MOST, BEYOND_CACHE * max(caches, default=UNKNOWN_CACHE))


if __name__ == "__main__":
    from dataclasses import asdict

    print(json.dumps(asdict(measure([int(size) for size in sys.argv[1:]]))))
