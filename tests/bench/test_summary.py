"""skinedge report: a page of what the stages reported, with holes named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from skinedge.bundle import Bundle

Cli = Callable[..., tuple[int, str, str]]


def test_a_stage_that_has_not_run_is_named(cli: Cli, trained_run: Path) -> None:
    code, out, _ = cli("report", trained_run)
    assert code == 0
    assert "Not verified" in out and "Not measured" in out and "SYNTHETIC" in out and "not a medical device" in out
    history = json.loads((trained_run / "reports" / "training.json").read_text())["history"]
    assert f"{history[0]['train_loss']:.3f}" in out


def test_the_figures_are_those_of_the_reports(cli: Cli, run: Bundle) -> None:
    assert cli("verify", run.root)[0] in (0, 1)
    code, out, _ = cli("report", run.root, "--json")
    document = json.loads(out)
    assert code == 0 and document["schema"] == "skinedge.report/1" and document["latency"] is None
    kept = json.loads((run.root / "reports" / "parity.json").read_text())
    assert document["parity"] == kept
    page = cli("report", run.root)[1]
    for name, file in kept["files"].items():
        assert f"| {name} |" in page
        if file["metrics"]:
            assert f"{file['metrics']['agreement']:.3f}" in page or file["metrics"]["agreement"] == 1


def test_the_evaluation_that_a_packed_model_carries_is_shown(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    assert "Evaluation" not in cli("report", run.root)[1]
    assert cli("evaluate", run.root, "--out", tmp_path)[0] == 0
    with run.stage("ship", "test", {}) as stage:
        stage.path("reports/evaluation.json").write_bytes((tmp_path / "evaluation.json").read_bytes())
    kept = json.loads((tmp_path / "evaluation.json").read_text())
    page, document = cli("report", run.root)[1], json.loads(cli("report", run.root, "--json")[1])
    assert document["evaluation"] == kept and f"## Evaluation: {kept['file']}" in page
    low, high = kept["intervals"]["balanced_accuracy"]
    figures = f"| balanced accuracy, uniform prior | {kept['balanced_accuracy']:.4f} | {low:.3f}-{high:.3f} |"
    assert figures in page


def test_a_changed_report_is_refused(cli: Cli, run: Bundle) -> None:
    path = run.root / "reports" / "training.json"
    path.write_text(path.read_text().replace("1", "2"))
    code, out, err = cli("report", run.root)
    assert code == 1 and "does not match the hash" in err and out == ""
