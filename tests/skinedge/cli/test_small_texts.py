"""Texts of commands: rates, intervals without a bound, the plan of a benchmark, plain parameters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from skinedge import api
from skinedge.cli.app import Program
from skinedge.cli.pipeline import advise
from skinedge.cli.verify import _score_change
from skinedge.publish.bundled_model import FOLDER, VARIABLE
from skinedge.run.run_directory import Bundle
from skinedge.stats.paired import Estimate
from skinedge.system.progress import rate
from skinedge_bench.latency.bench import plan
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.targets import BenchRequest

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_rate_of_a_finished_bar_is_its_average() -> None:
    assert rate(200, 4.0) == 50 and rate(0, None) == 0 and rate(0, 0.0) == 0


def test_an_interval_without_an_upper_bound() -> None:
    assert _score_change(Estimate(0.008, 0.0048, 1.0, 28)) == "0.80 (at least 0.48)"
    assert _score_change(Estimate(0.008, 0.0048, 0.0112, 40)) == "0.80 (0.48 to 1.12)"
    assert _score_change(None) is None


def test_the_plan_of_a_benchmark() -> None:
    text = plan(read_protocol("standard"), 4)
    assert text.startswith("benchmark: 4 pair(s) of file and runtime, 1000 inferences each (standard); about 2 min")


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no bundled model here")
def test_bench_without_a_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(FOLDER))
    monkeypatch.chdir(tmp_path)
    report = api.bench(None, BenchRequest("quick", runtimes=("litert",)))
    assert report.rows and list(tmp_path.iterdir()) == []
    err = capsys.readouterr().err
    assert "about 1 min" in err and "--out FILE.json keeps it" in err


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no bundled model here")
@pytest.mark.parametrize("complete", [True, False])
def test_the_next_steps_name_make_web_where_the_page_lacks_its_libraries(
    complete: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skinedge_bench.web.assets.is_complete", lambda: complete)
    advise(Bundle.open(FOLDER), Path("images"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "skinedge web" in line]
    assert line.endswith("try it in a browser" + ("" if complete else "; once before, in the clone: make web"))


def test_plain_parameters_arrive_as_annotated() -> None:
    calls: list[tuple[object, ...]] = []
    program = Program()

    @program.command()
    def command(
        paths: list[Path],
        name: Annotated[str | None, typer.Option()] = None,
        out: Annotated[Path, typer.Option()] = Path("x"),
        count: Annotated[int, typer.Option(min=1)] = 3,
        parts: Annotated[list[str] | None, typer.Option()] = None,
    ) -> None:
        calls.append((paths, name, out, count, parts))

    runner = CliRunner()
    assert runner.invoke(program, ["a", "b"]).exit_code == 0
    arguments = ["a", "--name", "n", "--out", "y/z", "--count", "4", "--parts", "p", "--parts", "q"]
    assert runner.invoke(program, arguments).exit_code == 0
    assert calls[0][:4] == ([Path("a"), Path("b")], None, Path("x"), 3) and not calls[0][4]
    assert calls[1] == ([Path("a")], "n", Path("y/z"), 4, ["p", "q"])
    for wrong in (["a", "--count", "0"], ["a", "--count", "x"], []):
        assert runner.invoke(program, wrong).exit_code != 0


def test_a_prediction_imports_only_what_it_uses_and_starts_no_blas_threads() -> None:
    code = (
        "import os, sys; from skinedge.cli import main; from skinedge.cli.app import MODULES\n"
        "sys.argv = ['skinedge', 'predict', 'no.jpg', '--file', "
        "'model.int8.tflite']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "unused = {'pydantic', 'rich', 'torch', 'filelock', 'concurrent.futures', 'secrets', 'skinedge.data.readers'}\n"
        "commands = sorted({f'skinedge.cli.{one}' for one in MODULES.values()} & set(sys.modules))\n"
        "print(commands, sorted(unused & set(sys.modules)), os.environ['OPENBLAS_NUM_THREADS'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), VARIABLE: str(FOLDER)}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    if not FOLDER.is_dir():
        pytest.skip("no bundled model here")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "no such image" in done.stdout and done.stdout.splitlines()[-1] == "['skinedge.cli.predict'] [] 1"


def test_the_app_words_its_doubts_in_every_language() -> None:
    source = REPOSITORY / "android-demo" / "app" / "src" / "main"
    activity = (source / "kotlin/org/skinedge/demo/BenchmarkActivity.kt").read_text(encoding="utf-8")
    core = REPOSITORY / "android-demo/core/src/main/kotlin/org/skinedge/demo/core"
    reasons = (core / "BenchReport.kt").read_text() + (core / "Statistics.kt").read_text()
    for start in ("on battery", "noisy: ", "slowed down by "):
        assert f'"{start}' in reasons and f'"{start}"' in activity
    for folder in ("values", "values-de"):
        text = (source / "res" / folder / "strings.xml").read_text(encoding="utf-8")
        assert set(re.findall(r"R.string.(doubt_\w+)", activity)) <= set(re.findall(r'name="(\w+)"', text))


def test_the_page_prints_below_its_header_and_shows_no_markup() -> None:
    page = REPOSITORY / "bench" / "skinedge_bench" / "web" / "page"
    style = (page / "style.css").read_text(encoding="utf-8")
    assert re.search(r"@media print \{\s+header \{ position: static; \}", style)
    assert "card.intended_use.replaceAll('`', '')" in (page / "view.js").read_text(encoding="utf-8")
