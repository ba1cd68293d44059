import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from vie_models.app import charts
from vie_models.colors import heat, viridis

STRIP = [np.full((9, 12, 3), k, np.uint8) for k in (10, 200)]
TIMES = np.array([1.0, 2.0, 3.0])


def parsed(fragment):
    """The fragment as XML, which closes what HTML leaves open."""
    return ET.fromstring(re.sub(r"(<img[^>]*[^/])>", r"\1/>", fragment))


@pytest.mark.parametrize(
    "fragment",
    [
        charts.matrix(np.eye(3), "alike", TIMES, TIMES),
        charts.timeline(STRIP, TIMES, np.array([0, 1, 0.5]), [2.0], 4.0),
        charts.film(STRIP, 4.0),
        charts.pictures(STRIP, "title", "text"),
        charts.side_by_side([charts.pictures(STRIP, "title", "text")] * 3),
    ],
)
def test_charts_are_whole_and_described(fragment):
    tree = parsed(fragment)
    pictures = list(tree.iter("img"))
    assert pictures
    for picture in pictures:
        assert "alt" in picture.attrib
        assert picture.attrib["src"].startswith("data:image/"), "nothing is fetched"
    assert any(picture.attrib["alt"] for picture in pictures)
    for drawing in tree.iter("svg"):
        assert drawing.attrib["aria-label"]


def test_text_is_escaped():
    fragment = charts.matrix(np.eye(2), '<script>"&', TIMES, TIMES) + charts.pictures(STRIP, "<b>", '"><i>')
    assert "<script" not in fragment
    assert "<b>" not in fragment
    assert "<i>" not in fragment


def test_a_matrix_shows_its_values():
    values = np.array([[0.5, -0.5], [0.0, 0.5]])
    image = next(iter(parsed(charts.matrix(values, "m", TIMES, TIMES)).iter("img")))
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(image.attrib["src"].split(",")[1]))))
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0].tolist() == pixels[1, 1].tolist() == [253, 231, 37]
    assert pixels[0, 1].tolist() == [68, 1, 84]
    assert "from -0.50 to 0.50" in image.attrib["alt"]


def test_colors_rise_in_brightness():
    for ramp in (viridis(np.linspace(0, 1, 50), 0, 1), heat(np.linspace(0, 1, 50))):
        brightness = ramp.astype(float) @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(brightness) > 0).all()
