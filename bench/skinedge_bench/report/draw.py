"""`skinedge report`: a run -> a page, its Markdown, and the documents that both are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skinedge import __version__
from skinedge.core.errors import ConfigError
from skinedge.core.files import write_atomic
from skinedge.run.run_directory import Bundle
from skinedge_bench.report.examples import pictures
from skinedge_bench.report.markdown import markdown
from skinedge_bench.report.page import page
from skinedge_bench.report.sections import build
from skinedge_bench.report.sources import collect

PAGE = "reports/report.html"


@dataclass(frozen=True)
class ReportRequest:
    """What to put into a report. evaluation, runs: as `sources.collect` takes them; with_images: test images too;
    data: where these are, if not where the run was trained.
    """

    evaluation: Path | None = None
    runs: tuple[Path, ...] = ()
    with_images: bool = False
    data: Path | None = None


@dataclass(frozen=True)
class ReportFiles:
    """html: the page; document: its figures, as `--json` prints them."""

    html: str
    markdown: str
    document: dict[str, object]


def draw(bundle: Bundle, asked: ReportRequest, notice: str) -> ReportFiles:
    """Nothing is written yet.

    Raises: BundleError as `sources.collect` and `sections.build`; DataError and ConfigError as `examples.pictures`.
    """
    if asked.data is not None and not asked.with_images:
        raise ConfigError("--data says where the images are, and only --with-images shows any", todo="Leave it out.")
    sources = collect(bundle, asked.evaluation, asked.runs)
    report = build(sources, notice, pictures(bundle, asked.data) if asked.with_images else None)
    return ReportFiles(page(report, bundle.manifest.id), markdown(report), sources.document())


def save(bundle: Bundle, html: str, out: Path | None) -> Path:
    """Write the page to `out`, else into the run. Raises: BundleError when it cannot be written."""
    if out is not None:
        write_atomic(out, html)
        return out
    made_from = {name: entry.sha256 for name, entry in bundle.entries().items() if name.endswith(".json")}
    with bundle.stage("report", f"skinedge {__version__}", made_from) as stage:
        stage.path(PAGE).write_text(html, encoding="utf-8")
    return bundle.root / PAGE
