import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import REFERENCE
from support.videos import gray_levels, write_video

import vie_models as vie
from vie_models import cli
from vie_models.cli import exit_codes
from vie_models.datasets.class_folders import folder as annotated_folder
from vie_models.datasets.write_lists import write_lists
from vie_models.features import extractor as extract_module
from vie_models.features.folder import FeatureFolder, read_manifest
from vie_models.files import VIDEO_SUFFIXES
from vie_models.models import precision
from vie_models.video.reader import VideoReader
from vie_models.video.sources import open_video

CHECKPOINT = REFERENCE / "checkpoint-3.tar"


@pytest.fixture(scope="module")
def model():
    return vie.create_model("vie_3dresnet", checkpoint_path=CHECKPOINT)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    write_video(folder / "long.mp4", gray_levels(60))
    write_video(folder / "sub" / "short.mp4", gray_levels(6))
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder


def test_every_file_is_accounted_for(model, videos, tmp_path):
    out = tmp_path / "out"
    records = {
        r.path.removeprefix(f"{videos}/"): r for r in vie.Extractor(model, layers=["encode_6"], clips=3).extract([videos], out)
    }
    assert {p: r.status for p, r in records.items()} == {
        "long.mp4": "ok",
        "sub/short.mp4": "ok",
        "broken.mp4": "failed",
        "notes.txt": "skipped",
    }
    assert records["sub/short.mp4"].looped == 3
    assert records["long.mp4"].looped == 0
    assert records["long.mp4"].duration == pytest.approx(2.4)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [r.path for r in records.values()]
    assert all(line["reason"] for line in lines if line["status"] != "ok")
    with np.load(out / "long.mp4.npz") as features:
        assert {k: features[k].shape for k in features} == {
            "embedding": (3, 128),
            "encode_6": (3, 8),
            "start": (3,),
            "end": (3,),
            "looped": (3,),
            "frame_times": (3, 16),
        }
        assert features["start"] == pytest.approx([0, 0.88, 1.76])
        assert features["end"] == pytest.approx(features["start"] + model.clip_spec.seconds)
        clip = vie.load_clip(videos / "long.mp4", model.clip_spec, start=0.88)
        with torch.inference_mode():
            expected = model(vie.clip_transform(model)(clip)[None])[0]
        np.testing.assert_allclose(features["embedding"][1], expected.numpy(), atol=1e-6)
        np.testing.assert_allclose(features["frame_times"][1], 0.88 + np.arange(16) / 25)
    with np.load(out / "sub" / "short.mp4.npz") as features:  # shorter than a clip
        assert features["start"].tolist() == [0, 0, 0]
        assert features["end"] == pytest.approx([0.24] * 3)


