"""skinedge report: page and Markdown hold the documents' figures, and nothing private."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
from conftest import REPOSITORY
from PIL import Image
from scipy.stats import binomtest

from skinedge.cli.common import NOTICE
from skinedge.run.class_order import read_reference
from skinedge.run.redaction import without_place
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency.end_to_end import EndToEnd
from skinedge_bench.latency.recommendation import Recommendation
from skinedge_bench.latency.roofline.roofline import RooflineBound
from skinedge_bench.latency.roofline.workload import Workload
from skinedge_bench.report.draw import ReportRequest, draw
from skinedge_bench.report.examples import WORST, choose_examples
from skinedge_bench.report.sources import collect, evaluate_network

Cli = Callable[..., tuple[int, str, str]]
Tables = dict[str, list[list[str]]]
FLAGSHIP = REPOSITORY / "skinedge" / "flagship"


class Reader(HTMLParser):
    """Tables by the heading above them, and the text that is not in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: Tables = {}
        self.tags: list[str] = []
        self.words: list[str] = []
        self._place: list[str] = []
        self._heading = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("h3", "th", "td", "tr", "table", "style"):
            self._place.append(tag)
        if tag == "h3":
            self._heading = ""
        elif tag == "table":
            self.tables[self._heading] = []
        elif tag == "tr":
            self.tables[self._heading].append([])
        elif tag in ("th", "td"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if self._place and self._place[-1] == tag:
            self._place.pop()

    def handle_data(self, data: str) -> None:
        place = self._place[-1] if self._place else ""
        if place == "h3":
            self._heading += data
        elif place in ("th", "td"):
            self.tables[self._heading][-1][-1] += data
        elif place == "":
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def in_markdown(text: str) -> Tables:
    """The same of Markdown."""
    found: Tables = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = re.sub(r"\\(.)", r"\1", line.lstrip("# "))
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.setdefault(heading, []).append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells])
    return found


def plain(rows: list[list[str]]) -> list[list[str]]:
    """Cells without the signs of verdicts and the shares of a confusion matrix; one kind of dash."""
    return [
        [re.sub(r"^[✓✗?] |(?<=\d)\d+%$", "", cell.replace("\N{EN DASH}", "-")).strip() for cell in row] for row in rows
    ]


@pytest.fixture(scope="module")
def shipped() -> Path:
    if not (FLAGSHIP / "manifest.json").is_file():
        pytest.skip("the model that ships with the package is not there")
    return FLAGSHIP


@pytest.fixture(scope="module")
def written(shipped: Path) -> tuple[str, str]:
    """The shipped model's page and Markdown."""
    drawn = draw(Bundle.open(shipped), ReportRequest(), NOTICE)
    assert drawn.html is not None
    return drawn.html, drawn.markdown


def read_report(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "reports" / f"{name}.json").read_text())
    return found


def put(run: Bundle, stage: str, name: str, content: str) -> None:
    """Write a report as its stage does, whatever it says."""
    with run.stage(stage, "test", {}) as writer:
        writer.path(f"reports/{name}.json").write_text(content)


def test_the_figures_are_those_of_the_documents(written: tuple[str, str], shipped: Path) -> None:
    tables = read(written[0]).tables
    evaluation = read_report(shipped, "evaluation")
    overall = {row[0]: row for row in next(rows for title, rows in tables.items() if title.startswith("Overall"))}
    low, high = evaluation["intervals"]["balanced_accuracy"]
    assert overall["balanced accuracy, uniform prior"][1:3] == [
        f"{evaluation['balanced_accuracy']:.4f}",
        f"{low:.3f}-{high:.3f}",
    ]
    assert overall["malignant sensitivity"][3] == "{} of {}".format(*evaluation["malignant"]["sensitivity_counts"])
    confusion = next(rows for title, rows in tables.items() if title.startswith("Confusion"))
    for row, expected in zip(confusion[1:], evaluation["confusion"], strict=True):
        shares = [f"{count}{count / sum(expected):.0%}" for count in expected]
        assert row[1:] == shares
    files = {row[0]: row for row in tables["Every file beside the merged network"]}
    for name, file in read_report(shipped, "parity")["files"].items():
        if file["metrics"]:
            assert files[name][3] == f"{file['metrics']['agreement']:.4f}"
            assert files[name][5] == f"{file['metrics']['balanced_accuracy']:.4f}"
    times = {row[0]: row for row in tables["Every file and runtime"]}
    for row in read_report(shipped, "latency")["rows"]:
        if row["p50_ms"] is not None:
            shown = times[f"{row['file']} ({row['runtime']})"]
            assert shown[1:3] == [f"{row['p50_ms']:.2f}", f"{row['p90_ms']:.2f}"] and shown[-1] == str(row["n"])
    history = read_report(shipped, "training")["history"]
    assert [row[1] for row in tables["Every epoch"][1:]] == [f"{row['train_loss']:.4f}" for row in history]
    assert list(evaluation["subgroups"]) == [title[3:] for title in tables if title.startswith("By ")]


