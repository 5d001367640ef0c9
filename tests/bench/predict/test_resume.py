"""predict --out and evaluate --out, interrupted: finished predictions are kept, and --resume completes the same result.

A hook blocks the process that opens one of the images, so that the command always stops in the middle.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from skinedge.data.dataset import read_split
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu import usable_cores
from skinedge.system.process_pool import CHUNK
from skinedge_bench.loaded_model import open_listed
from skinedge_bench.predict import resumable
from skinedge_bench.predict.predict import sources

Cli = Callable[..., tuple[int, str, str]]
JOBS = min(2, usable_cores())
WAITS_AT = 50  # index of the blocking image


# Imported by every Python process that has its folder in PYTHONPATH: opening the image blocks.
WAIT = """
import os, sys, time

def wait(event, arguments):
    if event == "open" and str(arguments[0]) == os.environ["WAITS_AT"]:
        time.sleep(3600)

sys.addaudithook(wait)
"""


@dataclass(frozen=True)
class Stopped:
    """A command that is blocked at an image, after finishing the images before it."""

    process: subprocess.Popen[str]

    def end(self, by: signal.Signals) -> int:
        """Send the signal to the process group, as a terminal does; return the exit code."""
        os.killpg(self.process.pid, by)
        return self.process.wait()


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Callable[..., Stopped]]:
    """Start `skinedge ARGUMENTS` and wait until `kept` has the predictions before the image."""
    processes = []
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WAIT)

    def start(kept: Path, image: Path, *arguments: object, finished: int = WAITS_AT // CHUNK * CHUNK) -> Stopped:
        paths = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": paths, "WAITS_AT": str(image)}
        command = [sys.executable, "-m", "skinedge", *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment
        )
        processes.append(process)
        while not kept.exists() or kept.read_bytes().count(b"\n") < finished:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return Stopped(process)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def images(tiny_run: Path, tmp_path: Path) -> list[Path]:
    """100 of the run's images, the third of them damaged."""
    root, folder = Path(Bundle.open(tiny_run).manifest.data_root), tmp_path / "images"
    folder.mkdir()
    for sample in read_split(tiny_run / "split.csv")[:100]:
        shutil.copy(root / sample.path, folder)
    paths = sorted(folder.iterdir())
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    return paths


@pytest.fixture
def whole(cli: Cli, tiny_run: Path, images: list[Path], tmp_path: Path) -> bytes:
    """The file of an uninterrupted `predict --out`, in one process."""
    code, shown, err = cli("predict", *images, "--run", tiny_run, "--out", tmp_path / "whole.jsonl", "--jobs", 1)
    assert code == 1 and "1 image(s) could not be judged" in err and "100 images" in err
    assert "not a medical device" in err and not shown
    return (tmp_path / "whole.jsonl").read_bytes()


def test_a_kept_line_is_the_documented_one_with_the_images_hash(
    cli: Cli, tiny_run: Path, images: list[Path], whole: bytes
) -> None:
    code, shown, _ = cli("predict", *images, "--run", tiny_run, "--json")
    lines = [json.loads(line) for line in whole.splitlines()]
    assert code == 1 and [line["image"] for line in lines] == [str(image) for image in images]
    digests = subprocess.run(["sha256sum", *images], capture_output=True, text=True, check=True).stdout
    assert [line.pop("image_sha256") for line in lines] == [line.split()[0] for line in digests.splitlines()]
    bodies = [line.rpartition(b', "sum": ')[0] for line in whole.splitlines()]
    assert [line.pop("sum") for line in lines] == [hashlib.sha256(body).hexdigest()[:16] for body in bodies]
    assert lines == [json.loads(line) for line in shown.splitlines()] and "error" in lines[2]


