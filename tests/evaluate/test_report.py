"""`vie report`: which runs share a row, and where the published numbers come from."""

import json

import pytest

from vie_models import cli
from vie_models.evaluate.report import PUBLISHED, read_rows, report
from vie_models.failures import NothingReadError
from vie_models.weights.catalog import CATALOG


def write(folder, top1, weights=None, training=None, **settings):
    """Writes what an evaluation or a run leaves."""
    folder.mkdir(parents=True)
    if training is not None:
        weights = folder.parent / "weights" / weights
        weights.mkdir(parents=True)
        (weights / "training.json").write_text(json.dumps({"step": training.pop("steps"), "settings": training}))
    values = {"val_list": "toys/val.txt", "weights": weights and str(weights), "seed": 0, "out": str(folder), **settings}
    protocols = {"knn": {"top1": top1, "top1_interval": [top1 - 0.1, top1 + 0.1]}}
    videos = [{"label": i} for i in range(3)]
    content = {"task": "vie", "model": "vie_single_tiny", "weights": str(folder), "settings": values, "protocols": protocols}
    (folder / "results.json").write_text(json.dumps({**content, "num_videos": 3, "videos": videos}))


def test_only_runs_that_differ_in_the_seed_alone_share_a_row(tmp_path):
    write(tmp_path / "a", 0.5, seed=0, batch_size=64, steps=10, workers=1)
    write(tmp_path / "b", 0.7, seed=1, batch_size=64, steps=10, workers=8)
    write(tmp_path / "c", 0.9, seed=2, batch_size=32, steps=10)
    write(tmp_path / "d", 0.9, seed=2, batch_size=64, steps=20)
    rows = read_rows([tmp_path])
    assert sorted(row.top1 for row in rows) == [[0.5, 0.7], [0.9], [0.9]]
    text = report([tmp_path], tmp_path / "report.md")
    assert "60.0 ± 14.1 (2 runs)" in text
    assert "batch_size=32, steps=10" in text
    assert "batch_size=64, steps=20" in text


def test_weights_are_the_same_but_for_the_seed_if_their_training_was(tmp_path):
    for seed, steps in ((0, 5), (1, 5), (2, 9)):
        write(tmp_path / str(seed), 0.5, f"run-{seed}", {"seed": seed, "steps": steps, "lr": 0.1, "max_failures": 100})
    assert sorted(len(row.top1) for row in read_rows([tmp_path])) == [1, 2]
    for seed in (3, 4):  # nobody knows how these were trained
        write(tmp_path / str(seed), 0.5, f"run-{seed}")
    assert sorted(len(row.top1) for row in read_rows([tmp_path])) == [1, 1, 1, 2]


def test_published_numbers_come_when_asked_for_and_stand_once(tmp_path, capsys):
    write(tmp_path / "a", 0.5)
    assert cli.main(["report", str(tmp_path), "-o", str(tmp_path / "r.md")]) == 0
    assert "published" not in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path), "-o", str(tmp_path / "r.md"), "--published"]) == 0
    said = capsys.readouterr().out
    metrics = {metric.value: metric for metric in CATALOG["vie_3dresnet.k400"].metrics}
    assert len(PUBLISHED) == 7
    for (_, dataset, _), (top1, source) in PUBLISHED.items():
        assert dataset in metrics[top1].name
        assert f"{top1:.1f} ({source})" in said


def test_what_is_no_result_is_said(tmp_path, capsys):
    with pytest.raises(NothingReadError):
        read_rows([tmp_path])
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match=r"results\.json is not the result"):
        read_rows([tmp_path])
    assert cli.main(["report", str(tmp_path / "none")]) == 2
