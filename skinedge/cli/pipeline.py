"""The stages of `skinedge run` in order, and their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skinedge.cli.bench_table import show as show_latency
from skinedge.cli.common import NOTICE, emit_json, note, say
from skinedge.cli.verify import require_passed
from skinedge.cli.verify import show as show_parity

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest


def run_all(request: TrainRequest, json: bool) -> None:
    """Train, merge, export, verify and bench.

    Stages skip current files, so --resume does only the missing work.
    Raises: SkinedgeError from any stage; GateError, after both reports were written, if a gate failed.
    """
    from skinedge.run.manifest import MODEL
    from skinedge.system.requirements import EXPORT, require
    from skinedge.training.merge import merge
    from skinedge.training.train import train
    from skinedge_bench.latency.bench import bench
    from skinedge_bench.latency.targets import BenchRequest
    from skinedge_bench.verify.verify import verify
    from skinedge_export.export import export
    from skinedge_export.target import export_targets, formats

    require(EXPORT, "export")  # before the minutes of training
    bundle = export(merge(train(request), request.data), export_targets(formats(), int8=True), data=request.data)
    parity = verify(bundle, request.data)
    latency = bench(bundle.reload(), BenchRequest(protocol="quick"), request.data)
    bundle = bundle.reload()
    if json:
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
    """Print the run directory, its default file and the notice on use."""
    manifest = bundle.manifest
    if manifest.synthetic:
        note("SYNTHETIC images: these figures show that the tool works, and nothing about skin.")
    say(f"run: {bundle.root}    default file: {bundle.root / str(manifest.default_file)}")
    note(NOTICE)
