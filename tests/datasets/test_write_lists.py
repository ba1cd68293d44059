"""List files from official annotations: mock folders in the official formats."""

import json
import re
import shutil

import numpy as np
import pytest
from support.videos import write_video

import vie_models as vie
from vie_models.cli import main
from vie_models.datasets.class_folders import folder
from vie_models.datasets.encode import encode_video
from vie_models.datasets.groups import hold_out
from vie_models.datasets.hmdb51 import hmdb51
from vie_models.datasets.imagenet import imagenet
from vie_models.datasets.kinetics import kinetics
from vie_models.datasets.lists import read_list
from vie_models.datasets.ucf101 import ucf101
from vie_models.datasets.write_lists import write_lists
from vie_models.video.sources import open_video

UCF_SPLITS = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}


@pytest.fixture(scope="session")
def a_video(tmp_path_factory):
    """8 frames, 48 x 64."""
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), np.uint8)
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", frames)


def mock_ucf(root, videos=None):
    """ucfTrainTestlist/ in the official format, of 101 classes; and the names of all videos."""
    root.mkdir()
    classes = [f"Class{k:03d}" for k in range(101)]
    (root / "classInd.txt").write_text("".join(f"{k + 1} {name}\r\n" for k, name in enumerate(classes)))
    names = [f"{classes[i % 101]}/v_{classes[i % 101]}_g{i // 101 % 25 + 1:02d}_c{i // 2525 + 1:02d}.avi" for i in range(13320)]
    for split, (train, test) in UCF_SPLITS.items():
        assert train + test == 13320
        lines = [f"{name} {int(name[5:8]) + 1}\r\n" for name in names[:train]]
        (root / f"trainlist{split:02d}.txt").write_text("".join(lines))
        (root / f"testlist{split:02d}.txt").write_text("".join(f"{name}\r\n" for name in names[train:]))
    return names


def mock_hmdb(root):
    """testTrainMulti_7030_splits/: 51 classes of 70 training and 30 test videos, and more that are in neither."""
    root.mkdir()
    names = []
    for k in range(51):
        name = f"class_{k:02d}" if k else "brush_hair"
        videos = [f"{name}_clip_{i}.avi" for i in range(110 + k)]
        names += [f"{name}/{video}" for video in videos]
        for split in (1, 2, 3):
            uses = np.roll([1] * 70 + [2] * 30 + [0] * (10 + k), split)
            lines = [f"{video} {use} \n" for video, use in zip(videos, uses, strict=True)]
            (root / f"{name}_test_split{split}.txt").write_text("".join(lines))
    return names


def test_ucf101_has_its_official_sizes(tmp_path):
    mock_ucf(tmp_path / "ucfTrainTestlist")
    found = ucf101(tmp_path / "ucfTrainTestlist")
    assert {name: len(entries) for name, entries in found.splits.items()} == {
        f"{kind}{split}": UCF_SPLITS[split][kind == "val"] for split in (1, 2, 3) for kind in ("train", "val")
    }
    assert len(found.classes) == 101
    assert {entry.label for entry in found.splits["train1"]} == set(range(101))
    assert all(entry.folder == found.classes[entry.label] for entry in found.splits["val3"])


def test_hmdb51_has_its_official_sizes(tmp_path):
    mock_hmdb(tmp_path / "splits")
    found = hmdb51(tmp_path / "splits")
    assert {name: len(entries) for name, entries in found.splits.items()} == {
        f"{kind}{split}": {"train": 3570, "val": 1530}[kind] for split in (1, 2, 3) for kind in ("train", "val")
    }
    assert found.classes[0] == "brush_hair"
    assert len(found.classes) == 51


