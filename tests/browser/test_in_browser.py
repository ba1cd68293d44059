"""Drives the page in a real browser, with real videos: `make test-browser`. Pictures of it go to runs/browser/."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.pages import Page

playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytest.importorskip("gradio", reason="the page needs gradio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path: apt-get install chromium"),
]
PICTURES = ROOT / "runs" / "browser"
WIDE, NARROW = 1280, 390
WAIT = 180_000
"""Longest wait for an answer of the page, in milliseconds."""

GRADIOS = {
    ("nested-interactive", "toast-header"): "the head of Gradio's messages is a button, with the button that closes them in it",
}
"""What axe finds in parts of Gradio that the page cannot change: the rule's id and what is in the HTML, and why."""


@pytest.fixture(scope="session")
def videos(clips_folder, tmp_path_factory):
    """The five videos of the issue, real ones; what there is none of is made from one."""
    folder = tmp_path_factory.mktemp("videos")
    files = {"audio": "sample_ac3.mp4", "empty": "Mpeg4.mp4", "damaged": "corrupted.mp4"}
    made = {name: Path(shutil.copy(clips_folder / file, folder / file)) for name, file in files.items()}
    made["portrait"] = portrait_4k(clips_folder / "demo.mp4", folder / "portrait-4k.mp4")
    made["long"] = looped(clips_folder / "one-by-one-person-detection.mp4", folder / "long.mp4", 11 * 60)
    made["short"] = Path(shutil.copy(clips_folder / "flipping_a_pancake.mkv", folder / "pancake.mkv"))
    made["other"] = Path(shutil.copy(clips_folder / "v_Biking_g16_c01.mp4", folder / "biking.mp4"))
    return made


def portrait_4k(source, target, seconds=4):
    """Scales the beginning of a video to 2160 x 3840."""
    import av
    from PIL import Image

    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 2160, 3840, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for i, frame in enumerate(reader.decode(video=0)):
            if i == 25 * seconds:
                break
            image = frame.to_image().crop((60, 0, 204, 256)).resize((2160, 3840), Image.Resampling.BILINEAR)
            writer.mux(stream.encode(av.VideoFrame.from_image(image)))
        writer.mux(stream.encode())
    return target


def looped(source, target, seconds):
    """Repeats a video without decoding it, until it is so long."""
    import av

    with av.open(str(target), "w") as writer:
        copy, offset, length = None, 0, 0.0
        while length < seconds:
            with av.open(str(source)) as reader:
                stream = reader.streams.video[0]
                copy = copy or writer.add_stream_from_template(stream)
                end = 0
                for packet in reader.demux(stream):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, copy
                    writer.mux(packet)
            offset += end
            length = float(offset * stream.time_base)
    return target


