"""What an earlier parity report said of the files that a run still has, for where its test images are no longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skinedge.core import json_io
from skinedge.run.report_schemas import read_parity
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate, passed
from skinedge_bench.verify.report import ParityReport

REPORT = "reports/parity.json"
SAME = ("thresholds", "reference.npz")  # what an earlier verdict on a file rests on besides the file


def previously_measured(bundle: Bundle, made_from: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """name -> what the run's report says of each file that it judged on the test images and that is still the same.

    made_from: name -> sha256 of what a report would be made from now. Each entry gets `kept_from`: the images and the
    instruction set of that verdict. Empty where there is no report, or the thresholds or the reference are others.
    """
    if not bundle.has(REPORT):
        return {}
    before = bundle.entries()[REPORT].made_from
    if any(before.get(name) != made_from.get(name) for name in SAME):
        return {}
    path = bundle.file(REPORT)
    report, documents = read_parity(path), json_io.read_json(path, dict[str, Any])["files"]
    origin = {
        "images": report.images.split(" under ")[0],
        "instruction_set": None if report.instruction_set is None else list(report.instruction_set),
    }
    return {
        name: {"kept_from": origin, **documents[name]}
        for name, verdict in report.files.items()
        if verdict.metrics is not None and verdict.sha256 == made_from.get(name)
    }


def with_previous(report: ParityReport, before: Mapping[str, dict[str, Any]]) -> dict[str, object]:
    """The document of a report that had no images: files that were judged on them before keep what was said of them,
    unless one of their gates fails now.
    """
    files: dict[str, Any] = {file.name: file.document(strict=report.strict) for file in report.files}
    sound = {file.name for file in report.files if not any(gate.verdict == "fail" for gate in file.gates)}
    kept = {name: said for name, said in before.items() if name in sound}
    for name, said in kept.items():
        gates = json_io.build(said["gates"], list[Gate], REPORT)
        files[name] = {**said, "passed": passed(gates, strict=report.strict)}
    images = f"{report.images}; kept from an earlier report: {', '.join(sorted(kept))}" if kept else report.images
    all_passed = all(said["passed"] for said in files.values())
    return {**report.document(), "files": files, "images": images, "passed": all_passed}
