"""The site of `make docs`: it builds without a warning, loads nothing from elsewhere, and its pages match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from experiments import cli_page
from skinedge.core.errors import SkinedgeError

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
SOURCES = [*(REPOSITORY / "skinedge").rglob("*.py"), *(REPOSITORY / "export" / "skinedge_export").rglob("*.py"),
           *(REPOSITORY / "bench" / "skinedge_bench").rglob("*.py")]  # fmt: skip
ANY = "…"  # in faq.md: a name or a number of the message
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """A built page. loads: what a browser fetches for it; links: targets of its links; ids: its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    assert pages <= {path.relative_to(site).as_posix() for path in site.rglob("*.html")} and "index.html" in pages


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for path in site.rglob("*.html"):
        outside = [url for url in Page(path).loads if re.match(r"(?:[a-z]+:)?//", url)]
        assert not outside, path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_internal_links_and_anchors_exist(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    count = 0
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / unquote(target)).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), f"{path.name}: {link}"
            assert not anchor or file not in pages or unquote(anchor) in pages[file].ids, f"{path.name}: {link}"
            count += 1
    assert count > 50


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_outside_the_site_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", link):
            assert (REPOSITORY / link.partition("#")[0]).exists(), link


def test_the_reference_of_the_commands_is_up_to_date() -> None:
    text = cli_page.PAGE.read_text(encoding="utf-8")
    assert cli_page.updated(text) == text, "run: make cli-page"
    assert "### skinedge data check" in text
    text = cli_page.SETTINGS_PAGE.read_text(encoding="utf-8")
    assert cli_page.updated_settings(text) == text and "lora_plus" in text, "run: make cli-page"
    with pytest.raises(SkinedgeError, match="markers"):
        cli_page.updated("no markers")


def test_the_table_of_json_documents_has_every_schema() -> None:
    listed = set(re.findall(r"^\| `skinedge\.([\w.-]+)` \|", cli_page.PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    emitted = {
        ast.literal_eval(node.args[0])
        for path in (REPOSITORY / "skinedge" / "cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "emit_json"
    }
    assert listed == emitted


def messages(path: Path) -> Iterator[str]:
    """Yield the texts in a source file, with ANY in place of each expression of an f-string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)
            yield re.sub(f"{ANY}+", ANY, text)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_of_the_error_page_is_in_the_source() -> None:
    quoted = re.findall(r"^### `(.+)`$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    source = {message for path in SOURCES for message in messages(path)}
    missing = [message for message in quoted if not any(message in text for text in source)]
    assert len(quoted) > 25 and not missing
