"""litert-torch beside onnx2tf on one run's int8 TFLite file: `make converters`, or this file with a run.

How long each takes to make it, and how fast what it made is. Four ways, each in a fresh process, taking turns:
- ours: skinedge's own converter, from the run: images decoded, network equalized and rounded, converted;
- plain: ours without equalization and rounding, the work that onnx2tf does;
- onnx2tf: its own command with -oiqt, from the ONNX file and the calibration images, both there already;
- driven: as `skinedge export --converter onnx2tf`, which leaves out the precisions that the command writes besides.
The making of onnx2tf's environment is in none of them. The run is only read.
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
FASTER, SLOWER = 5.0, 1.03  # the targets: seconds of theirs to ours, at least; latency of ours to theirs, at most
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
    parser = argparse.ArgumentParser(prog="converters.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/flagship"), help="[default: runs/flagship]")
    parser.add_argument("--data", type=Path, help="where the run's images are now, if not where they were")
    parser.add_argument("--repeats", type=int, default=3, help="files made in each way [default: 3]")
    parser.add_argument("--protocol", choices=protocol_names(), default="standard", help="of the latency")
    parser.add_argument("--threads", type=int, default=1, help="of an inference [default: 1]")
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    parser.add_argument("--way", choices=WAYS[:3], help=argparse.SUPPRESS)  # what a child process does
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def materials(options: argparse.Namespace) -> ExportContext:
    bundle = Bundle.open(options.run)
    return ExportContext(bundle, images_of(options.data, bundle.manifest.data_root))


def make(options: argparse.Namespace) -> None:
    """A child's work: WAY.tflite and WAY.json in the folder."""
    converter: Converter = by_onnx2tf.converter if options.way == "driven" else tflite_convert.converter
    recipe = converter.recipe("int8")
    if options.way == "plain":
        recipe = replace(recipe, calibration=replace(recipe.calibration, equalize=False, rounding="nearest"))
    started = time.monotonic()
    job = materials(options).job(recipe, IOSignature())
    prepared = time.monotonic() - started
    artifact = converter.convert(job, options.folder / f"{options.way}.tflite")
    said = {"prepare_seconds": prepared, "versions": dict(artifact.versions)}
    (options.folder / f"{options.way}.json").write_text(json.dumps(said))


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return all of it."""
    interpreter()  # made now, so that no way's seconds hold it
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        pixels = lay_out(options)
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


def lay_out(options: argparse.Namespace) -> Pixels:
    """What onnx2tf's command needs, in the folder `command`; returns the calibration images."""
    source = materials(options)
    command = options.folder / "command"
    command.mkdir()
    model, _ = onnx_convert.fp32_graph(source.job(onnx_convert.converter.recipe("fp32"), IOSignature()))
    (command / "model.onnx").write_bytes(channels_first(model).SerializeToString())
    pixels = source.calibration(by_onnx2tf.converter.recipe("int8").calibration).pixels
    np.save(command / "calibration.npy", pixels.astype(np.float32))
    np.save(command / SAMPLE, pixels[:20].astype(np.float32))
    return pixels


def timed(way: str, options: argparse.Namespace) -> float:
    """Wall seconds of a process that makes the file, from its start to its end."""
    own = ["--data", str(options.data)] if options.data else []
    own = [
        sys.executable,
        "-m",
        "experiments.converters",
        str(options.run.resolve()),
        *own,
        "--way",
        way,
        "--folder",
        str(options.folder),
    ]
    theirs = [str(interpreter()), "-I", "-m", "onnx2tf", "-i", "model.onnx", "-o", "made", "-oiqt", "-n"]
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
        made = options.folder / "command" / "made" / "model_integer_quant.tflite"
        made.replace(options.folder / "onnx2tf.tflite")
    if done.returncode:
        raise SkinedgeError(f"{way} failed:\n{done.stdout[-2000:]}")
    return seconds


def latencies(files: Mapping[str, Path], pixels: Pixels, options: argparse.Namespace) -> dict[str, Any]:
    """Of all files in LiteRT, in blocks that take turns; ratios of ours to each other one, with 95 % intervals."""
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
    """Share of the images with the same top label."""
    said = [sessions[target.key].run(pixels).probabilities.argmax(axis=1) for target in (one, other)]
    return float((said[0] == said[1]).mean())


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(one) / statistics.median(other)


def show(said: Mapping[str, Any]) -> None:
    rows = [
        (
            way,
            " ".join(f"{value:.1f}" for value in said["seconds"][way]),
            f"{said['seconds_ratio'][way]:.2f}",
            f"{said['latency'][way]['p50_ms']:.2f}",
            "" if way == "ours" else "{:.3f} [{:.3f}, {:.3f}]".format(*said["latency_ratio"][way]),
            f"{said['latency'][way]['size_bytes'] / 1e6:.2f}",
            f"{said['same_top_label_as_ours'][way]:.3f}",
        )
        for way in WAYS
    ]
    heads = ("way", "s to make", "to ours", "p50 ms", "ours to it [95 %]", "MB", "same label")
    table(f"int8 TFLite of {said['run']}", heads, rows)
    device, protocol, foreign = said["device"], said["protocol"], said["foreign_cpu"]
    threads, samples = said["latency"]["ours"]["threads"], said["latency"]["ours"]["n"]
    prepared = said["children"]["ours"]["prepare_seconds"]
    print(f"{device['cpu']}, {device['cores']} cores, {device['system']}, {' '.join(device['features'])}")
    print(
        f"load {said['load_average_before']:.1f} before, {said['load_average']} at the timing; others took "
        f"{'an unknown share' if foreign is None else f'{foreign:.0%}'} of the CPU (doubtful above {FOREIGN:.0%})"
    )
    print(f"{samples} samples a file, {threads} thread(s), protocol {protocol['name']}, blocks in turns")
    print(f"of ours, {prepared:.1f} s go into images, equalization and rounding")
    for way in ("ours", "driven"):
        print(f"{way}: " + ", ".join(f"{tool} {text}" for tool, text in said["children"][way]["versions"].items()))
    theirs, upper = said["seconds_ratio"]["onnx2tf"], said["latency_ratio"]["onnx2tf"][2]
    alike = theirs / said["seconds_ratio"]["plain"]
    print(
        f"at least {FASTER:g} times as fast to make as by onnx2tf's command: {theirs:.1f}, {verdict(theirs >= FASTER)}"
    )
    print(f"the same without equalization and rounding: {alike:.1f}, {verdict(alike >= FASTER)}")
    print(f"latency at most {SLOWER:g} times that of its file: {verdict(upper <= SLOWER)}")


def verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


if __name__ == "__main__":
    sys.exit(main())
