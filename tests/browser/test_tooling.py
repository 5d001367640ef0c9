"""The watch that the other tests here rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

PATIENCE = 600  # tenths of a second
PROVOKED = {
    "script error": "throw new Error('odd')",
    "console": "console.error('odd')",
    "request": "new Image().src = 'http://192.0.2.1/pixel.png'",
}


@pytest.mark.parametrize("kind", PROVOKED)
def test_errors_and_requests_that_leave_the_machine_are_seen(
    page: Page, complaints: list[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<title>page</title><script>{PROVOKED[kind]}</script>")
    page.goto(path.as_uri(), wait_until="commit")
    for _ in range(PATIENCE):  # a loaded machine is slow to tell
        if any(said.startswith(kind) for said in complaints):
            break
        page.wait_for_timeout(100)
    assert [said for said in complaints if said.startswith(kind)], complaints
    complaints.clear()


def test_a_sound_page_gives_no_complaint(page: Page, complaints: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<title>page</title><p>text</p>")
    page.goto(path.as_uri())
    assert page.text_content("p") == "text" and complaints == []
