"""`vie extract`: what it says when there is nothing to do, and what --dry-run promises."""

import pytest
from support.videos import write_list

from vie_models import cli
from vie_models.video.sampling import Sampling
from vie_models.video.sources import open_video
from vie_models.weights import store

MODEL = "vie_single_tiny"


def test_nothing_found(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = ["-o", str(tmp_path / "out")]
    assert cli.main(["extract", MODEL, str(tmp_path / "empty"), *out]) == 1
    assert f"no videos found in {tmp_path / 'empty'}: a folder is searched" in capsys.readouterr().err
    (tmp_path / "empty" / "notes.txt").touch()
    assert cli.main(["extract", MODEL, str(tmp_path / "empty"), *out]) == 1
    assert "(there are 1 other files, such as notes.txt)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.main(["predict", str(tmp_path / "empty"), "--weights", MODEL]) == 1
    assert "no videos found" in capsys.readouterr().err
    for command in (["extract", MODEL, "--list", "nothing", *out], ["data", "pack", "nothing", str(tmp_path / "pack")]):
        assert cli.main(command) == 2
        assert "no list file nothing: " in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--layers", "encode_3", "encode_5", "--pool", "none"], ["--stride", "0.2"]])
def test_dry_run(corpus, tmp_path, capsys, monkeypatch, more):
    """It counts as the run then counts, and its size is close; without loading weights or writing."""
    out = tmp_path / "out"
    listed = write_list(tmp_path / "list", [corpus / f"{i}.mp4" for i in range(4)])
    command = ["extract", MODEL, "--list", str(listed), "-o", str(out), "--workers", "0", *more]
    with monkeypatch.context() as patched:
        patched.setattr(store, "load_record", None)
        assert cli.main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 videos: 0 already done, 4 to do" in said
    assert not out.exists()
    assert cli.main(command) == 0
    from vie_models import load_features

    clips = len(load_features(out).table["clip"])
    assert f"about {clips} clips" in said
    size = sum(file.stat().st_size for file in out.glob("*.npz")) / 1e6
    assert float(said.split(" MB of features")[0].split()[-1]) == pytest.approx(size, rel=0.1)
    capsys.readouterr()
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert cli.main([*command, "--dry-run", str(tmp_path / "bad.mp4")]) == 3
    said = capsys.readouterr()
    assert "5 videos: 4 already done, 1 to do" in said.out
    assert f"would fail: {tmp_path / 'bad.mp4'}: cannot be opened" in said.err
    assert cli.main([*command, "--dry-run", "--window", "0.5", "--stride", "0.5"]) == 2
    assert "features made with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("stride", [0.04, 0.2, 0.3, 1.0, 50.0])
def test_windows_are_counted_as_they_are_read(corpus, stride):
    spec = store.create_outline("vie_3dresnet_tiny").clip_spec
    sampling = Sampling(spec=spec, clips=None, stride=stride)
    for i in (0, 7, 23):
        with open_video(corpus / f"{i}.mp4", 25) as video:
            assert sum(clip is not None for clip in sampling.read(video)) == sampling.count(video.num_frames)
