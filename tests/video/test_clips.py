import dataclasses
import itertools
import json

import pytest
import torch
from support import REFERENCE

import vie_models as vie
from vie_models.models import MODELS
from vie_models.video import clips

SAMPLING = json.loads((REFERENCE / "sampling.json").read_text())
# the reference's cases: placement, and for single frames how many clips of one frame make its one "clip"
CASES = {
    "single_frame": "segments",
    "single_frame_val5": "segments",
    "slow_val5": "inner",
    "slow_val5_loop": "tiled",
    "fast_val5": "inner",
    "slowfast_a4_val5": "ends",
    "slowfast_a4_val3": "ends",
    "3dresnet_val5": "ends",
    "3dresnet_val4": "ends",
}


@pytest.mark.parametrize("name", SAMPLING)
def test_the_papers_placement_equals_the_reference(name):
    case = SAMPLING[name]
    frames, interval = (case["num_frames"], case["frame_interval"]) if case["frame_interval"] else (1, 1)
    number = case["num_clips"] if case["frame_interval"] else case["num_frames"]
    spec = vie.ClipSpec(num_frames=frames, frame_interval=interval, placement=CASES[name])
    for length, expected in case["zero_based_frame_indices_by_video_length"].items():
        found = clips.paper_clips(int(length), spec, number)
        assert [k for clip in found for k in clip.indices] == expected, length


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [*range(1, 80), 250, 1000])
def test_every_clip_lies_in_the_video(name, length):
    spec = MODELS[name].clip_spec
    generator = torch.Generator().manual_seed(length)
    for clip in [
        *clips.paper_clips(length, spec, 5),
        *clips.paper_clips(length, spec, 1),
        clips.train_clip(length, spec, generator),
    ]:
        assert len(clip.indices) == spec.num_frames
        assert set(clip.indices) <= set(range(length))
        in_order = all(a < b for a, b in itertools.pairwise(clip.indices))
        assert in_order or clip.looped
        if length >= 250:
            assert not clip.looped or spec.placement == "ends"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("number", [1, 2, 5, 10])
def test_clips_are_evenly_spaced_in_order_and_inside_the_video(name, number):
    spec = MODELS[name].clip_spec
    for length in [*range(1, 400), 1000]:
        found = clips.even_clips(length, spec, number)
        starts = [clip.start for clip in found]
        steps = {b - a for a, b in itertools.pairwise(starts)}
        assert min(steps, default=0) >= 0, length
        assert max(steps, default=0) - min(steps, default=0) <= 1, length
        if length >= spec.length:
            assert starts[0] == 0 or number == 1
            assert starts[-1] + spec.length == length or number == 1
            assert number > 1 or abs(2 * starts[0] + spec.length - length) <= 1  # in the middle
        elif spec.placement != "bins":
            assert starts == [0] * number
        fits = length >= (spec.num_frames if spec.placement == "bins" else spec.length - spec.frame_interval + 1)
        for clip in found:
            assert len(clip.indices) == spec.num_frames
            assert set(clip.indices) <= set(range(length))
            assert clip.looped == (not fits), length


def test_even_clips_of_slow():
    spec = MODELS["vie_slow"].clip_spec
    assert [clip.start for clip in clips.even_clips(250, spec, 5)] == [0, 46, 93, 139, 186]
    assert [clip.indices for clip in clips.even_clips(68, spec, 2)] == [(0, 16, 32, 48), (4, 20, 36, 52)]
    assert clips.even_clips(50, spec, 2) == [clips.Clip((0, 16, 32, 48), looped=False)] * 2
    assert clips.even_clips(40, spec, 2) == [clips.Clip((0, 16, 32, 8), looped=True)] * 2


def test_training_starts_are_uniform_where_the_original_draws_them():
    generator = torch.Generator().manual_seed(0)
    for name, last in {"vie_single": 99, "vie_slow": 51, "vie_3dresnet": 83, "vie_slowfast": 35}.items():
        starts = [clips.train_clip(100, MODELS[name].clip_spec, generator).start for _ in range(20 * (last + 1))]
        assert set(starts) <= set(range(last + 1))
        assert len(set(starts)) > 0.95 * (last + 1)


def test_trn_takes_one_frame_of_each_of_four_successive_bins():
    spec = MODELS["vie_trn"].clip_spec
    assert clips.paper_clips(100, spec, 1)[0].indices == (30, 42, 54, 66)  # bins of 12: the 3rd to the 6th of 8
    assert clips.paper_clips(20, spec, 1)[0].indices == (2, 7, 12, 17)  # bins of 5
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        indices = clips.train_clip(100, spec, generator).indices
        bins = [k // 12 for k in indices]
        assert bins == list(range(bins[0], bins[0] + 4))
    assert clips.paper_clips(3, spec, 1)[0] == clips.even_clips(3, spec, 1)[0] == clips.Clip((0, 1, 2, 0), looped=True)


def test_draws_depend_on_the_generator_alone():
    spec = MODELS["vie_slow"].clip_spec
    draw = lambda seed: clips.train_clip(1000, spec, torch.Generator().manual_seed(seed))  # noqa: E731
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_nothing_to_place_is_an_error():
    spec = vie.ClipSpec(num_frames=16)
    for frames, number in ((0, 1), (10, 0)):
        for place in (clips.even_clips, clips.paper_clips):
            with pytest.raises(ValueError, match="at least one frame and one clip"):
                place(frames, spec, number)
    assert dataclasses.replace(spec, placement="tiled") != spec
