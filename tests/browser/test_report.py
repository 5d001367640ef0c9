"""The page of `skinedge report` in a real browser: on a phone and a screen, light and dark, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY
from playwright.sync_api import Page

from skinedge.cli.common import NOTICE
from skinedge.run.run_directory import Bundle
from skinedge_bench.report.draw import ReportRequest, draw

FLAGSHIP = REPOSITORY / "skinedge" / "flagship"
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3

# Every visible text with the contrast of its colour to what lies under it, colours as the browser computed them; a
# canvas turns whatever it calls a colour into numbers.
CONTRASTS = """() => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const numbers = colour => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const under = element => {
    const layers = [];
    for (let each = element; each; each = each.parentElement)
      layers.push(numbers(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text) continue;
    const style = getComputedStyle(element), svg = element instanceof SVGElement;
    const below = under(element), ink = over(numbers(svg ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    found.push([text.slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
OVERFLOW = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
A4 = 687  # CSS pixels between margins of 14 mm
HEIGHT = "name => document.querySelector(name).getBoundingClientRect().height"
SIDEWAYS = """() => [...document.querySelectorAll('main *')]
  .filter(e => e.scrollWidth > e.clientWidth && ['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX))
  .map(e => e.outerHTML.slice(0, 80))"""
BEYOND = """() => [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('svg') || e.tagName === 'svg')
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 80))"""
# Numbers, with the range, fraction or sign that they are part of, that lie on more than one line.
BROKEN_NUMBERS = """() => {
  const broken = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = new Range();
  let texts = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.closest('td, th, dd, p, li') || node.parentElement.closest('code, pre')) continue;
    for (const match of node.data.matchAll(/[-+]?\\d[\\d.,]*(?:(?:e[-+]|[-/])\\d[\\d.,]*| %)*/g)) {
      range.setStart(node, match.index); range.setEnd(node, match.index + match[0].length);
      texts++;
      if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) broken.push(match[0]);
    }
  }
  return [texts, broken];
}"""
# Cells of a column of figures with text on more than one line.
WRAPPED_FIGURES = """() => {
  const range = new Range();
  return [...document.querySelectorAll('td.n')].filter(cell => {
    range.selectNodeContents(cell);
    return new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1;
  }).map(cell => cell.textContent);
}"""
UNNAMED = """() => [...document.querySelectorAll('svg, img')]
  .filter(e => (e.getAttribute('aria-label') || e.getAttribute('alt') || '').length < 20)
  .map(e => e.outerHTML.slice(0, 80))"""
HEADLESS = "() => [...document.querySelectorAll('table')].filter(t => !t.querySelector('th[scope=col]')).length"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> dict[str, Path]:
    """The bundled model's page, with all sections; and a synthetic run's, with images and without some sections."""
    if not (FLAGSHIP / "manifest.json").is_file():
        pytest.skip("the model that ships with the package is not there")
    folder = tmp_path_factory.mktemp("pages")
    for name, run, request in (
        ("shipped", FLAGSHIP, ReportRequest()),
        ("images", tiny_run, ReportRequest(with_images=True)),
    ):
        html = draw(Bundle.open(run), request, NOTICE).html
        assert html is not None
        (folder / f"{name}.html").write_text(html)
    return {name: folder / f"{name}.html" for name in ("shipped", "images")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["shipped", "images"])
def test_the_page_is_readable(
    page: Page, pages: dict[str, Path], tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(pages[name].as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    for opened in (False, True):
        page.evaluate("opened => { document.querySelector('main > details').open = opened; }", opened)
        whole, shown = page.evaluate(OVERFLOW)
        assert whole <= shown == width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 200
    assert [text for text, contrast in contrasts if contrast < LEAST_CONTRAST] == []
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
    assert page.evaluate(UNNAMED) == [] and page.evaluate(HEADLESS) == 0
    assert page.get_by_text(NOTICE).first.bounding_box()["y"] < 40  # type: ignore[index]
    assert page.locator("img").count() == page.locator(".pictures figure").count()
    assert (page.locator("img").count() > 0) == (name == "images")
    assert page.evaluate("() => [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    picture = page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)
    assert len(picture) > 100_000


def test_each_section_is_a_click_away_and_wide_tables_scroll_by_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(pages["shipped"].as_uri())
    for link in page.locator("nav a").all():
        target = page.locator(link.get_attribute("href") or "")
        link.click()
        assert target.locator("h2").is_visible()  # opens what is folded
        assert target.locator("h2").inner_text() == link.inner_text()
    wide = page.locator(".scroll").filter(has=page.locator("table")).nth(2)
    wide.focus()
    before = wide.evaluate("element => element.scrollWidth > element.clientWidth && element.scrollLeft")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=wide.element_handle())
    assert before == 0


def test_the_part_for_engineers_is_folded_on_the_screen_and_printed(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["shipped"].as_uri())
    clinical, technical = page.locator("#s1 h2"), page.locator("details h2").last
    assert page.locator("details").count() == 1 and clinical.is_visible() and not technical.is_visible()
    page.locator("summary").click()
    assert technical.is_visible()
    page.locator("summary").click()
    assert not technical.is_visible()
    page.emulate_media(media="print")
    footer = page.evaluate("() => getComputedStyle(document.querySelector('footer')).breakInside")
    assert footer == "avoid"  # its lines stay on one sheet
    assert page.evaluate(HEIGHT, "details") > 20 * page.evaluate(HEIGHT, "summary")


@pytest.mark.parametrize("name", ["shipped", "images"])
@pytest.mark.parametrize("width", [1280, A4])
def test_nothing_is_cut_or_scrolls_on_a_screen_and_on_paper(
    page: Page, pages: dict[str, Path], name: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media="print" if width == A4 else "screen")
    page.goto(pages[name].as_uri())
    if width != A4:
        page.locator("summary").click()
    whole, shown = page.evaluate(OVERFLOW)
    assert whole <= shown
    assert page.evaluate(SIDEWAYS) == []
    assert page.evaluate(BEYOND) == []
    texts, broken = page.evaluate(BROKEN_NUMBERS)
    assert texts > 200 and broken == []
    assert page.evaluate(WRAPPED_FIGURES) == []


def test_a_table_row_and_a_picture_are_not_split_between_pages(page: Page, pages: dict[str, Path]) -> None:
    page.emulate_media(media="print")
    page.goto(pages["images"].as_uri())
    rules = page.evaluate(
        "() => [...document.querySelectorAll('tr, figure')].map(e => getComputedStyle(e).breakInside)"
    )
    assert len(rules) > 50 and set(rules) == {"avoid"}
