"""A headless Chromium, for pages that this project writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

LOCAL = {"127.0.0.1", ""}  # no host: file:, data: and blob: addresses


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of Debian's package; tests are skipped, visibly, where it is absent."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: make browser")
    # --no-sandbox: Chromium's sandbox refuses root, which a container's tests run as. A camera that shows a test card.
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What `page` complained of: script errors, the console's errors, and requests that left this machine.

    The test fails when something is in it at the end; one that provokes errors looks at them and clears it.
    """
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """An empty page in a browser profile of its own."""

    def watch(request: Request) -> None:
        if (urlsplit(request.url).hostname or "") not in LOCAL:
            complaints.append(f"request to {request.url}")

    with browser.new_context() as context:
        page = context.new_page()
        context.on("request", watch)
        page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
        page.on("console", lambda said: complaints.append(f"console: {said.text}") if said.type == "error" else None)
        yield page
    assert not complaints
