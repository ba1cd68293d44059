"""The rendered world: what it shows, and what it does not give away."""

from collections import Counter, defaultdict

import numpy as np
import pytest

import vie_models as vie
from reproduce.worlds.moving_textures import (
    FRAMES,
    HELD_OUT,
    LARGEST,
    MOTIONS,
    OBJECTS,
    REACH,
    SIZE,
    SMALLEST,
    Factors,
    draw_factors,
    make_videos,
    render,
    trajectory,
)
from vie_models.datasets.lists import read_list


def test_the_same_factors_give_the_same_frames():
    frames = render(Factors(3, 1, 0, 5, 42))
    assert frames.shape == (FRAMES, SIZE, SIZE, 3)
    np.testing.assert_array_equal(frames, render(Factors(3, 1, 0, 5, 42)))
    for other in (
        Factors(4, 1, 0, 5, 42),
        Factors(3, 2, 0, 5, 42),
        Factors(3, 1, 1, 5, 42),
        Factors(3, 1, 0, 6, 42),
        Factors(3, 1, 0, 5, 43),
    ):
        assert (render(other) != frames).mean() > 0.01


def test_scenes_have_all_motions_and_all_is_as_frequent():
    known = [k for k in range(len(OBJECTS)) if k not in HELD_OUT]
    factors = draw_factors(768, 0, known)
    assert (len(OBJECTS), len(known), len(factors)) == (40, 32, 768)
    scenes = defaultdict(list)
    for one in factors:
        scenes[one.scene].append(one)
    assert len(scenes) == 64
    for takes in scenes.values():
        assert len({(one.thing, one.background) for one in takes}) == 1
        assert sorted(one.motion for one in takes) == list(range(len(MOTIONS)))
    assert set(Counter(one.thing for one in factors).values()) == {24}
    assert set(Counter(one.motion for one in factors).values()) == {64}
    assert len({one.seed for one in factors}) == len(factors)
    assert {k // 5 for k in HELD_OUT} == set(range(8))
    assert {k % 5 for k in HELD_OUT} == set(range(5))


def test_a_single_frame_hardly_gives_the_motion_away():
    """At a random time, each coordinate of the object's state has about the same distribution whatever the motion."""

    def states(motion: str) -> np.ndarray:
        draws = np.random.default_rng(0)
        found = []
        for _ in range(1500):
            path, k = trajectory(motion, draws, draws), draws.integers(FRAMES)
            size = np.log(path.radius[k] / SMALLEST) / np.log(LARGEST / SMALLEST)
            found.append([path.x[k], path.y[k], size, path.angle[k] % (2 * np.pi), path.contrast[k]])
        return np.array(found)

    still = np.sort(states("still"), axis=0)
    quantiles = np.linspace(0.05, 0.95, 19)
    for motion in MOTIONS:
        other = states(motion)
        assert np.hypot(other[:, 0], other[:, 1]).max() < 1.35 * REACH
        gaps = np.abs(np.quantile(other, quantiles, axis=0) - np.quantile(still, quantiles, axis=0)).mean(0)
        spread = still.std(0)
        assert (gaps / spread < 0.35).all(), (motion, gaps / spread)


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_move(motion):
    """Each changes what it should, and nothing else."""
    path = trajectory(motion, np.random.default_rng(1), np.random.default_rng(2))
    moving = {name for name in ("x", "y", "radius", "angle", "contrast") if np.ptp(getattr(path, name)) > 1e-9}
    expected = {
        **{"across": {"x"}, "accelerate": {"x"}, "up-down": {"y"}, "bounce": {"y"}, "orbit": {"x", "y"}, "still": set()},
        **{"spin-slow": {"angle"}, "spin-fast": {"angle"}, "blink": {"contrast"}},
        **{name: {"radius"} for name in ("approach", "recede", "pulse")},
    }
    assert moving == expected[motion]


def test_videos_and_lists(tmp_path):
    root = tmp_path / "world"
    assert make_videos(root, 6, 3, workers=0) == {"train": 6, "val": 3, "held_out": 3}
    things, motions = (read_list(root / label / "train.txt", root) for label in ("object", "motion"))
    assert list(things.paths) == list(motions.paths)
    assert things.frames.tolist() == [FRAMES] * 6
    assert not set(things.labels.tolist()) & set(HELD_OUT)
    assert (root / "motion" / "classes.txt").read_text().splitlines() == MOTIONS
    shown, asked = (read_list(root / "object" / f"{name}.txt", root) for name in ("held_out_known", "held_out"))
    assert (len(shown), len(asked)) == (1, 2)
    assert {*shown.labels.tolist(), *asked.labels.tolist()} <= set(HELD_OUT)
    assert list(read_list(root / "motion" / "held_out.txt", root).paths) == [*shown.paths, *asked.paths]
    rows = (root / "factors.csv").read_text().splitlines()
    assert len(rows) == 13
    path, split, thing, motion, background, scene, seed = rows[1].split(",")
    factors = Factors(OBJECTS.index(thing), MOTIONS.index(motion), int(background), int(scene), int(seed))
    assert (split, factors.thing, factors.motion) == ("train", int(things.labels[0]), int(motions.labels[0]))
    spec = vie.ClipSpec(num_frames=FRAMES)
    read, rendered = vie.load_clip(root / path, spec).numpy().astype(int), render(factors).astype(int)
    assert np.abs(read - rendered).mean() < 8
    stamp = (root / path).stat().st_mtime_ns
    make_videos(root, 6, 3, workers=0)
    assert (root / path).stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="at least 4, got 3"):
        make_videos(root, 3)
