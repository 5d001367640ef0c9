"""The results of `skinedge run`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from skinedge.cli.bench_table import show as show_latency
from skinedge.cli.common import NOTICE, emit_json, note, say
from skinedge.cli.verify import show as show_parity
from skinedge.system.progress import is_verbose

if TYPE_CHECKING:
    from pathlib import Path

    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest
    from skinedge_bench.latency.report import LatencyReport
    from skinedge_bench.verify.report import ParityReport


def run_all(request: TrainRequest, *, json: bool) -> None:
    """Run all stages and print a summary; with --verbose, all tables of verify and bench first.

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
        if is_verbose():
            show_parity(parity)
            show_latency(latency)
        summarize(bundle, parity, latency)
        advise(bundle, request.data)
    parity.require_passed()


def summarize(bundle: Bundle, parity: ParityReport, latency: LatencyReport) -> None:
    """Print what the default file does on the test images, whether it kept the network's answers, and its latency."""
    manifest = bundle.manifest
    name = str(manifest.default_file)
    file = next((file for file in parity.files if file.name == name), None)
    say()
    say(bundle.root / name)
    if file is not None and file.figures is not None:
        malignant = [manifest.labels[i] for i in manifest.malignant]
        for sentence in file.figures.summary(malignant).sentences():
            say(sentence)
        say(file.sentence())
    latencies = latency_sentence(latency, name)
    if latencies is not None:
        say(latencies)
    if manifest.synthetic:
        note("SYNTHETIC images: these figures show that the tool works, and nothing about skin.")
    note(NOTICE)


def latency_sentence(report: LatencyReport, file: str) -> str | None:
    """State a file's latency in its fastest runtime, and every doubt about it; None if it was not timed."""
    timed = [(row.p50_ms, row.runtime, row) for row in report.rows if row.file == file and row.p50_ms]
    if not timed:
        return None
    milliseconds, runtime, row = min(timed, key=lambda one: one[:2])
    threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
    sentence = f"One image takes {milliseconds:.1f} ms (median, {runtime}, {threads}, this machine)."
    if row.trustworthy:
        return sentence
    return f"{sentence} Not trustworthy: {'; '.join(row.reasons)}. Measure again on an idle machine: skinedge bench RUN"


def advise(bundle: Bundle, data: Path) -> None:
    """Print the commands that usually follow."""
    from skinedge_bench.web.assets import is_complete

    browser = "try it in a browser" if is_complete() else "try it in a browser; once before, in the clone: make web"
    run, images = (shlex.quote(str(path)) for path in (bundle.root, data))
    evaluation = shlex.quote(str(bundle.root.with_name(f"{bundle.root.name}-evaluation")))
    say()
    say("Next:")
    for command, purpose in (
        (f"skinedge evaluate {run} --data {images} --split test --out {evaluation}", "intervals, subgroups, plots"),
        (f"skinedge report {run} --evaluation {evaluation}", "one page with all figures"),
        (f"skinedge predict IMAGE --run {run}", "predict your own image"),
        (f"skinedge web --run {run}", browser),
    ):
        say(f"  {command}    # {purpose}")
