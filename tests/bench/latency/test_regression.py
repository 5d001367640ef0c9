"""skinedge compare: changes, refusals, budgets and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.core.errors import BundleError, ConfigError
from skinedge.run.run_directory import Bundle
from skinedge_bench.device import Device
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.regression import Budget, Regression, compare, read_report
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

Cli = Callable[..., tuple[int, str, str]]
FILES = ("model.int8.tflite", "model.fp32.tflite")
HERE = Device(
    machine="aarch64",
    cpu="Cortex-A76",
    system="Linux 6.1",
    python="3.11.7",
    features=("asimd", "asimddp"),
    int8_dot_product=True,
    cores=4,
    governor="performance",
    max_frequency_mhz=2400.0,
    emulated=None,
    virtualization=(),
    versions={"litert": "2.3.0", "onnxruntime": "1.32.0"},
)
PLAN = Protocol("standard", 30, 50, 20, 0.0)


def report(times: float = 1.0, seed: int = 0, **changes: Any) -> LatencyReport:
    """Return a report of two files of 4 and 9 ms, times `times`, in 20 blocks with 1 % noise; changes: of every row."""
    rng = np.random.default_rng(seed)
    rows = []
    for file, ms in zip(FILES, (4.0, 9.0), strict=True):
        blocks = tuple((ms * times * rng.normal(1, 0.01, 20)).tolist())
        plain = Row(file, "litert", file.split(".")[1], 1, 4_000_000, "0" * 64)
        given = {"p50_ms": float(np.median(blocks)), "block_medians_ms": blocks, "balanced_accuracy": 0.75, "n": 1000}
        rows.append(replace(plain, **{**given, "trustworthy": True, **changes}))
    return LatencyReport(HERE, PLAN, 0, tuple(rows), test_images="ab12")


def verdicts(found: Regression) -> list[str]:
    return [change.verdict for change in found.changes]


def gates(found: Regression, name: str) -> list[str]:
    return [gate.verdict for change in found.changes for gate in change.gates if gate.name == name]


def test_slower_faster_and_neither() -> None:
    assert verdicts(compare(report(), report(1.1, seed=1))) == ["slower", "slower"]
    assert verdicts(compare(report(), report(0.9, seed=1))) == ["faster", "faster"]
    found = compare(report(), report(seed=1))
    assert verdicts(found) == ["alike"] * 2
    assert all(change.slowdown.low < 1 < change.slowdown.high for change in found.changes)
    assert found.failures() == [] and found.changes[0].gates == ()  # no budget: nothing to exceed


def test_a_latency_budget_passes_fails_or_is_inconclusive() -> None:
    slower = report(1.1, seed=1)
    assert gates(compare(report(), slower, Budget(latency=20)), "latency") == ["pass", "pass"]
    beyond = compare(report(), slower, Budget(latency=5))
    assert gates(beyond, "latency") == ["fail", "fail"] and len(beyond.failures()) == 2
    assert "litert model.int8.tflite: latency 1.1" in beyond.failures()[0] and "at most 1.050" in beyond.failures()[0]
    few = replace(slower, rows=tuple(replace(r, block_medians_ms=r.block_medians_ms[:5]) for r in slower.rows))
    inconclusive = compare(report(), few, Budget(latency=10))
    assert "inconclusive" in gates(inconclusive, "latency") and inconclusive.failures() == []
    assert compare(report(), few, Budget(latency=10), strict=True).failures()


def test_distrusted_timings_are_inconclusive() -> None:
    noisy = report(2.0, trustworthy=False, reasons=("on battery",))
    found = compare(report(), noisy, Budget(latency=5))
    assert gates(found, "latency") == ["inconclusive"] * 2 and found.failures() == []
    assert found.changes[0].doubts == ("after: on battery",)
    assert len(compare(report(), noisy, Budget(latency=5), strict=True).failures()) == 2


def test_an_accuracy_budget_is_in_percentage_points() -> None:
    worse = report(balanced_accuracy=0.74)
    assert gates(compare(report(), worse, Budget(accuracy=1.0)), "accuracy") == ["pass"] * 2  # exactly at the limit
    found = compare(report(), worse, Budget(accuracy=0.5))
    assert gates(found, "accuracy") == ["fail"] * 2 and "fell by 1.00 points" in found.failures()[0]
    assert gates(compare(worse, report(), Budget(accuracy=0)), "accuracy") == ["pass"] * 2
    wrong = compare(report(), report(golden="fail"), Budget(accuracy=0.5))  # despite an equal accuracy
    assert gates(wrong, "accuracy") == ["fail"] * 2 and "golden vectors failed" in wrong.failures()[0]
    unknown = compare(report(), report(balanced_accuracy=None), Budget(accuracy=0.5))
    assert gates(unknown, "accuracy") == ["inconclusive"] * 2 and unknown.failures() == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"cpu": "Cortex-A72"}, "cpu"),
        ({"features": ("asimd",)}, "features"),
        ({"cores": 2}, "cores"),
        ({"python": "3.13.0"}, "python"),
        ({"governor": "powersave"}, "governor"),
        ({"virtualization": ("container",)}, "virtualization"),
        ({"versions": {"litert": "2.4.0", "onnxruntime": "1.32.0"}}, "litert version"),
    ],
)
def test_other_devices_and_environments_are_refused_and_listed(changed: dict[str, Any], name: str) -> None:
    other = replace(report(seed=1), device=replace(HERE, **changed))
    with pytest.raises(ConfigError, match=f"not of the same device and environment: {name}: ") as refused:
        compare(report(), other)
    assert f"--allow-different '{name}'" in (refused.value.todo or "")
    found = compare(report(), other, allowed=[name])
    assert list(found.differences) == [name] and verdicts(found) == ["alike"] * 2
    with pytest.raises(ConfigError, match="unknown environment figure 'weather'"):
        compare(report(), other, allowed=[name, "weather"])


def test_protocol_and_test_images_must_be_equal() -> None:
    quick = replace(report(seed=1), protocol=replace(PLAN, name="quick", block=20), test_images="other")
    with pytest.raises(ConfigError) as refused:
        compare(report(), quick)
    assert all(
        text in str(refused.value) for text in ("protocol: standard, then quick", "protocol block", "test_images")
    )
    allowed = ("protocol", "protocol block", "test_images")
    found = compare(report(), quick, Budget(accuracy=0.5), allowed=allowed)
    assert gates(found, "accuracy") == ["inconclusive"] * 2  # other images: not comparable


def test_an_unused_library_may_differ() -> None:
    other = replace(report(seed=1), device=replace(HERE, versions={"litert": "2.3.0", "torch": "2.14"}))
    assert compare(report(), other).differences == {}


def test_rows_of_only_one_report_are_named() -> None:
    before, after = report(), report(seed=1)
    renamed = replace(after.rows[1], file="model.int8.heatmap.tflite")
    found = compare(before, replace(after, rows=(after.rows[0], renamed)), Budget(latency=5))
    assert found.lost == ("litert model.fp32.tflite",) and found.added == ("litert model.int8.heatmap.tflite",)
    assert found.failures() == [] and len(found.changes) == 1
    strict = compare(before, replace(after, rows=(after.rows[0],)), Budget(latency=5), strict=True)
    assert strict.failures() == ["litert model.fp32.tflite: not measured any more"]
    two_threads = replace(after, rows=tuple(replace(row, threads=2) for row in after.rows))
    with pytest.raises(ConfigError, match="no timed file in common"):
        compare(before, two_threads)


def test_a_report_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "pi.json"
    path.write_text(report().to_text())
    found = compare(report(), read_report(path))
    assert [change.slowdown.value for change in found.changes] == [1.0, 1.0]
    assert found.document()["passed"] is True


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": "skinedge.verify/1"}', '{"schema": "skinedge.bench/1"}']
)
def test_other_documents_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(BundleError, match="report of bench") as refused:
        read_report(path)
    assert refused.value.where == str(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("device",), []),
        (("device",), None),
        (("device", "versions"), "2.3.0"),
        (("device", "cores"), "four"),
        (("conditions", "before"), 5),
        (("protocol",), "standard"),
        (("rows",), None),
        (("rows",), ["model.int8.tflite"]),
        (("rows", 0, "p50_ms"), "fast"),
        (("rows", 0, "block_medians_ms"), [4.0, "4.1"]),
        (("rows", 0, "reasons"), "noisy"),
        (("rows", 0, "balanced_accuracy"), True),
        (("rows", 0, "weather"), "fine"),
        (("samples_ms",), {"litert model.int8.tflite": [4.0]}),
    ],
)
def test_a_report_with_a_wrong_field_is_refused(
    cli: Cli, tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    path, document = tmp_path / "report.json", json.loads(report().to_text())
    within: Any = document
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    path.write_text(json.dumps(document))
    code, out, err = cli("compare", path, path)
    assert code == 1 and out == "" and f"{path}: a damaged report of bench" in err and "Traceback" not in err


def test_missing_reports(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(BundleError, match="no such report"):
        read_report(tmp_path / "none.json")
    with pytest.raises(BundleError, match="not benchmarked"):
        read_report(tiny_run)


def test_the_command_checks_budgets(cli: Cli, tmp_path: Path) -> None:
    """Exit code 1 beyond the budget, after the table; 0 within; only JSON with --json."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, saved in zip(paths, (report(), report(1.1, seed=1, balanced_accuracy=0.744)), strict=True):
        path.write_text(saved.to_text())
    code, out, err = cli("compare", *paths)
    assert code == 0 and "slower" in out and "model.int8.tflite" in out and err == ""
    code, out, err = cli("compare", *paths, "--budget-latency", "5", "--budget-accuracy", "0.5")
    assert code == 1 and "slower" in out and "beyond the budget" in err and "0.60 points" in err
    code, out, err = cli("compare", *paths, "--budget-latency", "5", "--json")
    document = json.loads(out)
    assert code == 1 and document["schema"] == "skinedge.bench-compare/1" and document["passed"] is False
    first = document["changes"][0]
    assert first["verdict"] == "slower" and first["slowdown"] == pytest.approx(1.1, abs=0.02) and first["p"] < 0.01
    assert first["gates"][0]["verdict"] == "fail" and first["before"]["p50_ms"] < first["after"]["p50_ms"]
    assert cli("compare", *paths, "--budget-latency", "20", "--budget-accuracy", "1")[0] == 0
    paths[1].write_text(replace(report(), device=replace(HERE, cpu="Cortex-A72")).to_text())
    code, out, err = cli("compare", *paths)
    assert code == 1 and out == "" and "Cortex-A76, then Cortex-A72" in err and "--allow-different 'cpu'" in err
    assert cli("compare", *paths, "--allow-different", "cpu")[0] == 0


