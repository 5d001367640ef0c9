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
from skinedge_bench.model import open_listed
from skinedge_bench.selection import map_labels, origin

Cli = Callable[..., tuple[int, str, str]]
DOCUMENTED = {
    *("n", "classes", "accuracy", "balanced_accuracy", "macro_auc", "per_class", "malignant", "confusion"),
}
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
    assert set(document) == DOCUMENTED | {"schema", "model_id", "model_sha256", "split", "seen", "contaminated"}
    assert set(document["malignant"]) == {"sensitivity", "specificity", "auc", "threshold"}
    assert {frozenset(row) for row in document["per_class"].values()} == {
        frozenset({"precision", "recall", "f1", "auc", "support"})
    }
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
    assert "look alone" not in err and "not compared" not in err
    assert sum(map(sum, document["confusion"])) == 9


def test_undefined_numbers_are_null(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    """Melanoma and carcinoma only: no negatives, so neither an AUC nor a specificity of the malignant score."""
    shutil.rmtree(unseen / FULL_NAMES["nv"])
    document = json.loads(cli("evaluate", tiny_run, "--data", unseen, "--json")[1])
    assert document["malignant"]["auc"] is None and document["malignant"]["specificity"] is None
    assert document["malignant"]["sensitivity"] is not None
    for label in ("akiec", "df", "nv"):
        row = document["per_class"][label]
        assert row["recall"] is None and row["f1"] is None and row["auc"] is None and row["support"] == 0
        if not any(counts[document["classes"].index(label)] for counts in document["confusion"]):
            assert row["precision"] is None


def test_a_model_without_its_run_knows_nothing_of_its_training(
    cli: Cli, tiny_run: Path, folders: Path, tmp_path: Path
) -> None:
    alone = shutil.copy(tiny_run / "model.fp32.onnx", tmp_path / "alone.onnx")
    code, out, err = cli("evaluate", alone, "--data", folders, "--json")
    document = json.loads(out)
    assert code == 0 and document["contaminated"] is None and document["seen"] is None
    assert "nobody knows" in err
    assert cli("evaluate", alone, "--data", folders)[0] == 0


@pytest.fixture
def disguised(tiny_run: Path, split: tuple[Sample, ...], tmp_path: Path) -> Path:
    """Images of training, enlarged and encoded again under new names: neither id nor bytes tell."""
    root, counts = Path(Bundle.open(tiny_run).manifest.data_root), Counter[str]()
    for sample in split:
        if sample.split == "train" and sample.label in ("mel", "nv") and counts[sample.label] < 4:
            folder = tmp_path / "disguised" / sample.label
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(load_pixels(root, sample.path)).resize((150, 150))
            image.save(folder / f"copy-{counts[sample.label]}.jpg", quality=80)
            counts[sample.label] += 1
    return tmp_path / "disguised"


def test_copies_of_training_images_are_known_by_their_look(cli: Cli, run: Bundle, disguised: Path) -> None:
    code, out, err = cli("evaluate", run.root, "--data", disguised, "--json")
    assert code == 1 and out == "" and "no image of this folder is in the split 'test'; it has: train 8" in err
    code, out, err = cli("evaluate", run.root, "--data", disguised, "--split", "all", "--json")
    assert code == 1 and out == "" and "trained on 8 of these 8" in err and "8 images are known" in err
    code, out, _ = cli("evaluate", run.root, "--data", disguised, "--split", "all", "--allow-train", "--json")
    assert code == 0 and json.loads(out)["contaminated"] == 8


def test_looks_that_cannot_be_compared_are_admitted(cli: Cli, imageless: Bundle, disguised: Path) -> None:
    code, _, err = cli("evaluate", imageless.root, "--data", disguised, "--json")
    assert code == 0 and "not compared by look" in err


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


def test_what_is_known_by_look_holds_for_the_lesion_and_the_surest_evidence_wins() -> None:
    look, other = "0f" * 32, "f0" * 32
    near = "0e" + look[2:]  # one bit
    own = [
        Sample("a", "a.jpg", "nv", "", "train", "11", look),
        Sample("b", "b.jpg", "nv", "", "test", "22", look),
        Sample("c", "c.jpg", "nv", "", "val", "33"),  # its file is gone
    ]
    theirs = [
        Sample("p", "p.jpg", "nv", "5", sha256="99", phash=near),
        Sample("q", "q.jpg", "nv", "5", sha256="98", phash=other),  # another photo of that lesion
        Sample("r", "r.jpg", "nv", "", sha256="97", phash=other),
        Sample("s", "s.jpg", "nv", "", sha256="22", phash=look),  # known by its bytes
    ]
    assert origin(theirs, own) == ["train", "train", "", "test"]


def test_label_mapping_is_exact_first_and_never_a_guess() -> None:
    assert map_labels(["mel", "Naevus"], ["mel", "nv"]) == {"mel": "mel", "Naevus": "nv"}
    assert map_labels(["my class"], ["my class", "nv"]) == {"my class": "my class"}
    with pytest.raises(DataError, match="my other class"):
        map_labels(["my other class"], ["my class", "nv"])
    with pytest.raises(DataError, match="naevi"):
        map_labels(["naevi"], ["nv", "nevus"])  # two of the model's classes mean it
