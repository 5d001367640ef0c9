"""The results of `skinedge run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skinedge.cli.bench_table import show as show_latency
from skinedge.cli.common import NOTICE, emit_json, note, say
from skinedge.cli.verify import show as show_parity

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest


def run_all(request: TrainRequest, json: bool) -> None:
    """Run all stages and print their results.

    Raises: as `api.pipeline`; GateError, after both reports were written, if a gate failed.
    """
    from skinedge import api
    from skinedge.run.manifest import MODEL

    result = api.pipeline(request)
    bundle, parity, latency = result.run, result.parity, result.latency
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
    parity.require_passed()


def summarize(bundle: Bundle) -> None:
    """Print the run directory, its default file and the notice on use."""
    manifest = bundle.manifest
    if manifest.synthetic:
        note("SYNTHETIC images: these figures show that the tool works, and nothing about skin.")
    say(f"run: {bundle.root}    default file: {bundle.root / str(manifest.default_file)}")
    note(NOTICE)
