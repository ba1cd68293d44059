"""Videos from photographs: what each level shows, and packs of the same bytes whatever happens."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support import runs

from reproduce.worlds.photo_motion import RECORD, find_photos, make_pack, write_pack
from reproduce.worlds.photo_scenes import PhotoMotion, draw, render
from vie_models.datasets.lists import class_names, read_list
from vie_models.failures import NothingReadError
from vie_models.train import pretrain
from vie_models.video.packed import INDEX, open_pack

FRAMES, SIZE = 25, 40


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def coordinates(height=150, width=220):
    """A photograph whose red is the place from left to right, and green from top to bottom. Blue is 0."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack([20 + u * 200 / width, 20 + v * 200 / height, 0 * u], -1).round().astype(np.uint8)


def blue(side=64):
    """A photograph with nothing but blue."""
    return np.full((side, side, 3), (0, 0, 230), np.uint8)


def video(level, number=0, photo=None, other=None, frames=FRAMES, size=SIZE, seed=0):
    photo, other = coordinates() if photo is None else photo, blue() if other is None else other
    scene = draw(PhotoMotion(level=level, frames=frames, size=size, seed=seed), 0, number, range(5))
    return render(photo, [other] * len(scene.cutouts), scene, frames, size)


@pytest.mark.parametrize("level", range(6))
def test_a_video_is_a_function_of_seed_photo_and_number(level):
    frames = video(level)
    assert frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, video(level))
    assert not np.array_equal(frames, video(level, 1))
    assert not np.array_equal(frames, video(level, seed=1))
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert np.array_equal(frames, video(level))
    finally:
        torch.set_num_threads(threads)


def test_still_crops_are_still():
    for number in range(5):
        frames = video(0, number)
        assert (frames == frames[0]).all()


def test_the_camera_moves_at_constant_speed_at_level_1_only():
    """Red and green at the middle of the view give its place in the photograph; their range gives its side."""
    ways, moved, bent = [], [], []
    for number in range(8):
        for level, into in ((1, moved), (2, bent)):
            frames = video(level, number).astype(float)
            middle = frames[:, SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4, :2].mean((1, 2))
            side = 40 * np.log(np.ptp(frames[..., :2], axis=(1, 2)).mean(-1))
            seen, time = np.column_stack([middle, side]), np.arange(FRAMES)
            line = np.stack([np.polyval(np.polyfit(time, values, 1), time) for values in seen.T], 1)
            into.append(np.abs(seen - line).max())
            ways.append(np.ptp(middle, axis=0).max())
    assert max(ways) > 30
    assert max(moved) < 1, "a straight line, but for rounding"
    assert np.median(bent) > 3


def test_views_stay_inside_the_photograph():
    """Nothing is black, and what is seen is in the photograph: red and green are those of one place, and blue is 0."""
    for level in (0, 1, 2):
        for number in range(6):
            for photo in (coordinates(), coordinates(40, 120)):
                frames = video(level, number, photo)
                assert frames[..., :2].min() >= 20
                assert frames[..., :2].max() <= 220
                assert frames[..., 2].max() == 0


def test_white_stays_white():
    """No black borders around frames and cut-outs, no values that wrap around."""
    white = np.full((90, 120, 3), 255, np.uint8)
    for number in range(6):
        assert (video(3, number, white, white) == 255).all()
        assert video(5, number, white, white).min() > 60, "gains darken cut-outs, but not to black"


def test_cut_outs_of_other_photographs_move_in_front():
    shares, places = [], []
    for number in range(8):
        assert video(2, number)[..., 2].max() == 0
        there = video(3, number)[..., 2] > 115
        shares.append(there.mean())
        columns = (there.sum(1) * np.arange(SIZE)).sum(1) / np.maximum(there.sum((1, 2)), 1)
        places.append(np.ptp(columns[there.sum((1, 2)) > 20]))
    assert 0.02 < np.mean(shares) < 0.6
    assert np.median(places) > 3
    scenes = [draw(PhotoMotion(level=3), 2, number, range(5)) for number in range(60)]
    assert {len(scene.cutouts) for scene in scenes} == {1, 2, 3}
    assert {cutout.source for scene in scenes for cutout in scene.cutouts} == {0, 1, 3, 4}
    assert all(len({cutout.source for cutout in scene.cutouts}) == len(scene.cutouts) for scene in scenes)


