"""Make the pictures of README and docs/: `make pictures`.

Both show the shipped model: its report, and its page in a browser with a synthetic lesion. No patient's image is used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.core.errors import SkinedgeError

if TYPE_CHECKING:
    from playwright.sync_api import Page

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "skinedge" / "flagship"
PICTURES = REPOSITORY / "docs" / "images"
WIDTH, HEIGHT = 1280, 900  # pixels
TIMEOUT = 120_000  # milliseconds, for the page to load the model


def main() -> int:
    """Write docs/images/report.png and web.png; return 1 without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: Chromium is not installed: make browser", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(_report(Path(folder)).as_uri())
            page.screenshot(path=PICTURES / "report.png")
            _photograph_web(page, _lesion(Path(folder)))
            browser.close()
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: report.png, web.png in {PICTURES}")
    return 0


def _report(folder: Path) -> Path:
    """Write the report of the shipped model."""
    page = folder / "report.html"
    command = [sys.executable, "-P", "-m", "skinedge", "report", str(SHIPPED), "--out", str(page)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkinedgeError(f"the report cannot be written: {done.stderr.strip()}")
    return page


def _lesion(folder: Path) -> Path:
    """Write a synthetic image of the class melanoma."""
    from PIL import Image

    from skinedge.data.synthetic import LABELS, draw

    path = folder / "synthetic.png"
    Image.fromarray(draw(7, LABELS.index("mel"), 300, 300)).save(path)
    return path


def _photograph_web(page: Page, image: Path) -> None:
    """Serve the shipped model's page, give it the image, and take a picture of the result."""
    from skinedge.run.run_directory import Bundle
    from skinedge_bench.web.server import SiteServer
    from skinedge_bench.web.site import build

    with SiteServer(build(Bundle.open(SHIPPED)), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(server.url)
        page.wait_for_selector("#file:enabled", state="attached", timeout=TIMEOUT)
        page.set_input_files("#file", image)
        page.wait_for_selector("#result:visible", timeout=TIMEOUT)
        page.screenshot(path=PICTURES / "web.png")
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
