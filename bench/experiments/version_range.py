"""Test the lowest and the newest versions that pyproject.toml allows: `make test-range`.

Each set is installed into its own environment under .cache/range, without this repository's constraints, and runs a
short pipeline there: synthetic images, training, ONNX and TFLite in fp32 and int8, their gates, predict and bench.
An environment takes about 5.5 GB, which uv shares with its cache if possible; it is removed after its run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from skinedge.cli.common import table
from skinedge.core.errors import SkinedgeError

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".cache" / "range"
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}  # name -> uv's --resolution
SPACE = 7_000_000_000  # bytes, for one environment
CONFIG = 'image_size = 64\nepochs = 2\nbatch_size = 16\nprecision = "fp32"\n[lora]\nrank = 4\n'
EXPORTS = [(form, precision) for form in ("onnx", "tflite") for precision in ("fp32", "int8")]
STEPS: dict[str, tuple[str, ...]] = {
    "data synth": ("data", "synth", "images", "--count", "140", "--size", "72"),
    "train": ("train", "--data", "images", "--out", "run", "--config", "tiny.toml"),
    "merge": ("merge", "run"),
    **{f"{f} {p}": ("export", "run", "--format", f, "--precision", p, "--data", "images") for f, p in EXPORTS},
    "verify": ("verify", "run", "--data", "images"),
    "predict": ("predict", "images/images", "--run", "run", "--out", "predictions.jsonl"),
    "bench": ("bench", "run"),
    "help": ("export", "--help"),
}


@dataclass(frozen=True)
class Outcome:
    """One step with one set of versions. reason: the error of a failed command, None if it succeeded."""

    step: str
    seconds: float
    reason: str | None


def environment(name: str, base: str = sys.executable) -> Path:
    """Install one set of versions and return its Python. base: the Python to use, as a path or a version.

    Raises: SkinedgeError when that fails, or without enough disk space.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(FOLDER).free < SPACE:
        raise SkinedgeError(f"an environment needs {SPACE / 1e9:.0f} GB", where=str(FOLDER), todo="Free some space.")
    uv, folder = str(Path(sys.executable).with_name("uv")), FOLDER / name
    _checked_output([uv, "venv", "--quiet", "--clear", "--python", base, str(folder)])
    python = folder / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--resolution", RESOLUTIONS[name]]
    _checked_output([*install, f"{REPOSITORY}[all]"])
    return python


def versions(python: Path) -> dict[str, str]:
    """Map each direct dependency to its version in that environment."""
    code = (
        "import importlib.metadata as m\n"
        "for text in m.requires('skinedge'):\n"
        "    name = __import__('packaging.requirements', fromlist=['x']).Requirement(text).name\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    lines = _checked_output([str(python), "-P", "-c", code]).splitlines()
    return dict(line.split() for line in lines if not line.startswith("skinedge "))


def run(python: Path, work: Path) -> list[Outcome]:
    """Run every step of the pipeline in the folder `work`, also after a failed one."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "tiny.toml").write_text(CONFIG)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    outcomes = []
    for step, arguments in STEPS.items():
        started = time.monotonic()
        command = [str(python), "-P", "-m", "skinedge", *arguments]
        done = subprocess.run(
            command, cwd=work, env={**environ, "SKINEDGE_SHIPPED": ""}, capture_output=True, text=True, check=False
        )
        outcomes.append(Outcome(step, time.monotonic() - started, _reason(done)))
    return outcomes


def _reason(done: subprocess.CompletedProcess[str]) -> str | None:
    """Return the error that a command printed, else its last line; None if it succeeded."""
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return next((line for line in lines if line.startswith("error:")), lines[-1])


def _checked_output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkinedgeError(f"'{' '.join(command[:3])}' failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def main() -> int:
    """Print the versions and the outcome of every step; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.version_range",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", nargs="*", choices=[*RESOLUTIONS, []], help="[default: lowest and newest]")
    parser.add_argument(
        "--python", default=sys.executable, help="another Python: a path, or a version that is installed"
    )
    parser.add_argument("--keep", action="store_true", help="leave the environments in .cache/range")
    options = parser.parse_args()
    installed: dict[str, dict[str, str]] = {}
    results: dict[str, list[Outcome]] = {}
    try:
        for name in options.sets or RESOLUTIONS:
            python = environment(name, options.python)
            installed[name] = versions(python)
            results[name] = run(python, FOLDER / f"{name}-work")
            if not options.keep:
                shutil.rmtree(FOLDER / name)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(installed, results)
    return int(any(outcome.reason for outcomes in results.values() for outcome in outcomes))


def report(installed: dict[str, dict[str, str]], results: dict[str, list[Outcome]]) -> None:
    """Print one table of versions and one of steps."""
    packages = sorted({package for versions_of in installed.values() for package in versions_of})
    rows = [(package, *(versions_of.get(package, "-") for versions_of in installed.values())) for package in packages]
    table("versions", ("package", *installed), rows)
    for name, outcomes in results.items():
        steps = [(one.step, f"{one.seconds:.0f} s", one.reason or "ok") for one in outcomes]
        table(f"{name} versions", ("step", "time", "outcome"), steps)


if __name__ == "__main__":
    sys.exit(main())