def test_the_markdown_has_the_same_tables(written: tuple[str, str]) -> None:
    reader, theirs = read(written[0]), in_markdown(written[1])
    theirs.pop("At a glance")  # tiles in the page
    assert list(theirs) == list(reader.tables)
    for title, rows in reader.tables.items():
        if not title.startswith("Confusion"):
            assert plain(rows) == plain(theirs[title]), title
        else:
            counts = [[re.match(r"\d+", cell) for cell in row[1:]] for row in rows[1:]]
            assert all(counts) and len(rows) == len(theirs[title])


def test_the_part_for_clinicians_comes_first_and_the_other_is_folded(written: tuple[str, str]) -> None:
    page, markdown = written
    before, folded = page.split("<details>")
    clinical, technical = (re.findall("<h2>([^<]*)</h2>", part) for part in (before, folded))
    names = ["Summary", "Accuracy", "What a flag means", "Subgroups", "Mistakes", "Limits"]
    assert clinical == names and technical[0] == "Model and files" and technical[-1] == "Model card"
    assert "</section>\n</details>" in folded and "<summary" in folded
    headings = re.findall("^##? (.*)$", markdown, re.MULTILINE)
    assert headings[1:] == ["Part 1: for clinicians", *clinical, "Part 2: for engineers", *technical]


def test_the_summary_counts_images_and_classes_have_full_names(written: tuple[str, str], shipped: Path) -> None:
    evaluation, tables = read_report(shipped, "evaluation"), read(written[0]).tables
    malignant, summary = evaluation["malignant"], "".join(read(written[0]).words)
    assert "{} of {} malignant images".format(*malignant["sensitivity_counts"]) in summary
    spared, benign = malignant["specificity_counts"]
    assert f"{benign - spared} of {benign} benign ones" in summary
    counts = next(rows for title, rows in tables.items() if title.startswith("Each class in counts"))
    assert any(row[0] == "melanoma (mel)" and row[1] == "malignant" for row in counts)
    for row, confusion, index in zip(counts[1:], evaluation["confusion"], range(7), strict=True):
        low, high = binomtest(confusion[index], sum(confusion)).proportion_ci(method="wilson")
        assert row[2:5] == [str(sum(confusion)), f"{confusion[index]} of {sum(confusion)}", f"{low:.3f}-{high:.3f}"]
    few = [label for label, row in evaluation["per_class"].items() if row["support"] < 30]
    for label in few:
        assert f"({label}): {evaluation['per_class'][label]['support']}" in summary.partition("Few images")[2]


def test_the_curves_are_those_of_the_logits(written: tuple[str, str], shipped: Path) -> None:
    """Without an evaluation of a file that keeps them, the ROC curves are the network's."""
    bundle = Bundle.open(shipped)
    reference, labels = read_reference(bundle), bundle.manifest.labels
    logits = reference.logits.astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    document = evaluate_network(bundle)
    malignant = list(bundle.manifest.malignant)
    areas = {label: oracle.roc_auc_score(reference.labels == i, probabilities[:, i]) for i, label in enumerate(labels)}
    areas["malignant"] = oracle.roc_auc_score(
        np.isin(reference.labels, malignant), probabilities[:, malignant].sum(axis=1)
    )
    assert document["malignant"]["auc"] == pytest.approx(areas["malignant"], abs=1e-6)
    assert document["n"] == len(reference.labels) and document["file"] == "PyTorch, merged"
    for label in labels:
        assert document["per_class"][label]["auc"] == pytest.approx(areas[label], abs=1e-6)
    if "roc" not in read_report(shipped, "evaluation"):
        for label, area in areas.items():
            assert f"AUC {area:.3f}" in written[0], label


