"""One verdict has one word in every place, and documents of earlier versions are read in today's words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from skinedge.cli.verify import show
from skinedge.core import json_io
from skinedge.core.errors import BundleError, GateError
from skinedge.run import model_card
from skinedge.run.manifest import Manifest
from skinedge.run.report_schemas import read_parity
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate
from skinedge.stats.verdicts import WORDS, Verdict, word
from skinedge_bench.latency.accuracy import parity_verdicts
from skinedge_bench.latency.recommendation import recommend
from skinedge_bench.latency.row import Row
from skinedge_bench.latency.targets import BenchRequest, run_targets
from skinedge_bench.report.content import Report, Section, Tiles
from skinedge_bench.report.content import Text as Paragraph
from skinedge_bench.report.sections import build_report
from skinedge_bench.report.sources import collect
from skinedge_bench.verify import verify
from skinedge_bench.verify.report import ParityReport

Verified = tuple[Bundle, ParityReport]
FILE, PARITY = "model.int8.tflite", "reports/parity.json"
FLAGSHIP = REPOSITORY / "skinedge" / "flagship"
SAME_MODEL = Gate("same_model", 0, 0, "pass")
GATES = {
    "pass": Gate("agreement", 0.99, 0.97, "pass", "enough"),
    "fail": Gate("agreement", 0.5, 0.97, "fail", "far below"),
    "inconclusive": Gate("agreement", 0.98, 0.97, "inconclusive", "400 images would decide"),
    "not measured": Gate("agreement", None, 0.97, "not measured", "no images"),
}


@pytest.fixture(scope="module")
def verified(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    """A copy of the shared run, with what `verify` finds there."""
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("verdicts") / "run")))
    return bundle, verify.verify(bundle)


def judged(report: ParityReport, verdict: Verdict) -> ParityReport:
    """Return the report with this verdict on one file: of its two gates, the other passed."""
    files = [replace(f, gates=(SAME_MODEL, GATES[verdict])) if f.name == FILE else f for f in report.files]
    return replace(report, files=tuple(files))


def document_of(report: ParityReport) -> dict[str, Any]:
    body = json_io.document("verify", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    read: dict[str, Any] = json.loads(json_io.to_text(body))
    return read


def stored(bundle: Bundle, document: dict[str, Any]) -> Bundle:
    """Put a parity report into the run, as `verify` does."""
    bundle = bundle.reload()
    made_from = bundle.entries()[PARITY].made_from
    with bundle.stage("verify", "test", made_from) as stage:
        stage.path(PARITY).write_text(json.dumps(document))
    return bundle.reload()


def cells(report: Report, title: str, table: str) -> list[str]:
    """Return the row on FILE in a table of a section, as text."""
    section = section_of(report, title)
    rows = next(block.rows for block in section.blocks if getattr(block, "title", None) == table)
    return next([str(cell) for cell in row] for row in rows if row[0] == FILE)


def section_of(report: Report, title: str) -> Section:
    return next(section for section in (*report.clinical, *report.technical) if section.title == title)


def recommended(bundle: Bundle) -> str:
    """Return the first sentence on FILE in a recommendation on this machine."""
    targets = run_targets(bundle, BenchRequest("quick", runtimes=("litert",)))
    features = json.loads(bundle.file(PARITY).read_text())["instruction_set"]
    parity = parity_verdicts(bundle, targets, features).get(FILE)
    row = Row(FILE, "litert", "int8", 1, 1, "0", p50_ms=1.0, p90_ms=1.0, golden="pass", parity=parity)
    return next(text for text in recommend([row], 50, True).reasons if FILE in text)


@pytest.mark.parametrize("verdict", list(WORDS))
def test_a_verdict_is_the_same_word_everywhere(
    verified: Verified, verdict: Verdict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, report = verified[0], judged(verified[1], verdict)
    others = [other for other in WORDS.values() if other != word(verdict)]
    tables: dict[str, list[list[str]]] = {}
    monkeypatch.setattr("skinedge.cli.verify.table", lambda title, _, rows: tables.update({title: rows}))
    show(report)
    (printed,) = [row for title, rows in tables.items() if title.startswith("Parity") for row in rows if row[0] == FILE]
    assert printed[-1] == word(verdict)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{FILE}: ")]
    assert [word(verdict) in line for line in notes] == ([] if verdict == "pass" else [True])
    bundle = stored(bundle, document_of(report))
    page = build_report(collect(bundle, None, ()), "notice", None)
    row = cells(page, "Parity with PyTorch", "Every file beside the merged network")
    assert row[1] == word(verdict)
    facts = model_card.Facts(bundle.manifest, (bundle.entries()[FILE],), read_parity(bundle.file(PARITY)), None)
    card = model_card.parity(facts).splitlines()[-1]
    counts = "2 passed" if verdict == "pass" else f"1 passed, 1 {word(verdict)}"
    assert f"| {word(verdict)} ({counts})" in card and ("agreement" in card) == (verdict != "pass")
    sentence = recommended(bundle).partition("parity report: ")[2]
    assert sentence.startswith(word(verdict)) and not any(other in sentence for other in others)


@pytest.mark.parametrize("verdict", list(WORDS))
def test_the_conclusion_and_the_exit_follow_the_gates(verified: Verified, verdict: Verdict) -> None:
    one = judged(verified[1], verdict)
    report = replace(one, files=tuple(file for file in one.files if file.name == FILE))
    assert ("2 passed" if verdict == "pass" else f"1 passed, 1 {word(verdict)}") in report.conclusion
    assert ("too few images" in report.conclusion) == (verdict == "inconclusive")
    strict = replace(report, strict=True)
    assert (report.passed, strict.passed) == (verdict != "fail", verdict == "pass")
    for each in (report, strict):
        if each.passed:
            each.require_passed()
        else:
            with pytest.raises(GateError, match="a gate failed" if verdict == "fail" else "--strict") as error:
                each.require_passed()
            assert any(f"agreement {word(verdict)}" in line for line in error.value.lines)


@pytest.mark.parametrize("verdict", ["inconclusive", "not measured"])
def test_a_strict_report_says_no_gate_failed(verified: Verified, verdict: Verdict) -> None:
    """Nor is the file recommended: `--strict` refused it."""
    one = judged(verified[1], verdict)
    held = [file if file.name == FILE else replace(file, gates=(GATES["pass"],)) for file in one.files]
    bundle = stored(verified[0], document_of(replace(one, files=tuple(held), strict=True)))
    page = build_report(collect(bundle, None, ()), "notice", None)
    assert not any("A gate failed" in text for text in page.warnings)
    assert word(verdict) in recommended(bundle) and "no recommendation" not in recommended(bundle)


def earlier(value: Any) -> Any:
    """Return a document of today as an earlier version wrote it."""
    return json.loads(json.dumps(value).replace('"inconclusive"', '"underpowered"').replace("verify/2", "verify/1"))


def test_a_report_of_the_first_schema_is_read_as_inconclusive(verified: Verified) -> None:
    document = earlier(document_of(judged(verified[1], "inconclusive")))
    assert document["schema"] == "skinedge.verify/1" and "underpowered" in json.dumps(document)
    bundle = stored(verified[0], document)
    parity = read_parity(bundle.file(PARITY))
    assert parity.files[FILE].worst == parity.files[FILE].verdict == "inconclusive"
    sources = collect(bundle, None, ())
    assert "underpowered" not in json.dumps(sources.document) and sources.document["parity"] != document
    page = build_report(sources, "notice", None)
    assert cells(page, "Parity with PyTorch", "Every file beside the merged network")[1] == "inconclusive"
    first = section_of(page, "Parity with PyTorch").blocks[0]
    assert isinstance(first, Paragraph) and " inconclusive; 12 test images." in first.text
    assert json.loads(bundle.file(PARITY).read_text()) == document  # read, not rewritten


def test_a_manifest_of_an_earlier_version_is_read_as_inconclusive(verified: Verified) -> None:
    raw = json.loads((verified[0].root / "manifest.json").read_text())
    entry = next(file for stage in raw["stages"].values() for file in stage["files"] if file["path"] == FILE)
    entry["info"]["gates"][-1]["verdict"] = "underpowered"
    manifest = Manifest.from_dict(raw, "manifest.json")
    (read,) = [file for stage in manifest.stages.values() for file in stage.files if file.path == FILE]
    assert read.info["gates"][-1]["verdict"] == "inconclusive"


def test_the_shipped_model_is_opened_and_shown_as_inconclusive(tmp_path: Path) -> None:
    if not (FLAGSHIP / "manifest.json").is_file():
        pytest.skip("no model ships with this checkout")
    bundle = Bundle.open(FLAGSHIP)
    assert all(bundle.file(name).is_file() for name in (PARITY, FILE))  # by hash
    page = build_report(collect(bundle, None, ()), "notice", None)
    assert cells(page, "Parity with PyTorch", "Every file beside the merged network")[1] == "inconclusive"
    (tiles,) = [block for block in section_of(page, "Model and files").blocks if isinstance(block, Tiles)]
    (verdict,) = [tile for tile in tiles.tiles if tile.name == "Verdict"]
    assert verdict.value == "inconclusive" and verdict.detail.endswith("8 passed, 2 inconclusive")
    assert not any("A gate failed" in text for text in page.warnings)


def test_an_earlier_recommendation_calls_no_parity_report_passed(verified: Verified) -> None:
    from skinedge.stats.earlier_verdicts import current_report

    clause = "the golden vectors pass here; its parity report passes"
    reasons = [f"recommended: {FILE} in litert, p50 4.38 ms; {clause}", "2.05 times as fast as fp32"]
    rows = [{"golden": "underpowered"}, {"golden": None}]
    read = current_report({"schema": "skinedge.bench/1", "rows": rows, "recommendation": {"reasons": reasons}})
    assert read["recommendation"]["reasons"] == [f"recommended: {FILE} in litert, p50 4.38 ms", reasons[1]]
    assert [row["golden"] for row in read["rows"]] == ["inconclusive", None]


KNOWN = {*WORDS, "underpowered"}
UNKNOWN = st.text("abcdefghij klmnopqrstuvwxyzPASFIL", min_size=1, max_size=12).filter(lambda name: name not in KNOWN)


@pytest.fixture(scope="module")
def refused(verified: Verified, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any], str], None]:
    """Return a function that checks that a parity report is refused with an error that names the value."""
    path = tmp_path_factory.mktemp("refused") / "parity.json"

    def check(document: dict[str, Any], named: str) -> None:
        path.write_text(json.dumps(document))
        with pytest.raises(BundleError) as error:
            read_parity(path)
        assert f"'{named}'" in str(error.value) and str(path) in str(error.value)

    return check


@settings(max_examples=25)
@given(name=UNKNOWN)
def test_a_verdict_that_no_version_has_is_refused_by_name(
    verified: Verified, refused: Callable[[dict[str, Any], str], None], name: str
) -> None:
    document = document_of(judged(verified[1], "inconclusive"))
    for schema in ("skinedge.verify/1", "skinedge.verify/2"):
        for part in (document["files"][FILE], document["files"][FILE]["gates"][0]):
            right, part["verdict"] = part["verdict"], name
            refused({**document, "schema": schema}, name)
            part["verdict"] = right


def test_an_earlier_name_in_todays_schema_and_another_schema_are_refused(
    verified: Verified, refused: Callable[[dict[str, Any], str], None]
) -> None:
    document = document_of(judged(verified[1], "inconclusive"))
    refused({**earlier(document), "schema": "skinedge.verify/2"}, "underpowered")
    refused({**document, "schema": "skinedge.verify/3"}, "skinedge.verify/3")
    raw = json.loads((verified[0].root / "manifest.json").read_text())
    entry = next(file for stage in raw["stages"].values() for file in stage["files"] if file["path"] == FILE)
    entry["info"]["gates"][0]["verdict"] = "perhaps"
    with pytest.raises(BundleError, match="'perhaps'"):
        Manifest.from_dict(raw, "manifest.json")


@pytest.mark.parametrize(("value", "verdict"), [(float("nan"), "pass"), (None, "pass"), (float("nan"), "inconclusive")])
def test_what_cannot_be_compared_never_passes_not_even_read_back(
    verified: Verified, tmp_path: Path, value: float | None, verdict: Verdict
) -> None:
    gate = Gate("agreement", value, 0.97, verdict)
    assert gate.word == "failed"
    document = document_of(judged(verified[1], "pass"))
    document["files"][FILE]["gates"] = [{"name": "agreement", "value": None, "limit": 0.97, "verdict": "pass"}]
    (tmp_path / "parity.json").write_text(json.dumps(document))
    assert read_parity(tmp_path / "parity.json").files[FILE].worst == "fail"
