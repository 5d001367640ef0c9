"""skinedge bench --adb against a stand-in for adb, since no phone was available."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.core.errors import SkinedgeError
from skinedge.run.run_directory import Bundle
from skinedge_bench.devices import phone_app
from skinedge_bench.devices.phone_tool import read_block
from skinedge_bench.latency.block_stats import median_interval
from skinedge_bench.latency.protocol import protocol_names, read_protocol

Cli = Callable[..., tuple[int, str, str]]
FILES = ["model.fp32.tflite", "model.int8.tflite"]


@dataclass(frozen=True)
class Phone:
    """The stand-in's folder."""

    folder: Path

    def configure(self, **properties: Any) -> None:
        (self.folder / "phone.json").write_text(json.dumps(properties))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def remaining(self) -> list[str]:
        """List the files on the phone."""
        storage = self.folder / "storage"
        return [str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    folder = tmp_path / "phone"
    (folder / "storage" / "app" / "files").mkdir(parents=True)
    source = (Path(__file__).with_name("stand_in_adb.py")).read_text()
    (folder / "adb").write_text(f"#!{sys.executable}\n{source}")
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(phone_app, "POLL", 0.01)
    stand_in = Phone(folder)
    stand_in.configure(median=True)
    return stand_in


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "android_aarch64_benchmark_model"
    path.write_bytes(b"\x7fELF")
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_benchmark_model(cli: Cli, phone: Phone, tool: Path, run: Bundle) -> None:
    arguments = ["--adb", "--tool", tool, "--protocol", "quick", "--threads", "1,2", "--json"]
    status, out, err = cli("bench", run.root, *arguments)
    assert status == 0, err
    document = json.loads(out)
    assert document["device"]["machine"] == document["host"] == "Maker Phone 9"
    assert document["device"]["int8_dot_product"] is True and document["device"]["system"] == "Android 15, aarch64"
    assert [(row["file"], row["threads"]) for row in document["rows"]] == [(f, n) for f in FILES for n in (1, 2)]
    timed = [words for words in map(shell_words, phone.calls()) if words[0].endswith("benchmark_model")]
    assert len(timed) == 4 * 6  # rows, blocks
    assert "--num_runs=20" in timed[0] and "--warmup_runs=10" in timed[0]
    rounds = [[(graph(w), threads(w)) for w in timed[i : i + 4]] for i in range(0, 24, 4)]
    assert all(len(set(turn)) == 4 for turn in rounds) and len({tuple(turn) for turn in rounds}) > 1
    for row in document["rows"]:
        base = (4 if "int8" in row["file"] else 9) / row["threads"]
        assert base <= row["p50_ms"] < base + 0.005 and row["n"] == 120 and row["p90_ms"] is None
        assert row["p50_interval_ms"][0] <= row["p50_ms"] <= row["p50_interval_ms"][1]
        assert np.median(row["block_medians_ms"]) == row["p50_ms"] and len(row["block_medians_ms"]) == 6
        assert row["runtime"] == "benchmark_model" and row["load_ms"] == 5 and row["first_inference_ms"] == 20
        assert row["trustworthy"] and "verify" in row["accuracy_note"]
    saved = json.loads(run.reload().file("reports/latency.Maker-Phone-9.json").read_text())
    assert saved["rows"] == document["rows"]
    assert phone.remaining() == []


def shell_words(call: list[str]) -> list[str]:
    return call[1].split() if call[0] == "shell" else ["-"]


def graph(words: list[str]) -> str:
    return next(word for word in words if word.startswith("--graph="))


def threads(words: list[str]) -> str:
    return next(word for word in words if word.startswith("--num_threads="))


def test_a_tool_that_reports_only_averages(cli: Cli, phone: Phone, tool: Path, run: Bundle) -> None:
    phone.configure(median=False)
    status, out, err = cli("bench", run.root, "--adb", "--tool", tool, "--protocol", "quick", "--json")
    assert status == 0, err
    for row in json.loads(out)["rows"]:
        assert row["p50_ms"] is None and row["n"] == 120 and not row["trustworthy"]
        assert row["reasons"][0].endswith("only averages: 4.01 ms" if "int8" in row["file"] else "averages: 9.01 ms")
    status, out, err = cli("bench", run.root, "--adb", "--tool", tool, "--protocol", "quick")
    assert status == 0 and "Maker Phone 9: SoC 1" in out and "only averages" in out + err


def test_our_app(cli: Cli, phone: Phone, run: Bundle) -> None:
    arguments = ["--adb", "--serial", "ABC", "--protocol", "quick", "--threads", "1,all", "--json"]
    phone.configure(cores=4)
    status, out, err = cli("bench", run.root, *arguments)
    assert status == 0, err
    assert all(call[:2] == ["-s", "ABC"] for call in phone.calls())
    extras = json.loads((phone.folder / "extras.json").read_text())
    assert extras["models"].split(",") == FILES and extras["threads"] == "1,4"
    assert (extras["warmup"], extras["block"], extras["blocks"]) == ("10", "20", "6")
    document = json.loads(out)
    assert document["device"]["versions"] == {"tensorflow-lite": "2.16.1"}
    block = np.arange(20) / 1000
    for row in document["rows"]:
        base = (4 if "int8" in row["file"] else 8) / row["threads"]
        assert row["p50_ms"] == pytest.approx(base + np.median(block))
        assert row["p90_ms"] == pytest.approx(base + np.quantile(np.tile(block, 6), 0.9))
        assert row["block_medians_ms"] == pytest.approx([row["p50_ms"]] * 6)  # what skinedge compare tests
        assert row["runtime"] == "litert" and row["peak_rss_mib"] == 70 and row["trustworthy"]
        if "int8" in row["file"]:
            assert row["ratio_to_fp32"] == pytest.approx(2, abs=0.01)
    saved = json.loads(run.reload().file("reports/latency.Maker-Phone-9.json").read_text())
    assert len(saved["samples_ms"]) == 4
    assert phone.remaining() == []


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("none", "no phone is connected"),
        ("unauthorized", "has not authorized this computer"),
        ("several", "--serial"),
        ("offline", "does not respond"),
        ("other", "this phone is not connected"),
        ("full", "storage is full"),
        ("damaged", "was damaged in transfer"),
        ("crash", "'benchmark_model' failed on the phone (Segmentation fault)"),
        ("odd", "printed no known timings (last line: That was that.)"),
    ],
)
def test_failures_of_phone_or_tool(cli: Cli, phone: Phone, tool: Path, run: Bundle, failure: str, message: str) -> None:
    before = contents(run.root)
    phone.configure(failure=failure)
    status, out, err = cli("bench", run.root, "--adb", "--tool", tool, "--protocol", "quick", "--json")
    assert status == 1 and out == "" and message in err and "Traceback" not in err
    assert contents(run.root) == before and phone.remaining() == []


