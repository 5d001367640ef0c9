"""Two classes swapped in any part of a run, with updated hashes: never verified, packed or reported."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import class_edits as edits
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.data.dataset import Sample, read_split
from skinedge.publish import bundled_model
from skinedge.run import class_order
from skinedge.run.class_order import (
    Reference,
    check_folder,
    check_manifest,
    check_reference,
    check_run,
    read_reference,
    taxonomy_warnings,
)
from skinedge.run.manifest import MANIFEST, Manifest, manifest_text
from skinedge.run.run_directory import Bundle

Edit = Callable[[Path, int, int], None]


SUBSETS = [subset for size in range(1, len(edits.PLACES) + 1) for subset in itertools.combinations(edits.PLACES, size)]


@pytest.fixture(scope="module")
def original() -> Bundle:
    if not (bundled_model.FOLDER / MANIFEST).is_file():
        pytest.skip("no model ships with this checkout")
    return Bundle.open(bundled_model.FOLDER)


@pytest.fixture
def packed(original: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.root, tmp_path / "packed"))


def names(subset: tuple[Edit, ...]) -> str:
    return "+".join(edit.__name__.removeprefix("in_") for edit in subset)


@pytest.mark.parametrize("subset", SUBSETS, ids=names)
def test_swapped_classes_are_refused_in_every_combination_of_parts(packed: Path, subset: tuple[Edit, ...]) -> None:
    i, j = random.Random(names(subset)).sample(range(7), 2)
    for edit in subset:
        edit(packed, i, j)
    edits.with_right_hashes(packed)
    bundle = Bundle.open(packed)
    for name in bundle.entries():
        bundle.file(name)  # every hash matches
    with pytest.raises(BundleError):
        check_run(bundle)


@pytest.mark.parametrize("edit", [edits.in_reference_labels, edits.in_reference_logits])
def test_a_partly_edited_reference_is_refused(packed: Path, edit: Edit) -> None:
    edit(packed, 4, 5)
    edits.with_right_hashes(packed)
    with pytest.raises(BundleError):
        check_run(Bundle.open(packed))


def test_updating_the_hashes_changes_nothing_else(packed: Path) -> None:
    edits.with_right_hashes(packed)
    check_run(Bundle.open(packed))


@pytest.mark.parametrize(("i", "j"), list(itertools.combinations(range(7), 2)))
def test_every_swap_in_manifest_and_reference_contradicts_the_split(original: Bundle, i: int, j: int) -> None:
    samples, reference = read_split(original.file("split.csv")), read_reference(original)
    labels = tuple(edits.swapped(list(original.manifest.labels), i, j))
    manifest = replace(original.manifest, labels=labels)
    with pytest.raises(BundleError, match=r"split\.csv"):
        check_manifest(manifest, samples)
    with pytest.raises(BundleError, match=r"in split\.csv"):
        check_reference(reference, manifest, samples, "reference.npz")


@given(st.data())
def test_a_wrong_label_of_any_image_is_refused(data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=5, unique=True).map(sorted))
    truth = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=8))
    samples = [Sample(f"i{number}", f"i{number}.png", label, "", "test", "") for number, label in enumerate(truth)]
    indices = np.array([labels.index(label) for label in truth])
    manifest = replace(some_manifest(), labels=tuple(labels))
    logits = np.zeros((len(truth), len(labels)), dtype=np.float32)
    ids = tuple(sample.image_id for sample in samples)
    check_reference(Reference(ids, indices, logits), manifest, samples, "reference.npz")
    image = data.draw(st.integers(0, len(truth) - 1))
    wrong = indices.copy()
    wrong[image] = data.draw(st.integers(-9, 9).filter(lambda index: index != indices[image]))
    with pytest.raises(BundleError):
        check_reference(Reference(ids, wrong, logits), manifest, samples, "reference.npz")


def some_manifest() -> Manifest:
    return Manifest.read(bundled_model.FOLDER / MANIFEST)


def changed(packed: Path, **changes: object) -> Bundle:
    bundle = Bundle.open(packed)
    (packed / MANIFEST).write_text(manifest_text(replace(bundle.manifest, **changes)))
    return bundle.reload()


def test_synthetic_and_real_images_are_not_confused(packed: Path) -> None:
    with pytest.raises(BundleError, match="synthetic"):
        check_run(changed(packed, synthetic=True))  # files and cards declare real images
    synthetic = [Sample("SYNTHETIC_S1_0000001", "a.png", label, "", "test", "") for label in some_manifest().labels]
    with pytest.raises(BundleError, match="lists synthetic images"):
        check_manifest(some_manifest(), synthetic)


def test_a_group_or_melanoma_label_that_contradicts_the_taxonomy_is_a_warning(packed: Path) -> None:
    manifest = some_manifest()
    assert taxonomy_warnings(manifest) == ()
    benign = {**manifest.taxonomy, "mel": "benign"}
    (warning,) = taxonomy_warnings(replace(manifest, taxonomy=benign))
    assert "'mel' counts as benign in this run, as malignant in the taxonomy" in warning
    warnings = taxonomy_warnings(replace(manifest, melanoma="nv"))
    assert any("'mel' means melanoma" in line for line in warnings) and len(warnings) == 2


def test_labels_of_the_folder_and_the_split_are_compared(tmp_path: Path) -> None:
    samples = []
    for label in ("mel", "nv"):
        (tmp_path / label).mkdir()
        for number in range(2):
            (tmp_path / label / f"{number}.png").write_bytes(b"not read here")
            samples.append(Sample(str(number), f"{label}/{number}.png", label, "", "test", ""))
    assert check_folder(samples, tmp_path) is None
    wrong = [replace(sample, label="nv") for sample in samples]
    with pytest.raises(BundleError, match=r"mel/0\.png is mel in the folder, nv in split\.csv"):
        check_folder(wrong, tmp_path)
    shutil.rmtree(tmp_path / "nv")
    assert "cannot be read" in (check_folder(samples, tmp_path) or "")


def verified(bundle: Bundle) -> bool:
    from skinedge_bench.verify.verify import verify

    return verify(bundle).passed


def shipped_again(bundle: Bundle) -> bool:
    from skinedge.publish.package import ship

    return ship(bundle, bundle.root.with_name("again")).manifest.shipped


def reported(bundle: Bundle) -> bool:
    from skinedge_bench.report.draw import ReportRequest, draw

    return bool(draw(bundle, ReportRequest(), "notice").html)


def refuses(command: Callable[[Bundle], bool], bundle: Bundle) -> bool:
    try:
        return not command(bundle)
    except SkinedgeError:
        return True


@pytest.mark.parametrize("command", [verified, shipped_again, reported])
@pytest.mark.parametrize(
    "subset",
    [(), edits.PLACES[:4], (edits.in_files,), (edits.in_cards,), (edits.in_reference_logits,), (edits.in_thresholds,)],
    ids=names,
)
def test_every_command_refuses_swapped_classes(
    packed: Path, command: Callable[[Bundle], bool], subset: tuple[Edit, ...]
) -> None:
    for edit in subset:
        edit(packed, 4, 5)
    edits.with_right_hashes(packed)
    assert refuses(command, Bundle.open(packed)) == bool(subset)


@pytest.mark.parametrize("text", ["[{[]: 1}]", "[{[]}]", "[" * 500, "[1, 2", "[" + "1," * 50_000 + "]"])
def test_an_invalid_label_list_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="neither JSON nor a Python list"):
        class_order.label_lines(text)
