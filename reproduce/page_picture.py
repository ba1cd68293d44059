"""Makes docs/page.png, the picture of the page with its example: `python -m reproduce.page_picture [OUT.png]`.

Needs the extras `app` and `browser`, and chromium on the path.
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

SIZE, COLORS = {"width": 1280, "height": 930}, 256
CURSOR = 0.18
"""Where on the timeline the picture is taken, as a share of it."""
MOST_BYTES = 400_000
WAIT = 180_000  # milliseconds


def take(address: str, chromium: str) -> Image.Image:
    """Returns a picture of the page, once the example is read."""
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        page.goto(address)
        expect(page.locator("#status")).to_have_text(re.compile(r"^\d+ segments"), timeout=WAIT)
        timeline = page.locator("#timeline")
        timeline.click(position={"x": CURSOR * timeline.bounding_box()["width"], "y": 20})
        page.wait_for_timeout(3000)  # the players have their frames
        content = page.screenshot()
        browser.close()
    return Image.open(io.BytesIO(content)).convert("RGB")


def main(out: Path) -> None:
    """Serves the page, takes the picture and writes it."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("there is no chromium on the path: apt-get install chromium")
    command = [sys.executable, "-u", "-m", "vie_models.cli", "app", "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://[\w.:]+", line)))
        picture = take(address, chromium)
    finally:
        server.terminate()
        server.wait()
    few = picture.quantize(COLORS, dither=Image.Dither.NONE)
    few.save(out, optimize=True)
    size = out.stat().st_size
    print(f"{out}: {picture.width} x {picture.height} pixels, {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"that is more than {MOST_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/page.png"))
