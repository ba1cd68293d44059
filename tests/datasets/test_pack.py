"""Packs: the frames of the files, in whatever order they were decoded, after kills, damage and full disks."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from support.videos import gray_levels, write_list, write_video

from vie_models.cli import main
from vie_models.clip_spec import ClipSpec
from vie_models.datasets.encode import shrink
from vie_models.datasets.lists import class_names, list_hash, read_list
from vie_models.datasets.pack import Packing
from vie_models.features.extractor import Extractor
from vie_models.models.registry import build_model
from vie_models.train.loading import ClipDataset
from vie_models.video.frames import GRID_FPS, VideoError
from vie_models.video.packed import INDEX, Pack, PackHeader, open_pack, shard_name
from vie_models.video.sources import load_clip, open_video

SPEC = ClipSpec(num_frames=4, frame_interval=2, resize=36, crop=32)
RAW, JPEG = PackHeader("raw", 40), PackHeader("jpeg", 40, 90)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with a list of nine videos of noise: 1 is no video, 3 is small, 5 was cut off, and 8 is missing."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "some").mkdir()
    generator = np.random.default_rng(0)
    for i in range(8):
        noise = generator.integers(0, 256, (30 + 3 * i, 6, 8, 3), np.uint8)
        side = 4 if i == 3 else 10
        write_video(folder / "some" / f"{i}.mp4", noise.repeat(side, 1).repeat(side, 2))
    (folder / "some" / "1.mp4").write_bytes(b"not a video")
    whole = (folder / "some" / "5.mp4").read_bytes()
    (folder / "some" / "5.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    write_list(folder / "list", [f"some/{i}.mp4 30 {i % 3}" for i in range(9)])
    (folder / "classes.txt").write_text("a\nb\nc\n")
    return folder


def pack(videos, out, header=RAW, **settings):
    shard_bytes = settings.pop("shard_bytes", 10**9)
    settings = {"workers": 0, **settings}
    return Packing(videos / "list", out, root=videos, header=header, shard_bytes=shard_bytes).write(**settings)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def packed(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("packs") / "raw"
    pack(videos, out)
    return out


def frames_of(path):
    with open_video(path, GRID_FPS) as video:
        return np.stack([frames[0] for _, frames in video.read_windows(iter(range(10**6)), [0], 1)])


def test_frames_are_those_of_the_files(videos, packed):
    listed, from_pack = read_list(videos / "list", videos), read_list(packed)
    for i in (0, 2, 3, 4, 6, 7):
        expected = np.stack([shrink(frame, 40) for frame in frames_of(listed.paths[i])])
        assert expected.shape[1:3] == ((24, 32) if i == 3 else (40, 53)), "smaller videos keep their size"
        assert np.array_equal(frames_of(from_pack.paths[i]), expected)
        assert int(from_pack.frames[i]) == len(expected)
    assert from_pack.labels.tolist() == listed.labels.tolist()
    assert class_names(packed) == ["a", "b", "c"]
    assert list_hash(packed) != list_hash(videos / "list")


def test_jpeg_frames_are_near(videos, packed, tmp_path):
    rows = pack(videos, tmp_path / "jpeg", JPEG)
    assert sum(row.size for row in rows) < sum(row.size for row in open_pack(packed).rows) / 3
    for i in (0, 3, 7):
        raw, jpeg = (frames_of(read_list(folder).paths[i]) for folder in (packed, tmp_path / "jpeg"))
        assert raw.shape == jpeg.shape
        assert np.abs(raw.astype(int) - jpeg).mean() < 15  # noise is what JPEG is worst at


def test_what_could_not_be_read_has_its_row(videos, packed):
    rows = open_pack(packed).rows
    assert [row.path for row in rows] == [f"some/{i}.mp4" for i in range(9)]
    assert "Invalid data" in rows[1].damage
    assert "no video file" in rows[8].damage
    assert rows[8].sha256 is None
    whole = [i for i in range(9) if rows[i].frames and not rows[i].damage]
    assert whole == [0, 2, 3, 4, 6, 7]
    with pytest.raises(VideoError, match="Invalid data"):
        open_video(read_list(packed).paths[1], GRID_FPS)


def test_damage_stays_with_the_video(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (60, 48, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    (tmp_path / "a.mp4").write_bytes(content)
    write_list(tmp_path / "list", ["a.mp4"])
    (row,) = pack(tmp_path, tmp_path / "pack")
    with open_video(read_list(tmp_path / "pack").paths[0], GRID_FPS) as video:
        assert video.damage == row.damage
        assert video.num_frames == row.frames == 60
    assert row.damage


@pytest.mark.parametrize(("header", "shard_bytes", "workers"), [(RAW, 150_000, 2), (JPEG, 30_000, 0)])
def test_workers_and_shards_change_no_frame(videos, tmp_path, header, shard_bytes, workers):
    pack(videos, tmp_path / "one", header)
    pack(videos, tmp_path / "small", header, workers=workers, shard_bytes=shard_bytes)
    assert len(list((tmp_path / "small").glob("shard-*.bin"))) > 2
    for i in (0, 4, 7):
        one, small = (frames_of(read_list(tmp_path / name).paths[i]) for name in ("one", "small"))
        assert np.array_equal(one, small)


def test_a_pack_takes_the_place_of_its_list(videos, packed, tmp_path):
    """Training clips, evaluation clips and clips by time are those of files of that size."""
    listed = read_list(videos / "list", videos)
    lossless = {i: frames_of(listed.paths[i]) for i in (0, 2, 4)}
    from_pack = read_list(packed)
    dataset = ClipDataset(from_pack, SPEC, seed=3)
    for i, frames in lossless.items():
        small = np.stack([shrink(frame, 40) for frame in frames])
        clip = load_clip(from_pack.paths[i], SPEC, start=0.4)
        assert np.array_equal(clip, small[10:18:2])
        assert torch.equal(clip, load_clip(small, SPEC, start=0.4, fps=GRID_FPS))
        assert dataset[0, i][1].shape == (4, 3, 32, 32)
    model = build_model("vie_single_tiny").eval()
    arrays, record = Extractor(model, workers=0).features(from_pack.paths[0])
    assert record.status == "ok"
    assert arrays["embedding"].shape == (5, 128)
    index, reason = dataset[0, 1]
    assert (index, "Invalid data" in reason) == (1, True)


def test_other_frame_rates(packed):
    path = read_list(packed).paths[0]
    with open_video(path, 12.5) as slow, open_video(path, GRID_FPS) as video:
        assert slow.num_frames == -(-video.num_frames // 2)
        assert np.array_equal(next(slow.read([[0, 1, 2]])), next(video.read([[0, 2, 4]])))


def test_a_killed_job_continues_to_the_same_bytes(videos, packed, tmp_path):
    """What a kill leaves while it appends the fifth video: half a line, half a video, and parts that waited."""
    out = tmp_path / "pack"
    shutil.copytree(packed, out)
    lines = (out / INDEX).read_text().splitlines(keepends=True)
    (out / INDEX).unlink()
    (out / f".{INDEX}").write_text("".join(lines[:5]) + lines[5][:20])
    os.truncate(out / shard_name(0), open_pack(packed).rows[4].offset + 100)
    (out / ".waiting" / "of-the-killed").mkdir(parents=True)
    (out / ".waiting" / "of-the-killed" / "5").write_bytes(b"frames")
    pack(videos, out)
    assert content(out) == content(packed)
    assert not (out / ".waiting").exists()


def test_a_changed_source_or_list_is_noticed(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    pack(tmp_path / "videos", tmp_path / "pack")
    before = content(tmp_path / "pack")
    pack(tmp_path / "videos", tmp_path / "pack")  # nothing to do
    assert content(tmp_path / "pack") == before
    with pytest.raises(ValueError, match=r"was begun as .*short_side=40.* not .*short_side=48"):
        pack(tmp_path / "videos", tmp_path / "pack", PackHeader("raw", 48))
    write_video(tmp_path / "videos" / "some" / "2.mp4", gray_levels(20))
    with pytest.raises(
        ValueError, match=r"2.mp4 changed since it was packed: its SHA-256 was \w+, and is \w+. Write a new pack"
    ):
        pack(tmp_path / "videos", tmp_path / "pack")
    (tmp_path / "videos" / "list").write_text("some/0.mp4 30 0\nsome/3.mp4 30 0\n")
    with pytest.raises(ValueError, match="is a pack of another list than"):
        pack(tmp_path / "videos", tmp_path / "pack")
    assert content(tmp_path / "pack") == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits")
def test_a_full_disk_loses_nothing(videos, packed, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))  # Python ignores the signal of it
    try:
        with pytest.raises(OSError, match=r"Make room, and start the same command again"):
            pack(videos, tmp_path / "pack")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len((tmp_path / "pack" / f".{INDEX}").read_text().splitlines()) > 2
    with pytest.raises(ValueError, match="no finished pack"):
        read_list(tmp_path / "pack")
    pack(videos, tmp_path / "pack")
    assert content(tmp_path / "pack") == content(packed)


def test_damaged_packs_are_named(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "pack")
    shard = tmp_path / "pack" / shard_name(0)
    os.truncate(shard, shard.stat().st_size // 2)
    listed = read_list(tmp_path / "pack")
    assert ClipDataset(listed, SPEC)[0, 0][1].shape == (4, 3, 32, 32)
    assert "shard-00000.bin ends before the video does: write the pack again" in ClipDataset(listed, SPEC)[0, 7][1]
    index = tmp_path / "pack" / INDEX
    index.write_text(index.read_text().replace('"frames"', '"framed"', 1))
    with pytest.raises(ValueError, match=f"{INDEX} is damaged: .*Write the pack again"):
        Pack(tmp_path / "pack")
    index.write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="is not the index of a pack"):
        Pack(tmp_path / "pack")


def test_settings_are_checked(videos, tmp_path):
    for header, message in (
        (PackHeader("raw", 0), "short_side must be at least 1 pixel, got 0"),
        (PackHeader("jpeg", 40, 101), "quality must be from 1 to 100"),
        (PackHeader("raw", 40, 90), "None for raw, got 90"),
    ):
        with pytest.raises(ValueError, match=message):
            Packing(videos / "list", tmp_path / "pack", root=videos, header=header)


def test_command_line(videos, packed, tmp_path, capsys):
    out = tmp_path / "pack"
    command = ["data", "pack", str(videos / "list"), str(out), "--root", str(videos), "--workers", "0"]
    assert main([*command, "--short-side", "40"]) == 3
    printed = capsys.readouterr()
    assert "9 videos at short side 40, raw: about" in printed.out
    assert "failed: some/1.mp4: " in printed.err
    assert content(out) == content(packed)
    assert main([*command, "--short-side", "40", "--model", "vie_slow"]) == 2
    assert "not both" in capsys.readouterr().err
    assert main([*command[:3], str(tmp_path / "other"), *command[4:], "--model", "vie_single_tiny", "--coding", "jpeg"]) == 3
    assert Pack(tmp_path / "other").header == PackHeader("jpeg", 91, 90)
