"""Results of the previous parity report that still hold, for when the test images are no longer available."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skinedge.core import json_io
from skinedge.run.report_schemas import read_parity, read_report
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate, passed
from skinedge_bench.verify.report import ParityReport

REPORT = "reports/parity.json"
SAME = ("thresholds", "reference.npz")  # a previous verdict depends on these, besides the file itself


def previously_measured(bundle: Bundle, made_from: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return name -> result in the run's report, of each unchanged file that was verified on the test images.

    made_from: name -> sha256 of the inputs of a report made now. Each result gets `kept_from`: the images and the
    instruction set of that verdict. Empty without a report, or if the thresholds or the reference changed.
    """
    if not bundle.has(REPORT):
        return {}
    previous = bundle.entries()[REPORT].made_from
    if any(previous.get(name) != made_from.get(name) for name in SAME):
        return {}
    path = bundle.file(REPORT)
    report, documents = read_parity(path), read_report(path)["files"]
    origin = {
        "images": report.images.split(" under ")[0],
        "instruction_set": None if report.instruction_set is None else list(report.instruction_set),
    }
    return {
        name: {"kept_from": origin, **documents[name]}
        for name, verdict in report.files.items()
        if verdict.metrics is not None and verdict.sha256 == made_from.get(name)
    }


def with_previous(report: ParityReport, previous: Mapping[str, dict[str, Any]]) -> dict[str, object]:
    """Return the JSON of a report without images; files whose gates do not fail now keep their previous results."""
    files: dict[str, Any] = {file.name: file.document(strict=report.strict) for file in report.files}
    sound = {file.name for file in report.files if not any(gate.verdict == "fail" for gate in file.gates)}
    reused = {name: result for name, result in previous.items() if name in sound}
    for name, result in reused.items():
        gates = json_io.build(result["gates"], list[Gate], REPORT)
        files[name] = {**result, "passed": passed(gates, strict=report.strict)}
    images = f"{report.images}; kept from an earlier report: {', '.join(sorted(reused))}" if reused else report.images
    all_passed = all(result["passed"] for result in files.values())
    return {**report.document(), "files": files, "images": images, "passed": all_passed}
