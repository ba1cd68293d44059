import numpy as np
import pytest

from vie_models.app.overlays import crop_of, layer_maps, match_maps, overlaid
from vie_models.app.reading import read
from vie_models.clip_spec import ClipSpec

SPEC = ClipSpec(num_frames=4, resize=73, crop=64)


def test_heat_lies_where_the_map_is_high():
    heat = np.zeros((4, 8, 8), np.float32)
    heat[:, :2, 6:] = 1  # top right
    pictures = overlaid(np.full((4, 80, 120, 3), 90, np.uint8), heat, SPEC)
    assert len(pictures) == 4
    top, left, side = crop_of((80, 120), SPEC)
    warmth = pictures[0][..., 0].astype(int) - pictures[0][..., 2]  # red over blue
    rows, columns = np.nonzero(warmth > 60)
    assert (rows < top + side / 3).all()
    assert (columns > left + side * 0.6).all()
    assert len(rows) > 50


def test_a_picture_is_the_mean_of_its_share_of_the_moment():
    heat = np.zeros((16, 4, 4), np.float32)
    heat[5] = 1  # in the second quarter
    pictures = overlaid(np.full((16, 80, 80, 3), 90, np.uint8), heat, SPEC)
    warm = [int(picture[..., 0].max()) - 90 for picture in pictures]
    assert warm[1] > 50
    assert warm[0] == warm[2] == warm[3] == 0


def test_what_the_encoder_does_not_see_is_dark():
    picture = overlaid(np.full((1, 80, 120, 3), 200, np.uint8), np.ones((1, 2, 2), np.float32), SPEC)[0]
    top, left, side = crop_of((80, 120), SPEC)
    assert (picture[:, : left - 1] < 70).all()
    assert (picture[top : top + side, left : left + side].max(2) > 100).all()


@pytest.mark.parametrize(("layer", "pictures"), [("static.encode_6", 1), ("dynamic.encode_6", 4)])
def test_maps_of_a_layer(two_scenes, layer, pictures):
    found = layer_maps(two_scenes, 3.0, "vie_twopathway_tiny", layer)
    assert len(found.pictures) == pictures
    assert found.pictures[0].dtype == np.uint8
    assert len(set(found.strongest)) == 8
    one = layer_maps(two_scenes, 3.0, "vie_twopathway_tiny", layer, found.strongest[0])
    assert not np.array_equal(one.pictures[0], found.pictures[0])


def test_a_wrong_layer_or_channel_is_an_error(two_scenes):
    with pytest.raises(ValueError, match="has no layer 'nothing'"):
        layer_maps(two_scenes, 3.0, "vie_single_tiny", "nothing")
    with pytest.raises(ValueError, match="encode_1 has the channels 0 to 15, got 16"):
        layer_maps(two_scenes, 3.0, "vie_single_tiny", "encode_1", 16)


@pytest.mark.parametrize(("name", "pathway"), [("vie_twopathway_tiny", "motion"), ("vie_3dresnet_tiny", "embedding")])
def test_the_gradient_is_of_the_similarity_of_the_matrix(two_scenes, name, pathway):
    times = [3.0, 9.0]
    expected = read(two_scenes, name, times).similarity(pathway)[0, 1]
    found = match_maps(two_scenes, (3.0, 9.0), name, pathway)
    assert found.similarity == pytest.approx(expected, abs=1e-4)
    assert len(found.first) == len(found.second) == 4
    for picture in (*found.first, *found.second):
        assert (picture[..., 0].astype(int) - picture[..., 2]).max() > 30, "some heat is in each"
