"""skinedge evaluate: the metrics, images of the run's splits, and labels by other names."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import Sample, load_pixels, read_split
from skinedge.run.run_directory import Bundle
from skinedge.stats.reliability import reliability
from skinedge_bench.evaluate.selection import map_labels, origin
from skinedge_bench.loaded_model import open_listed
from skinedge_bench.predict import resumable

Cli = Callable[..., tuple[int, str, str]]
DOCUMENTED = {
    *(
        "n",
        "classes",
        "decisions",
        "summary",
        "absent_classes",
        "file",
        "synthetic",
        "runtime",
        "accuracy",
        "balanced_accuracy",
        "macro_auc",
        "macro_average_precision",
        "per_class",
    ),
    *("malignant", "confusion", "intervals", "bootstrap", "subgroups", "ece", "ece_at_class_prior", "reliability"),
    *("class_prior", "training_prior", "assumed_prior", "macro_auc_training_prior", "roc"),
}
OF_A_CLASS = {"precision", "recall", "sensitivity", "specificity", "f1", "auc", "average_precision"}
OF_A_RATE = {"sensitivity", "sensitivity_counts", "sensitivity_wilson"}
OF_A_RATE |= {name.replace("sensitivity", "specificity") for name in OF_A_RATE}
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


def test_an_archive_given_as_a_file_is_evaluated(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = rng.integers(0, 256, (7, 28, 28, 3), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(7, dtype=np.uint8)[:, None]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    code, out, err = cli("evaluate", tiny_run, "--data", tmp_path / "dermamnist.npz", "--split", "all", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 21


@pytest.mark.parametrize("name", ["model.int8.tflite", "model.int8.onnx"])
def test_the_number_of_processes_changes_no_bit(
    cli: Cli, tiny_run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "usable_cores", lambda: 3)
    command = ("evaluate", tiny_run, "--file", name, "--split", "all", "--allow-train", "--json", "--jobs")
    alone = cli(*command, 1)[1]
    assert json.loads(alone)["n"] == 140
    assert cli(*command, 3, "--out", tmp_path / "out")[1] == alone == cli(*command, 2)[1]


def test_several_processes_evaluate_an_archives_images(
    cli: Cli, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "usable_cores", lambda: 3)
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (70, 28, 28, 3), dtype=np.uint8), np.arange(70, dtype=np.uint8)[:, None] % 7
    arrays = {
        f"{part}_{name}": values
        for part in ("train", "val", "test")
        for name, values in (("images", images), ("labels", labels))
    }
    arrays["test_images"], arrays["test_labels"] = images[::-1], labels[::-1]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    command = ("evaluate", tiny_run, "--data", tmp_path / "dermamnist.npz", "--split", "all", "--json", "--jobs")
    code, shown, err = cli(*command, 3)
    assert code == 0, err
    assert shown == cli(*command, 1)[1]


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
    assert set(document["malignant"]) == OF_A_RATE | {"auc", "average_precision", "threshold"}
    assert {frozenset(row) for row in document["per_class"].values()} == {
        frozenset(OF_A_CLASS | {"support", "intervals", "name", "flagged"})
    }
    shares = Counter(sample.label for sample in split if sample.split == "train")
    training = np.array([shares[label] / shares.total() for label in labels])
    trained = probabilities * training / training.dot(probabilities.T)[:, None]  # the file's prior is uniform
    assert document["training_prior"] == pytest.approx(dict(zip(labels, training, strict=True)))
    assert document["class_prior"] == pytest.approx(dict.fromkeys(labels, 1 / 7))
    assert document["accuracy"] == pytest.approx(oracle.accuracy_score(truth, trained.argmax(axis=1)))
    area = oracle.roc_auc_score(truth, trained, multi_class="ovr")
    assert document["macro_auc_training_prior"] == pytest.approx(area)
    assert document["macro_auc"] == pytest.approx(oracle.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert document["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, predicted))
    assert document["confusion"] == oracle.confusion_matrix(truth, predicted, labels=range(len(labels))).tolist()
    for index, label in enumerate(labels):
        row = document["per_class"][label]
        assert row["support"] == int((truth == index).sum())
        assert row["auc"] == pytest.approx(oracle.roc_auc_score(truth == index, probabilities[:, index]))
        average = oracle.average_precision_score(truth == index, probabilities[:, index])
        assert row["average_precision"] == pytest.approx(average)
        assert row["sensitivity"] == row["recall"]
        assert row["specificity"] == pytest.approx(oracle.recall_score(truth != index, predicted != index))
        assert set(row["intervals"]) == OF_A_CLASS - {"sensitivity"}
        for name, (low, high) in row["intervals"].items():
            assert row[name] is None or low <= row[name] <= high, name
    score = probabilities[:, list(bundle.manifest.malignant)].sum(axis=1)
    positive = np.isin(truth, bundle.manifest.malignant)
    threshold = document["malignant"]["threshold"]
    assert document["malignant"]["auc"] == pytest.approx(oracle.roc_auc_score(positive, score))
    assert document["malignant"]["sensitivity"] == pytest.approx((score[positive] >= threshold).mean())
    assert document["malignant"]["specificity"] == pytest.approx((score[~positive] < threshold).mean())
    assert document["malignant"]["sensitivity_counts"] == [(score[positive] >= threshold).sum(), positive.sum()]
    assert document["malignant"]["specificity_counts"] == [(score[~positive] < threshold).sum(), (~positive).sum()]
    average = oracle.average_precision_score(positive, score)
    assert document["malignant"]["average_precision"] == pytest.approx(average)
    assert under(document["roc"]["malignant"]) == pytest.approx(document["malignant"]["auc"])
    for label, points in document["roc"]["per_class"].items():
        assert under(points) == pytest.approx(document["per_class"][label]["auc"])


def under(points: list[list[int]]) -> float:
    """Area under the curve through [negatives flagged, positives flagged], by trapezoids."""
    alarms, hits = np.array(points).T
    return float(oracle.auc(alarms / alarms[-1], hits / hits[-1]))


def test_the_intervals_are_by_lesion(cli: Cli, tiny_run: Path, folders: Path, split: tuple[Sample, ...]) -> None:
    """The run's own folder has lesion ids; class folders of the same images do not, so bytes and look are used."""
    document = json.loads(cli("evaluate", tiny_run, "--json")[1])
    lesions = {sample.lesion_id for sample in split if sample.split == "test"}
    expected = {"unit": "lesion", "units": len(lesions), "resamples": 2000, "seed": 0, "level": 0.95}
    assert document["bootstrap"] == expected
    assert len(lesions) < document["n"]
    whole = {**document, **{f"malignant_{name}": value for name, value in document["malignant"].items()}}
    names = {"accuracy", "balanced_accuracy", "macro_auc", "macro_auc_training_prior", "macro_average_precision"}
    names |= {f"malignant_{name}" for name in ("sensitivity", "specificity", "auc", "average_precision")}
    assert set(document["intervals"]) == names | {"ece", "ece_at_class_prior"}
    for name in names:
        low, high = document["intervals"][name]
        assert 0 <= low <= whole[name] <= high <= 1, name
    assert json.loads(cli("evaluate", tiny_run, "--json")[1])["intervals"] == document["intervals"]
    root = Bundle.open(tiny_run).manifest.data_root
    assert json.loads(cli("evaluate", tiny_run, "--data", root, "--json")[1])["intervals"] == document["intervals"]
    elsewhere = json.loads(cli("evaluate", tiny_run, "--data", folders, "--json")[1])
    assert elsewhere["bootstrap"]["unit"] == "image" and elsewhere["bootstrap"]["units"] > len(lesions)


