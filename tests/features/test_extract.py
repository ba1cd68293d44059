import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
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
from vie_models.models import MODELS, precision
from vie_models.video.decode import VideoFile
from vie_models.video.reader import VideoReader, WorkerBugError
from vie_models.video.sampling import ClipRead, Sampling, VideoRead, read_video
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
    with pytest.raises(ValueError, match="has no layer encode_11"):
        vie.Extractor(model, layers=["encode_11"])
    with pytest.raises(ValueError, match="clips must be >= 1"):
        vie.Extractor(model, clips=0)
    with pytest.raises(ValueError, match=r"two videos would be written to long.mp4.npz"):
        vie.Extractor(model).extract([videos, videos / "long.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line(videos, tmp_path, capsys):
    weights = tmp_path / "weights"
    assert cli.main(["convert", str(CHECKPOINT), str(weights)]) == 0
    assert "width 4: bank.safetensors, config.json, model.safetensors" in capsys.readouterr().out
    arguments = [
        "--model",
        "vie_3dresnet",
        "--checkpoint",
        str(weights),
        "--layers",
        "encode_6",
        "encode_10",
        "-o",
        str(tmp_path / "out"),
    ]
    assert cli.main(["extract", str(videos / "long.mp4"), *arguments]) == 0
    assert cli.main(["extract", str(videos), *arguments]) == exit_codes.EXIT_SOME_FAILED
    captured = capsys.readouterr()
    assert "2 ok, 0 damaged, 1 failed, 1 skipped" in captured.out
    assert f"failed: {videos}/broken.mp4: cannot be opened as a video" in captured.err
    assert cli.main(["extract", str(tmp_path / "nothing"), *arguments]) == exit_codes.EXIT_USAGE
    assert cli.main(["convert", str(videos / "broken.mp4"), str(weights)]) == exit_codes.EXIT_FAILED
    assert cli.main(["extract", str(videos), "--model", "vie_slow", "-o", str(tmp_path)]) == exit_codes.EXIT_FAILED
    assert "nobody has published weights for vie_slow" in capsys.readouterr().err


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


@pytest.mark.parametrize("sampling", [{"clips": 2}, {"stride": 0.5}])
def test_features_of_a_version_with_another_placement_are_not_mixed(tiny, corpus, tmp_path, sampling):
    """It did not record the placement. Windows lie where they lay."""
    extractor = vie.Extractor(tiny, workers=0, **sampling)
    extractor.extract([corpus], tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        (line["settings"] or {}).pop("placement", None)
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "clips" in sampling:
        with pytest.raises(ValueError, match=r"made with other settings: .*Differing: placement=None there, 'even' now$"):
            extractor.extract([corpus], tmp_path)
    else:
        assert len(extractor.extract([corpus], tmp_path)) == 9


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


def test_torchrun_shares_the_work(tiny, corpus, tmp_path):
    vie.save_pretrained(tiny, tmp_path / "weights")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vie_models.cli", "extract"]
    command += [str(corpus), "--model", "vie_3dresnet_tiny", "--checkpoint", str(tmp_path / "weights"), "--workers", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, "-o", str(tmp_path / "out")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 ok, 0 damaged, 1 failed" in done.stdout
    assert "4 ok, 0 damaged, 0 failed" in done.stdout
    assert len(set(vie.load_features(tmp_path / "out").table["name"])) == 8


@pytest.mark.parametrize("format", ["npz", "parquet"])
def test_features_are_loaded_stacked(tiny, corpus, tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
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
    arrays, record = vie.Extractor(tiny, clips=2).features(corpus / "class 1" / "3.mp4")
    mine = features.table["name"] == "class 1/3.mp4"
    np.testing.assert_allclose(features.arrays["embedding"][mine], arrays["embedding"], atol=1e-6)
    assert record.duration == pytest.approx(41 / 25)
    assert set(vie.load_features(tmp_path / "out", ["embedding"]).arrays) == {"embedding"}
    with pytest.raises(ValueError, match="has no encode_9"):
        vie.load_features(tmp_path / "out", ["encode_9"])
    with pytest.raises(FileNotFoundError, match=r"no manifest.jsonl in"):
        vie.load_features(corpus)


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


def test_parquet_is_read_by_others(tiny, corpus, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    vie.Extractor(tiny, clips=2, workers=0).extract([corpus], tmp_path / "out", format="parquet")
    table = dataset.dataset(sorted((tmp_path / "out").rglob("*.parquet"))).to_table()
    assert table.num_rows == 16
    assert table.schema.field("embedding").type.list_size == 128
    with pytest.raises(ValueError, match="pooled layers only"):
        vie.Extractor(tiny, layers=["encode_3"], pool=None).extract([corpus], tmp_path / "out2", format="parquet")


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


def test_clips_and_windows_are_equally_long(tmp_path):
    video = write_video(tmp_path / "v.mp4", gray_levels(80))
    for name in ("vie_single_tiny", "vie_trn", "vie_3dresnet_tiny", "vie_slow", "vie_slowfast_tiny"):
        spec = vie.ClipSpec(**{**MODELS[name].clip_spec.to_dict(), "resize": 40, "crop": 32})
        for sampling in (Sampling(spec=spec), Sampling(spec=spec, clips=None, stride=0.5)):
            for clip in read_video(video, sampling):
                if isinstance(clip, ClipRead):
                    assert clip.end - clip.start == pytest.approx(spec.seconds), name


def test_wrong_sampling_is_refused(tiny):
    for wrong, message in (
        (dict(clips=5, stride=1.0), "exactly one of clips and stride"),
        (dict(window=2.0), "window must come with a stride"),
        (dict(placement="ends"), "placement must be one of even, paper, got 'ends'"),
        (dict(stride=1.0, placement="paper"), "placement must come with clips"),
        (dict(stride=float("inf")), "stride must be > 0 seconds, got inf"),
        (dict(clips=2.5), "clips must be >= 1, a whole number, got 2.5"),
        (dict(stride=0.01), r"stride must be at least 0.04 s"),
        (dict(stride=1.0, window=0.5), r"window must be at least 0.64 s \(16 frames at 25 fps\), got 0.5"),
        (dict(pool="max"), "pool must be 'avg' or None"),
        (dict(dtype=torch.int8), "dtype must be"),
        (dict(batch_size=0), "batch_size must be >= 1"),
        (dict(workers=-1), "workers must be >= 0"),
        (dict(time_limit=0), "time_limit must be > 0"),
    ):
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
    with pytest.warns(UserWarning, match=r"computing features in float32: .* wrong result of"):
        extractor = vie.Extractor(tiny, dtype=torch.bfloat16)
    assert extractor.settings()["dtype"] == "float32"


def test_folders_of_frames_and_lists(tiny, corpus, tmp_path, capsys):
    from PIL import Image

    frames = corpus / "class 1" / "frames"
    frames.mkdir()
    for i, image in enumerate(gray_levels(30), 1):
        Image.fromarray(np.ascontiguousarray(image)).save(frames / f"{i:06d}.jpg")
    records = vie.Extractor(tiny, workers=2).extract([corpus], corpus / "features")  # within what is searched
    assert {r.name for r in records if r.status == "ok"} == {*(f"class {i % 2}/{i}.mp4" for i in range(8)), "class 1/frames"}
    assert len(vie.Extractor(tiny, workers=2).extract([corpus], corpus / "features")) == 10
    weights = tmp_path / "weights"
    vie.save_pretrained(tiny, weights)
    (tmp_path / "list.txt").write_text("class 1/3.mp4\nclass 1/frames\n\nclass 0/gone.mp4\n")
    arguments = ["--list", str(tmp_path / "list.txt"), "--root", str(corpus), "-o", str(tmp_path / "out")]
    arguments += ["--model", "vie_3dresnet_tiny", "--checkpoint", str(weights), "--stride", "0.5", "--pool", "none"]
    assert cli.main(["extract", *arguments]) == exit_codes.EXIT_SOME_FAILED
    captured = capsys.readouterr()
    assert "2 ok, 0 damaged, 1 failed, 0 skipped" in captured.out
    assert "gone.mp4: cannot be read: no video file at" in captured.err
    assert (tmp_path / "out" / "class 1" / "3.mp4.npz").exists()
    assert cli.main(["extract", *arguments, "--shard", "2/2"]) == exit_codes.EXIT_USAGE
    assert cli.main(["extract", "-o", str(tmp_path / "out"), "--model", "vie_3dresnet_tiny"]) == exit_codes.EXIT_USAGE


def children(process: int) -> list[int]:
    return [int(number) for task in Path(f"/proc/{process}/task").glob("*/children") for number in task.read_text().split()]


@pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="finds the workers in /proc")
def test_a_crashed_or_hanging_decoder_is_one_videos_failure(tiny, corpus, tmp_path):
    sampling = Sampling(spec=tiny.clip_spec)
    paths = sorted(corpus.rglob("[0-9].mp4"))
    before = children(os.getpid())  # other tests' servers
    with VideoReader(paths, sampling, workers=1, ahead=1) as reader:
        messages = iter(reader)
        found = [next(messages)]
        assert found[0][0] == 0
        (nursery,) = set(children(os.getpid())) - set(before)
        (worker,) = children(nursery)
        os.kill(worker, signal.SIGKILL)
        found += messages
    assert set(children(os.getpid())) <= set(before)
    ends = {number: message for number, message in found if isinstance(message, (VideoRead, vie.VideoError))}
    assert sorted(ends) == list(range(len(paths)))
    lost = [number for number, end in ends.items() if isinstance(end, vie.VideoError)]
    assert len(lost) == 1
    assert "the worker process died" in ends[lost[0]].reason

    with VideoReader(paths, sampling, workers=2, time_limit=1e-4) as reader:
        ends = dict(reader)
    assert all(isinstance(end, vie.VideoError) and "no progress for 0.0001 s" in end.reason for end in ends.values())


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
    assert cli.main(["extract", str(folder / "annexed.mp4"), "-o", str(tmp_path / "x"), "--model", "vie_single_tiny"]) == 1
    assert len((tmp_path / "x" / "manifest.jsonl").read_text().splitlines()) == 1
    lists = annotated_folder(folder.parent, 0.0)
    assert {entry.name for entry in lists.splits["train"]} == {f"videos/{name}" for name in records}
    (count,) = write_lists(lists, folder.parent, tmp_path / "lists", workers=0, max_failed=0.6)
    assert (count.listed, count.written) == (5, 2)
    left_out = (tmp_path / "lists" / "left_out.txt").read_text()
    assert all(name in left_out for name in ("annexed.mp4", "itself.mp4", "pipe.mp4"))


@pytest.fixture
def open_folder():
    """A folder that others may read; those of pytest are closed, and each run closes them again."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "fork"), reason="needs POSIX permissions")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_may_not_be_read_has_its_row(open_folder, mode):
    """Run by a user without special rights, since root may read everything."""
    folder = open_folder / "videos"
    (folder / "closed").mkdir(parents=True)
    write_video(folder / "good.mp4", gray_levels(30))
    write_video(folder / "closed" / "hidden.mp4", gray_levels(30))
    (folder / "closed").chmod(mode)
    code = f"""
import os
from pathlib import Path
from vie_models.features.inputs import find_inputs
from vie_models.models import model_entry
from vie_models.video.frames import VideoError
from vie_models.video.sampling import Sampling, read_video

sampling = Sampling(spec=model_entry("vie_single_tiny").clip_spec, clips=1)
folder = Path({str(folder)!r})
list(read_video(folder / "good.mp4", sampling))  # everything is imported now
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for job in find_inputs([folder], None, Path("nowhere")):
    try:
        list(read_video(job.path, sampling))
        print(job.name, "ok")
    except VideoError as error:
        print(job.name, error.reason)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    finally:
        (folder / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.pop("good.mp4") == "ok"
    ((name, reason),) = lines.items()
    assert name in ("closed", "closed/hidden.mp4")
    assert "Permission denied" in reason


def test_what_pyav_raises_is_damage_whatever_its_kind(corpus, tiny, monkeypatch):
    """A fuzzed header made PyAV's list of streams end too early: an IndexError, and not an error of FFmpeg."""
    path, sampling = next(corpus.rglob("*.mp4")), Sampling(spec=tiny.clip_spec)
    monkeypatch.setattr(VideoFile, "_rgb", lambda self, frame: self._container.streams.get(video=99))
    with pytest.raises(vie.VideoError, match="cannot be decoded: IndexError"):
        list(read_video(path, sampling))
    with pytest.raises(vie.VideoError, match="cannot be decoded: IndexError"):
        vie.load_clip(path, tiny.clip_spec)
    monkeypatch.setattr(VideoFile, "_rgb", lambda self, frame: [][99])
    with pytest.raises(IndexError):
        list(read_video(path, sampling))
    with pytest.raises(IndexError):
        vie.load_clip(path, tiny.clip_spec)


def test_an_error_of_the_program_is_no_damaged_video(corpus, tiny):
    """In a worker or in this process, it stops the job."""
    sampling = Sampling(spec=tiny.clip_spec)
    object.__setattr__(sampling, "clips", "many")
    with pytest.raises(TypeError):
        list(read_video(next(corpus.rglob("*.mp4")), sampling))
    with (
        VideoReader(sorted(corpus.rglob("[0-9].mp4"))[:2], sampling, workers=1) as reader,
        pytest.raises(WorkerBugError, match=r"Traceback[\s\S]*TypeError"),
    ):
        list(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_and_interrupted_runs_resume_to_the_same_bytes(tiny, corpus, tmp_path):
    weights = tmp_path / "weights"
    vie.save_pretrained(tiny, weights)
    command = [sys.executable, "-m", "vie_models.cli", "extract", str(corpus), "--model", "vie_3dresnet_tiny"]
    command += ["--checkpoint", str(weights), "--workers", "2", "--clips", "3", "-o"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, str(whole)], env=environment, check=False, capture_output=True)
    for end, files in ((signal.SIGKILL, 1), (signal.SIGINT, 3)):
        run = subprocess.Popen([*command, str(broken)], env=environment, stderr=subprocess.PIPE, text=True)
        while run.poll() is None and len(list(broken.rglob("*.npz"))) < files:
            time.sleep(0.002)
        run.send_signal(end)
        _, errors = run.communicate()
        if end == signal.SIGINT and run.returncode != exit_codes.EXIT_SOME_FAILED:  # it may have been done already
            assert run.returncode == exit_codes.EXIT_INTERRUPTED
            assert "the same command continues from there" in errors
    done = subprocess.run([*command, str(broken)], env=environment, check=False, capture_output=True)
    assert done.returncode == exit_codes.EXIT_SOME_FAILED
    assert tree(broken) == tree(whole)


def test_one_path_is_a_list_of_one(tiny, corpus, tmp_path):
    video = corpus / "class 0" / "4.mp4"
    for given in (video, str(video)):
        assert [r.name for r in vie.Extractor(tiny).extract(given, tmp_path / "out")] == ["4.mp4"]


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


def test_workers_do_not_import_from_the_current_folder(tiny, corpus, tmp_path, monkeypatch):
    (tmp_path / "types.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    records = vie.Extractor(tiny, workers=2).extract([corpus], tmp_path / "out")
    assert sum(r.status == "ok" for r in records) == 8


def test_the_model_takes_no_time_from_the_decoders(tiny, corpus):
    """Workers are paused while the model runs; their time limit is too."""
    with VideoReader(sorted(corpus.rglob("[0-9].mp4")), Sampling(spec=tiny.clip_spec), workers=2, time_limit=1.0) as reader:
        ends = []
        for _, message in reader:
            if isinstance(message, ClipRead) and message.start == 0:
                with reader.paused():
                    time.sleep(1.2)
            elif isinstance(message, (VideoRead, vie.VideoError)):
                ends.append(message)
    assert len(ends) == 8
    assert all(isinstance(end, VideoRead) for end in ends)


@pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="finds the workers in /proc")
@pytest.mark.parametrize("end", ["TERM", "KILL"])
def test_nothing_is_left_running(tiny, corpus, tmp_path, end):
    """Also where the run ends while its workers are paused."""
    program = f"""
import pathlib, time, sys
from vie_models.clip_spec import ClipSpec
from vie_models.video.sampling import Sampling
from vie_models.video.reader import VideoReader, WorkerBugError
paths = sorted(pathlib.Path({str(corpus)!r}).rglob("[0-9].mp4"))
with VideoReader(paths, Sampling(spec=ClipSpec(num_frames=4)), workers=2) as reader:
    for _ in reader:
        with reader.paused():
            print("paused", flush=True)
            time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == "paused\n"
    (nursery,) = children(run.pid)
    started = [run.pid, nursery, *children(nursery)]
    assert len(started) >= 3
    os.killpg(run.pid, signal.SIGTERM) if end == "TERM" else run.kill()
    run.wait()
    deadline = time.monotonic() + 20
    while any(is_running(process) for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in started if is_running(process)]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_closing_early_is_quick_and_leaves_nothing(tiny, corpus):
    before = set(children(os.getpid()))
    with VideoReader(sorted(corpus.rglob("[0-9].mp4")), Sampling(spec=tiny.clip_spec), workers=2):
        pass
    assert set(children(os.getpid())) <= before
