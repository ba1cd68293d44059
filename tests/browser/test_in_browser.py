"""Drives the page in a real browser, with real videos: `make test-browser`. Pictures of it go to runs/browser/."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytest.importorskip("starlette", reason="the page needs starlette")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path: apt-get install chromium"),
]
PICTURES = ROOT / "runs" / "browser"
WAIT = 240_000
"""Longest wait for the page, in milliseconds."""
ENCODER = "vie_single_tiny"
DONE = re.compile(r"^\d+ segment")
expect = playwright.expect
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="session")
def folder(clips_folder, tmp_path_factory):
    """Real videos, among them one that is damaged, one with sound alone and one without frames."""
    folder = tmp_path_factory.mktemp("videos")
    names = ["flipping_a_pancake.mkv", "corrupted.mp4", "Mpeg4.mp4", "sample_ac3.mp4", "asl_book.mkv", "example.avi"]
    for name in names:
        shutil.copy(clips_folder / name, folder / name)
    portrait_4k(clips_folder / "demo.mp4", folder / "portrait-4k.mp4")
    subprocess.run(["cp", clips_folder / "one-by-one-person-detection.mp4", folder / "long.mp4"], check=True)
    return folder


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


@pytest.fixture(scope="session")
def features(folder, tmp_path_factory):
    import vie_models as vie

    out = tmp_path_factory.mktemp("features") / "features"
    model = vie.create_model(ENCODER, pretrained=True)
    vie.Extractor(model, stride=0.5, workers=0).extract([folder / "flipping_a_pancake.mkv", folder / "asl_book.mkv"], out)
    return out


@pytest.fixture(scope="session")
def server(folder, features):
    command = [sys.executable, "-u", "-m", "vie_models.cli", "app", "--port", "0", "--no-browser", str(folder), str(features)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    yield re.search(r"http://[\d.]+:\d+", process.stdout.readline())[0]
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    """A page whose console must stay clean. What the browser itself says of a video that it cannot play is no error of ours."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", accept_downloads=True)
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server)
    yield page
    page.close()
    assert [text for text in said if "422" not in text] == []


def choose(page, name, encoder=ENCODER, done=DONE):
    expect(page.locator("#video option")).not_to_have_count(0)
    page.select_option("#encoder", encoder)
    page.select_option("#video", label=name)
    if done:
        expect(page.locator("#status")).to_have_text(done)


def picture(page, name, **options):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / f"{name}.png", **options)


def check_with_axe(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []


def test_the_segments_are_those_of_vie_segment(page, folder):
    import vie_models as vie
    from vie_models.search import segment

    choose(page, "long.mp4")
    found = segment(folder / "long.mp4", vie.create_model(ENCODER, pretrained=True))
    expect(page.locator("#status")).to_have_text(re.compile(rf"^{len(found.segments)} segments?\b"))
    page.locator("#take summary").click()
    with page.expect_download() as waiting:
        page.click("#csv")
    table = np.genfromtxt(waiting.value.path(), delimiter=",", names=True)
    np.testing.assert_allclose(table["novelty"], found.novelty, atol=2e-4)
    first = table["start"][np.flatnonzero(np.diff(table["segment"])) + 1]
    middles = found.times[np.searchsorted(found.times, found.boundaries)]
    np.testing.assert_allclose(first, middles - (table["end"][0] - table["start"][0]) / 2, atol=0.02)
    with page.expect_download() as waiting:
        page.click("#npz")
    with np.load(waiting.value.path()) as arrays:
        assert arrays["embedding"].shape == found.embeddings.shape
    with page.expect_download() as waiting:
        page.click("#png")
    assert Path(waiting.value.path()).read_bytes().startswith(b"\x89PNG")


def test_moments_alike_follow_the_cursor(page):
    choose(page, "flipping_a_pancake.mkv")
    timeline = page.locator("#timeline")
    box = timeline.bounding_box()
    timeline.click(position={"x": 0.6 * box["width"], "y": 20})
    expect(page.locator("#cards figure:visible")).not_to_have_count(0)
    first = page.locator("#cards strong:visible").first
    expect(first).to_contain_text("%")
    before, asked = float(timeline.get_attribute("aria-valuenow")), page.locator("#question").inner_text()
    page.keyboard.press("ArrowRight")
    assert float(timeline.get_attribute("aria-valuenow")) == pytest.approx(before + 0.5, abs=0.11)
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Home")
    expect(timeline).to_have_attribute("aria-valuenow", "0.0")
    expect(page.locator("#question")).not_to_have_text(asked)
    page.keyboard.press("k")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(timeline).not_to_have_attribute("aria-valuenow", "0.0")
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    page.keyboard.press("l")
    page.keyboard.press("j")
    check_with_axe(page)
    picture(page, "pancake")


def test_search_by_several_moments_and_a_link(page, server):
    choose(page, "long.mp4")
    page.select_option("#where", label="this video")
    timeline, box = page.locator("#timeline"), page.locator("#timeline").bounding_box()
    timeline.click(position={"x": 0.2 * box["width"], "y": 20})
    page.click("#plus")
    timeline.click(position={"x": 0.5 * box["width"], "y": 20})
    page.click("#minus")
    expect(page.locator("#question")).to_contain_text("but not like")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"minus=\d"))
    url, asked = page.url, page.locator("#question").inner_text()
    picture(page, "search")
    page.goto("about:blank")
    page.goto(url)
    expect(page.locator("#question")).to_have_text(asked)
    page.locator(".chip").first.click()
    expect(page.locator(".chip")).to_have_count(1)