def test_the_calibration_error_at_the_class_prior(cli: Cli, tiny_run: Path) -> None:
    """With a uniform prior, every class has the same weight: checked by repeating images."""
    bundle = Bundle.open(tiny_run)
    document = json.loads(cli("evaluate", tiny_run, "--split", "all", "--allow-train", "--json")[1])
    assert list(bundle.manifest.class_prior.values()) == pytest.approx([1 / 7] * 7)
    samples, model = read_split(bundle.file("split.csv")), open_listed(bundle)
    pixels = [prepare(load_pixels(Path(bundle.manifest.data_root), s.path), model.size) for s in samples]
    probabilities = model.run(np.stack(pixels)).probabilities
    truth = np.array([model.labels.index(sample.label) for sample in samples])
    counts = np.bincount(truth)
    times = (np.lcm.reduce(counts) // counts)[truth]
    repeated = reliability(np.repeat(truth, times), np.repeat(probabilities, times, axis=0))
    assert document["ece_at_class_prior"] == pytest.approx(repeated.ece)
    assert document["ece"] == pytest.approx(reliability(truth, probabilities).ece)
    rows = document["reliability"]
    assert len(rows) == 15 and sum(row["share"] for row in rows) == pytest.approx(1)
    error = sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in rows if row["share"])
    assert error == pytest.approx(document["ece"])