@pytest.fixture(scope="session")
def features(videos, clips_folder, tmp_path_factory):
    """A folder of features of a few real videos."""
    folder = tmp_path_factory.mktemp("features")
    names = ["flipping_a_pancake.mkv", "v_Biking_g16_c01.mp4", "demo.mp4", "asl_walk.mkv", "video2.webm", "example.avi"]
    command = [
        sys.executable,
        "-m",
        "vie_models.cli",
        "extract",
        "vie_twopathway_tiny",
        *(str(clips_folder / name) for name in names),
    ]
    command += ["--stride", "1.0", "-o", str(folder), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def served(features, tmp_path_factory):
    with Page(tmp_path_factory.mktemp("served"), str(features)) as page:
        yield page
        memory = page.memory()
        print(f"\npeak memory: {', '.join(f'{name} {peak:.0f} MB' for name, peak in memory.items())}")
        assert sum(memory.values()) < 2e9 / 2**20


@pytest.fixture(scope="session")
def browser():
    PICTURES.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Visit:
    """A visit to the page: the tab of the browser, and what went wrong in it."""

    def __init__(self, browser, served, width, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab = self.context.new_page()
        self.width, self.scheme, self.url = width, scheme, served.url
        self.said, self.asked = [], set()
        self.tab.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url[:200])))
        self.tab.goto(served.url)
        self.tab.get_by_role("heading", name="What a video encoder sees").wait_for(timeout=WAIT)
        self.rest()  # Gradio builds some parts again once it has loaded them, and they lose the focus

    def open(self, name):
        self.tab.get_by_role("tab", name=name).click()

    def upload(self, file):
        """Chooses a file for the first place on the open tab that has none."""
        self.tab.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(str(file))

    def clear(self):
        """Takes the file back, and what the page says about it."""
        while self.tab.get_by_test_id("toast-close").count():
            self.tab.get_by_test_id("toast-close").first.click()
            self.tab.wait_for_timeout(500)
        panel = self.tab.locator("[role=tabpanel]:visible")
        while not panel.locator("input[type=file]").count():
            panel.get_by_label("Clear").first.click()
            self.tab.wait_for_timeout(300)

    def error(self):
        """The sentence of an error that the page shows."""
        toast = self.tab.get_by_test_id("toast-body").first
        toast.wait_for(timeout=WAIT)
        return toast.inner_text()

    def picture(self, name):
        """Takes a picture of the whole page, once nothing moves."""
        self.rest()
        self.tab.screenshot(path=PICTURES / f"{name}-{self.width}-{self.scheme}.png", full_page=True)
        too_wide = self.tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert too_wide <= 0, f"{name} is {too_wide} pixels wider than the window"

    def rest(self):
        """Waits until the page does nothing any more."""
        self.tab.wait_for_timeout(300)
        playwright.expect(self.tab.locator(".progress-text, .eta-bar, .generating, .wrap.translucent")).to_have_count(
            0, timeout=WAIT
        )
        self.tab.wait_for_timeout(500)

    def accessible(self, name):
        """Asks axe about the page as it is now."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python brings axe")
        found = axe.Axe().run(self.tab).response["violations"]
        PICTURES.joinpath(f"{name}-{self.width}-{self.scheme}-axe.json").write_text(json.dumps(found, indent=1))
        grave = {
            f"{one['id']} ({one['impact']}): {node['html'][:200]}"
            for one in found
            for node in one["nodes"]
            if one["impact"] in ("serious", "critical")
            and not any(one["id"] == rule and part in node["html"] for rule, part in GRADIOS)
        }
        assert not grave, "\n".join(sorted(grave))

    def close(self):
        assert not self.said, self.said
        assert {place for place in self.asked if not place.startswith(("data:", "blob:"))} == {self.url}
        self.context.close()


@pytest.fixture(params=[(WIDE, "light"), (NARROW, "light")], ids=["wide", "narrow"])
def visit(request, browser, served):
    visit = Visit(browser, served, *request.param)
    yield visit
    visit.close()


def test_five_real_videos(visit, videos):
    tab = visit.tab
    visit.picture("1-empty")
    for name, sentence in [("audio", "only audio"), ("empty", "no video stream")]:
        visit.upload(videos[name])
        assert sentence in visit.error()
        visit.picture(f"2-{name}")
        visit.accessible(f"2-{name}")
        visit.clear()
    for name, text in [("portrait", "2160 x 3840"), ("damaged", "amaged"), ("long", "first 10 min")]:
        visit.upload(videos[name])
        tab.get_by_text(re.compile(text)).first.wait_for(timeout=WAIT)
        playwright.expect(tab.locator("video:visible").first).to_be_visible(timeout=WAIT)
        visit.rest()
        nearest = tab.locator(".vie-nearest video:visible")  # of the features; not the video's own
        playwright.expect(nearest).to_have_count(3, timeout=WAIT)
        visit.picture(f"3-{name}")
        if name == "portrait":
            visit.accessible("3-look")
        visit.clear()


def test_search_by_a_dragged_moment(visit, videos):
    tab = visit.tab
    visit.open("Search")
    visit.upload(videos["short"])
    film = tab.locator("[role=tabpanel]:visible .vie-film")
    film.wait_for(timeout=WAIT)
    players = tab.locator("[role=tabpanel]:visible video")
    playwright.expect(players.first).to_be_visible(timeout=WAIT)
    visit.rest()
    slider = tab.locator("[role=tabpanel]:visible input[type=range]").first
    before = float(slider.input_value())
    box = slider.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] / 2, steps=8)
    tab.mouse.up()
    visit.rest()
    after = float(slider.input_value())
    assert after < before
    assert f"The moment: {after:.1f}" in tab.locator("[role=tabpanel]:visible").inner_text()
    assert players.count() >= 3
    # the nearest moment of a video that is in the index is its own
    assert "flipping_a_pancake" in tab.locator("[role=tabpanel]:visible").inner_text()
    assert players.first.evaluate("video => video.readyState > 0 || new Promise(done => video.onloadeddata = () => done(true))")
    visit.picture("4-search")
    visit.accessible("4-search")


def test_compare(visit, videos):
    tab = visit.tab
    visit.open("Compare")
    visit.upload(videos["short"])
    tab.get_by_text("pancake").first.wait_for(timeout=WAIT)
    tab.get_by_role("button", name="Compare").click()
    tab.locator("[role=tabpanel]:visible .vie-matrix").first.wait_for(timeout=WAIT)
    visit.picture("5-compare-encoders")
    visit.accessible("5-compare")
    tab.get_by_label("Two videos").check()
    visit.upload(videos["other"])
    tab.get_by_text("biking").first.wait_for(timeout=WAIT)
    visit.rest()
    tab.get_by_role("button", name="Compare").click()
    tab.locator("[role=tabpanel]:visible .vie-matrix").first.wait_for(timeout=WAIT)
    visit.picture("5-compare-videos")


def test_dark(browser, served, videos):
    visit = Visit(browser, served, WIDE, "dark")
    visit.upload(videos["short"])
    visit.tab.locator("[role=tabpanel]:visible .vie-matrix").first.wait_for(timeout=WAIT)
    visit.picture("6-dark")
    visit.accessible("6-dark")
    visit.close()


def test_by_keyboard_alone(browser, served, videos):
    visit = Visit(browser, served, WIDE)
    tab = visit.tab

    def focused():
        return tab.evaluate(
            "(document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || '').slice(0, 60)"
        )

    def tab_to(pattern, most=40):
        seen = []
        for _ in range(most):
            tab.keyboard.press("Tab")
            seen.append(focused())
            if re.search(pattern, seen[-1]):
                outline = tab.evaluate(
                    "(() => { const s = getComputedStyle(document.activeElement);"
                    " return s.outlineStyle !== 'none' || s.boxShadow !== 'none' })()"
                )
                assert outline, f"nothing shows that {seen[-1]!r} has the focus"
                return
        raise AssertionError(f"no {pattern!r} among {seen}")

    tab_to("^Click to upload")
    with tab.expect_file_chooser() as chooser:
        tab.keyboard.press("Enter")
    chooser.value.set_files(str(videos["short"]))
    tab.locator(".vie-matrix").first.wait_for(timeout=WAIT)
    visit.rest()
    for _ in range(60):  # to the moment, and five steps on
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.type") == "range":
            break
    moment = tab.locator("input[type=range]:focus")
    before = float(moment.input_value())
    for _ in range(5):
        tab.keyboard.press("ArrowLeft")
    visit.rest()
    after = float(tab.locator("[role=tabpanel]:visible input[type=range]").first.input_value())
    assert after == pytest.approx(before - 0.5, abs=0.01)
    visit.picture("7-keyboard")
    visit.close()


def test_names_with_html_are_text(browser, served, videos, tmp_path):
    visit = Visit(browser, served, WIDE)
    name = "<img src=x onerror=document.title='taken'>.mp4"
    file = Path(shutil.copy(videos["other"], tmp_path / name))
    visit.upload(file)
    visit.tab.locator(".vie-matrix").first.wait_for(timeout=WAIT)
    visit.rest()
    visit.clear()
    visit.upload(shutil.copy(videos["audio"], tmp_path / ("b" + name)))
    assert "onerror=document.title='taken'" in visit.error()
    assert visit.tab.title() != "taken"
    assert visit.tab.locator("img[src=x]").count() == 0
    visit.picture("8-html-name")
    visit.close()
