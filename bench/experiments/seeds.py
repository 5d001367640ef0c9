"""Repeat `skinedge run` with several seeds: `make seeds ARGS="--data DIR --seeds 0-9"`.

Each seed runs in its own process. It ends well with exit code 0, or with an error that names a failed gate. The table
is written to OUT/seeds.json after each seed. Repeating the command runs missing seeds and seeds that did not end well.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from skinedge.cli.common import figure, table
from skinedge.core import json_io
from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.files import write_atomic
from skinedge.run.report_schemas import read_parity
from skinedge.run.run_directory import Bundle
from skinedge.system.child_process import start_python
from skinedge.system.progress import note
from skinedge_export.target import ExportTarget

RESULTS = "seeds.json"
GATE = re.compile(r"gate failed:|gate '[\w-]+' failed|were refused:|no file kept the diagnosis")
ERROR = re.compile(r"^error: .*(?:\n  .*)*", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """Result of one seed.

    balanced_accuracy: of the int8 .tflite on the test split, None if unavailable; precisions: int8 file -> selected
    precision; gates: file -> 'gate verdict' of each gate that `verify` did not pass; error: the command's error, ''
    without one.
    """

    seed: int
    exit_code: int
    seconds: float
    balanced_accuracy: float | None
    precisions: dict[str, str]
    gates: dict[str, list[str]]
    error: str

    @property
    def ended_well(self) -> bool:
        return self.exit_code == 0 or (self.exit_code == 1 and GATE.search(self.error) is not None)


@dataclass(frozen=True)
class Table:
    """The results file. arguments: of the command, without the seed."""

    arguments: list[str]
    outcomes: list[Outcome]


def run(arguments: list[str], seed: int, out: Path) -> Outcome:
    """Run the command, write its output to OUT/SEED.log, and read its result."""
    run_directory, log = out / str(seed), out / f"{seed}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        command = ("run", *arguments, "--seed", str(seed), "--out", str(run_directory), "--force")
        descriptor = stream.fileno()
        with start_python("skinedge", *command, one_thread=False, stdout=descriptor, stderr=descriptor) as child:
            code = child.process.wait()
    seconds, output = time.monotonic() - started, log.read_text(encoding="utf-8", errors="replace")
    error = "" if code == 0 else (*ERROR.findall(output), output[-300:])[0]
    if not run_directory.exists():
        return Outcome(seed, code, seconds, None, {}, {}, error)
    files = Bundle.open(run_directory).model_files()
    int8 = {file.path: str(file.info["precision"]) for file in files if ExportTarget.of(file).calibrated}
    report = run_directory / "reports" / "parity.json"
    parity = read_parity(report).files if report.exists() else {}
    metrics = [verdict.metrics for name, verdict in parity.items() if name in int8 and name.endswith(".tflite")]
    accuracy = next((values.balanced_accuracy for values in metrics if values), None)
    gates = {
        name: [f"{gate.name} {gate.word}" for gate in verdict.gates if gate.verdict != "pass"]
        for name, verdict in parity.items()
    }
    return Outcome(seed, code, seconds, accuracy, int8, gates, error)


def finished(path: Path, arguments: list[str]) -> list[Outcome]:
    """Return the outcomes of an earlier call that ended well. Raises: ConfigError if its arguments differ."""
    if not path.exists():
        return []
    earlier = json_io.read_json(path, Table)
    if earlier.arguments != arguments:
        what = f"written with other arguments: '{' '.join(earlier.arguments)}'"
        raise ConfigError(what, where=str(path), todo="Choose another --out.")
    return [outcome for outcome in earlier.outcomes if outcome.ended_well]


def seeds_of(text: str) -> list[int]:
    """Return the seeds of '0-9' or '0,3,5-7'."""
    parts = [part.partition("-") for part in text.split(",")]
    return [seed for low, _, high in parts for seed in range(int(low), int(high or low) + 1)]


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every seed ended well."""
    parser = argparse.ArgumentParser(prog="python -m experiments.seeds", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-9"), help="such as 0,3,5-7 [default: 0-9]")
    parser.add_argument("--limit", default="1500", help="number of images [default: %(default)s]")
    parser.add_argument("--epochs", default="2", help="[default: %(default)s]")
    parser.add_argument("--config", help="TOML file with other settings")
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"), help="[default: %(default)s]")
    options = parser.parse_args(argv)
    arguments = ["--data", str(options.data), "--limit", options.limit, "--epochs", options.epochs]
    arguments += ["--config", options.config] if options.config else []
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        outcomes = {outcome.seed: outcome for outcome in finished(options.out / RESULTS, arguments)}
        for seed in (seed for seed in options.seeds if seed not in outcomes):
            outcomes[seed] = run(arguments, seed, options.out)
            note(f"seed {seed}: exit code {outcomes[seed].exit_code} after {outcomes[seed].seconds:.0f} s")
            results = Table(arguments, sorted(outcomes.values(), key=lambda outcome: outcome.seed))
            write_atomic(options.out / RESULTS, json_io.to_text(asdict(results)))
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    requested = [outcomes[seed] for seed in options.seeds]
    show(requested)
    return int(not all(outcome.ended_well for outcome in requested))


def show(outcomes: list[Outcome]) -> None:
    """Print the table."""
    columns = ("seed", "exit code", "bal acc, int8 tflite", "precisions", "gates not passed, or error", "seconds")
    rows = []
    for one in outcomes:
        precisions = ", ".join(f"{name} {precision}" for name, precision in one.precisions.items()) or None
        gates = "; ".join(f"{name}: {', '.join(failed)}" for name, failed in one.gates.items() if failed)
        accuracy, problem = figure(one.balanced_accuracy), one.error or gates or None
        rows.append((one.seed, one.exit_code, accuracy, precisions, problem, f"{one.seconds:.0f}"))
    table("skinedge run by seed", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
