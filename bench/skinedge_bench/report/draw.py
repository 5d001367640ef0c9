"""`skinedge report`: from a run to its page, its Markdown, and the documents that both show."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from skinedge import __version__
from skinedge.core.errors import BundleError, ConfigError, MissingDependencyError
from skinedge.core.files import check_writable, write_atomic
from skinedge.run.run_directory import Bundle
from skinedge.system.requirements import PLOTS, module_of
from skinedge_bench.report.examples import gallery
from skinedge_bench.report.markdown import markdown, summary
from skinedge_bench.report.sections import build_report
from skinedge_bench.report.sources import collect

PAGE = "reports/report.html"
PAGE_SUFFIXES, MARKDOWN_SUFFIXES = (".html", ".htm"), (".md",)


@dataclass(frozen=True)
class ReportRequest:
    """Contents of a report.

    evaluation, runs: as `sources.collect` takes them; with_images: include test images; data: where these are, if not
    where the run was trained.
    """

    evaluation: Path | None = None
    runs: tuple[Path, ...] = ()
    with_images: bool = False
    data: Path | None = None


@dataclass(frozen=True)
class ReportFiles:
    """The report in each format.

    html: the page, None without the extra `plots`; summary: lines for a terminal; document: the run's documents, as
    `--json` prints them.
    """

    html: str | None
    markdown: str
    summary: tuple[str, ...]
    document: dict[str, object]


def can_write_page(*, required: bool = False) -> bool:
    """Return True if the libraries that draw the page are installed.

    Raises: MissingDependencyError where the page is required and they are not.
    """
    missing = next((name for name in PLOTS if find_spec(module_of(name)) is None), None)
    if missing is not None and required:
        raise MissingDependencyError(missing, "plots")
    return missing is None


def check_out(out: Path) -> None:
    """Check the name of the file to write, and its folder.

    Raises: ConfigError for another suffix; MissingDependencyError for a page without the extra `plots`; BundleError.
    """
    suffix = out.suffix.lower()
    if suffix not in (*PAGE_SUFFIXES, *MARKDOWN_SUFFIXES):
        todo = "Supported: .html (the page) and .md (Markdown). For a PDF, print the page from a browser."
        raise ConfigError(f"unknown suffix '{suffix}'", where=f"--out {out}", todo=todo)
    can_write_page(required=suffix in PAGE_SUFFIXES)
    if out.is_dir():
        raise BundleError("is a folder", where=str(out), todo="Name a file with --out.")
    check_writable(out.parent)


def draw(bundle: Bundle, request: ReportRequest, notice: str) -> ReportFiles:
    """Draw a report without writing it.

    Raises: BundleError as `sources.collect`; DataError and ConfigError as `examples.gallery`; MissingDependencyError
    for images without the extra `plots`.
    """
    if request.data is not None and not request.with_images:
        raise ConfigError("--data says where the images are, and only --with-images shows any", todo="Leave it out.")
    with_page = can_write_page(required=request.with_images)
    sources = collect(bundle, request.evaluation, request.runs)
    listed = sources.mistakes.listed if sources.mistakes else ()
    report = build_report(sources, notice, gallery(bundle, request.data, listed) if request.with_images else None)
    html = None
    if with_page:
        from skinedge_bench.report.page import page

        html = page(report, bundle.manifest.id)
    return ReportFiles(html, markdown(report), tuple(summary(report)), dict(sources.document))


def save(bundle: Bundle, files: ReportFiles, out: Path | None) -> Path | None:
    """Write the report to `out` in the format of its suffix, else the page into the run; return the path.

    Returns: None where nothing was written, for lack of the extra `plots` or of a run that keeps it.
    Raises: BundleError when it cannot be written.
    """
    html = files.html
    if out is not None and out.suffix.lower() in MARKDOWN_SUFFIXES:
        write_atomic(out, files.markdown)
        return out
    if html is None or (out is None and bundle.read_only):
        return None
    if out is not None:
        write_atomic(out, html)
        return out
    made_from = {name: entry.sha256 for name, entry in bundle.entries().items() if name.endswith(".json")}
    with bundle.stage("report", f"skinedge {__version__}", made_from) as stage:
        stage.path(PAGE).write_text(html, encoding="utf-8")
    return bundle.root / PAGE