@pytest.fixture
def described(tiny_run: Path, tmp_path: Path) -> Path:
    """The run's own folder with sex, age and site in its table, by row number, so that the groups can be counted."""
    folder = tmp_path / "described"
    shutil.copytree(Bundle.open(tiny_run).manifest.data_root, folder)
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for index, row in enumerate(rows):
        row |= {"sex": ("female", "male", "")[index % 3], "age": f"{index % 9 * 10}.0", "localization": "back"}
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_subgroups_are_those_of_the_table(cli: Cli, run: Bundle, described: Path) -> None:
    arguments = ("--split", "all", "--allow-train")
    document = json.loads(cli("evaluate", run.root, "--data", described, *arguments, "--json")[1])
    groups = document["subgroups"]
    assert list(groups) == ["sex", "age", "site"]
    assert {name: group["n"] for name, group in groups["sex"].items()} == {"female": 47, "male": 47, "unknown": 46}
    assert list(groups["age"]) == ["<30", "30-44", "45-59", "60-74", ">=75"]
    whole = groups["site"]["back"]
    assert whole["n"] == 140 and whole["balanced_accuracy"] == document["balanced_accuracy"]
    assert whole["sensitivity_wilson"] == document["malignant"]["sensitivity_wilson"]
    for name in ("sensitivity_counts", "specificity_counts"):
        counts = zip(*(group[name] for group in groups["sex"].values()), strict=True)
        assert [sum(pair) for pair in counts] == whole[name]
    code, shown, _ = cli("evaluate", run.root, "--data", described, *arguments)
    right, total = groups["sex"]["male"]["sensitivity_counts"]
    assert code == 0 and "By sex" in shown and "By age" in shown and f"({right}/{total})" in shown

    manifest = run.root / "manifest.json"
    there, here = (json.dumps(str(root)) for root in (run.manifest.data_root, described))
    manifest.write_text(manifest.read_text().replace(there, here))
    assert json.loads(cli("evaluate", run.root, *arguments, "--json")[1])["subgroups"] == groups


