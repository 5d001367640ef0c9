"""A packaged run: its files, its card and verification without images; and runs that are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skinedge.core.errors import BundleError, GateError, SkinedgeError
from skinedge.data.licensing import HAM10000, NON_COMMERCIAL
from skinedge.publish import bundled_model
from skinedge.publish.package import Evaluation, ship
from skinedge.run.file_card import read_description
from skinedge.run.golden import outputs_name
from skinedge.run.manifest import MODEL, manifest_text
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency.bench import bench
from skinedge_bench.latency.targets import BenchRequest
from skinedge_bench.loaded_model import open_listed
from skinedge_bench.verify.verify import verify
from skinedge_export.export import export
from skinedge_export.target import export_targets

INT8 = ["model.int8.onnx", "model.int8.tflite"]


@pytest.fixture(scope="session")
def verified_run(exported_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all files, verified on its test images. Shared: copy it before changing anything."""
    root = Path(shutil.copytree(exported_run, tmp_path_factory.mktemp("verified") / "run"))
    verify(Bundle.open(root))
    return root


@pytest.fixture
def run(verified_run: Path, tmp_path: Path) -> Bundle:
    """A private copy of the verified run."""
    return Bundle.open(Path(shutil.copytree(verified_run, tmp_path / "run")))


@pytest.fixture
def packed(run: Bundle, tmp_path: Path) -> Bundle:
    return ship(run, tmp_path / "packed")


def change_manifest(bundle: Bundle, **changes: object) -> Bundle:
    (bundle.root / "manifest.json").write_text(manifest_text(replace(bundle.manifest, **changes)))
    return bundle.reload()


def test_a_packaged_run_has_exactly_these_files(run: Bundle, packed: Bundle) -> None:
    there = {path.relative_to(packed.root).as_posix() for path in packed.root.rglob("*") if path.is_file()}
    assert there == {
        "manifest.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "split.csv",
        "golden.npz",
        "reference.npz",
        *INT8,
        *(f"{name}.skinedge.json" for name in INT8),
        *(outputs_name(name) for name in INT8),
        "reports/thresholds.json",
        "reports/parity.json",
        "MODEL_CARD.md",
        "LICENSE",
    }
    assert there - {"manifest.json"} == set(packed.entries())
    for name in packed.entries():
        packed.file(name)  # its hash is right
    for name in (*INT8, "golden.npz", "split.csv"):
        assert (packed.root / name).read_bytes() == (run.root / name).read_bytes()
    manifest = packed.manifest
    assert manifest.shipped and not run.manifest.shipped and manifest.data_root == ""
    assert set(manifest.thresholds) == {"default", *INT8} and manifest.default_file == "model.int8.tflite"
    assert packed.model_sha256 == run.entries()[MODEL].sha256


def test_it_contains_no_path_of_this_machine_and_no_image(run: Bundle, packed: Bundle, tmp_path: Path) -> None:
    images = Path(run.manifest.data_root)
    some = [path.read_bytes()[:512] for path in sorted(images.glob("*.png"))]
    for path in packed.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for place in (images, tmp_path, Path.cwd(), Path.home()):
                assert str(place).encode() not in content, path
            assert not any(image in content for image in some), path


def test_both_files_the_folder_and_the_card_state_the_licence(packed: Bundle) -> None:
    for name in INT8:
        said = read_description(packed.root / name)
        assert (said.license, said.attribution) == (NON_COMMERCIAL, HAM10000)
    text = (packed.root / "LICENSE").read_text()
    card = (packed.root / "MODEL_CARD.md").read_text()
    assert NON_COMMERCIAL in text and HAM10000 in text and text.strip() in card
    for section in ("Intended use", "Data", "Metrics", "int8 against PyTorch", "Limits", "Training", "Licence"):
        assert f"\n## {section}\n" in card
    assert "SYNTHETIC" in card and "skin tone is unknown" in card and "not a medical device" in card


def test_the_cards_figures_are_those_of_the_parity_report(run: Bundle, packed: Bundle) -> None:
    report = json.loads((run.root / "reports" / "parity.json").read_text())
    card = (packed.root / "MODEL_CARD.md").read_text()
    for name in INT8:
        found = report["files"][name]["metrics"]
        row = f"{found['accuracy']:.3f} | {found['balanced_accuracy']:.3f} | {found['macro_auc']:.3f}"
        assert re.search(rf"\| {re.escape(name)} \| {found['n']} \| {re.escape(row)}", card)


