"""skinedge evaluate: the figures, the run's memory of what it has seen, and labels by other names."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from PIL import Image

from skinedge.bundle import Bundle
from skinedge.data.dataset import Sample, load_pixels, read_split
from skinedge.errors import DataError
from skinedge.preprocess import prepare
from skinedge_bench.evaluate import map_labels, origin
from skinedge_bench.model import open_listed

Cli = Callable[..., tuple[int, str, str]]
FULL_NAMES = {
    "akiec": "Actinic keratosis",
    "bcc": "Basal cell carcinoma",
    "bkl": "Benign keratosis",
    "df": "Dermatofibroma",
    "mel": "Melanoma",
    "nv": "Melanocytic nevi",
    "vasc": "Vascular lesion",
}


@pytest.fixture(scope="module")
def split(tiny_run: Path) -> tuple[Sample, ...]:
    return read_split(tiny_run / "split.csv")


@pytest.fixture(scope="module")
def folders(tiny_run: Path, split: tuple[Sample, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's own images, all splits, as class folders."""
    out = tmp_path_factory.mktemp("folders")
    root = Path(Bundle.open(tiny_run).manifest.data_root)
    for sample in split:
        (out / sample.label).mkdir(exist_ok=True)
        shutil.copy(root / sample.path, out / sample.label / Path(sample.path).name)
    return out


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    """New images of three of the classes, under names that a clinic would use."""
    rng = np.random.default_rng(5)
    for label, count in (("mel", 3), ("nv", 4), ("bcc", 2)):
        folder = tmp_path / "unseen" / FULL_NAMES[label]
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (70, 80, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"clinic-{label}-{index}.png")
    return tmp_path / "unseen"


