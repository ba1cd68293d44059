"""List files, instances, and clips that depend on (seed, epoch, index) alone."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from support.videos import gray_levels, write_list, write_video

import vie_models as vie
from vie_models.bank.ranks import World
from vie_models.datasets.lists import read_list
from vie_models.train.loading import ClipDataset, EpochSampler, loader

SPEC = vie.ClipSpec(num_frames=4, frame_interval=2, resize=36, crop=32)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos in which frame k is a plain gray of level 5 k + 10: files, a folder of frames, and one that is broken."""
    folder = tmp_path_factory.mktemp("videos")
    lengths = {"a.mp4": 40, "b.mp4": 6, "d.mp4": 100, "e.mp4": 30}
    for name, length in lengths.items():
        write_video(folder / name, gray_levels(length))
    (folder / "c").mkdir()
    for k, frame in enumerate(gray_levels(20), 1):
        Image.fromarray(frame).save(folder / "c" / f"{k:06d}.jpg")
    (folder / "b.mp4").write_bytes(b"not a video")
    lengths["c"] = 20
    return read_list(
        write_list(folder / "list", [f"{name} {lengths[name]} {i}" for i, name in enumerate(sorted(lengths))]), folder
    )


def frame_numbers(clip) -> list[int]:
    return [round((float(frame.float().mean()) - 10) / 5) for frame in clip]


def test_clips_depend_on_seed_epoch_and_index_alone(videos):
    dataset = ClipDataset(videos, SPEC, seed=3)
    index, clip = dataset[2, 0]
    assert index == 0
    assert clip.shape == (4, 3, 32, 32)
    assert clip.dtype == torch.uint8
    torch.rand(7)
    assert torch.equal(dataset[2, 0][1], clip)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2, 0][1], clip)
    others = [dataset[1, 0][1], dataset[2, 3][1], ClipDataset(videos, SPEC, seed=4)[2, 0][1]]
    assert not any(torch.equal(other, clip) for other in others)


@pytest.mark.parametrize("index", [0, 2])
def test_clips_start_anywhere(videos, index):
    dataset = ClipDataset(videos, SPEC, recipe="multi_scale_crop")
    numbers = [frame_numbers(dataset[epoch, index][1]) for epoch in range(60)]
    assert all(np.diff(one).tolist() == [2, 2, 2] for one in numbers)
    starts = {one[0] for one in numbers}
    assert min(starts) == 0
    assert max(starts) >= int(videos.frames[index]) - 9  # the last places where a clip of 8 frames fits
    assert max(one[-1] for one in numbers) < int(videos.frames[index])


def test_bins_are_instances(videos):
    binned = videos.binned(longest=25)
    instance = [path.name for path in binned.paths].index("d.mp4")
    assert binned.stretches[instance : instance + 4].tolist() == [[25 * k, 25 * k + 25] for k in range(4)]
    dataset = ClipDataset(binned, SPEC, recipe="multi_scale_crop")
    for epoch in range(20):
        numbers = frame_numbers(dataset[epoch, instance + 1][1])
        assert all((number - 25) % 48 < 25 for number in numbers)  # gray levels repeat every 48 frames


def test_a_broken_video_is_a_failure_of_its_own(videos):
    dataset = ClipDataset(videos, SPEC)
    index, reason = dataset[0, 1]
    assert index == 1
    assert "b.mp4" in reason
    batch = dataset.__getitems__([(0, i) for i in (1, 0, 3)])
    assert batch.indices.tolist() == [-1, 0, 3]
    assert batch.failures == [(1, reason)]
    assert torch.equal(batch.frames[0], batch.frames[1])  # its place is taken, and the objective leaves it out
    assert dataset.__getitems__([(0, 1)]).frames.shape == (1, 4, 3, 32, 32)


def test_a_video_that_takes_too_long_is_a_failure(videos):
    index, reason = ClipDataset(videos, SPEC, time_limit=1e-9)[0, 4]
    assert index == 4
    assert "took more than 1e-09 s" in reason


def test_every_video_once_an_epoch_whatever_the_ranks():
    alone = iter(EpochSampler(50, 8, seed=1))
    steps = [next(alone) for _ in range(18)]
    for epoch in range(3):
        seen = [index for step in steps[6 * epoch : 6 * epoch + 6] for _, index in step]
        assert len(set(seen)) == 48
        assert {e for step in steps[6 * epoch : 6 * epoch + 6] for e, _ in step} == {epoch}
    assert steps[0] != steps[6]
    for size in (2, 4):
        ranks = [iter(EpochSampler(50, 8, seed=1, world=World(rank, size))) for rank in range(size)]
        assert [[one for rank in ranks for one in next(rank)] for _ in range(18)] == steps
    later = iter(EpochSampler(50, 8, seed=1, first_step=10))
    assert [next(later) for _ in range(8)] == steps[10:]
    with pytest.raises(ValueError, match="from 1 to the 50 videos of the list, got 51"):
        EpochSampler(50, 51)
    with pytest.raises(ValueError, match="multiple of the 4 processes, got 6"):
        EpochSampler(50, 6, world=World(0, 4))


def test_workers_change_nothing(videos):
    dataset = ClipDataset(videos, SPEC, seed=1)

    def batches(workers):
        made = iter(loader(dataset, EpochSampler(5, 2, seed=1), clips=2, workers=workers, device=torch.device("cpu")))
        return [next(made) for _ in range(5)]

    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.indices, other.indices)
        assert one.failures == other.failures