def test_levels_add_to_the_same_scene():
    scenes = [draw(PhotoMotion(level=level), 1, 3, range(5)) for level in range(6)]
    for one, other in ((2, 3), (3, 4), (4, 5)):
        assert np.array_equal(scenes[one].camera.keys, scenes[other].camera.keys)
    for three, four in zip(scenes[3].cutouts, scenes[4].cutouts, strict=True):
        assert (three.source, three.crop) == (four.source, four.crop)
        assert np.array_equal(three.track.keys, four.track.keys)
        assert three.light is three.bend is None
        assert four.light is not None
    assert not scenes[4].shutter
    assert scenes[5].shutter


def test_blur_grows_with_speed():
    """Stripes that pass quickly lose contrast; stripes that pass slowly keep it."""
    photo = np.where(np.arange(256) // 4 % 2, 255, 0)[None, :, None].repeat(256, 0).repeat(3, 2).astype(np.uint8)

    def kept(frames):
        blurred, sharp = (
            np.mean([video(level, number, photo, photo, frames).std(axis=(1, 2)).mean() for number in range(4)])
            for level in (5, 4)
        )
        return blurred / sharp

    assert kept(6) < 0.85
    assert kept(30) > kept(6) + 0.05


def test_settings_are_checked():
    for wrong, message in (
        ({"level": 6}, "level must be from 0 to 5, got 6"),
        ({"videos": 0}, "videos must be at least 1, got 0"),
        ({"size": 4}, "size must be at least 8, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            PhotoMotion(**wrong)
    with pytest.raises(ValueError, match="level 3 cuts things out of other photographs, and there is none"):
        draw(PhotoMotion(level=3), 0, 0, [0])


# --- packs ---------------------------------------------------------------------------------------------------------------

SETTINGS = PhotoMotion(videos=2, frames=20, size=70, level=4, seed=5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven photographs in two folders and outside; one is no image, one is sideways, one is large, and one is tiny."""
    folder = tmp_path_factory.mktemp("photos")
    draws = np.random.default_rng(0)
    for name, shape in {"a/1.jpg": (80, 100), "a/2.PNG": (90, 70), "b/3.jpeg": (700, 1100), "b/4.jpg": (60, 90)}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        noise = Image.fromarray(draws.integers(0, 256, (6, 8, 3), np.uint8)).resize(shape[::-1])
        exif = Image.Exif()
        exif[274] = 6 if "4" in name else 1
        noise.save(folder / name, exif=exif)
    (folder / "b" / "5.jpg").write_bytes(b"not a photograph")
    Image.new("RGB", (300, 3)).save(folder / "b" / "6.png")
    Image.new("L", (50, 50), 90).save(folder / "7.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("packs") / "pack"
    make_pack(find_photos(photos), out, SETTINGS, workers=0)
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith(".lock")}


def test_a_pack_has_a_row_per_video(photos, packed):
    rows = open_pack(packed).rows
    names = ["7.png", "a/1.jpg", "a/2.PNG", "b/3.jpeg", "b/4.jpg", "b/5.jpg", "b/6.png"]
    assert [row.path for row in rows] == [f"{name}#{k}" for name in names for k in range(2)]
    assert [row.label for row in rows[::2]] == [-1, 0, 0, 1, 1, 1, 1]
    assert class_names(packed) == ["a", "b"]
    assert [row.frames for row in rows[::2]] == [20] * 5 + [0, 0]
    assert "cannot be read as an image" in rows[10].damage
    assert "is 300 x 3 pixels: give a photograph of at least" in rows[12].damage
    assert set(content(packed)) == {INDEX, RECORD, "classes.txt", "shard-00000.bin"}


def test_frames_are_those_of_the_photographs(photos, packed):
    """Of the upright photograph, and of the video's own number."""
    sideways = np.asarray(Image.open(photos / "b" / "4.jpg").rotate(-90, expand=True))
    settings = PhotoMotion(frames=20, size=70, level=1)
    pack = photos.parent / "one"
    make_pack(find_photos(photos), pack, settings, workers=0)
    shown = open_pack(pack).frames(4, range(20))
    assert np.array_equal(shown, render(sideways, [], draw(settings, 4, 0), 20, 70))


def test_workers_and_kills_change_nothing(photos, packed, tmp_path):
    """As if it had been killed in the middle of the fourth video."""
    out = tmp_path / "pack"
    shutil.copytree(packed, out)
    rows = open_pack(packed).rows
    lines = (out / INDEX).read_text().splitlines(keepends=True)
    (out / INDEX).unlink()
    (out / f".{INDEX}").write_text("".join(lines[:4]) + '{"path": "half a li')
    os.truncate(out / "shard-00000.bin", rows[3].offset + 100)
    make_pack(find_photos(photos), out, SETTINGS, workers=2)
    assert content(out) == content(packed)


def test_a_pack_is_of_what_it_was_begun_with(photos, tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "1.png")
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "2.png")
    settings, out = PhotoMotion(frames=4, size=16, level=3), tmp_path / "pack"
    make_pack(find_photos(tmp_path), out, settings, workers=0)
    before = content(out)
    make_pack(find_photos(tmp_path), out, settings, workers=0)  # nothing to do
    assert content(out) == before
    with pytest.raises(ValueError, match=r"was begun with .*'level': 3.* not .*'level': 2"):
        make_pack(find_photos(tmp_path), out, PhotoMotion(frames=4, size=16, level=2), workers=0)
    rows = (out / INDEX).read_text().splitlines(keepends=True)
    (out / INDEX).rename(out / f".{INDEX}")
    (out / f".{INDEX}").write_text("".join(rows[:2]))  # as if it had been killed after one video
    Image.new("RGB", (50, 50), "green").save(tmp_path / "2.png")
    with pytest.raises(ValueError, match="was begun with other photographs"):
        make_pack(find_photos(tmp_path), out, settings, workers=0)
    Image.new("RGB", (50, 50), "green").save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1.png changed since it was packed"):
        make_pack(find_photos(tmp_path), out, settings, workers=0)
    (tmp_path / "2.png").unlink()
    with pytest.raises(ValueError, match="level 3 cuts things out of other photographs, but only 1 can be read"):
        make_pack(find_photos(tmp_path), tmp_path / "other", settings, workers=0)


def test_packs_are_written_from_lists_and_trained_on(photos, tmp_path, capsys):
    (tmp_path / "list").write_text("a/1.jpg\nb/5.jpg\na/2.PNG\n")
    out, settings = tmp_path / "pack", PhotoMotion(frames=20, size=70, videos=3)
    assert write_pack(tmp_path / "list", out, settings, root=photos, workers=0) == 3
    printed = capsys.readouterr()
    assert "3 photographs in 2 folders, 3 videos of each: 0.00265 GB" in printed.out
    assert "6 videos, 0.00176 GB; 1 photographs skipped: `vie train ... --train-list" in printed.out
    assert "failed: b/5.jpg: cannot be read as an image" in printed.err
    assert json.loads((out / RECORD).read_text())["settings"]["level"] == 5
    assert read_list(out).labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    pretrain(runs.config(tmp_path, tmp_path / "run", train_list=out, steps=2, ir_steps=1, noise=0))
    assert len(runs.losses(tmp_path / "run")) == 2
    with pytest.raises(NothingReadError, match="photographs"):
        find_photos(tmp_path / "run" / "tensorboard")