def test_lists_of_a_whole_dataset(tmp_path, a_video, monkeypatch):
    """Every video of HMDB51 is there, as a link to one: the lists have the official lengths, and are read back."""
    for name in mock_hmdb(tmp_path / "annotations"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(a_video)
    monkeypatch.setattr("vie_models.datasets.write_lists._measure", lambda job: (job[0], 8))  # opening thousands takes minutes
    counts = write_lists(hmdb51(tmp_path / "annotations"), tmp_path / "videos", tmp_path / "lists", workers=0)
    assert {count.split: (count.written, count.missing, count.unreadable) for count in counts if count.split[-1] == "1"} == {
        "train1": (3570, 0, 0),
        "val1": (1530, 0, 0),
    }
    lists = [read_list(tmp_path / "lists" / f"{split}1.txt", tmp_path / "videos") for split in ("train", "val")]
    assert tuple(map(len, lists)) == (3570, 1530)
    assert all(path.exists() for path in lists[1].paths)


def test_spaces_missing_and_unreadable_videos(tmp_path, a_video, capsys):
    """Kinetics: labels and folders with spaces, another container, a clip that is gone, one that is no video."""
    videos = tmp_path / "my videos"
    rows = [
        ("air drumming", "-3CZKM", 3, 13, "train", "train/air drumming/-3CZKM_000003_000013.mp4"),
        ("air drumming", "abc def", 0, 10, "train", "train/air drumming/abc def_000000_000010.mkv"),
        ("zumba", "gone", 12, 22, "train", None),
        ("zumba", "broken", 2, 12, "train", "train/zumba/broken_000002_000012.mp4"),
        ("zumba", "ok", 100, 110, "validate", "val/zumba/ok_000100_000110.mp4"),
    ]
    lines = ["label,youtube_id,time_start,time_end,split,is_cc\n"]
    for label, name, begin, end, split, file in rows:
        lines.append(f'"{label}",{name},{begin},{end},{split},0\n')
        if file:
            (videos / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(a_video, videos / file)
    (videos / "train/zumba/broken_000002_000012.mp4").write_bytes(b"<html>not found</html>")
    (tmp_path / "train.csv").write_text("".join(lines[:5]))
    (tmp_path / "val.csv").write_text(lines[0] + lines[5])
    out = tmp_path / "lists"
    arguments = ["data", "kinetics", str(tmp_path / "train.csv"), str(tmp_path / "val.csv"), "--videos", str(videos)]
    assert main([*arguments, "-o", str(out), "--workers", "0"]) == 3
    said = capsys.readouterr().out
    assert f"{out / 'train'}.txt: 2 of 4 videos; 1 missing, 1 unreadable" in said
    train = read_list(out / "train.txt", videos)
    assert [path.name for path in train.paths] == ["-3CZKM_000003_000013.mp4", "abc def_000000_000010.mkv"]
    assert train.labels.tolist() == [0, 0]
    assert train.frames.tolist() == [8, 8]
    assert read_list(out / "val.txt", videos).labels.tolist() == [1]
    assert (out / "classes.txt").read_text() == "air drumming\nzumba\n"
    left_out = (out / "left_out.txt").read_text().splitlines()
    assert left_out[0] == f"train\tgone_000012_000022\tthere is no such video in {videos}"
    assert left_out[1].startswith("train\tbroken_000002_000012\t")


def test_annotations_that_are_not(tmp_path, capsys):
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is not a Kinetics file: it must have the columns label, split"):
        kinetics([tmp_path / "no.csv"])
    (tmp_path / "classInd.txt").write_text("1 Archery\n")
    with pytest.raises(ValueError, match=r"has no trainlist01.txt: is it the right folder"):
        ucf101(tmp_path)
    (tmp_path / "trainlist01.txt").write_text("Archer/v_Archer_g01_c01.avi 1\n")
    with pytest.raises(ValueError, match="has no class 'Archer'"):
        ucf101(tmp_path)
    with pytest.raises(ValueError, match="has no <class>_test_split1"):
        hmdb51(tmp_path)
    assert main(["data", "ufc101", str(tmp_path)]) == 2
    assert "unknown dataset 'ufc101', perhaps ucf101; known datasets are kinetics" in capsys.readouterr().err


def test_imagenet_images_are_clips(tmp_path):
    from PIL import Image

    images, annotations = tmp_path / "images", tmp_path / "LOC"
    annotations.mkdir()
    (annotations / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    (annotations / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_1,n02 1 2 3 4\nILSVRC2012_val_2,n01 1 2 3 4 n02 1 2 3 4\n"
    )
    for name in ("train/n01/n01_1.JPEG", "train/n02/n02_7.JPEG", "val/ILSVRC2012_val_1.JPEG", "val/ILSVRC2012_val_2.JPEG"):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(path)
    write_lists(imagenet(annotations, images), images, tmp_path / "lists", workers=0)
    assert (tmp_path / "lists" / "train.txt").read_text() == "train/n01/n01_1.JPEG 1 0\ntrain/n02/n02_7.JPEG 1 1\n"
    assert read_list(tmp_path / "lists" / "val.txt").labels.tolist() == [1, 0]
    spec = vie.create_model("vie_3dresnet_tiny").clip_spec
    with pytest.raises(ValueError, match="images cannot be re-encoded as videos"):
        write_lists(imagenet(annotations, images), images, tmp_path / "lists", encode=tmp_path / "small")
    clip = vie.load_clip(images / "val" / "ILSVRC2012_val_1.JPEG", spec)
    assert clip.shape == (16, 60, 80, 3)
    assert (clip == clip[0]).all()


def test_folders_of_classes(tmp_path, a_video):
    for name in [f"{c}/{c} {i}.mp4" for c in ("cats", "dogs") for i in range(10)]:
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(a_video, tmp_path / "a" / name)
    found = folder(tmp_path / "a", val_share=0.3, seed=1)
    assert {split: len(entries) for split, entries in found.splits.items()} == {"train": 14, "val": 6}
    assert folder(tmp_path / "a", val_share=0.3, seed=2).splits != found.splits
    assert sorted(entry.label for entry in found.splits["val"]) == [0] * 3 + [1] * 3
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "train")
    shutil.copytree(tmp_path / "a" / "dogs", tmp_path / "b" / "val" / "dogs")
    found = folder(tmp_path / "b")
    assert {split: len(entries) for split, entries in found.splits.items()} == {"train": 20, "val": 10}
    assert {entry.label for entry in found.splits["val"]} == {1}
    with pytest.raises(ValueError, match="has no videos"):
        folder(tmp_path / "b" / "val" / "dogs")


def made(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def sides(found, pattern):
    """The groups on each side of a split."""
    return [{re.search(pattern, entry.name)[0] for entry in found.splits.get(split, [])} for split in ("train", "val")]


def test_groups_as_in_ucf101_are_found_and_never_divided(tmp_path):
    names = [
        f"{c}/v_{c}_g{g:02d}_c{k}.avi" for c in ("Archery", "Biking", "Bowling") for g in range(1, 26) for k in range(g % 4 + 1)
    ]
    found = folder(made(tmp_path / "ucf", names), seed=1)
    train, val = sides(found, r"_g\d+_")
    assert not train & val
    assert len(train | val) == 25
    assert any("25 groups" in note and r"_g\d+_" in note for note in found.notes)
    for label in range(3):
        share = np.mean([entry.label == label for entry in found.splits["val"]])
        assert share == pytest.approx(1 / 3, abs=0.05)
    assert len(found.splits["val"]) / len(names) == pytest.approx(0.2, abs=0.02)
    assert folder(tmp_path / "ucf", seed=1).splits == found.splits
    assert sides(folder(tmp_path / "ucf", seed=2), r"_g\d+_")[1] != val


def test_groups_by_a_regular_expression(tmp_path, a_video, capsys):
    """A person's videos, of whatever class, are on one side; a class with one person is only learned from, and named."""
    names = [f"{c}/{c} subject{s} take{k}.mp4" for c in ("jump", "run") for s in range(8) for k in range(2)]
    names += [f"swim/swim subject3 take{k}.mp4" for k in range(4)]
    for name in names:
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).symlink_to(a_video)
    arguments = ["data", "folder", str(tmp_path / "v"), "-o", str(tmp_path / "lists"), "--workers", "0"]
    assert main([*arguments, "--group-regex", r"subject(\d+)", "--val-share", "0.25"]) == 0
    said = capsys.readouterr().out
    assert "8 groups" in said
    assert "no video is held out of swim" in said
    train, val = ((tmp_path / "lists" / f"{split}.txt").read_text() for split in ("train", "val"))
    persons = [set(re.findall(r"subject\d", text)) for text in (train, val)]
    assert not persons[0] & persons[1]
    assert len(persons[1]) == 2
    assert "swim" not in val

    assert main([*arguments, "--group-regex", r"take0|person(\d+)"]) == 2
    assert "jump/jump subject0 take1.mp4" in capsys.readouterr().err
    assert main([*arguments, "--group-regex", "subject("]) == 2
    assert "is not a regular expression" in capsys.readouterr().err


def test_groups_on_both_sides_of_a_given_split_are_said(tmp_path):
    names = [f"{side}/run/v_run_g0{g}_c01.avi" for side, of in (("train", (1, 2, 3)), ("val", (3, 4))) for g in of]
    (note,) = [note for note in folder(made(tmp_path, names)).notes if "val/" in note]
    assert note.startswith("1 groups are in train/ and in val/, too, such as _g03_")
    assert not [note for note in folder(tmp_path, group_regex=".+").notes if "val/" in note]


def test_each_class_with_several_groups_is_on_both_sides():
    """Groups of very different sizes, of one class each or of all: none is divided, and shares are as near as they can be."""
    labels = [0] * 60 + [1] * 40 + [2] * 10
    groups = ["a"] * 50 + ["b"] * 10 + [f"c{i // 4}" for i in range(40)] + ["d"] * 10
    for seed in range(5):
        out = np.array(hold_out(labels, groups, 0.2, seed))
        assert {group for group, held in zip(groups, out, strict=True) if held} == {"b", *np.array(groups)[60:][out[60:]]}
        assert out[60:100].sum() == 8
        assert not out[100:].any()
    assert not any(hold_out(labels, groups, 0, 0))
    assert not any(hold_out([0, 1, 0], ["a"] * 3, 0.5, 0))


def test_videos_are_encoded_anew(tmp_path):
    """Small, upright, of the same frames on the grid; what is there is left alone."""
    shades = np.linspace(0, 255, 400).astype(np.uint8)
    frames = np.stack([np.roll(np.broadcast_to(shades[None, :, None], (330, 400, 3)), 8 * t, axis=1) for t in range(40)])
    (tmp_path / "videos" / "class").mkdir(parents=True)
    source = write_video(tmp_path / "videos" / "class" / "a.avi", frames)
    arguments = ["data", "folder", str(tmp_path / "videos"), "--val-share", "0", "-o", str(tmp_path / "lists")]
    arguments += ["--workers", "0"]
    assert main([*arguments, "--encode", str(tmp_path / "small"), "--short-side", "64"]) == 0
    assert (tmp_path / "lists" / "train.txt").read_text() == "class/a.avi.mp4 40 0\n"
    made = tmp_path / "small" / "class" / "a.avi.mp4"
    with open_video(source, 25) as before, open_video(made, 25) as after:
        assert after.num_frames == before.num_frames == 40
        theirs, ours = next(before.read([[0, 20, 39]])), next(after.read([[0, 20, 39]]))
    assert ours.shape == (3, 64, 78, 3)
    for a, b in zip(theirs, ours, strict=True):
        shrunk = a[:325].reshape(65, 5, 400, 3).mean((0, 1))[:, 0]
        assert np.abs(np.interp(np.linspace(0, 399, 78), np.arange(400), shrunk) - b.mean((0, 2))).mean() < 6
    stamp = made.stat().st_mtime_ns
    assert main([*arguments, "--encode", str(tmp_path / "small"), "--short-side", "64"]) == 0
    assert made.stat().st_mtime_ns == stamp
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(vie.VideoError):
        encode_video(tmp_path / "no.mp4", tmp_path / "small" / "no.mp4")
    assert not list((tmp_path / "small").glob("*.mp4"))


def test_the_reference_lists_are_read(tmp_path):
    """`path num_frames label`, folders of frames."""
    (tmp_path / "list.txt").write_text("train/abseiling/x 250 0\nval/zumba/y 17 399\n")
    videos = read_list(tmp_path / "list.txt", "/frames")
    assert [str(path) for path in videos.paths] == ["/frames/train/abseiling/x", "/frames/val/zumba/y"]
    assert json.dumps([videos.frames.tolist(), videos.labels.tolist()]) == "[[250, 17], [0, 399]]"
