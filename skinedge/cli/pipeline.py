"""What `skinedge run` does: every stage in order, each at most once, then one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skinedge.cli.bench_table import show as show_latency
from skinedge.cli.common import NOTICE, emit_json, note, say
from skinedge.cli.verify import require_passed
from skinedge.cli.verify import show as show_parity

if TYPE_CHECKING:
    from skinedge.job import TrainRequest
    from skinedge.run_directory import Bundle


def run_all(request: TrainRequest, json_: bool) -> None:
    """Train, merge, export, verify and bench.

    Stages skip what is current, so with --resume only what is missing is done.
    Raises: SkinedgeError from any stage; GateError, after both reports were written, when a gate failed.
    """
    from skinedge.manifest import MODEL
    from skinedge.merge import merge
    from skinedge.requirements import EXPORT, require
    from skinedge.train import train
    from skinedge_bench.latency import bench
    from skinedge_bench.targets import BenchRequest
    from skinedge_bench.verify import verify
    from skinedge_export.ask import asks, formats
    from skinedge_export.export import export

    require(EXPORT, "export")  # before the minutes of training
    bundle = export(merge(train(request), request.data), asks(formats(), int8=True), data=request.data)
    parity = verify(bundle, request.data)
    latency = bench(bundle.reload(), BenchRequest(protocol="quick"), request.data)
    bundle = bundle.reload()
    if json_:
        document = {
            "run": str(bundle.root),
            "synthetic": bundle.manifest.synthetic,
            "verify": parity.document(),
            "bench": latency.document(),
        }
        digest = bundle.entries()[MODEL].sha256
        emit_json("run", document, model_id=bundle.manifest.id, model_sha256=digest)
    else:
        show_parity(parity)
        show_latency(latency)
        summarize(bundle)
    require_passed(parity)


def summarize(bundle: Bundle) -> None:
    """The last lines: where everything is, and what it may be used for."""
    manifest = bundle.manifest
    if manifest.synthetic:
        note("SYNTHETIC images: these figures say that the tool works, nothing about skin.")
    say(f"run: {bundle.root}    default file: {bundle.root / str(manifest.default_file)}")
    note(NOTICE)
