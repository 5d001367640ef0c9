"""Compare litert-torch with onnx2tf on one run's int8 TFLite file: `make converters`, or ARGS="RUN --data DIR".

Measures the time to write the file and the latency of the file. Four conversions, in turns, each in a new process:
- ours: skinedge's own converter, from the run: images decoded, network equalized and rounded, converted;
- plain: ours without equalization and rounding, which is the work that onnx2tf does;
- onnx2tf: its own command with -oiqt, from an existing ONNX file and existing calibration images;
- driven: as `skinedge export --converter onnx2tf`, without the other precisions that the command writes.
Creating onnx2tf's environment is not timed. The run is only read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.cli.common import table
from skinedge.core import json_io
from skinedge.core.errors import SkinedgeError
from skinedge.core.files import sha256
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import images_of
from skinedge.run.plugins import runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_bench.latency.block_stats import ratio as speed
from skinedge_bench.latency.conditions import FOREIGN
from skinedge_bench.latency.measure import measure
from skinedge_bench.latency.protocol import protocol_names, read_protocol
from skinedge_bench.latency.targets import Target
from skinedge_export.context import ExportContext
from skinedge_export.converter import Converter
from skinedge_export.formats.onnx import convert as onnx_convert
from skinedge_export.formats.onnx2tf import converter as by_onnx2tf
from skinedge_export.formats.onnx2tf.channels_first import channels_first
from skinedge_export.formats.onnx2tf.environment import interpreter
from skinedge_export.formats.onnx2tf.foreign import SAMPLE
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.signature import IOSignature

WAYS = ("ours", "plain", "driven", "onnx2tf")
FASTER, SLOWER = 5.0, 1.03  # targets: conversion time onnx2tf / ours at least; latency ours / onnx2tf at most
PLAIN = ("[[[[0,0,0]]]]", "[[[[1,1,1]]]]")  # mean and std that leave the calibration images as they are


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.way:
            make(options)
            return 0
        document = benchmark(options)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(document)
    if options.out:
        options.out.write_text(json_io.to_text(document), encoding="utf-8")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.converters", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/flagship"), help="[default: runs/flagship]")
    parser.add_argument("--data", type=Path, help="folder of the run's images [default: as in the run]")
    parser.add_argument("--repeats", type=int, default=3, help="conversions of each kind [default: 3]")
    parser.add_argument("--protocol", choices=protocol_names(), default="standard", help="latency protocol")
    parser.add_argument("--threads", type=int, default=1, help="threads per inference [default: 1]")
    parser.add_argument("--out", type=Path, help="write all results as JSON here")
    parser.add_argument("--way", choices=WAYS[:3], help=argparse.SUPPRESS)  # a child process's conversion
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def export_context(options: argparse.Namespace) -> ExportContext:
    bundle = Bundle.open(options.run)
    return ExportContext(bundle, images_of(options.data, bundle.manifest.data_root))


def make(options: argparse.Namespace) -> None:
    """Write WAY.tflite and WAY.json into the folder; runs in a child process."""
    converter: Converter = by_onnx2tf.converter if options.way == "driven" else tflite_convert.converter
    recipe = converter.recipe("int8")
    if options.way == "plain":
        recipe = replace(recipe, calibration=replace(recipe.calibration, equalize=False, rounding="nearest"))
    started = time.monotonic()
    job = export_context(options).job(recipe, IOSignature())
    prepare_seconds = time.monotonic() - started
    artifact = converter.convert(job, options.folder / f"{options.way}.tflite")
    facts = {"prepare_seconds": prepare_seconds, "versions": dict(artifact.versions)}
    (options.folder / f"{options.way}.json").write_text(json.dumps(facts))


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run every conversion and the latency benchmark; return all results as a JSON document."""
    interpreter()  # created here, outside the timed conversions
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        pixels = write_command_inputs(options)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        before = os.getloadavg()[0]
        for turn in range(options.repeats):
            for way in (*WAYS[turn % 4 :], *WAYS[: turn % 4]):
                seconds[way].append(timed(way, options))
                note(f"{way}: {seconds[way][-1]:.1f} s")
        latency = latencies({way: options.folder / f"{way}.tflite" for way in WAYS}, pixels, options)
        children = {way: json.loads((options.folder / f"{way}.json").read_text()) for way in WAYS[:3]}
    return {
        "run": str(options.run),
        "load_average_before": before,
        "seconds": seconds,
        "seconds_ratio": {way: ratio(seconds[way], seconds["ours"]) for way in WAYS},
        "children": children,
        **latency,
    }


def write_command_inputs(options: argparse.Namespace) -> Pixels:
    """Write the inputs of onnx2tf's command into the folder `command`; return the calibration images."""
    source = export_context(options)
    command = options.folder / "command"
    command.mkdir()
    model, _ = onnx_convert.fp32_graph(source.job(onnx_convert.converter.recipe("fp32"), IOSignature()))
    (command / "model.onnx").write_bytes(channels_first(model).SerializeToString())
    pixels = source.calibration(by_onnx2tf.converter.recipe("int8").calibration).pixels
    np.save(command / "calibration.npy", pixels.astype(np.float32))
    np.save(command / SAMPLE, pixels[:20].astype(np.float32))
    return pixels


