"""Training from a pack: the same bits however it is stopped and read, and a line that says what limits it."""

import re

import pytest
from support.runs import assert_same_end, config, losses

from vie_models.datasets.pack import Packing
from vie_models.train import pretrain
from vie_models.train.loading import Batch
from vie_models.train.logs import FIRST, LAST, Pace
from vie_models.video.packed import PackHeader


@pytest.fixture(scope="module")
def packed(corpus, tmp_path_factory):
    """A pack of the corpus, and a run of 8 steps on it that nothing interrupted."""
    out = tmp_path_factory.mktemp("packed")
    Packing(corpus / "train", out / "pack", root=corpus, header=PackHeader("raw", 48)).write(workers=0)
    pretrain(config(corpus, out / "run", train_list=out / "pack", steps=8), progress=False)
    return out


def test_a_stopped_run_ends_with_the_same_bits_whatever_the_workers(corpus, packed, tmp_path):
    for steps, workers in ((3, 2), (5, 1), (8, 0)):
        pretrain(config(corpus, tmp_path, train_list=packed / "pack", steps=steps, workers=workers), progress=False)
    assert_same_end(tmp_path, packed / "run")
    assert losses(tmp_path) == losses(packed / "run")


def test_colors_are_the_same_on_the_device(corpus, packed, tmp_path):
    changes = {"train_list": packed / "pack", "steps": 8, "augment": "device", "workers": 1}
    pretrain(config(corpus, tmp_path, **changes), progress=False)
    assert_same_end(tmp_path, packed / "run")


def test_a_pack_is_not_the_list_it_was_made_of(corpus, packed, tmp_path):
    pretrain(config(corpus, tmp_path, train_list=packed / "pack", steps=2), progress=False)
    with pytest.raises(ValueError, match=r"train.* is not the list"):
        pretrain(config(corpus, tmp_path, steps=4), progress=False)


@pytest.mark.parametrize(
    ("waited", "reading", "augmenting", "packed_frames", "on_gpu", "says"),
    [
        (0.0, 1.0, 1.0, False, False, "the network sets the pace: 0% of the time"),
        (5.0, 2.0, 1.0, False, False, r"reading sets the pace: .*Decode the videos once: vie data pack LIST"),
        (5.0, 2.0, 1.0, True, False, r"reading sets the pace: .*Use more --workers if"),
        (5.0, 1.0, 2.0, True, False, r"augmentation sets the pace: .*2 workers run. Use more --workers if"),
        (5.0, 1.0, 2.0, True, True, r"augmentation sets the pace: .*Use --augment device"),
    ],
)
def test_the_line_names_the_limit_and_the_remedy(monkeypatch, waited, reading, augmenting, packed_frames, on_gpu, says):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("vie_models.train.logs.time.monotonic", lambda: next(clock))
    pace = Pace(clips=4, workers=2, packed=packed_frames, on_gpu=on_gpu, pack_command="vie data pack LIST")
    said = [pace.step(Batch(None, None, [], reading=reading, augmenting=augmenting), waited / 50) for _ in range(LAST + 10)]
    assert [k for k, message in enumerate(said, 1) if message] == [LAST]
    assert FIRST < LAST
    assert re.match(says, said[LAST - 1])
