"""Model files of unknown origin are first opened in a child process with memory and time limits."""

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
ENDLESS_LOOP = """
import sys

def spin(event, arguments):
    while event == "import" and arguments[0] == "ai_edge_litert":
        pass

sys.addaudithook(spin)
"""
MODELS = ("model.int8.tflite", "model.int8.onnx")


def without_scale(tflite: bytes) -> bytes:
    """Set the scale of the uint8 pixels from 1 to 0, at which LiteRT calls abort() while planning the graph."""
    scale = struct.pack("<If", 1, 1.0)
    assert scale in tflite
    return tflite.replace(scale, struct.pack("<If", 1, 0.0))


@pytest.fixture(autouse=True)
def untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with an empty cache of trials."""
    monkeypatch.setenv("SKINEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of every child process, which are started nevertheless."""
    started: list[tuple[str, ...]] = []
    run_python = child_process.run_python

    def record(*arguments: str, **limits: int) -> object:
        started.append(arguments)
        return run_python(*arguments, **limits)

    monkeypatch.setattr(child_process, "run_python", record)
    return started


@pytest.mark.parametrize("name", MODELS)
def test_a_single_file_is_tried_once_and_the_installed_model_never(
    tmp_path: Path, name: str, starts: list[tuple[str, ...]]
) -> None:
    open_file(FLAGSHIP / name)
    assert not starts
    file = tmp_path / name
    shutil.copy(FLAGSHIP / name, file)
    labels = open_file(file).labels
    assert open_file(file).labels == labels and len(starts) == 1
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(SkinedgeError) if name.endswith("onnx") else nullcontext():
        open_file(file)
    assert len(starts) == 2


def test_a_file_exported_on_this_machine_needs_no_trial(tmp_path: Path, starts: list[tuple[str, ...]]) -> None:
    file = tmp_path / MODELS[0]
    shutil.copy(FLAGSHIP / MODELS[0], file)
    file_trial.remember(file, judge_for(file))
    open_file(file)
    assert not starts


def test_an_unwritable_cache_causes_a_trial_each_time(tmp_path: Path, starts: list[tuple[str, ...]]) -> None:
    (tmp_path / "cache").write_text("no folder")
    file = tmp_path / MODELS[0]
    shutil.copy(FLAGSHIP / MODELS[0], file)
    open_file(file)
    open_file(file)
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
def test_a_damaged_file_with_a_matching_hash_does_not_crash_this_process(
    tmp_path: Path, opened: Callable[[Bundle], object]
) -> None:
    """As in a run from a third party."""
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
def test_an_exceeded_limit_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], message: str
) -> None:
    file = tmp_path / "model.int8.tflite"
    shutil.copy(FLAGSHIP / file.name, file)
    for name, value in limits.items():
        monkeypatch.setattr(file_trial, name, value)
    if "SECONDS" in limits:  # an endless loop in the child process
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "sitecustomize.py").write_text(ENDLESS_LOOP)
    with pytest.raises(SkinedgeError, match=message) as raised:
        open_file(file)
    assert str(file) in str(raised.value) and "\n" not in raised.value.what


def test_an_input_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    """Case of the fuzz campaign: a .tflite file of 3.5 MB that used 8.3 GiB and was accepted."""
    data = (FLAGSHIP / "model.int8.tflite").read_bytes()
    shape = struct.pack("<5i", 4, 1, 224, 224, 3)
    assert data.count(shape) >= 1
    file = tmp_path / "large.tflite"
    file.write_bytes(data.replace(shape, struct.pack("<5i", 4, 1, 40_000, 40_000, 3)))
    code = (  # in a process without other children
        "import resource, sys\nfrom pathlib import Path\nfrom skinedge.core.errors import SkinedgeError\n"
        "from skinedge_bench.loaded_model import open_file\n"
        "try: open_file(Path(sys.argv[1]))\nexcept SkinedgeError as error: print(error.where, error.what)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    completed = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    *lines, kib = completed.stdout.strip().splitlines()
    assert len(lines) == 1 and str(file) in lines[0]
    assert int(kib) < 1536 << 10


def test_a_zip_bomb_in_a_tflite_file_is_refused(tmp_path: Path) -> None:
    """Case of the fuzz campaign: 3 MB that decompressed to 6.1 GiB; here 2 MiB, with a limit of 1 MiB."""
    file = tmp_path / "model.int8.tflite"
    shutil.copy(FLAGSHIP / file.name, file)
    content = bytearray(file.read_bytes())
    end = content.index(b"PK\3\4")
    file.write_bytes(content[:end])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("skinedge.json", bytes(2 << 20))
    with pytest.raises(SkinedgeError, match=r"'skinedge\.json' is larger than the limit of 1048576 bytes"):
        open_file(file)


def mutated_copy(data: bytes, rng: random.Random) -> bytes:
    """Return data with mutated_copy numbers or bits, truncated, or with a copied piece."""
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
def test_mutated_models_open_or_give_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    data, rng, refused = (FLAGSHIP / name).read_bytes(), random.Random(14), 0
    for case in range(8):
        file = tmp_path / f"{case}-{name}"
        file.write_bytes(mutated_copy(data, rng))
        start = time.monotonic()
        try:
            open_file(file)
        except SkinedgeError as error:
            assert str(file) in str(error) and "\n" not in error.what, case
            refused += 1
        assert time.monotonic() - start < 60, case
    assert refused >= 3


def test_a_listed_file_in_a_subfolder_of_the_run_is_opened(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FLAGSHIP, tmp_path / "run"))
    (root / "sub").mkdir()
    (root / MODELS[0]).rename(root / "sub" / MODELS[0])
    manifest = root / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{MODELS[0]}"', f'"sub/{MODELS[0]}"'))
    bundle = Bundle.open(root)
    loaded = open_listed(bundle, f"sub/{MODELS[0]}")
    assert loaded.threshold == bundle.manifest.thresholds[f"sub/{MODELS[0]}"] and loaded.precision == "int8"