def test_it_runs_without_images_and_reports_what_was_not_checked(
    packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(bundled_model.VARIABLE, str(packed.root))
    monkeypatch.chdir(tmp_path)
    assert open_listed(bundled_model.find()).name == "model.int8.tflite"
    before = {path: path.read_bytes() for path in packed.root.rglob("*") if path.is_file()}
    copy = bundled_model.default_run(writes=True)
    report = verify(copy)
    said = capsys.readouterr().err
    assert report.passed and report.unmeasured
    assert "none of the 7 test images is here (--data DIR): only the golden vectors were replayed" in report.images
    assert "reports/parity.json is kept" in said
    gates = {gate.name: gate.verdict for gate in report.files[1].gates}
    assert (gates["same_model"], gates["description"], gates["golden_finite"]) == ("pass", "pass", "pass")
    assert gates["agreement"] == "not measured"
    rows = bench(copy.reload(), BenchRequest("quick")).rows
    assert [row.file for row in rows] == INT8
    assert all(row.balanced_accuracy is not None for row in rows)  # of the parity report that travelled with it
    assert {path: path.read_bytes() for path in packed.root.rglob("*") if path.is_file()} == before


def test_with_the_images_it_verifies_completely(run: Bundle, packed: Bundle) -> None:
    report = verify(packed, Path(run.manifest.data_root))
    assert report.passed and not report.unmeasured
    assert [file.name for file in report.files if file.figures] == INT8


def test_a_file_of_another_model_is_detected(packed: Bundle) -> None:
    entries = packed.manifest.stages["merge"].files
    other = tuple(replace(e, made_from={**e.made_from, "model": "0" * 64}) for e in entries)
    stages = {**packed.manifest.stages, "merge": replace(packed.manifest.stages["merge"], files=other)}
    changed = change_manifest(packed, stages=stages)
    assert not verify(changed).passed
    with pytest.raises(BundleError, match="another merged model"):
        open_listed(changed)


def test_commands_that_need_images_fail_and_change_nothing(packed: Bundle) -> None:
    from skinedge.stats.calibration import Reading

    before = {path: path.read_bytes() for path in packed.root.rglob("*") if path.is_file()}
    with pytest.raises(SkinedgeError, match="--data DIR"):
        export(packed, export_targets(("onnx",)), reading=Reading(sensitivity=0.5))
    assert {p: p.read_bytes() for p in packed.root.rglob("*") if p.is_file() and p.name != ".manifest.lock"} == before


def evaluation(run: Bundle, **changes: object) -> Evaluation:
    known = {
        "model_sha256": run.entries()["model.int8.tflite"].sha256,
        "split": "test",
        "contaminated": 0,
        "per_class": {label: {"support": 1} for label in run.manifest.labels},
        "malignant": {"threshold": run.manifest.thresholds["model.int8.tflite"]},
    }
    return Evaluation({"schema": "skinedge.evaluate/1", **known, **changes}, "# t\n\nnotice\n\n## Overall\n\nfigures")


def test_an_evaluation_is_added_to_the_card(run: Bundle, tmp_path: Path) -> None:
    packed = ship(run, tmp_path / "packed", evaluation(run))
    card = packed.file("MODEL_CARD.md").read_text()
    assert "## Metrics\n\nnotice\n\n### Overall\n\nfigures\n\n## int8" in card
    assert json.loads(packed.file("reports/evaluation.json").read_text())["split"] == "test"


def unverified(run: Bundle) -> Bundle:
    stages = {name: stage for name, stage in run.manifest.stages.items() if name != "verify"}
    return change_manifest(run, stages=stages)


def verified_without_images(run: Bundle) -> Bundle:
    bundle = change_manifest(unverified(run), data_root=str(run.root / "gone"))
    verify(bundle)
    return bundle.reload()


def over_a_file_of_ones_own(run: Bundle) -> Bundle:
    config = {**run.manifest.training["config"], "weights": "mine.pth"}
    return change_manifest(run, training={**run.manifest.training, "config": config})


def report_changed(run: Bundle, old: str, new: str) -> Bundle:
    """Change the parity report as if `verify` had written `new`."""
    text = run.file("reports/parity.json").read_text()
    assert old in text
    with run.stage("verify", "test", run.entries()["reports/parity.json"].made_from) as stage:
        stage.path("reports/parity.json").write_text(text.replace(old, new))
    return run.reload()


def with_another_threshold(run: Bundle) -> Bundle:
    """Change the threshold, as `export --sensitivity` does, for the same files."""
    return change_manifest(run, thresholds={**run.manifest.thresholds, INT8[0]: 0.5})


def merged_on_another_cpu(run: Bundle) -> Bundle:
    """Merge on another CPU: the manifest accepts the network through a file that is not packaged."""
    entries = run.manifest.stages["merge"].files
    there = run.model_sha256
    files = tuple(replace(e, sha256="0" * 64, info={"same_as": there}) if e.path == MODEL else e for e in entries)
    changed = change_manifest(
        run, stages={**run.manifest.stages, "merge": replace(run.manifest.stages["merge"], files=files)}
    )
    assert all(changed.fits_model(entry) for entry in changed.model_files())
    return changed


def fp32_alone(run: Bundle) -> Bundle:
    stages = {name: stage for name, stage in run.manifest.stages.items() if "int8" not in name}
    return change_manifest(run, stages=stages)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (unverified, GateError, "not verified"),
        (verified_without_images, GateError, "not verified on the test images"),
        (lambda run: report_changed(run, '"passed": true', '"passed": false'), GateError, "verify refused the file"),
        (lambda run: report_changed(run, run.entries()[INT8[0]].sha256, "0" * 64), GateError, "not verified on the"),
        (over_a_file_of_ones_own, BundleError, "the base weights are the local file"),
        (with_another_threshold, GateError, "other thresholds"),
        (merged_on_another_cpu, BundleError, "another merged model"),
        (fp32_alone, BundleError, "no int8 file"),
        (lambda run: change_manifest(run, license="MIT"), BundleError, "does not match the manifest"),
        (
            lambda run: change_manifest(run, attribution=f"him in {Path.home()}/x"),
            BundleError,
            "does not match the manifest",
        ),
    ],
)
def test_an_unfit_run_is_refused_and_nothing_is_left(
    run: Bundle, tmp_path: Path, change: Callable[[Bundle], Bundle], error: type[SkinedgeError], said: str
) -> None:
    changed = change(run)
    with pytest.raises(error, match=said):
        ship(changed, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_path_of_this_machine_is_refused_in_any_file(run: Bundle, tmp_path: Path) -> None:
    hidden = report_changed(
        run, '"passed": true,\n  "strict"', f'"passed": true,\n  "at": "{Path.cwd()}/x",\n  "strict"'
    )
    with pytest.raises(BundleError, match="would contain the local path"):
        ship(hidden, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "0" * 64},
        {"split": "all"},
        {"contaminated": 3},
        {"contaminated": None},
        {"per_class": {"mel": {"support": 9}}},  # the test folder of somebody else's images
        {"malignant": {"threshold": 0.123}},
    ],
)
def test_an_evaluation_of_something_else_is_refused(run: Bundle, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=r"evaluation is (of another|not of the run's own|at another threshold)"):
        ship(run, tmp_path / "packed", evaluation(run, **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_report_of_earlier_files_is_left_out(run: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run.stage("thresholds", "test", {INT8[0]: "0" * 64}) as stage:
        stage.path("reports/thresholds.json").write_text('{"files": {}}')
    assert not ship(run.reload(), tmp_path / "packed").has("reports/thresholds.json")
    assert "leaving out reports/thresholds.json: made from other files" in capsys.readouterr().err


def test_the_current_folder_can_be_the_destination(
    run: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert ship(run, Path()).root == tmp_path / "here"


def test_only_a_packaged_model_is_replaced_and_only_with_force(run: Bundle, packed: Bundle) -> None:
    with pytest.raises(BundleError, match="exists"):
        ship(run, packed.root)
    assert ship(run, packed.root, force=True).manifest.shipped
    with pytest.raises(BundleError, match="not a packed model"):
        ship(run, run.root, force=True)
    assert run.reload().has(MODEL)
