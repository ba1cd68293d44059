"""Makes docs/page.png, the picture of the page with its rendered example: `python -m reproduce.page_picture [OUT.png]`.

Needs the extras `app` and `browser`, and chromium on the path.
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

WIDTH, GAP, COLORS = 1160, 24, 256
MOST_BYTES = 300_000
WAIT = 180_000  # milliseconds


def take(address: str, chromium: str) -> Image.Image:
    """Returns a picture of the tab Look, down to where the match lies."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(address)
        page.get_by_role("button", name="Try an example").first.click()
        rows = page.locator(".vie-row:visible")
        rows.nth(2).wait_for(timeout=WAIT)  # two of the match, one of the layer
        page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState >= 2)", timeout=WAIT)
        page.wait_for_timeout(1000)  # they are drawn
        box = rows.nth(1).bounding_box()
        assert box
        height = box["y"] + box["height"] + GAP
        content = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()
    return Image.open(io.BytesIO(content)).convert("RGB")


def main(out: Path) -> None:
    """Serves the page, takes the picture and writes it."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("there is no chromium on the path: apt-get install chromium")
    command = [sys.executable, "-u", "-m", "vie_models.cli", "app", "--port", "0"]
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