def test_the_page_needs_nothing_else_and_holds_no_image(written: tuple[str, str]) -> None:
    page, markdown = written
    reader = read(page)
    assert not {"img", "script", "iframe", "object", "image"} & set(reader.tags)
    places = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert len(places) == len(re.findall("src=|href=", page)) > 8
    assert all(place == "data:," or place[0] == "#" for place in places)
    assert not re.search(r"url\(|@import|data:image", page)
    assert reader.words and "Research tool, not a medical device" in "".join(reader.words[:20])
    assert "not a medical device" in markdown.splitlines()[2]
    heights = [int(tag[1]) for tag in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert heights[0] == 1 and heights.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(heights))


def test_no_path_of_this_machine_is_in_the_page(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    assert cli("verify", run.root)[0] in (0, 1)
    code, out, _ = cli("report", "--verbose", run.root, "--out", tmp_path / "page.html")
    assert code == 0 and run.manifest.data_root and "test images" in out
    assert run.manifest.data_root not in out and run.manifest.data_root not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("place", ["/home/ann/images", "/data; ann/x", "under /a: b", "/a\nb", "/kept; from"])
@pytest.mark.parametrize("kept", ["", "; kept from an earlier report: model.fp32.onnx, model.fp32.tflite"])
def test_the_path_of_the_images_is_left_out_whatever_its_name(place: str, kept: str) -> None:
    assert without_place(f"9 test images under {place}{kept}") == f"9 test images{kept}"
    none, rest = "none of the 9 test images is", ": only the golden vectors were replayed"
    assert without_place(f"{none} under {place}{rest}{kept}") == f"{none} there{rest}{kept}"
    assert without_place(f"{none} here (--data DIR){rest}{kept}") == f"{none} here (--data DIR){rest}{kept}"


def test_missing_stages_are_named_with_their_command(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    code, out, _ = cli("report", "--verbose", trained_run, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert code == 0
    for text in (out, page):
        for command in ("merge", "verify", "bench", "export"):
            assert f"skinedge {command} RUN" in text, command
        assert str(trained_run) not in text
        assert "SYNTHETIC" in text
    assert f"| 1 | {read_report(trained_run, 'training')['history'][0]['train_loss']:.4f} |" in out


def test_the_page_is_a_file_of_the_run_and_json_holds_the_documents(cli: Cli, run: Bundle) -> None:
    assert cli("verify", run.root)[0] in (0, 1)
    code, out, _ = cli("report", run.root, "--json")
    document = json.loads(out)
    assert code == 0 and document["schema"] == "skinedge.report/1" and document["latency"] is None
    assert document["parity"] == read_report(run.root, "parity") and document["training"] == read_report(
        run.root, "training"
    )
    assert {ladder["file"] for ladder in document["ladders"]} == {"model.int8.onnx", "model.int8.tflite"}
    assert document["evaluation"]["file"] == "PyTorch, merged" and len(document["evaluation"]["roc"]["per_class"]) == 7
    assert document["page"] == str(run.root / "reports" / "report.html")
    assert run.reload().file("reports/report.html").read_text().startswith("<!doctype html>")


def test_an_evaluation_is_shown(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    assert cli("evaluate", run.root, "--out", tmp_path / "evaluation")[0] == 0
    code, out, _ = cli(
        "report", "--verbose", run.root, "--evaluation", tmp_path / "evaluation", "--out", tmp_path / "page.html"
    )
    evaluation = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    page = (tmp_path / "page.html").read_text()
    assert code == 0 and f"{evaluation['file']}, judged by skinedge evaluate" in out
    assert f"Malignant against benign ({evaluation['file']})" in page
    assert f"AUC {evaluation['malignant']['auc']:.3f}" in page
    assert not evaluation["subgroups"] and "Sex, age, site and skin tone of the evaluated images are unknown" in page


def test_the_terminal_shows_a_summary_and_last_the_path(cli: Cli, run: Bundle, written: tuple[str, str]) -> None:
    code, out, err = cli("report", run.root)
    lines = out.splitlines()
    assert code == 0 and lines[0] == NOTICE and lines[-1] == str(run.root / "reports" / "report.html")
    assert len(lines) < 15 and "SYNTHETIC" in lines[1] and "|" not in out and err == ""
    assert any(line.startswith("Balanced accuracy: ") for line in lines)
    code, everything, _ = cli("report", run.root, "--verbose")
    assert "| balanced accuracy" in everything and everything.splitlines()[-1] == lines[-1] and len(everything) > 5000


def test_the_suffix_chooses_the_format(cli: Cli, shipped: Path, written: tuple[str, str], tmp_path: Path) -> None:
    assert cli("report", shipped, "--out", tmp_path / "r.md")[0] == 0
    assert (tmp_path / "r.md").read_text() == written[1]
    for name in ("page.pdf", "page", "page.html.gz"):
        code, out, err = cli("report", shipped, "--out", tmp_path / name)
        assert code == 1 and out == "" and "unknown suffix" in err and ".html (the page) and .md (Markdown)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["r.md"]
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in cli("report", shipped, "--out", tmp_path / "folder.html")[2]


@pytest.mark.skipif(not FLAGSHIP.is_dir(), reason="no bundled model here")
def test_without_a_run_nothing_is_written(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINEDGE_SHIPPED", str(FLAGSHIP))
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("report")
    assert code == 0 and "the page is not kept" in err and "--out FILE.html" in err and "balanced accuracy" in out
    assert list(tmp_path.iterdir()) == []


def test_undefined_figures_are_dashes(cli: Cli, shipped: Path, tmp_path: Path) -> None:
    evaluation = read_report(shipped, "evaluation")
    evaluation["balanced_accuracy"] = evaluation["malignant"]["auc"] = evaluation["per_class"]["nv"]["auc"] = None
    evaluation["intervals"]["balanced_accuracy"] = [None, None]
    evaluation["reliability"][3]["accuracy"] = evaluation["ece"] = None
    evaluation["malignant"] |= dict.fromkeys(("sensitivity", "sensitivity_counts", "sensitivity_wilson"))
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    code, out, err = cli("report", "--verbose", shipped, "--evaluation", tmp_path, "--out", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "| balanced accuracy, uniform prior | - | - |" in out and "| malignant auc | - |" in out
    assert not re.search(r"\b(nan|None|null)\b", page + out)


def test_roofline_bound_end_to_end_latency_and_recommendation_are_shown(shipped: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(Path(shutil.copytree(shipped, tmp_path / "run")))
    latency = read_report(shipped, "latency")
    bound = RooflineBound(1.25, "arithmetic", Workload(1, 2, 3, 4))
    end_to_end = EndToEnd(7.5, (7.0, 8.0), 9.25, 96, {"decode": 1.5, "resize": 1.125, "infer": 4.375, "label": 0.25})
    latency["rows"][1] |= {"floor": asdict(bound), "end_to_end": asdict(end_to_end)}
    choice = Recommendation("model.int8.onnx", "onnxruntime", 1, ("recommended here: it", "measure again"))
    more = {"recommendation": asdict(choice), "floor_method": "How it is bounded.", "host": "pi@<board>"}
    put(bundle, "bench", "latency", json.dumps({**latency, **more}))
    drawn = draw(bundle.reload(), ReportRequest(), NOTICE)
    assert drawn.html is not None
    tables, name = read(drawn.html).tables, "model.fp32.onnx (onnxruntime)"
    column = tables["Every file and runtime"][0].index("roofline bound ms")
    bounds = {row[0]: row[column] for row in tables["Every file and runtime"]}
    assert bounds[name] == "1.25" and bounds["model.safetensors (torch)"] == "\N{EN DASH}"
    assert tables["From encoded photo to label"][1:] == [[name, "7.50", "9.25", "96", "1.50", "1.12", "4.38", "0.25"]]
    for text in ("Recommended here: it.", "Measure again.", "How it is bounded.", "pi@&lt;board&gt;: AMD"):
        assert f"<p>{text}" in drawn.html, text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("{", "damaged report"),
        ("[]", "expected object, got array"),
        ('{"schema": "skinedge.bench/1"}', "not an evaluation"),
        ('{"schema": "skinedge.evaluate/1", "model_sha256": "0"}', "a file that this run does not have"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(
    cli: Cli, trained_run: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    code, out, err = cli("report", trained_run, "--evaluation", tmp_path, "--out", tmp_path / "page.html")
    assert code == 1 and out == "" and says in err and str(tmp_path / "evaluation.json") in err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("name", ["training", "parity", "latency"])
@pytest.mark.parametrize("content", ["{", "{}", '{"files": 3, "rows": 3, "history": 3, "passed": true, "device": {}}'])
def test_a_damaged_report_is_an_error_that_names_it(
    cli: Cli, trained_run: Path, tmp_path: Path, name: str, content: str
) -> None:
    bundle = Bundle.open(Path(shutil.copytree(trained_run, tmp_path / "run")))
    put(bundle, {"training": "changed", "parity": "verify", "latency": "bench"}[name], name, content)
    code, out, err = cli("report", bundle.root)
    assert code == 1 and out == "" and f"reports/{name}.json: damaged report" in err and "Traceback" not in err
    assert not (bundle.root / "reports" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("evaluation", {"roc": {"per_class": {}, "malignant": [[0, 0], [0, 9]]}}),
        ("evaluation", {"roc": {"per_class": {"wart": [[0, 0], [4, 9]]}, "malignant": None}}),
        ("evaluation", {"confusion": [[1]]}),
        ("evaluation", {"intervals": {"accuracy": [0.1]}}),
        ("evaluation", {"bootstrap": {}}),
        ("latency", {"samples_ms": {"torch model.safetensors": [[1.0, -1.0]]}}),
        ("parity", {"warnings": [1]}),
        ("training", {"history": [{"epoch": "one"}]}),
    ],
)
def test_a_report_with_a_wrong_value_is_an_error_that_names_it(
    cli: Cli, shipped: Path, tmp_path: Path, name: str, change: dict[str, object]
) -> None:
    bundle = Bundle.open(Path(shutil.copytree(shipped, tmp_path / "run")))
    put(bundle, name, name, json.dumps({**read_report(shipped, name), **change}))
    code, out, err = cli("report", bundle.root, "--out", tmp_path / "page.html")
    assert code == 1 and out == "" and f"reports/{name}.json: damaged report" in err and "Traceback" not in err
    assert not (tmp_path / "page.html").exists()


def test_keys_of_newer_reports_are_passed_on(shipped: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(Path(shutil.copytree(shipped, tmp_path / "run")))
    newer = {**read_report(shipped, "training"), "newer": {"key": 1}}
    put(bundle, "changed", "training", json.dumps(newer))
    assert draw(bundle.reload(), ReportRequest(), NOTICE).document["training"] == newer


def test_without_the_extra_only_markdown_is_written(
    cli: Cli, shipped: Path, written: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(shipped, tmp_path / "run"))
    for module in ("matplotlib", "markdown_it"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            code, out, err = cli("report", copy)
            assert code == 0 and out == written[1] and "no HTML page" in err and "[plots]" in err
            assert json.loads(cli("report", copy, "--json")[1])["page"] is None
            for arguments in (("--out", tmp_path / "page.html"), ("--with-images",)):
                code, out, err = cli("report", copy, *arguments)
                assert code == 1 and out == "" and "[plots]" in err and module.replace("_", "-") in err
    assert not (tmp_path / "page.html").exists() and not (copy / "reports" / "report.html").exists()


def test_charts_of_one_page_share_no_ids_and_follow_its_colours(written: tuple[str, str], shipped: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", written[0], re.DOTALL)
    assert len(drawings) > 10 and not any(re.search(r"id=|href=|#[0-9a-f]{6}|<style", each) for each in drawings)
    again = draw(Bundle.open(shipped), ReportRequest(), NOTICE)
    assert again.html == written[0]


def test_a_changed_report_is_refused(cli: Cli, run: Bundle) -> None:
    path = run.root / "reports" / "training.json"
    path.write_text(path.read_text().replace("1", "2"))
    code, out, err = cli("report", run.root)
    assert code == 1 and "does not match the hash" in err and out == ""


def test_markup_in_a_name_is_text(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    bad = "</title><script>alert(1)</script><img src=x> **bold** [link](x)"
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "name": bad, "attribution": bad, "license": bad}))
    code, out, _ = cli("report", "--verbose", copy, "--out", tmp_path / "page.html")
    reader = read((tmp_path / "page.html").read_text())
    assert code == 0 and not {"script", "img"} & set(reader.tags)
    assert "".join(reader.words).count(bad) >= 2  # the title and the heading
    assert out.startswith(r"# \</title>\<script>alert(1)\</script>\<img src=x> \*\*bold\*\* \[link\](x)")


def test_images_are_included_only_on_request(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    page, bundle = tmp_path / "page.html", run.reload()
    assert cli("report", run.root, "--out", page)[0] == 0 and "<img" not in page.read_text()
    code, out, err = cli("report", run.root, "--with-images", "--out", page)
    assert code == 0 and "PATIENTS' IMAGES" in err and "<img" not in out
    assert "PATIENTS&#x27; IMAGES" in page.read_text().partition("<main>")[0]
    reference = read_reference(bundle)
    mistakes = collect(bundle, None, ()).mistakes.listed[:WORST]  # type: ignore[union-attr]
    chosen = [*(mistake.index for mistake in mistakes), *choose_examples(reference)]
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/jpeg;base64,([^"]+)">', page.read_text())
    assert len(pictures) == len(chosen) == page.read_text().count("<img") > 0
    for says, data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (2 * 64 + 8, 64) and not image.getexif()
        assert re.match(r"Image of the class \w+ beside its .+; (right|wrong): ", says)
    by_network = reference.logits.argmax(axis=1) != reference.labels
    for mistake, (says, _) in zip(mistakes, pictures, strict=False):
        assert ("; wrong: " in says) == by_network[mistake.index]  # the network drew the heatmaps
    assert "an edge of the colours is not the edge of the lesion" in page.read_text()


def test_the_most_confident_right_and_wrong_prediction_of_each_class_is_shown(run: Bundle) -> None:
    reference = read_reference(run)
    powers = np.exp(reference.logits.astype(np.float64))
    sure = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    right = reference.logits.argmax(axis=1) == reference.labels
    groups = {(int(label), bool(hit)) for label, hit in zip(reference.labels, right, strict=True)}
    chosen = list(choose_examples(reference))
    assert {(int(reference.labels[i]), bool(right[i])) for i in chosen} == groups and len(chosen) == len(groups)
    for i in chosen:
        same = (reference.labels == reference.labels[i]) & (right == right[i])
        assert sure[i] == pytest.approx(sure[same].max())


def test_missing_images_are_an_error(cli: Cli, imageless: Bundle, tmp_path: Path) -> None:
    code, out, err = cli("report", imageless.root, "--with-images", "--out", tmp_path / "page.html")
    assert code == 1 and out == "" and "--data DIR" in err and not (tmp_path / "page.html").exists()


def test_data_without_images_is_refused(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    code, _, err = cli("report", trained_run, "--data", tmp_path, "--out", tmp_path / "page.html")
    assert code == 1 and "--with-images" in err


def test_a_page_that_cannot_be_written_is_an_error(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    code, out, err = cli("report", trained_run, "--out", tmp_path / "no" / "page.html")
    assert code == 1 and out == "" and "cannot write" in err


def test_other_runs_are_compared_where_they_can_be(cli: Cli, shipped: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(shipped, runs / "same")
    other = Bundle.open(Path(shutil.copytree(shipped, runs / "other")))
    latency = read_report(shipped, "latency")
    put(other, "bench", "latency", json.dumps({**latency, "device": {**latency["device"], "cpu": "Cortex <A76>"}}))
    code, out, err = cli("report", "--verbose", shipped, "--runs", runs, "--out", tmp_path / "page.html")
    assert code == 0, err
    rows = in_markdown(out)["Every file: accuracy against latency"][1:]
    own = [row for row in latency["rows"] if row["p50_ms"] is not None and row["balanced_accuracy"] is not None]
    assert len(rows) == 3 * len(own)
    assert sum(row[-1] == "other CPU: Cortex <A76>" for row in rows) == len(own)
    together = {(float(row[3]), float(row[4])) for row in rows if not row[-1].startswith("other")}
    for row in rows:
        if row[-1] == "best":
            point = (float(row[3]), float(row[4]))
            assert not any(ms < point[0] and share >= point[1] for ms, share in together)
    assert (
        cli("report", shipped, "--runs", tmp_path / "none", "--out", tmp_path / "p.html")[2].count("no run there") == 1
    )
