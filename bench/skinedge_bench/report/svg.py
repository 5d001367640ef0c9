"""Write charts as SVG for the page: its CSS variables give the colours, so a chart follows light, dark and print."""

from __future__ import annotations

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib

from skinedge.core.terminal import visible
from skinedge_bench.report.content import Chart
from skinedge_bench.report.plots import FIRST, HALO, INK, PAPER, QUIET, RULE, SECOND, STYLE, THIRD, figure

VARIABLES = {  # colour of `plots` -> variable of page.css
    PAPER: "--paper",
    INK: "--ink",
    QUIET: "--quiet",
    RULE: "--rule",
    FIRST: "--first",
    SECOND: "--second",
    THIRD: "--third",
}
SVG, HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


def svg(chart: Chart) -> str:
    """Draw a chart as an <svg> element without ids, with its description for screen readers."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's font has it
        drawing, buffer = figure(chart), io.BytesIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return inline(ElementTree.fromstring(buffer.getvalue()), chart.description)


def inline(root: ElementTree.Element, description: str) -> str:
    """Rewrite matplotlib's SVG for a page that holds several: no ids, links, style sheet, fonts or own colours."""
    markers = {path.get("id"): path for path in root.iter(f"{SVG}path") if path.get("id")}
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{SVG}defs", f"{SVG}metadata")]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if element.tag == "use":
            _copy_marker(element, markers[element.attrib.pop(HREF)[1:]])
        if element.attrib.pop("id", None) == HALO:
            element.set("class", HALO)
        element.attrib.pop("clip-path", None)
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for name, value in element.items():
            element.set(name, _styled(value) if name == "style" else _rounded(value))
        element.tail = None
        element.text = element.text if element.tag == "text" else None
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": visible(description)}
    return ElementTree.tostring(root, encoding="unicode")


def _copy_marker(use: ElementTree.Element, marker: ElementTree.Element) -> None:
    """Turn a reference to a marker into the marker itself."""
    use.tag = "path"
    x, y = use.attrib.pop("x"), use.attrib.pop("y")
    style = "; ".join(filter(None, (marker.get("style"), use.get("style"))))
    use.attrib = {"d": marker.attrib["d"], "transform": f"translate({x} {y})", "style": style}


def _styled(style: str) -> str:
    """Replace colours by CSS variables, and leave the font to the page."""
    style = re.sub(r"font: (\d+ )?([\d.]+px)[^;]*", r"font-weight: \1; font-size: \2", style)  # matplotlib 3.9
    style = re.sub(r"font-family:[^;]*;? ?|font-weight: ; ", "", style)
    return re.sub(r"#[0-9a-f]{6}", lambda match: f"var({VARIABLES[match[0]]})", style)


def _rounded(value: str) -> str:
    """Shorten the numbers of a path to hundredths."""
    shorter = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
    return " ".join(shorter.split())
