"""The default run of commands, and the bundled model, which is never written to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from examples import TRAINING, manifest

from skinedge.core.errors import BundleError, ConfigError
from skinedge.publish import bundled_model
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle, newest
from skinedge.training.job import find_unfinished

ID = "20260101T000000-abcd"


def make(root: Path, **changes: object) -> Path:
    root.mkdir(parents=True)
    Bundle.create(root, manifest(root.name, **{"data_root": "", "license": "CC-BY-NC-4.0", **changes}))
    return root


def pack(root: Path, **changes: object) -> Path:
    with Bundle.open(make(root, **changes)).stage("ship", "test", {}) as stage:
        stage.path("MODEL_CARD.md").write_text("card")
        stage.path("adapter/weights").write_bytes(b"weights")
    return root


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed model as the bundled one, and an empty working folder."""
    root = pack(tmp_path / "packed", id=ID)
    monkeypatch.setenv(bundled_model.VARIABLE, str(root))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_default_without_runs_is_the_bundled_model_with_a_note(
    packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundled_model.default_run(allow_synthetic=False)
    assert bundle.root == packed and bundle.read_only and bundle.reload().read_only
    output = capsys.readouterr()
    assert "ships with skinedge" in output.err and "CC-BY-NC-4.0" in output.err and "not a medical device" in output.err
    assert output.out == ""
    assert not Path("runs").exists()


def test_the_users_own_run_is_preferred(packed: Path) -> None:
    make(Path("runs/mine"))
    assert bundled_model.default_run(writes=True).root == Path("runs/mine")
    assert not list(Path("runs").glob("shipped-*"))


def test_a_synthetic_run_is_preferred_only_if_synthetic_runs_are_allowed(packed: Path) -> None:
    make(Path("runs/synthetic"), synthetic=True)
    assert bundled_model.default_run().root == Path("runs/synthetic")
    assert bundled_model.default_run(allow_synthetic=False).root == packed


def test_a_synthetic_bundled_model_is_used_only_if_synthetic_runs_are_allowed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(bundled_model.VARIABLE, str(pack(tmp_path / "synthetic", synthetic=True)))
    assert bundled_model.default_run().manifest.synthetic
    with pytest.raises(BundleError, match="no complete run"):
        bundled_model.default_run(allow_synthetic=False)


def test_the_bundled_model_is_read_only(packed: Path) -> None:
    before = contents(packed)
    bundle = bundled_model.find()
    assert bundle is not None
    with pytest.raises(BundleError, match="ships with skinedge"), bundle.stage("bench", "test", {}) as stage:
        stage.path("reports/latency.json").write_text("{}")
    assert contents(packed) == before


def test_commands_that_write_use_one_copy_and_so_do_later_commands(packed: Path) -> None:
    before = contents(packed)
    copy = bundled_model.default_run(writes=True)
    assert copy.root.parent == Path("runs") and ID in copy.root.name and not copy.read_only
    assert contents(copy.root) == {k: v for k, v in before.items() if k != ".manifest.lock"}
    with copy.stage("bench", "test", {}) as stage:
        stage.path("reports/latency.json").write_text("{}")
    for writes in (True, False):
        assert bundled_model.default_run(allow_synthetic=False, writes=writes).has("reports/latency.json")
    assert contents(packed) == before
    assert [path.name for path in Path("runs").iterdir()] == [copy.root.name]


def test_a_copy_does_not_count_as_the_users_own_run(packed: Path) -> None:
    bundled_model.default_run(writes=True)
    with pytest.raises(BundleError, match="no complete run"):
        newest()
    with pytest.raises(ConfigError, match="no unfinished training"):
        find_unfinished()
    make(Path("runs/mine"), created_at="2020-01-01")
    assert bundled_model.default_run().root == Path("runs/mine")


def test_a_copy_of_an_older_bundled_model_does_not_hide_a_newer_one(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled_model.default_run(writes=True)
    newer, repacked = pack(tmp_path / "newer", id="20270101T000000-ef01"), pack(tmp_path / "repacked", id=ID)
    for model in (newer, repacked):
        monkeypatch.setenv(bundled_model.VARIABLE, str(model))
        assert bundled_model.default_run().root == model


def test_a_changed_file_is_not_copied_and_nothing_is_left(packed: Path) -> None:
    (packed / "adapter" / "weights").write_bytes(b"other")
    with pytest.raises(BundleError, match="does not match the hash"):
        bundled_model.default_run(writes=True)
    assert list(Path("runs").iterdir()) == []


def test_a_package_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled_model, "FOLDER", tmp_path / "flagship")
    for value in (None, ""):
        monkeypatch.delenv(bundled_model.VARIABLE) if value is None else monkeypatch.setenv(
            bundled_model.VARIABLE, value
        )
        assert bundled_model.find() is None
        with pytest.raises(BundleError, match=r"no complete run under runs/, and no model ships with this package"):
            bundled_model.default_run()
    pack(tmp_path / "flagship")
    assert bundled_model.find() is None  # the variable is still empty
    monkeypatch.delenv(bundled_model.VARIABLE)
    assert bundled_model.find() is not None


def test_a_named_folder_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(bundled_model.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match="no such run"):
        bundled_model.default_run()


def test_an_unpacked_run_is_refused_as_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(bundled_model.VARIABLE, str(make(tmp_path / "unpacked")))
    with pytest.raises(BundleError, match="not a packed model"):
        bundled_model.default_run(writes=True)
    assert not Path("runs").exists()


def test_the_bundled_folder_is_read_only_even_if_named(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skinedge.cli.common import pick_run

    monkeypatch.setattr(bundled_model, "FOLDER", pack(tmp_path / "flagship"))
    for folder in (packed, bundled_model.FOLDER):
        assert pick_run(folder, writes=True).root.parent == Path("runs")
        assert pick_run(folder).root == folder
        assert (folder / MANIFEST).is_file()


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"schema": "skinedge.verify/1"}', '{"schema": "skinedge.evaluate/1"}']
)
def test_another_file_than_an_evaluation_is_refused(tmp_path: Path, content: str | None) -> None:
    from skinedge.api import read_evaluation

    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(BundleError, match="not an evaluation"):
        read_evaluation(tmp_path)


def test_a_failed_ship_gives_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from skinedge.cli import main

    make(tmp_path / "run", training=TRAINING)
    monkeypatch.setattr(
        sys, "argv", ["skinedge", "ship", str(tmp_path / "run"), "--to", str(tmp_path / "out"), "--json"]
    )
    with pytest.raises(SystemExit) as end:
        main()
    output = capsys.readouterr()
    assert end.value.code == 1 and output.out == ""
    assert "this run has no int8 file" in output.err and "skinedge export --int8" in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