def test_bad_requests_are_refused_before_work(model, videos, tmp_path):
    with pytest.raises(ValueError, match="encode_11"):
        vie.Extractor(model, layers=["encode_11"])
    with pytest.raises(ValueError, match="clips must be >= 1"):
        vie.Extractor(model, clips=0)
    with pytest.raises(ValueError, match=r"two videos would be written to long.mp4.npz"):
        vie.Extractor(model).extract([videos, videos / "long.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line(videos, command, tmp_path, capsys):
    out = ["-o", str(tmp_path / "out")]
    command[2] = str(videos / "long.mp4")
    assert cli.main([*command, *out]) == 0
    command[2] = str(videos)
    assert cli.main([*command, *out]) == exit_codes.EXIT_SOME_FAILED
    captured = capsys.readouterr()
    assert "2 ok, 0 damaged, 1 failed, 1 skipped" in captured.out
    assert f"failed: {videos}/broken.mp4: " in captured.err
    command[2] = str(tmp_path / "nothing")
    assert cli.main([*command, *out]) == exit_codes.EXIT_USAGE
    assert cli.main(["extract", "vie_slow", str(videos), *out]) == exit_codes.EXIT_FAILED
    assert "vie_slow" in capsys.readouterr().err


def test_real_videos(model, clips_folder, tmp_path):
    """Every decodable file gives features; every other one its reason."""
    records = vie.Extractor(model, clips=2).extract([clips_folder], tmp_path)
    assert len(records) == len([p for p in clips_folder.rglob("*") if p.is_file()])
    for record in records:
        if record.status in ("ok", "damaged"):
            with np.load(tmp_path / record.features) as features:
                assert features["embedding"].shape == (2, 128)
                np.testing.assert_allclose(np.linalg.norm(features["embedding"], axis=1), 1, rtol=1e-5)
        elif record.status == "failed":
            with pytest.raises(vie.VideoError), open_video(record.path, 25) as video:
                assert video.num_frames
        else:
            assert Path(record.path).suffix not in VIDEO_SUFFIXES
    status = {Path(r.path).name: r.status for r in records}
    assert status["corrupted.mp4"] == "damaged"
    assert {n for n, s in status.items() if s == "failed"} == {"Mpeg4.mp4", "sample_ac3.mp4"}
    assert {n for n, s in status.items() if s == "skipped"} == {"SOURCES.md", "nasa_13013.mp4.audio.mp3"}


# -- many videos: workers, resuming, shards ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return vie.create_model("vie_3dresnet_tiny")


@pytest.fixture
def corpus(tmp_path):
    """Nine videos, one of them broken, in two folders."""
    folder = tmp_path / "corpus"
    for i in range(8):
        path = folder / f"class {i % 2}" / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, gray_levels(20 + 7 * i))
    (folder / "class 0" / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture
def command(tiny, corpus, tmp_path):
    """The words of `vie extract` for the corpus, but for where to write."""
    vie.save_pretrained(tiny, tmp_path / "weights")
    return ["extract", "vie_3dresnet_tiny", str(corpus), "--weights", str(tmp_path / "weights"), "--clips", "3"]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_workers_change_nothing(tiny, corpus, tmp_path):
    for workers in (0, 1, 3):
        records = vie.Extractor(tiny, layers=["encode_3"], workers=workers).extract([corpus], tmp_path / str(workers))
        assert [r.status for r in records] == ["ok"] * 4 + ["failed"] + ["ok"] * 4
        assert [r.name for r in records] == sorted(r.name for r in records)
    assert tree(tmp_path / "0") == tree(tmp_path / "1") == tree(tmp_path / "3")


def test_a_run_that_is_called_again_does_only_what_is_missing(tiny, corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    extractor = vie.Extractor(tiny, workers=0)
    extractor.extract([corpus], out)
    whole = tree(out)
    (out / "class 0" / "2.mp4.npz").unlink()
    with (out / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"name": "half a li')
    asked = []
    monkeypatch.setattr(
        extract_module, "VideoReader", lambda paths, *a, **k: asked.extend(paths) or VideoReader(paths, *a, **k)
    )
    records = extractor.extract([corpus], out)
    assert [path.name for path in asked] == ["2.mp4", "broken.mp4"]
    assert len(records) == 9
    assert tree(out) == whole


def test_features_made_otherwise_are_not_mixed(tiny, corpus, tmp_path):
    out = tmp_path / "out"
    vie.Extractor(tiny, workers=0, clips=2).extract([corpus], out)
    before = tree(out)
    with pytest.raises(ValueError, match=r"made with other settings: .*Differing: clips=2 there, 3 now$"):
        vie.Extractor(tiny, workers=0, clips=3).extract([corpus], out)
    with pytest.raises(ValueError, match=r"made with other settings: .*Differing: placement='even' there, 'paper' now$"):
        vie.Extractor(tiny, workers=0, clips=2, placement="paper").extract([corpus], out)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match=r"made with other settings: .*Differing: weights="):
        vie.Extractor(vie.create_model("vie_3dresnet_tiny"), workers=0, clips=2).extract([corpus], out)
    write_video(corpus / "class 1" / "3.mp4", gray_levels(50))
    with pytest.raises(ValueError, match=r"3.mp4.npz has features of another file than .*3.mp4"):
        vie.Extractor(tiny, workers=0, clips=2).extract([corpus], out)
    assert tree(out) == before


def test_two_runs_on_one_folder(tiny, corpus, tmp_path):
    out = tmp_path / "out"
    extractor = vie.Extractor(tiny, workers=0)
    with FeatureFolder(out, extractor.settings()):
        with pytest.raises(BlockingIOError, match="another run is writing"):
            extractor.extract([corpus], out)
    assert len(extractor.extract([corpus], out)) == 9


def test_a_manifest_that_is_none_is_left_alone(tiny, corpus, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text("something else\n")
    with pytest.raises(ValueError, match="line 1 is not a valid manifest line"):
        vie.Extractor(tiny, workers=0).extract([corpus], out)
    assert (out / "manifest.jsonl").read_text() == "something else\n"


def test_shards_share_a_folder_and_their_number_may_change(tiny, corpus, tmp_path):
    out, extractor = tmp_path / "out", vie.Extractor(tiny, workers=0)
    parts = [extractor.extract([corpus], out, shard=(i, 3)) for i in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    rest = [extractor.extract([corpus], out, shard=(i, 2)) for i in range(2)]
    assert sum(map(len, rest)) == 9
    extractor.extract([corpus], tmp_path / "whole")
    ours, whole = vie.load_features(out), vie.load_features(tmp_path / "whole")
    np.testing.assert_array_equal(ours.arrays["embedding"], whole.arrays["embedding"])
    assert ours.table["name"].tolist() == whole.table["name"].tolist()
    with pytest.raises(ValueError, match="shard must be i/N"):
        extractor.extract([corpus], out, shard=(3, 3))


def test_torchrun_shares_the_work(command, tmp_path):
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vie_models.cli"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [*start, *command, "--workers", "0", "-o", str(tmp_path / "out")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 ok, 0 damaged, 1 failed" in done.stdout
    assert "4 ok, 0 damaged, 0 failed" in done.stdout
    assert len(set(vie.load_features(tmp_path / "out").table["name"])) == 8


@pytest.mark.parametrize("format", ["npz", "parquet"])
def test_features_are_loaded_stacked(tiny, corpus, tmp_path, format):
    if format == "parquet":
        dataset = pytest.importorskip("pyarrow.dataset")
    vie.Extractor(tiny, layers=["encode_3"], clips=2, workers=0).extract([corpus], tmp_path / "out", format=format)
    features = vie.load_features(tmp_path / "out")
    assert {name: array.shape for name, array in features.arrays.items()} == {
        "embedding": (16, 128),
        "encode_3": (16, 16),
        "frame_times": (16, 16),
    }
    assert features.table["name"].tolist() == sorted(f"class {i % 2}/{i}.mp4" for i in range(8) for _ in range(2))
    assert features.table["clip"].tolist() == [0, 1] * 8
    assert set(features.table) == {"name", "path", "status", "clip", "start", "end", "looped"}
    assert len({len(column) for column in features.table.values()}) == 1
    assert repr(features).startswith("Features(16 clips of 8 videos; embedding [16, 128], encode_3 [16, 16]")
    arrays, record = vie.Extractor(tiny, clips=2).features(corpus / "class 1" / "3.mp4")
    mine = features.table["name"] == "class 1/3.mp4"
    np.testing.assert_allclose(features.arrays["embedding"][mine], arrays["embedding"], atol=1e-6)
    assert record.duration == pytest.approx(41 / 25)
    assert set(vie.load_features(tmp_path / "out", ["embedding"]).arrays) == {"embedding"}
    with pytest.raises(ValueError, match="has no encode_9"):
        vie.load_features(tmp_path / "out", ["encode_9"])
    with pytest.raises(FileNotFoundError, match=r"manifest.jsonl"):
        vie.load_features(corpus)
    if format == "parquet":
        table = dataset.dataset(sorted((tmp_path / "out").rglob("*.parquet"))).to_table()
        assert (table.num_rows, table.schema.field("embedding").type.list_size) == (16, 128)
        with pytest.raises(ValueError, match="pooled layers only"):
            vie.Extractor(tiny, layers=["encode_3"], pool=None).extract([corpus], tmp_path / "out2", format="parquet")


def test_features_for_pandas_and_xarray(monkeypatch):
    arrays = {"embedding": np.arange(8.0).reshape(4, 2), "frame_times": np.zeros((4, 3))}
    features = vie.Features(arrays, {"name": np.array(["a", "a", "b", "b"]), "start": np.arange(4.0)})
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        features.to_pandas()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = features.to_pandas()
    assert list(frame) == ["name", "start", "embedding_0", "embedding_1", *(f"frame_times_{k}" for k in range(3))]
    assert frame.groupby("name")["embedding_1"].mean().tolist() == [2, 6]
    maps = vie.Features({**arrays, "layer": np.zeros((4, 8, 2, 5, 5))}, features.table)
    with pytest.raises(ValueError, match="to_xarray"):
        maps.to_pandas()
    pytest.importorskip("xarray")
    dataset = maps.to_xarray()
    assert dict(dataset.sizes) == {
        **{"row": 4, "embedding_channel": 2, "frame": 3},
        **{"layer_channel": 8, "layer_time": 2, "layer_height": 5, "layer_width": 5},
    }
    assert dataset["embedding"].sel(row=dataset["name"] == "b").values.tolist() == [[4, 5], [6, 7]]


def test_a_name_that_parquet_cannot_hold(tiny, corpus, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "videos").mkdir()
    shutil.copy(corpus / "class 0" / "0.mp4", tmp_path / "videos" / "a.mp4")
    shutil.copy(corpus / "class 0" / "0.mp4", tmp_path / "videos" / "b\udcff.mp4")
    vie.Extractor(tiny, clips=1, workers=0).extract([tmp_path / "videos"], tmp_path / "out", format="parquet")
    records = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert {name: record.status for name, record in records.items()} == {"a.mp4": "ok", "b\udcff.mp4": "failed"}
    assert "not valid Unicode, which Parquet needs: rename it, or choose npz" in records["b\udcff.mp4"].reason
    assert [path.name for path in (tmp_path / "out").glob("*.p*")] == ["a.mp4.parquet"]


def test_sliding_windows(tiny, tmp_path):
    """Windows of the model's own length are its clips; others spread its frames over the window."""
    video = write_video(tmp_path / "v.mp4", gray_levels(60))
    arrays, record = vie.Extractor(tiny, stride=0.4).features(video)
    assert arrays["start"] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])  # the one from 2.0 s would end after 2.4 s
    assert arrays["end"] == pytest.approx(arrays["start"] + 16 / 25)
    for k, start in enumerate(arrays["start"]):
        clip = vie.load_clip(video, tiny.clip_spec, start=start)
        with torch.inference_mode():
            expected = tiny(vie.clip_transform(tiny)(clip)[None])[0].numpy()
        np.testing.assert_allclose(arrays["embedding"][k], expected, atol=1e-6)
    assert record.looped == 0

    arrays, _ = vie.Extractor(tiny, stride=1.0, window=1.28).features(video)
    assert arrays["start"] == pytest.approx([0, 1])
    assert arrays["frame_times"][1] == pytest.approx(1.04 + 0.08 * np.arange(16))  # the second of each two frames

    arrays, record = vie.Extractor(tiny, stride=1.0, window=4.0).features(video)  # longer than the video
    assert record.looped == 1
    assert arrays["embedding"].shape == (1, 128)
    assert (arrays["start"], arrays["end"]) == (pytest.approx([0]), pytest.approx([2.4]))

    arrays, record = vie.Extractor(tiny, stride=1.0, window=2.44).features(video)  # as well, but its frames are in the video
    assert record.looped == 0
    assert arrays["end"] == pytest.approx([2.4])


def test_clips_of_a_video_too_short_for_five(tiny, tmp_path):
    """They overlap, evenly spaced. The paper's come one after another, past the end of the video."""
    video = write_video(tmp_path / "v.mp4", gray_levels(40))
    arrays, record = vie.Extractor(tiny).features(video)
    assert arrays["start"] == pytest.approx([0, 0.24, 0.48, 0.72, 0.96])
    assert arrays["end"] == pytest.approx(arrays["start"] + 0.64)
    assert record.looped == 0
    arrays, record = vie.Extractor(tiny, placement="paper").features(video)
    assert arrays["start"] == pytest.approx([0, 0.64, 1.28, 0.32, 0.96])
    assert arrays["looped"].tolist() == [False, False, True, False, False]
    assert arrays["end"].max() <= record.duration


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(clips=5, stride=1.0), "clips=5, stride=1.0"),
        (dict(window=2.0), "stride.*window=2.0"),
        (dict(placement="ends"), "even, paper, got 'ends'"),
        (dict(stride=1.0, placement="paper"), "placement=paper"),
        (dict(stride=float("inf")), "> 0 seconds, got inf"),
        (dict(clips=2.5), "got 2.5"),
        (dict(stride=0.01), r"0.04 s.*got 0.01"),
        (dict(stride=1.0, window=0.5), r"0.64 s \(16 frames at 25 fps\), got 0.5"),
        (dict(pool="max"), "'avg' or None, got 'max'"),
        (dict(dtype=torch.int8), "got torch.int8"),
        (dict(batch_size=0), "batch_size must be >= 1, got 0"),
        (dict(workers=-1), "workers must be >= 0, got -1"),
        (dict(time_limit=0), "time_limit must be > 0"),
    ],
)
def test_wrong_settings_are_refused(tiny, wrong, message):
    with pytest.raises(ValueError, match=message):
        vie.Extractor(tiny, **wrong)