@pytest.mark.parametrize("name", protocol_names())
def test_the_timeout_is_long_enough_for_a_slow_phone(name: str) -> None:
    protocol = read_protocol(name)
    slowest = phone_app.SLOWEST_SECONDS * (protocol.warmup + protocol.block * protocol.blocks)
    assert phone_app.time_limit(protocol, 4) >= 4 * max(slowest, protocol.min_seconds)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("run-as: unknown package: org.skinedge.demo", "is not installed"),
        ("run-as: package not debuggable: org.skinedge.demo", "not a debug build"),
        ("app full", "storage is full"),
        ("no activity", "cannot start the app's benchmark"),
        ("app crashed", "ended without a result"),
        ("app hangs", "gave no result within"),
        ("app error", "could not time the files: model.int8.tflite: not a model"),
        ("app odd", "cannot read the app's result (KeyError('samples_ms'))"),
    ],
)
def test_failures_of_the_app(
    cli: Cli, phone: Phone, run: Bundle, monkeypatch: pytest.MonkeyPatch, failure: str, message: str
) -> None:
    monkeypatch.setattr(phone_app, "time_limit", lambda protocol, rows: 2.0)
    before = contents(run.root)
    phone.configure(failure=failure)
    status, out, err = cli("bench", run.root, "--adb", "--protocol", "quick", "--json")
    assert status == 1 and out == "" and message in err and "Traceback" not in err
    assert contents(run.root) == before and phone.remaining() == []


def test_refusals_before_anything_is_pushed(
    cli: Cli, phone: Phone, tool: Path, run: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, message in (
        (["--threads", "9"], "must be between 1 and 8 (the phone's cores)"),
        (["--protocol", "fast"], "mlperf, quick, standard"),
        (["--data", run.manifest.data_root], "--adb takes neither"),
    ):
        status, _, err = cli("bench", run.root, "--adb", "--tool", tool, *arguments)
        assert status == 1 and message in err
    phone.configure(state="recovery")
    status, _, err = cli("bench", run.root, "--adb", "--tool", tool)
    assert status == 1 and "in the state 'recovery'" in err
    assert not [call for call in phone.calls() if call[0] == "push"]
    phone.configure()
    status, _, err = cli("bench", run.root, "--adb", "--tool", tool.with_name("none"))
    assert status == 1 and "no such file" in err and phone.remaining() == []
    status, _, err = cli("bench", run.root / FILES[0], "--adb")
    assert status == 1 and "a run, not a single file" in err
    monkeypatch.setenv("PATH", str(run.root))
    status, _, err = cli("bench", run.root, "--adb")
    assert status == 1 and "'adb', which is not installed" in err


def test_an_emulator_or_a_throttled_phone_is_not_trustworthy(cli: Cli, phone: Phone, tool: Path, run: Bundle) -> None:
    phone.configure(median=True, emulator=True, thermal=3)
    status, out, _ = cli("bench", run.root, "--adb", "--tool", tool, "--protocol", "quick", "--json")
    assert status == 0
    for row in json.loads(out)["rows"]:
        assert not row["trustworthy"] and row["reasons"] == [
            "an Android emulator, not a phone",
            "the phone was throttled for heat (thermal status 3)",
        ]


def test_a_run_whose_folder_looks_like_an_option(
    cli: Cli, phone: Phone, run: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.root.rename(run.root.with_name("-run 'é\""))
    monkeypatch.chdir(run.root.parent)
    status, _, err = cli("bench", "--adb", "--protocol", "quick", "--", "-run 'é\"")
    assert status == 0, err


def test_a_run_without_tflite_files(cli: Cli, phone: Phone, trained_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "bare")
    status, _, err = cli("bench", run, "--adb")
    assert status == 1 and "no exported model" in err


def test_statistics_are_of_the_last_block_and_in_milliseconds() -> None:
    output = (
        "count=1 curr=25000\ncount=50 first=14600 curr=14500 min=14400 max=15000 avg=14575.2 std=41\n"
        "Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, Inference (avg): 14575.2\n"
    )
    block = read_block(output, "phone")
    assert (block.n, block.mean_ms, block.median_ms) == (50, pytest.approx(14.5752), None)
    assert (block.load_ms, block.first_inference_ms) == (pytest.approx(5.685), pytest.approx(18.535))
    assert read_block(output.replace("std=41", "std=41 p5=1 median=14550 p95=2"), "").median_ms == pytest.approx(14.55)
    for odd in ("", "count=3 avg=x", output.splitlines()[1]):
        with pytest.raises(SkinedgeError, match="no known timings"):
            read_block(odd, "phone")
    assert median_interval(np.array([1.0, 2.0])) is None
