"""Clusters of rows, and the boundaries of a video."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.features import write_features
from support.scenes import scene
from support.videos import write_video

from vie_models.cli import main
from vie_models.search import build_index, cluster, segment
from vie_models.search.segment_picture import _heat, draw_segments
from vie_models.search.segments import novelty_of, peaks_of


def test_clusters_are_the_groups_of_rows(tmp_path):
    draws = np.random.default_rng(0)
    centers = np.eye(8, dtype=np.float32)[:3]
    sizes = (40, 25, 10)
    for group, size in enumerate(sizes):
        for part in range(5):
            rows = centers[group] + 0.1 * draws.normal(size=(size // 5, 8))
            write_features(tmp_path, [f"{group}-{part}.mp4"], arrays={"embedding": rows.astype(np.float32)})
    index = build_index(tmp_path)
    found = cluster(index, 3, medoids=4, seed=1)
    assert found.sizes.tolist() == list(sizes)
    assert found.videos.tolist() == [5, 5, 5]
    assert [index.videos[number].name[0] for number in index.video] == [str(label) for label in found.labels]
    np.testing.assert_allclose(np.linalg.norm(found.centers, axis=1), 1, rtol=1e-5)
    for number, hits in enumerate(found.medoids):
        assert len({hit.name for hit in hits}) == 4  # one of a video
        assert hits[0].similarity == pytest.approx(float((index.rows[found.labels == number] @ found.centers[number]).max()))
    many = cluster(index, 3, medoids=12, seed=1).medoids[2]
    assert len({(hit.name, hit.start) for hit in many}) == 10  # all there are
    for k in (0, 76):
        with pytest.raises(ValueError, match=f"k must be from 1 to the 75 rows of the index, got {k}"):
            cluster(index, k)


def test_a_long_video_has_no_more_say_than_a_short_one(tmp_path):
    """Three directions in one long video, four short videos with a direction each: the five clusters are these videos."""
    draws = np.random.default_rng(0)
    axes = np.eye(8, dtype=np.float32)
    near = [axes[0] + 0.4 * axes[5 + part] for part in range(3)]
    long = np.concatenate([center + 0.02 * draws.normal(size=(100, 8)) for center in near])
    write_features(tmp_path, ["long.mp4"], arrays={"embedding": long.astype(np.float32)})
    for number in range(1, 5):
        rows = axes[number] + 0.02 * draws.normal(size=(6, 8))
        write_features(tmp_path, [f"{number}.mp4"], arrays={"embedding": rows.astype(np.float32)})
    index = build_index(tmp_path)
    found = [found for seed in range(20) if (found := cluster(index, 5, seed=seed)).sizes.tolist() == [300, 6, 6, 6, 6]]
    assert found
    assert np.isnan(found[0].likeness).all(), "each has one video"
    assert cluster(index, 1).likeness[0] < 0.1


def test_the_command_writes_a_table_and_sheets(library, tmp_path, capsys):
    assert main(["cluster", str(library / "features"), "-k", "4", "-o", str(tmp_path / "out")]) == 0
    assert "cluster  clips  videos" in capsys.readouterr().out
    with (tmp_path / "out" / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42
    assert {row["cluster"] for row in rows} == set("0123")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        *(f"cluster-00{i}.png" for i in range(4)),
        "clusters.png",
        "map.png",
    ]
    assert main(["cluster", str(library / "features"), "-k", "1", "-o", str(tmp_path / "out")]) == 0
    left = sorted(path.name for path in (tmp_path / "out").glob("cluster*.png"))
    assert left == ["cluster-000.png", "clusters.png"]  # none of another clustering is left


def naive_novelty(similarity, radius):
    """Foote's checkerboard, cell by cell."""
    moments = len(similarity)
    found = np.zeros(moments)
    for m in range(2, moments - 1):
        sums, weights = np.zeros(3), np.zeros(3)
        for i in range(max(m - radius, 0), min(m + radius, moments)):
            for j in range(max(m - radius, 0), min(m + radius, moments)):
                weight = np.exp(-(((i - m + 0.5) ** 2 + (j - m + 0.5) ** 2) / (2 * (radius / 2) ** 2)))
                kind = (0 if i < m else 1) if (i < m) == (j < m) else 2
                sums[kind] += weight * similarity[i, j]
                weights[kind] += weight
        past, future, across = sums / weights
        found[m] = (past + future) / 2 - across
    return found


def test_novelty_is_footes_checkerboard():
    rows = np.random.default_rng(0).normal(size=(30, 8))
    similarity = np.corrcoef(rows)
    np.testing.assert_allclose(novelty_of(similarity, 6), naive_novelty(similarity, 6), atol=1e-6)
    blocks = np.kron(np.eye(2), np.ones((10, 10)))
    novelty = novelty_of(blocks, 4)
    assert novelty.argmax() == 10
    assert novelty[10] == pytest.approx(1)
    assert peaks_of(novelty, 4, 0.1).tolist() == [10]
    assert peaks_of(novelty_of(np.ones((20, 20)), 4), 4, 0.1).tolist() == []


def test_the_cut_between_two_scenes(tmp_path, model, capsys):
    """Rendered scenes that join at 8 s."""
    video = write_video(tmp_path / "two.mp4", np.concatenate([scene(3, 200), scene(8, 200)]), codec="libx264")
    found = segment(video, model)
    assert found.similarity.shape == (len(found.times),) * 2
    assert set(found.pathways) == {"static", "dynamic"}
    np.testing.assert_allclose((found.pathways["static"] + found.pathways["dynamic"]) / 2, found.similarity, atol=1e-3)
    assert len(found.boundaries) == 1
    assert abs(found.boundaries[0] - 8) <= 0.5
    assert found.segments == [(0.0, found.boundaries[0]), (found.boundaries[0], pytest.approx(16))]
    picture = Image.open(draw_segments(found, tmp_path / "s.png"))
    assert picture.width > 1000
    assert main(["segment", "vie_twopathway_tiny", str(video), "-o", str(tmp_path / "t.png"), "--json"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["start"] for line in lines] == [0.0, pytest.approx(found.boundaries[0], abs=1e-3)]
    assert (tmp_path / "t.png").exists()


def test_a_video_of_hours_is_drawn_in_little_memory():
    similarity = np.ones((3000, 3000), np.float32)
    similarity[:1500, 1500:] = similarity[1500:, :1500] = 0
    tracemalloc.start()
    pixels = np.asarray(_heat(similarity, 0.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < similarity.nbytes
    assert (pixels[100, 100] == pixels[400, 400]).all()
    assert (pixels[100, 400] == (68, 1, 84)).all()


def test_one_scene_is_one_segment(tmp_path, model):
    video = write_video(tmp_path / "one.mp4", np.repeat(scene(3, 1), 150, axis=0), codec="libx264")
    assert segment(video, model).boundaries.tolist() == []
    short = write_video(tmp_path / "short.mp4", scene(3, 20), codec="libx264")
    found = segment(short, model)
    assert found.segments == [(0.0, pytest.approx(0.8))]
    assert draw_segments(found, tmp_path / "short.png").exists()
    with pytest.raises(ValueError, match="threshold must be > 0"):
        segment(short, model, threshold=0)
