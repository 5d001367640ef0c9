"""The model card's Markdown as HTML: what it is written in is understood, and nothing else is let through."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from skinedge.run.model_card import table
from skinedge_bench.report.markup import html


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
        ('```toml\na = "<b>"\n\n# c\n```', '<pre tabindex="0"><code>a = &quot;&lt;b&gt;&quot;\n\n# c</code></pre>'),
    ],
)
def test_markdown_becomes_html(markdown: str, expected: str) -> None:
    assert html(markdown) == expected


def test_a_table_keeps_its_cells() -> None:
    rows = [["a|b", "<i>", ""], ["`c`", "1.0", "x"]]
    root = ElementTree.fromstring(html(table(("file", "value", ""), rows)))
    cells = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert cells == [["file", "value", ""], ["a|b", "<i>", ""], ["c", "1.0", "x"]]