def test_search_in_features(page):
    choose(page, "long.mp4")
    page.select_option("#where", label="features")
    expect(page.locator("#cards button:visible").first).to_contain_text(re.compile("pancake|asl_book"))
    picture(page, "features")


KINDS = {"Mpeg4.mp4": "Mpeg4", "sample_ac3.mp4": "audio", "corrupted.mp4": None, "portrait-4k.mp4": None, "example.avi": None}


@pytest.mark.parametrize(("name", "said"), KINDS.items())
def test_videos_of_all_kinds(page, name, said):
    choose(page, name, done=None)
    if said:
        expect(page.locator("#message")).to_contain_text(said)
    else:
        expect(page.locator("#status")).to_have_text(DONE)
    picture(page, name.split(".")[0])


def test_what_the_browser_cannot_play_comes_as_clips(page):
    choose(page, "example.avi")
    expect(page.locator("#player")).to_have_attribute("src", re.compile("^/clip/"))


def test_what_is_folded_away(page):
    choose(page, "flipping_a_pancake.mkv")
    for name in ("compare", "layers", "gradients", "names"):
        page.locator(f"#{name} summary").click()
    expect(page.locator("#responses img")).not_to_have_count(0)
    expect(page.locator("#pixels img")).not_to_have_count(0)
    expect(page.locator("#named")).to_contain_text("votes")
    page.select_option("#other", label="vie_slowfast_tiny")
    expect(page.locator("#agreement")).to_contain_text(re.compile(r"Agreement -?\d|too short"))
    page.select_option("#other", label="asl_book.mkv")
    expect(page.locator("#agreement")).to_contain_text("%")
    check_with_axe(page)
    picture(page, "folded", full_page=True)


def test_a_drop_whose_name_is_html(page, folder, tmp_path):
    name = "<img src=x onerror=document.title='taken'>.mkv"
    shutil.copy(folder / "asl_book.mkv", tmp_path / name)
    page.select_option("#encoder", ENCODER)
    page.set_input_files("#file", tmp_path / name)
    expect(page.locator("#video option:checked")).to_have_text(name)
    expect(page.locator("#status")).to_have_text(DONE)
    assert page.title() == "What a video encoder sees"


def test_reading_can_be_stopped_and_taken_up_again(page):
    choose(page, "long.mp4", encoder="vie_slowfast_tiny", done=re.compile("read ·"))
    page.click("#stop")
    expect(page.locator("#status")).to_have_text(re.compile("^stopped at"))
    expect(page.locator("#cards figure:visible")).not_to_have_count(0)
    expect(page.locator("#stop")).to_have_text("Read on")
    page.click("#stop")
    expect(page.locator("#status")).to_have_text(re.compile("read ·"))
    page.click("#stop")


def test_narrow_and_dark(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    choose(page, "flipping_a_pancake.mkv")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    check_with_axe(page)
    picture(page, "narrow-dark", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 800})
    picture(page, "wide-dark")


def test_how_long_it_takes(page, server, folder):
    """Prints the times that docs name; they depend on the machine, so nothing is asserted."""
    page.goto("about:blank")
    began = time.monotonic()
    page.goto(server)
    paint = page.evaluate("performance.getEntriesByType('paint').map(one => one.startTime)")
    print(f"\nfirst paint after {max(paint):.0f} ms, page loaded after {1000 * (time.monotonic() - began):.0f} ms")