def test_an_archive_given_as_a_file_is_judged(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = rng.integers(0, 256, (7, 28, 28, 3), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(7, dtype=np.uint8)[:, None]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    code, out, err = cli("evaluate", tiny_run, "--data", tmp_path / "dermamnist.npz", "--split", "all", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 21


def test_the_document_against_scikit_learn(cli: Cli, tiny_run: Path, folders: Path, split: tuple[Sample, ...]) -> None:
    code, out, err = cli("evaluate", tiny_run, "--data", folders, "--json")
    document = json.loads(out)
    assert code == 0 and "split: test" in err

    bundle = Bundle.open(tiny_run)
    model, labels = open_listed(bundle), bundle.manifest.labels
    test = [sample for sample in split if sample.split == "test"]
    root = Path(bundle.manifest.data_root)
    pixels = np.stack([prepare(load_pixels(root, sample.path), model.size) for sample in test])
    truth = np.array([labels.index(sample.label) for sample in test])
    probabilities = model.run(pixels).probabilities.astype(np.float64)
    predicted = probabilities.argmax(axis=1)

    assert document["schema"] == "skinedge.evaluate/1" and document["model_sha256"] == model.sha256
    assert document["n"] == len(test) and document["classes"] == list(labels) and document["split"] == "test"
    assert document["contaminated"] == 0 and document["seen"] == {}
    assert document["accuracy"] == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert document["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, predicted))
    assert document["confusion"] == oracle.confusion_matrix(truth, predicted, labels=range(len(labels))).tolist()
    for index, label in enumerate(labels):
        said = document["per_class"][label]
        assert said["support"] == int((truth == index).sum())
        assert said["auc"] == pytest.approx(oracle.roc_auc_score(truth == index, probabilities[:, index]))
    score = probabilities[:, list(bundle.manifest.malignant)].sum(axis=1)
    positive = np.isin(truth, bundle.manifest.malignant)
    threshold = document["malignant"]["threshold"]
    assert document["malignant"]["auc"] == pytest.approx(oracle.roc_auc_score(positive, score))
    assert document["malignant"]["sensitivity"] == pytest.approx((score[positive] >= threshold).mean())
    assert document["malignant"]["specificity"] == pytest.approx((score[~positive] < threshold).mean())


def test_images_of_training_stop_it_and_allow_train_marks_it(
    cli: Cli, tiny_run: Path, folders: Path, split: tuple[Sample, ...]
) -> None:
    counts = Counter(sample.split for sample in split)
    code, out, err = cli("evaluate", tiny_run, "--data", folders, "--split", "all", "--json")
    assert code == 1 and out == "" and f"trained on {counts['train']} of these" in err and "--allow-train" in err
    code, out, _ = cli("evaluate", tiny_run, "--data", folders, "--split", "all", "--allow-train", "--json")
    document = json.loads(out)
    assert code == 0 and document["n"] == len(split) and document["contaminated"] == counts["train"]
    assert document["seen"] == {place: counts[place] for place in ("cal", "train", "val") if counts[place]}
    assert cli("evaluate", tiny_run, "--data", folders, "--split", "train")[0] == 1


def test_validation_images_are_said_to_be_seen(cli: Cli, tiny_run: Path, folders: Path) -> None:
    code, out, err = cli("evaluate", tiny_run, "--data", folders, "--split", "val")
    assert code == 0 and "influenced choices" in err and "not a medical device" in out


def test_the_runs_own_folder_needs_no_data(cli: Cli, tiny_run: Path, folders: Path) -> None:
    code, out, _ = cli("evaluate", tiny_run, "--json")
    again = json.loads(cli("evaluate", tiny_run, "--data", folders, "--json")[1])
    assert code == 0
    assert json.loads(out)["balanced_accuracy"] == pytest.approx(again["balanced_accuracy"])


def test_a_foreign_folder_with_full_names_and_absent_classes(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    code, out, err = cli("evaluate", tiny_run, "--data", unseen, "--json")
    document = json.loads(out)
    assert code == 0 and "split: all" in err and document["n"] == 9 and document["contaminated"] == 0
    support = {label: said["support"] for label, said in document["per_class"].items()}
    assert support == {"akiec": 0, "bcc": 2, "bkl": 0, "df": 0, "mel": 3, "nv": 4, "vasc": 0}
    absent = document["per_class"]["df"]
    assert absent["recall"] is None and absent["auc"] is None and absent["f1"] is None
    assert sum(map(sum, document["confusion"])) == 9


def test_an_unknown_class_is_an_error(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    (unseen / "Melanocytic nevi").rename(unseen / "Psoriasis")
    code, out, err = cli("evaluate", tiny_run, "--data", unseen, "--json")
    assert code == 1 and out == "" and "Psoriasis" in err and "vasc" in err


def test_a_split_without_images_and_an_unknown_split(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    code, _, err = cli("evaluate", tiny_run, "--data", unseen, "--split", "test")
    assert code == 1 and "no image" in err
    code, _, err = cli("evaluate", tiny_run, "--data", unseen, "--split", "dev")
    assert code == 1 and "train, val, cal, test, all" in err


def test_no_such_folder_and_an_unreadable_image(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    assert "no such folder" in cli("evaluate", tiny_run, "--data", unseen / "gone")[2]
    bad = unseen / "Melanoma" / "clinic-mel-0.png"
    bad.write_bytes(bad.read_bytes()[:200])
    code, _, err = cli("evaluate", tiny_run, "--data", unseen)
    assert code == 1 and "clinic-mel-0" in err and "Traceback" not in err


def test_an_image_of_a_trained_lesion_counts_as_trained_on() -> None:
    own = [
        Sample("ISIC_0000001", "a.jpg", "nv", "HAM_0000001", "train", "11"),
        Sample("ISIC_0000002", "b.jpg", "nv", "HAM_0000002", "test", "22"),
        Sample("ISIC_0000003", "c.jpg", "nv", "", "train", "33"),  # its lesion is told by the other table alone
        Sample("1", "1.jpg", "nv", "7", "train", "44"),
    ]
    theirs = [
        Sample("x", "x.jpg", "nv", "HAM_0000001", sha256="99"),  # another photo of a trained lesion
        Sample("y", "y.jpg", "nv", "", sha256="11"),  # the same bytes under another name
        Sample("ISIC_0000001", "z.jpg", "nv", "", sha256="88"),  # the same image, encoded again
        Sample("ISIC_0000009", "q.jpg", "nv", "HAM_0000002", sha256="77"),
        Sample("ISIC_0000003", "r.jpg", "nv", "HAM_0000003", sha256="76"),
        Sample("ISIC_0000008", "s.jpg", "nv", "HAM_0000003", sha256="75"),  # another photo of that lesion
        Sample("1", "t.jpg", "nv", "7", sha256="74"),  # numbers that mean something within one folder only
        Sample("n", "n.jpg", "nv", "", sha256="66"),
    ]
    assert origin(theirs, own) == ["train", "train", "train", "test", "train", "train", "", ""]


def test_label_mapping_is_exact_first_and_never_a_guess() -> None:
    assert map_labels(["mel", "Naevus"], ["mel", "nv"]) == {"mel": "mel", "Naevus": "nv"}
    assert map_labels(["my class"], ["my class", "nv"]) == {"my class": "my class"}
    with pytest.raises(DataError, match="my other class"):
        map_labels(["my other class"], ["my class", "nv"])
    with pytest.raises(DataError, match="naevi"):
        map_labels(["naevi"], ["nv", "nevus"])  # two of the model's classes mean it