def test_the_former_name_of_the_command(cli: Cli, tmp_path: Path, tiny_run: Path) -> None:
    """`bench --compare A B` still works, and prints a note with the new name."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, saved in zip(paths, (report(), report(1.1, seed=1)), strict=True):
        path.write_text(saved.to_text())
    options = ("--budget-latency", "5", "--json")
    expected = cli("compare", *paths, *options)
    note = "'skinedge bench --compare A B' is deprecated: use 'skinedge compare A B'"
    code, out, err = cli("bench", "--compare", *paths, *options)
    assert (code, out) == expected[:2] == (1, expected[1]) and err.startswith(note) and err.endswith(expected[2])
    code, out, err = cli("bench", "--budget-latency=20", f"--compare={paths[0]}", paths[1])
    assert code == 0 and "slower" in out and err.startswith(note)
    for wrong in (("bench", tiny_run, "--compare", *paths), ("bench", "--compare", paths[0])):
        code, out, err = cli(*wrong)
        assert code == 1 and out == "" and "skinedge compare" in err


def test_options_of_a_measurement_are_refused(cli: Cli, tmp_path: Path, tiny_run: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(report().to_text())
    code, out, err = cli("bench", tiny_run, "--budget-latency", "5")
    assert code == 1 and out == "" and "--budget-latency" in err
    for options in (("--out", tmp_path / "c.json"), ("--runtime", "litert"), ("--protocol", "standard"), ("--adb",)):
        code, out, err = cli("compare", path, path, *options)
        assert code == 1 and out == "" and str(options[0]) in err
    assert not (tmp_path / "c.json").exists()
    assert cli("compare", path, path, "--budget-latency", "5%")[0] == 0
    for text in ("-1", "much", "nan"):
        code, _, err = cli("compare", path, path, f"--budget-latency={text}")
        assert code == 1 and text in err


def test_a_run_compared_with_its_own_report(cli: Cli, run: Bundle) -> None:
    assert cli("bench", run.root, "--protocol", "quick", "--runtime", "litert")[0] == 0
    code, out, _ = cli("compare", run.root, run.root / "reports" / "latency.json", "--json")
    document = json.loads(out)
    assert code == 0 and len(document["changes"]) == 2 and document["differences"] == {}
    for change in document["changes"]:
        assert change["slowdown"] == 1.0 and change["balanced_accuracy_fall"] == 0.0
