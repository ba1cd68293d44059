import dataclasses

import numpy as np
import pytest

import vie_models as vie
from vie_models.app import encoders
from vie_models.app.moments import APART, MOST, STRIDE, Moments, middles
from vie_models.app.reading import read


def moments(times, rows):
    rows = np.asarray(rows, np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Moments(model="m", duration=20.0, window=1.0, times=np.array(times), embeddings={"embedding": rows}, facts={})


@pytest.mark.parametrize("duration", [0.4, 2.56, 3.0, 30.0, 4000.0])
def test_moments_lie_in_the_video(duration):
    times = middles(duration, 2.56)
    assert 1 <= len(times) <= MOST
    if duration < 2.56:
        assert times == [duration / 2]
        return
    assert times[0] == pytest.approx(1.28)
    assert times[-1] <= duration - 1.28 + 1e-9
    assert times[-1] > duration - 1.28 - 2 * max(STRIDE, duration / MOST)
    assert (np.diff(times) >= STRIDE - 1e-9).all()


def test_alike_moments_are_apart():
    found = moments([0, 0.5, 1, 5, 5.5, 10], [[1, 0], [1, 0.01], [1, 0.02], [1, 0.3], [1, 0.2], [0, 1]])
    alike = found.alike(0, "embedding", 3)
    assert [number for number, _ in alike] == [4, 5], "5 s is less than 2 s from 5.5 s, which is more similar"
    assert alike[0][1] == pytest.approx(1 / np.hypot(1, 0.2))
    assert moments([0.0], [[1, 0]]).alike(0, "embedding", 3) == []
    assert APART == 2.0


def test_the_nearest_moment_and_its_start():
    found = moments([0.2, 3.0, 6.0], [[1, 0]] * 3)
    assert found.nearest_to(4.4) == 1
    assert found.start(1) == 2.5
    assert found.start(0) == 0.0


@pytest.mark.parametrize("name", ["vie_single_tiny", "vie_3dresnet_tiny", "vie_twopathway_tiny"])
def test_embeddings_are_those_of_sliding_windows(two_scenes, name):
    """At the middles of the windows of `vie extract --stride`, the page sees what that sees."""
    arrays, _ = vie.Extractor(vie.create_model(name, pretrained=True), stride=1.0).features(two_scenes)
    times = (arrays["start"] + arrays["end"]) / 2
    told = []
    found = read(two_scenes, name, times, lambda share, what: told.append(share))
    assert list(found.embeddings) == list(encoders.pathways(name))
    joined = np.concatenate(list(found.embeddings.values()), 1) / np.sqrt(len(found.embeddings))
    np.testing.assert_allclose(joined, arrays["embedding"], atol=1e-5)
    assert found.duration == pytest.approx(12.0)
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_a_video_shorter_than_a_clip_has_one_moment(brief):
    found = read(brief, "vie_twopathway_tiny")
    assert found.times == [0.2]
    assert found.embeddings["motion"].shape == (1, 128)
    assert Moments(**dataclasses.asdict(found)).duration == found.duration


def test_the_page_offers_the_weights_that_come_with_the_package():
    names = encoders.names()
    assert names[0] == encoders.DEFAULT
    assert {"vie_twopathway_small", "vie_single_tiny"} <= set(names)
    assert "vie_3dresnet" not in names, "its weights would be downloaded"
    with pytest.raises(ValueError, match=r"vie_3dresnet_tiny, .*got '\.\./secret'"):
        encoders.predictor("../secret")