def timed(way: str, options: argparse.Namespace) -> float:
    """Return the wall seconds of the process that writes the file, from its start to its end."""
    own = [sys.executable, "-m", "experiments.converters", str(options.run.resolve())]
    own += ["--data", str(options.data)] if options.data else []
    own += ["--way", way, "--folder", str(options.folder)]
    theirs = [str(interpreter()), "-I", "-m", "onnx2tf", "-i", "model.onnx", "-o", "output", "-oiqt", "-n"]
    theirs += ["-cind", "pixels", "calibration.npy", *PLAIN]
    started = time.monotonic()
    done = subprocess.run(
        theirs if way == "onnx2tf" else own,
        cwd=options.folder / "command" if way == "onnx2tf" else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if way == "onnx2tf" and not done.returncode:
        converted = options.folder / "command" / "output" / "model_integer_quant.tflite"
        converted.replace(options.folder / "onnx2tf.tflite")
    if done.returncode:
        raise SkinedgeError(f"{way} failed:\n{done.stdout[-2000:]}")
    return seconds


def latencies(files: Mapping[str, Path], pixels: Pixels, options: argparse.Namespace) -> dict[str, Any]:
    """Time all files in LiteRT in interleaved blocks; add ratios of ours to the others, with 95 % intervals."""
    (runtime,) = runtimes_for(files["ours"])
    targets = {
        way: Target(path, path.name, sha256(path), "int8", runtime, options.threads) for way, path in files.items()
    }
    report, sessions = measure(list(targets.values()), lambda side: pixels[:16], read_protocol(options.protocol))
    blocks = {way: report.samples_ms[target.key] for way, target in targets.items()}
    ratios = {way: speed(blocks["ours"], blocks[way], 50) for way in WAYS[1:]}
    rows = {way: asdict(row) for way, row in zip(targets, report.rows, strict=True)}
    same = {way: agreement(sessions, targets["ours"], target, pixels) for way, target in targets.items()}
    return {
        "device": asdict(report.device),
        "load_average": report.before.load_average if report.before else None,
        "foreign_cpu": report.foreign_cpu,
        "protocol": asdict(report.protocol),
        "latency": rows,
        "latency_ratio": {way: (r.value, *r.interval) for way, r in ratios.items()},
        "same_top_label_as_ours": same,
    }


def agreement(sessions: Mapping[str, Any], one: Target, other: Target, pixels: Pixels) -> float:
    """Return the share of the images for which both files predict the same class."""
    classes = [sessions[target.key].run(pixels).probabilities.argmax(axis=1) for target in (one, other)]
    return float((classes[0] == classes[1]).mean())


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(one) / statistics.median(other)


def show(document: Mapping[str, Any]) -> None:
    """Print the table, the conditions and the verdict on each target."""
    rows = [
        (
            way,
            " ".join(f"{value:.1f}" for value in document["seconds"][way]),
            f"{document['seconds_ratio'][way]:.2f}",
            f"{document['latency'][way]['p50_ms']:.2f}",
            "" if way == "ours" else "{:.3f} [{:.3f}, {:.3f}]".format(*document["latency_ratio"][way]),
            f"{document['latency'][way]['size_bytes'] / 1e6:.2f}",
            f"{document['same_top_label_as_ours'][way]:.3f}",
        )
        for way in WAYS
    ]
    heads = ("conversion", "seconds", "/ ours", "p50 ms", "ours / it [95 %]", "MB", "same class")
    table(f"int8 TFLite of {document['run']}", heads, rows)
    device, protocol, foreign = document["device"], document["protocol"], document["foreign_cpu"]
    threads, samples = document["latency"]["ours"]["threads"], document["latency"]["ours"]["n"]
    prepare_seconds = document["children"]["ours"]["prepare_seconds"]
    print(f"{device['cpu']}, {device['cores']} cores, {device['system']}, {' '.join(device['features'])}")
    print(
        f"load {document['load_average_before']:.1f} before, {document['load_average']} during timing; other processes "
        f"used {'an unknown share' if foreign is None else f'{foreign:.0%}'} of the CPU (doubtful above {FOREIGN:.0%})"
    )
    print(f"{samples} samples per file, {threads} thread(s), protocol {protocol['name']}, interleaved blocks")
    print(f"ours includes {prepare_seconds:.1f} s for images, equalization and rounding")
    for way in ("ours", "driven"):
        print(f"{way}: " + ", ".join(f"{tool} {text}" for tool, text in document["children"][way]["versions"].items()))
    theirs, upper = document["seconds_ratio"]["onnx2tf"], document["latency_ratio"]["onnx2tf"][2]
    same_work = theirs / document["seconds_ratio"]["plain"]
    print(
        f"conversion at least {FASTER:g} times as fast as onnx2tf's command: {theirs:.1f}, {verdict(theirs >= FASTER)}"
    )
    print(f"the same without equalization and rounding: {same_work:.1f}, {verdict(same_work >= FASTER)}")
    print(f"latency at most {SLOWER:g} times that of its file: {verdict(upper <= SLOWER)}")


def verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


if __name__ == "__main__":
    sys.exit(main())
