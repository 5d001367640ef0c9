"""Load time, first inference and peak memory of one model file, in a separate process.

Run as `python -m skinedge_bench.latency.probe RUNTIME FILE THREADS FORMAT`; prints one line of JSON. FORMAT: the
`OutputFormat` of a third-party file as JSON, else ''.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from skinedge.core.errors import SkinedgeError
from skinedge.core.json_io import parse_json
from skinedge.system.child_process import run_python
from skinedge.system.temporary_folder import scratch_folder
from skinedge_bench.runtimes.output_format import OutputFormat


@dataclass(frozen=True)
class Probe:
    """Cost of a model file in a fresh process.

    load_ms: opening the file (with torch.compile: compiling it), after importing the library; first_inference_ms: the
    first image's scores; peak_rss_mib: of the whole process (interpreter, library and model), after five images.
    """

    load_ms: float
    first_inference_ms: float
    peak_rss_mib: float


def probe(runtime: str, path: Path, threads: int, output_format: OutputFormat | None = None) -> Probe:
    """Measure in a fresh process. Raises: SkinedgeError if it fails."""
    scores = "" if output_format is None else json.dumps(asdict(output_format))
    with scratch_folder() as empty:  # without compiled code from earlier runs of torch.compile
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(empty)}
        arguments = (runtime, str(path), str(threads), scores)
        done = run_python("skinedge_bench.latency.probe", *arguments, environment=environment, one_thread=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SkinedgeError(f"a separate process could not run the file ({last})", where=str(path))
    return parse_json(done.stdout.strip().rpartition("\n")[2], Probe, str(path), error=SkinedgeError)


def measure(runtime_name: str, path: Path, threads: int, output_format: OutputFormat | None = None) -> Probe:
    """Measure in this process, which must be fresh."""
    import numpy as np

    from skinedge.run.plugins import RUNTIMES, Runtime, load
    from skinedge_bench.runtimes.input_layout import input_side
    from skinedge_bench.runtimes.session import open_as

    runtime: Runtime = load(RUNTIMES, runtime_name)
    runtime.version()  # imports the library
    started = time.perf_counter()
    session = open_as(runtime, path, threads, output_format)
    opened = time.perf_counter()
    side = input_side(session, 224)
    image = np.full((1, side, side, 3), 127, dtype=np.uint8)
    ready = time.perf_counter()
    session.run(image)
    first = time.perf_counter()
    for _ in range(4):
        session.run(image)
    return Probe((opened - started) * 1e3, (first - ready) * 1e3, peak_rss_mib())


def peak_rss_mib() -> float:
    """Return this process's peak resident memory in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would include the parent's peak before exec
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    known = parse_json(sys.argv[4], OutputFormat, "the output format") if sys.argv[4] else None
    print(json.dumps(asdict(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), known))))