def test_whole_maps_and_other_arithmetic(tiny, tmp_path):
    frames = np.ascontiguousarray(gray_levels(40))
    plain, _ = vie.Extractor(tiny, layers=["encode_3"], pool=None, clips=2).features(frames, fps=25)
    pooled, record = vie.Extractor(tiny, layers=["encode_3"], clips=2).features(frames, fps=25)
    assert plain["encode_3"].ndim == 5
    np.testing.assert_allclose(plain["encode_3"].mean((2, 3, 4)), pooled["encode_3"], rtol=1e-4, atol=1e-6)
    assert record.video["codec"] == "array"
    with pytest.raises(ValueError, match="an array has no frame rate"):
        vie.Extractor(tiny).features(frames)
    with pytest.raises(FileNotFoundError, match="no video file at"):
        vie.Extractor(tiny).features(tmp_path / "none.mp4")
    half, _ = vie.Extractor(tiny, clips=2, dtype=torch.bfloat16).features(frames, fps=25)
    assert half["embedding"].dtype == np.float32
    cosine = (half["embedding"] * pooled["embedding"]).sum(1)
    assert cosine.min() > 0.99
    assert not np.array_equal(half["embedding"], pooled["embedding"])


def test_wrong_half_precision_is_not_used(tiny, monkeypatch):
    results = precision._results

    def wrong(conv, inputs, dtype, gradients):
        assert not gradients
        return {what: y if dtype == torch.float32 else y * 1.1 for what, y in results(conv, inputs, dtype, False).items()}

    monkeypatch.setattr(precision, "_results", wrong)
    monkeypatch.setattr(precision, "PASSED", set())
    with pytest.warns(UserWarning, match=r"computing features in float32: .* wrong result of"):
        extractor = vie.Extractor(tiny, dtype=torch.bfloat16)
    assert extractor.settings()["dtype"] == "float32"