@pytest.mark.parametrize("jobs", sorted({1, JOBS}))
@pytest.mark.parametrize(("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_predict_resumes_after_a_signal(
    cli: Cli,
    tiny_run: Path,
    images: list[Path],
    whole: bytes,
    stopped: Callable[..., Stopped],
    tmp_path: Path,
    jobs: int,
    by: signal.Signals,
    code: int,
) -> None:
    kept = tmp_path / "kept.jsonl"
    command = ("predict", *images, "--run", tiny_run, "--out", kept, "--jobs", jobs)
    assert stopped(kept, images[WAITS_AT], *command).end(by) == code
    partial = kept.read_bytes()
    assert whole.startswith(partial) and partial.endswith(b"\n")
    assert WAITS_AT // CHUNK * CHUNK <= partial.count(b"\n") <= WAITS_AT

    refused, shown, err = cli(*command)
    assert refused == 1 and shown == "" and "--resume" in err and kept.read_bytes() == partial
    kept.write_bytes(partial[:-40])  # an incomplete line at the end
    resumed, _, err = cli(*command, "--resume")
    assert resumed == 1 and "1 image(s) could not be judged" in err and "resuming after" in err
    assert kept.read_bytes() == whole
    again, _, err = cli(*command, "--resume")
    assert again == 1 and "resuming after 100" in err and kept.read_bytes() == whole
    assert not list(tmp_path.glob(".*"))


def test_stored_predictions_are_rejected_for_other_images_models_and_lines(
    cli: Cli, tiny_run: Path, images: list[Path], whole: bytes, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    lines = whole.splitlines(keepends=True)

    def refusal(content: bytes, *arguments: object) -> str:
        kept.write_bytes(content)
        code, shown, err = cli("predict", *arguments, "--run", tiny_run, "--out", kept, "--resume", "--json")
        assert code == 1 and shown == "" and "Traceback" not in err and kept.read_bytes() == content
        return err

    begun = b"".join(lines[:10])
    assert f"line 5 is of the image {images[4]}" in refusal(begun, *images[:4], *images[5:]).replace(": is", " is")
    assert "one image more" in refusal(begun, *images[:9])
    assert "another model (sha256" in refusal(begun, *images, "--file", "model.fp32.onnx")
    assert "not a prediction" in refusal(begun + b"{}\n" + lines[10], *images)
    assert "not a prediction" in refusal(b"my notes\n", *images)
    assert "not predictions" in refusal(lines[0][:-9] + b'"}\n' + b"my notes\n", *images)
    assert "something other than" in refusal(b"my notes, without an end", *images)
    images[4].write_bytes(images[5].read_bytes())
    assert f"{images[4]} has changed" in refusal(begun, *images)


def test_an_altered_line_is_never_used(whole: bytes, images: list[Path], tiny_run: Path, tmp_path: Path) -> None:
    """Flip any bit, and edit the numbers under a correct checksum: such a line is predicted again or rejected."""
    model, chance, kept = open_listed(Bundle.open(tiny_run)), random.Random(5), tmp_path / "kept.jsonl"
    lines = whole.splitlines(keepends=True)
    for line in lines[:20]:
        for position in {*chance.sample(range(len(line)), 40), *range(len(line) - 30, len(line) - 1)}:
            changed = bytearray(line)
            changed[position] ^= 1 << chance.randrange(8)
            assert not resumable._is_intact(bytes(changed), model), (line, position)
        if b'"error"' in line:
            continue
        for edit in (_swapped, _scaled, _other_label, _other_score, _undefined):
            raw = json.loads(line)
            del raw["sum"]
            edit(raw)
            body = json.dumps(raw).encode().removesuffix(b"}")
            assert not resumable._is_intact(resumable._with_sum(body), model), edit
        assert resumable._is_intact(line, model)
    altered = lines[7].replace(b'"probability": 0.', b'"probability": 0.1', 1)
    kept.write_bytes(b"".join([*lines[:7], altered, *lines[8:]]))
    work = resumable.Work(jobs=1, kept=kept, resume=True)
    assert len(list(resumable.predictions(model, sources(images), len(images), work))) == len(images)
    assert kept.read_bytes() == whole


def _swapped(raw: dict[str, Any]) -> None:
    best, other = raw["label"], next(label for label in raw["probabilities"] if label != raw["label"])
    raw["probabilities"] |= {best: raw["probabilities"][other], other: raw["probabilities"][best]}


def _scaled(raw: dict[str, Any]) -> None:
    raw["probabilities"] = {label: value * 0.9 for label, value in raw["probabilities"].items()}
    raw["probability"] *= 0.9
    raw["malignant_probability"] *= 0.9


def _other_label(raw: dict[str, Any]) -> None:
    raw["label"] = next(label for label in raw["probabilities"] if label != raw["label"])


def _other_score(raw: dict[str, Any]) -> None:
    raw["malignant_probability"] = (raw["malignant_probability"] + 0.3) % 1


def _undefined(raw: dict[str, Any]) -> None:
    raw["probabilities"][raw["label"]] = float("nan")


def test_lines_without_a_checksum_are_predicted_again(
    cli: Cli, tiny_run: Path, images: list[Path], whole: bytes, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    old = [line.rpartition(b', "sum": ')[0] + b"}\n" for line in whole.splitlines()[:20]]
    kept.write_bytes(b"".join(old))
    code, _, err = cli("predict", *images, "--run", tiny_run, "--out", kept, "--resume", "--jobs", 1)
    assert code == 1 and "line 1 has no checksum" in err and "20 line(s)" in err and "resuming after" not in err
    assert kept.read_bytes() == whole


def test_two_processes_never_write_one_file(cli: Cli, tiny_run: Path, images: list[Path], tmp_path: Path) -> None:
    with FileLock(tmp_path / ".kept.jsonl.lock"):
        code, _, err = cli("predict", *images, "--run", tiny_run, "--out", tmp_path / "kept.jsonl")
    assert code == 1 and "another process" in err and not (tmp_path / "kept.jsonl").exists()


def test_a_full_disk_loses_no_finished_prediction(
    cli: Cli, tiny_run: Path, images: list[Path], whole: bytes, tmp_path: Path
) -> None:
    """A limit on the size of files, within a line, stands in for a full disk."""
    kept, room = tmp_path / "kept.jsonl", len(whole) // 2
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    code = f"{limit}; from skinedge.cli import main; main()"
    arguments = map(str, ["predict", *images, "--run", tiny_run, "--out", kept])
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "finished predictions are kept" in done.stderr and "Traceback" not in done.stderr
    assert kept.read_bytes() == whole[:room]
    assert cli("predict", *images, "--run", tiny_run, "--out", kept, "--resume")[0] == 1
    assert kept.read_bytes() == whole


def test_wrong_options_are_errors(cli: Cli, tiny_run: Path, images: list[Path], tmp_path: Path) -> None:
    for arguments, words in (
        (["--resume"], "--out"),
        (["--out", tmp_path], "is not a file"),
        (["--out", images[0] / "below.jsonl"], "cannot write"),
        (["--jobs", usable_cores() + 1], f"between 1 and {usable_cores()}"),
        (["--jobs", 0], f"between 1 and {usable_cores()}"),
    ):
        code, shown, err = cli("predict", *images, "--run", tiny_run, *arguments, "--json")
        assert code == 1 and shown == "" and words in err and "Traceback" not in err


@pytest.mark.parametrize("jobs", sorted({1, JOBS}))
def test_evaluate_resumes_after_a_kill(
    cli: Cli, run: Bundle, stopped: Callable[..., Stopped], tmp_path: Path, jobs: int
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(run.manifest.data_root, data)
    manifest = run.root / "manifest.json"
    there, here = (json.dumps(str(folder)) for folder in (run.manifest.data_root, data))
    manifest.write_text(manifest.read_text().replace(there, here))
    command = ("evaluate", run.root, "--split", "all", "--allow-train", "--jobs", jobs)
    assert cli(*command, "--out", tmp_path / "whole")[0] == 0

    image = data / read_split(run.file("split.csv"))[WAITS_AT].path
    assert stopped(out / "unfinished.jsonl", image, *command, "--out", out).end(signal.SIGKILL) == -9
    assert {path.name for path in out.iterdir()} <= {"unfinished.jsonl", ".unfinished.jsonl.lock"}
    for arguments, words in (
        ([], "--resume"),
        (["--resume", "--file", "model.int8.onnx"], "another model (sha256"),
        (["--resume", "--split", "val"], "now the image at this place is"),
    ):
        code, shown, err = cli(*command, *arguments, "--out", out)
        assert code == 1 and shown == "" and words in err
    code, _, err = cli(*command, "--resume", "--out", out)
    assert code == 0 and "resuming after" in err, err
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in out.iterdir()} == names
    assert all((out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_an_image_that_stopped_an_evaluation_is_predicted_again(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(run.manifest.data_root, data)
    manifest = run.root / "manifest.json"
    there, here = (json.dumps(str(folder)) for folder in (run.manifest.data_root, data))
    manifest.write_text(manifest.read_text().replace(there, here))
    command = ("evaluate", run.root, "--out", out, "--json")
    test = [sample for sample in read_split(run.file("split.csv")) if sample.split == "test"]
    path = data / test[5].path
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    code, shown, err = cli(*command)
    assert code == 1 and shown == "" and "its sha256 differs" in err and path.name in err
    assert (out / "unfinished.jsonl").read_bytes().count(b"\n") == 5
    path.write_bytes(whole)
    code, shown, err = cli(*command, "--resume")
    assert code == 0 and json.loads(shown)["n"] == len(test) and "resuming after 5" in err