def test_pictures_and_the_document_are_written_together(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    code, shown, err = cli("evaluate", tiny_run, "--out", out, "--json")
    files = {"confusion.png", "precision_recall.png", "reliability.png", "roc.png"}
    files |= {"evaluation.json", "evaluation.md"}
    assert code == 0 and {path.name for path in out.iterdir()} == files and f"in {out}" in err
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(shown)
    page = (out / "evaluation.md").read_text()
    assert "not a medical device" in page and all(f"]({name})" in page for name in files if name.endswith("png"))
    (out / "notes.txt").write_text("mine")
    (out / "roc.png").write_bytes(b"old")
    code, shown, err = cli("evaluate", tiny_run, "--out", out)
    assert code == 1 and "output exists" in err and "--force" in err and (out / "roc.png").read_bytes() == b"old"
    assert cli("evaluate", tiny_run, "--out", out, "--force")[0] == 0
    assert {path.name for path in out.iterdir()} == files | {"notes.txt"}
    assert (out / "roc.png").read_bytes()[:4] == b"\x89PNG"


def test_an_evaluation_on_some_of_the_classes_names_the_others(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    samples = [sample for sample in read_split(run.root / "split.csv") if sample.split == "test"]
    for index, sample in enumerate(s for s in samples if s.label in ("mel", "nv")):
        folder = tmp_path / "two" / sample.label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(run.manifest.data_root) / sample.path, folder / f"{index}{Path(sample.path).suffix}")
    arguments = ("evaluate", run.root, "--data", tmp_path / "two", "--split", "all")
    _, out, err = cli(*arguments, "--json")
    absent = [label for label in run.manifest.labels if label not in ("mel", "nv")]
    assert json.loads(out)["absent_classes"] == absent
    _, _, err = cli(*arguments, "--out", tmp_path / "out")
    sentence = f"only 2 of the model's 7 classes occur in these images, without {', '.join(absent)}"
    assert f"warning: {sentence}" in err and sentence in (tmp_path / "out" / "evaluation.md").read_text()
    document = json.loads(cli("evaluate", run.root, "--split", "test", "--json")[1])
    assert document["absent_classes"] == [] and set(run.manifest.labels) == {s.label for s in samples}


def test_unwritable_pictures(cli: Cli, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    code, shown, err = cli("evaluate", tiny_run, "--out", tmp_path / "file", "--json")
    assert code == 1 and shown == "" and "is a file, not a folder" in err
    code, shown, err = cli("evaluate", tiny_run, "--out", tmp_path / "file" / "below", "--json")
    assert code == 1 and shown == "" and "Traceback" not in err and str(tmp_path / "file" / "below") in err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, shown, err = cli("evaluate", tiny_run, "--out", tmp_path / "out", "--json")
    assert code == 1 and shown == "" and "[plots]" in err and "model:" not in err
    assert not (tmp_path / "out").exists()
    assert cli("evaluate", tiny_run, "--json")[0] == 0


def test_images_of_training_stop_it_and_allow_train_marks_it(
    cli: Cli, tiny_run: Path, folders: Path, split: tuple[Sample, ...]
) -> None:
    counts = Counter(sample.split for sample in split)
    code, out, err = cli("evaluate", tiny_run, "--data", folders, "--split", "all", "--json")
    assert code == 1 and out == "" and f"trained on {counts['train']} of these" in err and "--allow-train" in err
    code, out, _ = cli("evaluate", tiny_run, "--data", folders, "--split", "all", "--allow-train", "--json")
    document = json.loads(out)
    assert code == 0 and document["n"] == len(split) and document["contaminated"] == counts["train"]
    assert document["seen"] == {name: counts[name] for name in ("cal", "train", "val") if counts[name]}
    assert cli("evaluate", tiny_run, "--data", folders, "--split", "train")[0] == 1


def test_validation_images_give_a_warning(cli: Cli, tiny_run: Path, folders: Path) -> None:
    code, out, err = cli("evaluate", tiny_run, "--data", folders, "--split", "val")
    assert code == 0 and "which decides checkpoints and thresholds" in err and "not a medical device" in out


def test_the_runs_own_folder_needs_no_data(cli: Cli, tiny_run: Path, folders: Path) -> None:
    code, out, _ = cli("evaluate", tiny_run, "--json")
    again = json.loads(cli("evaluate", tiny_run, "--data", folders, "--json")[1])
    assert code == 0
    assert json.loads(out)["balanced_accuracy"] == pytest.approx(again["balanced_accuracy"])


def test_a_foreign_folder_with_full_names_and_absent_classes(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    code, out, err = cli("evaluate", tiny_run, "--data", unseen, "--json")
    document = json.loads(out)
    assert code == 0 and "split: all" in err and document["n"] == 9 and document["contaminated"] == 0
    support = {label: row["support"] for label, row in document["per_class"].items()}
    assert support == {"akiec": 0, "bcc": 2, "bkl": 0, "df": 0, "mel": 3, "nv": 4, "vasc": 0}
    absent = document["per_class"]["df"]
    assert absent["recall"] is None and absent["auc"] is None and absent["f1"] is None
    assert "look alone" not in err and "not compared" not in err
    assert sum(map(sum, document["confusion"])) == 9


def test_undefined_numbers_are_null(cli: Cli, tiny_run: Path, unseen: Path) -> None:
    """Melanoma and carcinoma only: without negatives, the malignant score has no AUC and no specificity."""
    shutil.rmtree(unseen / FULL_NAMES["nv"])
    document = json.loads(cli("evaluate", tiny_run, "--data", unseen, "--json")[1])
    assert document["malignant"]["auc"] is None and document["malignant"]["specificity"] is None
    assert document["malignant"]["sensitivity"] is not None and document["malignant"]["average_precision"] is None
    assert document["intervals"]["malignant_auc"] == [None, None]
    assert document["malignant"]["specificity_counts"] == [0, 0]
    assert cli("evaluate", tiny_run, "--data", unseen)[0] == 0
    for label in ("akiec", "df", "nv"):
        row = document["per_class"][label]
        assert row["recall"] is None and row["f1"] is None and row["auc"] is None and row["support"] == 0
        if not any(counts[document["classes"].index(label)] for counts in document["confusion"]):
            assert row["precision"] is None


def test_the_training_images_of_a_model_without_its_run_are_unknown(
    cli: Cli, tiny_run: Path, folders: Path, tmp_path: Path
) -> None:
    alone = shutil.copy(tiny_run / "model.fp32.onnx", tmp_path / "alone.onnx")
    code, out, err = cli("evaluate", alone, "--data", folders, "--json")
    document = json.loads(out)
    assert code == 0 and document["contaminated"] is None and document["seen"] is None
    assert "unknown whether it was trained" in err
    assert document["class_prior"]["mel"] == pytest.approx(1 / 7) and document["training_prior"] is None
    assert document["assumed_prior"]["accuracy"] == "file" and document["assumed_prior"]["per_class"] == "uniform"
    assert document["macro_auc_training_prior"] is None and document["malignant"]["sensitivity_counts"] is None
    assert "malignant_sensitivity" not in document["intervals"] and "malignant_auc" in document["intervals"]
    assert cli("evaluate", alone, "--data", folders, "--out", tmp_path / "out")[0] == 0


@pytest.fixture
def disguised(tiny_run: Path, split: tuple[Sample, ...], tmp_path: Path) -> Path:
    """Training images, enlarged and re-encoded under new names: neither id nor bytes match."""
    root, counts = Path(Bundle.open(tiny_run).manifest.data_root), Counter[str]()
    for sample in split:
        if sample.split == "train" and sample.label in ("mel", "nv") and counts[sample.label] < 4:
            folder = tmp_path / "disguised" / sample.label
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(load_pixels(root, sample.path)).resize((150, 150))
            image.save(folder / f"copy-{counts[sample.label]}.jpg", quality=80)
            counts[sample.label] += 1
    return tmp_path / "disguised"


def test_copies_of_training_images_match_by_look(cli: Cli, run: Bundle, disguised: Path) -> None:
    code, out, err = cli("evaluate", run.root, "--data", disguised, "--json")
    assert code == 1 and out == "" and "no image of this folder is in the split 'test'; it has: train 8" in err
    code, out, err = cli("evaluate", run.root, "--data", disguised, "--split", "all", "--json")
    assert code == 1 and out == "" and "trained on 8 of these 8" in err and "8 images match" in err
    code, out, _ = cli("evaluate", run.root, "--data", disguised, "--split", "all", "--allow-train", "--json")
    assert code == 0 and json.loads(out)["contaminated"] == 8


def test_missing_images_that_cannot_be_compared_by_look_are_noted(cli: Cli, imageless: Bundle, disguised: Path) -> None:
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
        Sample("ISIC_0000003", "c.jpg", "nv", "", "train", "33"),  # only the other table has its lesion
        Sample("1", "1.jpg", "nv", "7", "train", "44"),
    ]
    theirs = [
        Sample("x", "x.jpg", "nv", "HAM_0000001", sha256="99"),  # another photo of a trained lesion
        Sample("y", "y.jpg", "nv", "", sha256="11"),  # the same bytes under another name
        Sample("ISIC_0000001", "z.jpg", "nv", "", sha256="88"),  # the same image, re-encoded
        Sample("ISIC_0000009", "q.jpg", "nv", "HAM_0000002", sha256="77"),
        Sample("ISIC_0000003", "r.jpg", "nv", "HAM_0000003", sha256="76"),
        Sample("ISIC_0000008", "s.jpg", "nv", "HAM_0000003", sha256="75"),  # another photo of that lesion
        Sample("1", "t.jpg", "nv", "7", sha256="74"),  # ids that are unique within one folder only
        Sample("n", "n.jpg", "nv", "", sha256="66"),
    ]
    assert origin(theirs, own) == ["train", "train", "train", "test", "train", "train", "", ""]


def test_a_match_by_look_holds_for_the_lesion_and_a_match_by_bytes_comes_first() -> None:
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
        Sample("s", "s.jpg", "nv", "", sha256="22", phash=look),  # matches by its bytes
    ]
    assert origin(theirs, own) == ["train", "train", "", "test"]


def test_label_mapping_is_exact_first_and_never_a_guess() -> None:
    assert map_labels(["mel", "Naevus"], ["mel", "nv"]) == {"mel": "mel", "Naevus": "nv"}
    assert map_labels(["my class"], ["my class", "nv"]) == {"my class": "my class"}
    with pytest.raises(DataError, match="my other class"):
        map_labels(["my other class"], ["my class", "nv"])
    with pytest.raises(DataError, match="naevi"):
        map_labels(["naevi"], ["nv", "nevus"])  # two of the model's classes are this condition
    with pytest.raises(DataError, match="sarcoidosis"):
        map_labels(["sarcoidosis"], ["folliculitis", "nv"])  # both of one list in the taxonomy


def test_a_class_counts_as_the_one_class_that_includes_it_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """ISIC 2017's `sk` is a part of HAM10000's `bkl`; Bowen's disease of `akiec`."""
    ham = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert map_labels(["mel", "sk", "Bowen's disease"], ham) == {"mel": "mel", "sk": "bkl", "Bowen's disease": "akiec"}
    err = capsys.readouterr().err
    assert "class 'sk' counts as the model's 'bkl', which includes it" in err and err.count("counts as") == 2
    with pytest.raises(DataError, match="class 'bkl' is none of the model's classes"):
        map_labels(["bkl"], ["sk", "mel"])  # the whole is not the part


def test_images_that_were_moved_are_asked_for(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_root": "/lost/photos"}))
    code, shown, err = cli("evaluate", tmp_path / "run", "--split", "test")
    assert code == 1 and not shown and "error: /lost/photos: the folder of the run's images is not here" in err
    assert "--data DIR" in err


def test_images_with_the_runs_names_and_other_content_are_counted(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(Bundle.open(tiny_run).manifest.data_root, folder)
    images = sorted(folder.rglob("*.png")) or sorted(folder.rglob("*.jpg"))
    images[0].write_bytes(images[0].read_bytes() + b"\0")
    code, _, err = cli("evaluate", tiny_run, "--data", folder, "--split", "test")
    assert code == 0, err
    assert f"1 of {len(images)} images have the name of one of the run's images, but other content" in err
