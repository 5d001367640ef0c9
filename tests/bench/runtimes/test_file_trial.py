"""Model files of unknown origin are opened in a child process first, within limits of memory and time."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import pytest

from skinedge.core.errors import SkinedgeError
from skinedge.core.files import sha256
from skinedge.run import file_trial
from skinedge.run.class_order import check_model_file
from skinedge.run.file_card import read_description
from skinedge.run.plugins import judge_for
from skinedge.run.run_directory import Bundle
from skinedge.system import child_process
from skinedge_bench.loaded_model import open_file, open_listed
from skinedge_bench.verify.verify import open_session

FLAGSHIP = Path(str(files("skinedge") / "flagship"))
FOR_EVER = """
import sys

def spin(event, arguments):
    while event == "import" and arguments[0] == "ai_edge_litert":
        pass

sys.addaudithook(spin)
"""
MODELS = ("model.int8.tflite", "model.int8.onnx")


def without_scale(tflite: bytes) -> bytes:
    """A graph whose prepared pixels, uint8 of scale 1, have the scale 0: LiteRT calls abort() while it is planned."""
    scale = struct.pack("<If", 1, 1.0)
    assert scale in tflite
    return tflite.replace(scale, struct.pack("<If", 1, 0.0))


@pytest.fixture(autouse=True)
def untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file has been tried on this machine."""
    monkeypatch.setenv("SKINEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of every child process that is started, really."""
    started: list[tuple[str, ...]] = []
    run_python = child_process.run_python

    def noted(*arguments: str, **limits: int) -> object:
        started.append(arguments)
        return run_python(*arguments, **limits)

    monkeypatch.setattr(child_process, "run_python", noted)
    return started


@pytest.mark.parametrize("name", MODELS)
def test_a_file_alone_is_tried_once_and_an_installed_one_never(
    tmp_path: Path, name: str, starts: list[tuple[str, ...]]
) -> None:
    open_file(FLAGSHIP / name)
    assert not starts
    alone = tmp_path / name
    shutil.copy(FLAGSHIP / name, alone)
    labels = open_file(alone).labels
    assert open_file(alone).labels == labels and len(starts) == 1
    alone.write_bytes(alone.read_bytes() + b" ")
    with pytest.raises(SkinedgeError) if name.endswith("onnx") else nullcontext():
        open_file(alone)
    assert len(starts) == 2


def test_a_file_that_was_made_here_needs_no_trial(tmp_path: Path, starts: list[tuple[str, ...]]) -> None:
    alone = tmp_path / MODELS[0]
    shutil.copy(FLAGSHIP / MODELS[0], alone)
    file_trial.remember(alone, judge_for(alone))
    open_file(alone)
    assert not starts


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(tmp_path: Path, starts: list[tuple[str, ...]]) -> None:
    (tmp_path / "cache").write_text("no folder")
    alone = tmp_path / MODELS[0]
    shutil.copy(FLAGSHIP / MODELS[0], alone)
    open_file(alone)
    open_file(alone)
    assert len(starts) == 2


def test_the_checksum_of_a_run_s_file_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run directory compares it with the manifest and passes it on."""
    bundle = Bundle.open(Path(shutil.copytree(FLAGSHIP, tmp_path / "run")))
    entry = bundle.entries()[MODELS[0]]
    monkeypatch.delattr(file_trial, "sha256")
    open_listed(bundle, entry.path)
    marks = [path.name for path in (tmp_path / "cache" / "tried").rglob("*") if path.is_file()]
    assert marks == [entry.sha256]


@pytest.mark.parametrize(
    "opened",
    [
        lambda bundle: open_listed(bundle, MODELS[0]),
        lambda bundle: open_session(bundle, MODELS[0]),
        lambda bundle: check_model_file(bundle, bundle.entries()[MODELS[0]]),
        lambda bundle: read_description(bundle.file(MODELS[0])),
    ],
    ids=["open_listed", "verify", "class_order", "file_card"],
)
def test_a_damaged_file_whose_hash_was_made_right_does_not_end_this_process(
    tmp_path: Path, opened: Callable[[Bundle], object]
) -> None:
    """As in a run that was received from someone."""
    root = tmp_path / "run"
    shutil.copytree(FLAGSHIP, root)
    path, manifest = root / MODELS[0], root / "manifest.json"
    before = sha256(path)
    path.write_bytes(without_scale(path.read_bytes()))
    manifest.write_text(manifest.read_text().replace(before, sha256(path)))
    with pytest.raises(SkinedgeError, match="crashes on this file"):
        opened(Bundle.open(root))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"MEMORY_MIB": 120, "PER_MODEL_MIB": 0}, r"120 MiB of memory|cannot|MemoryError"),
        (
            {"SECONDS": 1, "MIB_PER_SECOND": 1 << 20},
            r"exceeds a limit \(SIG(KILL|XCPU); limits: \d+ MiB of memory, 1 s\)",
        ),
    ],
)
def test_a_limit_that_is_passed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], message: str
) -> None:
    alone = tmp_path / "model.int8.tflite"
    shutil.copy(FLAGSHIP / alone.name, alone)
    for name, value in limits.items():
        monkeypatch.setattr(file_trial, name, value)
    if "SECONDS" in limits:  # a runtime that computes for ever, in the child
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "sitecustomize.py").write_text(FOR_EVER)
    with pytest.raises(SkinedgeError, match=message) as raised:
        open_file(alone)
    assert str(alone) in str(raised.value) and "\n" not in raised.value.what


def test_an_input_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """The campaign's case: a .tflite of 3.5 MB that took 8.3 GiB, and was accepted."""
    data = (FLAGSHIP / "model.int8.tflite").read_bytes()
    shape = struct.pack("<5i", 4, 1, 224, 224, 3)
    assert data.count(shape) >= 1
    alone = tmp_path / "large.tflite"
    alone.write_bytes(data.replace(shape, struct.pack("<5i", 4, 1, 40_000, 40_000, 3)))
    code = (  # in a process whose children are this trial's alone
        "import resource, sys\nfrom pathlib import Path\nfrom skinedge.core.errors import SkinedgeError\n"
        "from skinedge_bench.loaded_model import open_file\n"
        "try: open_file(Path(sys.argv[1]))\nexcept SkinedgeError as error: print(error.where, error.what)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(alone)], capture_output=True, text=True, check=True)
    *lines, kib = done.stdout.strip().splitlines()
    assert len(lines) == 1 and str(alone) in lines[0]
    assert int(kib) < 1536 << 10


def test_a_zip_bomb_in_a_tflite_file_is_not_unpacked(tmp_path: Path) -> None:
    """The campaign's case: 3 MB that were 6.1 GiB. Here it is two MiB, the limit being one."""
    alone = tmp_path / "model.int8.tflite"
    shutil.copy(FLAGSHIP / alone.name, alone)
    content = bytearray(alone.read_bytes())
    end = content.index(b"PK\3\4")
    alone.write_bytes(content[:end])
    with zipfile.ZipFile(alone, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("skinedge.json", bytes(2 << 20))
    with pytest.raises(SkinedgeError, match=r"'skinedge\.json' is larger than the limit of 1048576 bytes"):
        open_file(alone)


def changed(data: bytes, rng: random.Random) -> bytes:
    """Numbers and bits changed in the tables, a cut, or a piece moved."""
    mutated, kind = bytearray(data), rng.randrange(4)
    if kind == 0:
        return bytes(mutated[: rng.randrange(len(data))])
    if kind == 1:
        start, to = rng.randrange(len(data)), rng.randrange(len(data))
        mutated[to:to] = data[start : start + rng.randrange(1, 64)]
        return bytes(mutated)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) - 4)
        value = rng.choice([b"\xff\xff\xff\xff", b"\0\0\1\0", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
        mutated[at : at + 4] = value if kind == 2 else bytes([data[at] ^ 1 << rng.randrange(8)])
    return bytes(mutated)


@pytest.mark.parametrize("name", MODELS)
def test_mutated_models_open_or_are_one_line(tmp_path: Path, name: str) -> None:
    data, rng, refused = (FLAGSHIP / name).read_bytes(), random.Random(14), 0
    for case in range(8):
        alone = tmp_path / f"{case}-{name}"
        alone.write_bytes(changed(data, rng))
        start = time.monotonic()
        try:
            open_file(alone)
        except SkinedgeError as error:
            assert str(alone) in str(error) and "\n" not in error.what, case
            refused += 1
        assert time.monotonic() - start < 60, case
    assert refused >= 3


def test_a_listed_file_in_a_folder_of_the_run_is_opened(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FLAGSHIP, tmp_path / "run"))
    (root / "sub").mkdir()
    (root / MODELS[0]).rename(root / "sub" / MODELS[0])
    manifest = root / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{MODELS[0]}"', f'"sub/{MODELS[0]}"'))
    bundle = Bundle.open(root)
    loaded = open_listed(bundle, f"sub/{MODELS[0]}")
    assert loaded.threshold == bundle.manifest.thresholds[f"sub/{MODELS[0]}"] and loaded.precision == "int8"
