import dataclasses

import numpy as np
import pytest

from vie_models.app import wire
from vie_models.app.look import Look, change_of, look_at, standing_out
from vie_models.evaluate.predict import load_predictor
from vie_models.video.frames import VideoError

NAME = "vie_single_tiny"


@pytest.fixture(scope="module")
def seen(two_scenes):
    return look_at(two_scenes, NAME)


def test_the_change_is_where_the_scene_changes(seen):
    peak = seen.moments.times[seen.change.argmax()]
    assert abs(peak - 6.0) <= 0.5
    assert seen.change.max() == pytest.approx(1.0)
    assert seen.change[np.abs(seen.moments.times - 6) > 4].max() < 0.5


def test_a_video_that_stays_the_same_does_not_change():
    assert change_of(np.full((8, 8), 0.99, np.float32), np.arange(8.0)).max() < 0.01
    assert change_of(np.ones((1, 1), np.float32), np.array([0.2])).tolist() == [0.0]


def test_moments_stand_out_that_are_unlike_the_rest():
    similarity = np.ones((10, 10), np.float32)
    similarity[[3, 4, 8]] = similarity[:, [3, 4, 8]] = 0.2
    assert standing_out(similarity, np.arange(10.0), 2) == [3, 8], "4 is too close to 3"
    assert standing_out(similarity, np.arange(10.0) / 100, 6) == [3], "all the others are less than 2 s away"


def test_votes_are_those_of_vie_predict(seen, two_scenes):
    predictor = load_predictor(NAME)
    (expected,) = predictor.predict([two_scenes])
    assert seen.votes.names == expected.names
    assert seen.votes.nearest == pytest.approx(expected.nearest)
    assert seen.votes.known == predictor.known
    assert seen.votes.agreement == pytest.approx(expected.confidence)
    assert seen.votes.least == predictor.threshold


def test_it_travels_as_plain_data(seen):
    message = b"".join(bytes(piece) for piece in wire.encode(dataclasses.asdict(seen)))
    position = 0

    def read(size):
        nonlocal position
        position += size
        return bytearray(message[position - size : position])

    again = Look.from_plain(wire.decode(read))
    np.testing.assert_array_equal(again.moments.similarity("embedding"), seen.moments.similarity("embedding"))
    assert again.votes == seen.votes
    assert again.layers[0] == "encode_1"
    assert [picture.shape for picture in again.strip] == [picture.shape for picture in seen.strip]


def test_a_short_video_is_looked_at(brief):
    seen = look_at(brief, "vie_twopathway_tiny")
    assert seen.standing_out == [0]
    assert len(seen.strip) == 10


def test_a_file_without_video_says_so(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        look_at(tmp_path / "text.mp4", NAME)