def test_folders_of_frames_and_lists(tiny, corpus, command, tmp_path, capsys):
    from PIL import Image

    frames = corpus / "class 1" / "frames"
    frames.mkdir()
    for i, image in enumerate(gray_levels(30), 1):
        Image.fromarray(np.ascontiguousarray(image)).save(frames / f"{i:06d}.jpg")
    records = vie.Extractor(tiny, workers=0).extract(str(corpus), corpus / "features")  # within what is searched
    assert {r.name for r in records if r.status == "ok"} == {*(f"class {i % 2}/{i}.mp4" for i in range(8)), "class 1/frames"}
    assert len(vie.Extractor(tiny, workers=0).extract([corpus], corpus / "features")) == 10
    (tmp_path / "list.txt").write_text("class 1/3.mp4\nclass 1/frames\n\nclass 0/gone.mp4\n")
    del command[2]
    command += ["--list", str(tmp_path / "list.txt"), "--root", str(corpus), "-o", str(tmp_path / "out"), "--pool", "none"]
    assert cli.main(command) == exit_codes.EXIT_SOME_FAILED
    captured = capsys.readouterr()
    assert "2 ok, 0 damaged, 1 failed, 0 skipped" in captured.out
    assert "gone.mp4: cannot be read: no video file at" in captured.err
    assert (tmp_path / "out" / "class 1" / "3.mp4.npz").exists()
    assert cli.main([*command, "--shard", "2/2"]) == exit_codes.EXIT_USAGE


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_every_name_that_looks_like_a_video_has_its_row(tiny, tmp_path):
    """A link that leads nowhere, as before `git annex get`; a pipe, which must not be waited for; a link to itself."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    write_video(folder / "sub" / "good.mp4", gray_levels(30))
    (folder / "annexed.mp4").symlink_to(".git/annex/objects/SHA256E-s9--0.mp4")
    (folder / "itself.mp4").symlink_to("itself.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "linked.mp4").symlink_to("sub/good.mp4")
    extractor = vie.Extractor(tiny, workers=1)
    records = {record.name: record for record in extractor.extract(folder, tmp_path / "out")}
    assert {name: record.status for name, record in records.items()} == {
        **dict.fromkeys(("annexed.mp4", "itself.mp4", "pipe.mp4"), "failed"),
        **dict.fromkeys(("linked.mp4", "sub/good.mp4"), "ok"),
    }
    assert "SHA256E" in records["annexed.mp4"].reason
    assert "git annex get" in records["annexed.mp4"].reason
    assert "pipe" in records["pipe.mp4"].reason
    named = extractor.extract([folder / "annexed.mp4", folder / "linked.mp4"], tmp_path / "named")
    assert [record.status for record in named] == ["failed", "ok"]
    assert cli.main(["extract", "vie_single_tiny", str(folder / "annexed.mp4"), "-o", str(tmp_path / "x")]) == 1
    assert len((tmp_path / "x" / "manifest.jsonl").read_text().splitlines()) == 1
    lists = annotated_folder(folder.parent, 0.0)
    assert {entry.name for entry in lists.splits["train"]} == {f"videos/{name}" for name in records}
    (count,) = write_lists(lists, folder.parent, tmp_path / "lists", workers=0, max_failed=0.6)
    assert (count.listed, count.written) == (5, 2)
    left_out = (tmp_path / "lists" / "left_out.txt").read_text()
    assert all(name in left_out for name in ("annexed.mp4", "itself.mp4", "pipe.mp4"))


def test_killed_and_interrupted_runs_resume_to_the_same_bytes(command, tiny, corpus, tmp_path, capsys, monkeypatch):
    broken, write = tmp_path / "broken", FeatureFolder.write
    vie.Extractor(tiny, clips=3, workers=0).extract([corpus], tmp_path / "whole")
    program = f"import sys; from vie_models import cli; sys.exit(cli.main({[*command, '--workers', '2', '-o', str(broken)]!r}))"
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    while run.poll() is None and not list(broken.rglob("*.npz")):
        time.sleep(0.002)
    run.kill()
    run.communicate()

    def interrupted(folder, record, arrays=None):
        write(folder, record, arrays)
        if len(list(broken.rglob("*.npz"))) > 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(FeatureFolder, "write", interrupted)
    assert cli.main([*command, "--workers", "0", "-o", str(broken)]) == exit_codes.EXIT_INTERRUPTED
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(FeatureFolder, "write", write)
    assert cli.main([*command, "--workers", "0", "-o", str(broken)]) == exit_codes.EXIT_SOME_FAILED
    assert tree(broken) == tree(tmp_path / "whole")


def test_links_that_lead_back_up_are_not_followed(tiny, corpus, tmp_path):
    before = vie.Extractor(tiny, workers=0).extract([corpus], tmp_path / "before")
    (corpus / "class 0" / "up").symlink_to(corpus)
    (corpus / "itself").symlink_to(corpus / "itself")
    after = vie.Extractor(tiny, workers=0).extract([corpus], tmp_path / "after")
    assert [record.name for record in after] == sorted([*(record.name for record in before), "itself"])


def test_what_happens_to_files_between_runs(tiny, corpus, tmp_path):
    out, extractor = tmp_path / "out", vie.Extractor(tiny, workers=0, clips=2)
    unnamed = corpus / "class 1" / "5.bin"
    (corpus / "class 1" / "5.mp4").rename(unnamed)
    extractor.extract([unnamed], out, root=corpus)  # tried, since it is named
    extractor.extract([corpus], out)  # found, and no video by its name
    records = {r.name: r for r in extractor.extract([corpus], out)}
    assert records["class 1/5.bin"].status == "ok"
    assert len(vie.load_features(out).table["name"]) == 16
    (corpus / "class 0" / "2.mp4").unlink()
    paths = [corpus / name for name in ("class 0/2.mp4", "class 0/4.mp4")]
    assert [r.status for r in extractor.extract(paths, out, root=corpus)] == ["ok", "ok"]  # it has its features
    (out / "class 0" / "2.mp4.npz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=r"2.mp4.npz cannot be read .*: remove it"):
        vie.load_features(out)
    assert [r.status for r in extractor.extract(paths, out, root=corpus)] == ["failed", "ok"]
    assert len(vie.load_features(out).table["name"]) == 14
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="format='npz' there, 'parquet' now"):
        extractor.extract([corpus], out, format="parquet")


def test_names_that_no_file_of_features_can_have(tiny, corpus, tmp_path):
    long = corpus / ("x" * 250 + ".mp4")
    (corpus / "class 1" / "3.mp4").rename(long)
    (tmp_path / "out" / "class 1" / "5.mp4.npz").mkdir(parents=True)
    records = {r.name: r for r in vie.Extractor(tiny, workers=0).extract([corpus], tmp_path / "out")}
    assert "cannot be written: File name too long" in records[long.name].reason
    assert records["class 1/5.mp4"].status == "failed"
    assert sum(r.status == "ok" for r in records.values()) == 6


def test_output_within_the_searched_folder(tiny, corpus):
    extractor = vie.Extractor(tiny, workers=0)
    first = [r.name for r in extractor.extract([corpus], corpus)]
    assert [r.name for r in extractor.extract([corpus], corpus)] == first
