"""The model card's Markdown as HTML: its own syntax is rendered, all else is escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from skinedge.run.model_card import table
from skinedge_bench.report.markup import html, unbroken


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("### Title", "<h3>Title</h3>"),
        ("- a\n- `b`", "<ul><li>a</li><li><code>b</code></li></ul>"),
        ("fitted on *cal*, **bold**, 2 * 3 * 4", "<p>fitted on <em>cal</em>, <strong>bold</strong>, 2 * 3 * 4</p>"),
        ("`a*b* <c>`", "<p><code>a*b* &lt;c&gt;</code></p>"),
        (r"\*not\* \<b> \[x\]", "<p>*not* &lt;b&gt; [x]</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[a](javascript:x) ![b](http://c) <http://d> http://e", None),
        ("&lt;script&gt; &#60;b&#62;", "<p>&amp;lt;script&amp;gt; &amp;#60;b&amp;#62;</p>"),
    ],
)
def test_markdown_becomes_html(markdown: str, expected: str | None) -> None:
    rendered = html(markdown).replace("\n", "")
    if expected is None:
        expected = f"<p>{markdown.replace('<', '&lt;').replace('>', '&gt;')}</p>"
    assert rendered == expected


def test_code_keeps_its_lines_and_is_escaped() -> None:
    expected = '<pre tabindex="0"><code>a = &quot;&lt;b&gt;&quot;\n\n# c\n</code></pre>\n'
    assert html('```toml\na = "<b>"\n\n# c\n```') == expected


def test_a_table_keeps_its_cells() -> None:
    rows = [["a|b", "<i>", ""], ["`c`", "1.0", "x"]]
    rendered = html(table(("file", "value", ""), rows))
    root = ElementTree.fromstring(rendered)
    cells = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert cells == [["file", "value", ""], ["a|b", "<i>", ""], ["c", "1.0", "x"]]
    assert rendered.count('<th scope="col">') == 3 and root.get("tabindex") == "0"


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("95 % 0.436-0.970", ["95 %", "0.436-0.970"]),
        ("pass 2.897e-06", ["2.897e-06"]),
        ("0.903 (84/93, 0.826-0.948)", ["84/93", "0.826-0.948"]),
        ("accuracy 60.7 %, then", ["60.7 %"]),
        ("ISIC_0024306 'a1-2' int8-x 12 of 20", []),
    ],
)
def test_numbers_of_several_parts_stay_together(text: str, together: list[str]) -> None:
    root = ElementTree.fromstring(f"<p>{unbroken(text)}</p>")
    assert "".join(root.itertext()) == text
    assert [span.text and span.text.rstrip(",") for span in root.iter("span")] == together
