"""Features of stimulus tables, against the Extractor's and against the model itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.videos import gray_levels, write_video

import vie_models as vie
from vie_models.cli import main
from vie_models.models import build_model
from vie_models.neuro import layer_windows, load_stimulus_features, read_stimuli, stimulus_features
from vie_models.neuro.projection import SparseProjection
from vie_models.video.sources import open_video

xarray = pytest.importorskip("xarray", reason="the extra neuro is not installed")
pytest.importorskip("netCDF4", reason="the extra neuro is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos of noise over gray levels, of 3 s and 0.4 s, and a broken one."""
    folder = tmp_path_factory.mktemp("stimuli")
    noise = np.random.default_rng(0).integers(0, 128, (75, 48, 64, 3), np.uint8)
    write_video(folder / "film.mp4", gray_levels(75) // 2 + noise)
    write_video(folder / "flash.mp4", noise[:10])
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("vie_3dresnet_tiny", width=4, clip_spec=vie.ClipSpec(num_frames=16, resize=36, crop=32)).eval()


def table_of(folder, *rows, columns="stimulus,onset,duration"):
    path = folder / f"table{abs(hash(rows))}.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def features_of(folder, model, *rows, **settings):
    out = folder / "out.nc"
    records = stimulus_features(table_of(folder, *rows), model, out, workers=0, **settings)
    with load_stimulus_features(out) as features:
        return features.load(), records


def test_a_whole_video_is_what_the_extractor_gives(folder, model):
    layers = ["encode_2", "encode_9"]
    features, (record,) = features_of(folder, model, "film.mp4,,", layers=["embedding", *layers], stride=0.2)
    arrays, _ = vie.Extractor(model, layers=layers, stride=0.2, workers=0).features(folder / "film.mp4")
    assert features.dims == ("presentation", "neuroid", "time_bin")
    assert (record.status, record.time_bins) == ("ok", len(arrays["start"]))
    for layer in ("embedding", *layers):
        np.testing.assert_array_equal(features[0, features.layer == layer].T, arrays[layer])
    np.testing.assert_allclose(features.time_bin_start_ms, 1000 * arrays["start"])
    np.testing.assert_allclose(features.time_bin_end_ms, 1000 * arrays["start"] + 200)


def test_a_short_presentation_loops_only_where_its_frames_do_not_fit(folder, model):
    for duration, looped in ((2.52, False), (2.48, True)):  # the last frame of a window of 2.56 s is at 2.48 s
        _, (record,) = features_of(folder, model, f"film.mp4,0,{duration}", layers=["encode_3"], stride=1.0, window=2.56)
        assert (record.time_bins, record.looped) == (1, looped)


def test_presentations_are_parts_of_a_video(folder, model):
    rows = ["film.mp4,1,1", "flash.mp4,,", "film.mp4,0.5,1.2", "film.mp4,2.04,0.2", "film.mp4,2,9", "film.mp4,7,"]
    features, records = features_of(folder, model, *rows, layers=["encode_3"], pool="space", stride=0.2)
    assert [record.time_bins for record in records] == [2, 1, 3, 1, 2, 0]
    assert [record.looped for record in records] == [False, True, False, True, False, False]
    assert [record.status for record in records] == ["ok", "ok", "ok", "ok", "damaged", "failed"]
    assert records[4].reason == "the video lasts 3 s, but the presentation is 2 s to 11 s"
    assert list(features.status.values) == [record.status for record in records]
    transform = vie.clip_transform(model)

    def expected(name, first, length, k):
        with open_video(folder / name, 25) as video, torch.inference_mode():
            (clip,) = video.read([[first + (5 * k + t) % length for t in range(16)]])
            maps = model.forward_layers(transform(clip)[None], "encode_3")["encode_3"][0]
        return maps.mean((2, 3)).T.flatten()

    places = [("film.mp4", 25, 25), ("flash.mp4", 0, 10), ("film.mp4", 12, 30), ("film.mp4", 51, 5), ("film.mp4", 50, 25)]
    for p, (name, first, length) in enumerate(places):
        for k in range(records[p].time_bins):
            torch.testing.assert_close(torch.tensor(features[p, :, k].values), expected(name, first, length, k))
        assert np.isnan(features[p, :, records[p].time_bins :]).all()
    assert np.isnan(features[5]).all()


def test_each_value_depends_on_its_window_only(folder, model):
    """Changes the video from a moment on: a value changes if its window ends later, and not if it ends before."""
    frames = np.random.default_rng(1).integers(0, 255, (40, 48, 64, 3), np.uint8)
    moment = 20
    for name, part in (("before", frames), ("after", np.concatenate([frames[:moment], 255 - frames[moment:]]))):
        (folder / name).mkdir()
        for i, frame in enumerate(part, 1):
            Image.fromarray(frame).save(folder / name / f"{i:06d}.jpg")
    settings = {"layers": ["encode_1", "encode_5"], "pool": "space", "stride": 0.08}
    features, _ = features_of(folder, model, "before,,", "after,,", **settings)
    changed = (features[0] != features[1]).values  # [N, K]
    ends = (features.time_bin_start_ms.values + features.window_end_ms.values[:, None]) > moment * 40
    assert ends.any()
    assert not ends.all()
    for layer in settings["layers"]:
        for step in set(features.time_step.values[features.layer == layer]):
            here = (features.layer.values == layer) & (features.time_step.values == step)
            np.testing.assert_array_equal(changed[here].any(0), ends[here].any(0))
    windows = layer_windows(model, ["encode_5"])["encode_5"]
    assert sorted(set(features.window_end_ms.values[features.layer == "encode_5"])) == sorted(set(windows[:, 1]))


def test_projection(folder, model):
    settings = {"layers": ["encode_2", "encode_3"], "pool": None, "stride": 0.4}
    whole, _ = features_of(folder, model, "film.mp4,,", **settings)
    features, _ = features_of(folder, model, "film.mp4,,", project=50, seed=5, **settings)
    again, _ = features_of(folder, model, "film.mp4,,", project=50, seed=5, **settings)
    xarray.testing.assert_identical(features, again)
    one, projected = (x[0, (x.layer == "encode_2") & (x.time_step == 3)].values for x in (whole, features))
    expected = SparseProjection(len(one), 50, 5, "encode_2")(torch.from_numpy(one.T.copy()))
    np.testing.assert_allclose(projected.T, expected, rtol=1e-4, atol=1e-4)
    kept, _ = features_of(folder, model, "film.mp4,,", project=500, **settings)  # no map has more than 500 numbers
    np.testing.assert_array_equal(kept, whole)
    assert set(whole.component.values) == {-1}
    places = whole.layer == "encode_2"
    assert (
        len(set(zip(*(whole[c].values[places] for c in ("time_step", "channel", "row", "column")), strict=True)))
        == places.sum()
    )


def test_parquet(folder, model):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = table_of(folder, "film.mp4,1,1", "flash.mp4,,")
    for out in ("long.parquet", "long.nc"):
        stimulus_features(table, model, folder / out, layers=["encode_3", "embedding"], pool="space", stride=0.2, workers=0)
    rows = parquet.read_table(folder / "long.parquet").to_pylist()
    assert len(rows) == (2 + 1) * (8 + 1)
    with load_stimulus_features(folder / "long.nc") as features:
        for row in rows:
            k = round(row["time_bin_start_ms"] / 200)
            here = (features.layer == row["layer"]) & (features.time_step == row["time_step"])
            np.testing.assert_array_equal(features[row["presentation"], here, k], np.float32(row["values"]))
            assert set(features.window_start_ms.values[here]) == {row["window_start_ms"]}
    assert not list(folder.glob(".*"))


def test_worker_processes_give_the_same_values(folder, model):
    rows = ["film.mp4,,", "flash.mp4,,", "broken.mp4,,", "film.mp4,0.2,1"]
    alone, records = features_of(folder, model, *rows, stride=0.2)
    assert [r.status for r in records] == ["ok", "ok", "failed", "ok"]
    assert "cannot be opened as a video" in records[2].reason
    out = folder / "workers.nc"
    stimulus_features(table_of(folder, *rows), model, out, stride=0.2, workers=2)
    with load_stimulus_features(out) as features:
        xarray.testing.assert_identical(features.load(), alone)


def test_the_command(folder, tmp_path, capsys, model):
    vie.save_pretrained(model, tmp_path / "weights")
    table = table_of(folder, "film.mp4,,", "broken.mp4,,")
    words = ["neuro", "features", model.model_name, table, "--weights", tmp_path / "weights", "-o", tmp_path / "f.nc"]
    assert main([*map(str, words), "--layers", "encode_3", "--workers", "0", "--project", "4"]) == 3
    printed = capsys.readouterr()
    assert f"1 ok, 0 damaged, 1 failed; 4 time bins in {tmp_path / 'f.nc'}" in printed.out
    assert "failed: presentation 2 of broken.mp4: cannot be opened as a video" in printed.err
    with load_stimulus_features(tmp_path / "f.nc") as features:
        assert features.shape == (2, 4, 4)
        assert features.attrs["model"] == model.model_name


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["video", "film.mp4"], ValueError, "must have a column stimulus, got video"),
        (["stimulus"], ValueError, "has no rows"),
        (["stimulus,onset", "film.mp4,soon"], ValueError, "line 2: onset must be a number of seconds >= 0, got 'soon'"),
        (["stimulus,duration", "film.mp4,0"], ValueError, "line 2: duration must be > 0"),
        (["stimulus,onset", ",1"], ValueError, "line 2: the stimulus is empty"),
        (["stimulus", "film.mp4", "none.mp4"], FileNotFoundError, "line 3: there is no video"),
    ],
)
def test_bad_tables(folder, lines, error, message):
    path = folder / "bad.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(error, match=message):
        read_stimuli(path)


def test_bad_settings(folder, model):
    table = table_of(folder, "film.mp4,,")
    for settings, message in (
        ({"pool": "max"}, "pool must be 'avg', 'space' or None"),
        ({"project": 0}, "project must be >= 1"),
        ({"layers": ["encode_99"]}, "encode_99"),
        ({"stride": 0.0}, "stride must be > 0 seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            stimulus_features(table, model, folder / "x.nc", **settings)
    with pytest.raises(ValueError, match=r"must be a .nc or .parquet file, got .*x.csv"):
        stimulus_features(table, model, folder / "x.csv")
    with pytest.raises(FileNotFoundError, match="no stimulus table"):
        read_stimuli(folder / "none.csv")
