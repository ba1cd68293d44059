"""Probes: the fit, the threshold of their names, their folder, and what predicts with them."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from support.runs import transfer_config

import vie_models as vie
from vie_models.cli import main
from vie_models.datasets.lists import read_list
from vie_models.evaluate.logistic import calibrated, fit, lowest_confidence
from vie_models.evaluate.predict import load_predictor
from vie_models.evaluate.probe import fit_probe, groups_of_list, load_probe
from vie_models.evaluate.settings import Probing
from vie_models.train import export_run, pretrain
from vie_models.weights import WeightsError

pytest.importorskip("sklearn")


def blobs(classes: int, groups: int, seed: int = 0, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features [N, 8] of four videos of each group of each class; a group of a class has a place of its own."""
    random = np.random.default_rng(seed)
    x, labels, names = [], [], []
    for label in range(classes):
        center = random.normal(size=8) * 3
        for group in range(groups):
            place = center + random.normal(size=8) * spread
            x += [place + random.normal(size=8) * 0.1 for _ in range(4)]
            labels += [label] * 4
            names += [f"{label} {group}"] * 4
    return np.stack(x), np.array(labels), names


@pytest.mark.parametrize("classes", [2, 3])
def test_the_fit_is_that_of_scikit_learn(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels, groups = blobs(classes, 4)
    found = fit(x, labels, groups, classes)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=found.penalty, max_iter=2000)).fit(x, labels)
    np.testing.assert_allclose(found.line.probabilities(x), expected.predict_proba(x), atol=1e-4)
    assert found.penalty == min(found.losses, key=lambda c: found.losses[c])


def test_no_group_is_divided():
    """Features that tell groups, and nothing of classes: with groups divided between folds, all answers would be right."""
    random = np.random.default_rng(0)
    names = [str(group) for group in range(20) for _ in range(4)]
    x = np.repeat(random.normal(size=(20, 32)), 4, axis=0)
    labels = np.repeat(np.arange(20) % 2, 4)
    assert fit(x, labels, names, 2).accuracy < 0.75
    assert fit(x, labels, [str(i) for i in range(80)], 2).accuracy > 0.9


def test_classes_without_training_videos_are_never_named():
    x, labels, groups = blobs(3, 3)
    shares = fit(x, labels * 2, groups, 6).line.probabilities(x)
    assert shares.shape == (len(x), 6)
    assert (shares[:, [1, 3, 5]] == 0).all()


@pytest.mark.parametrize(
    ("labels", "groups"), [([0, 0, 1, 1], ["a", "a", "b", "b"]), ([0, 0, 0, 0], list("abcd"))], ids=["groups", "classes"]
)
def test_what_cannot_be_held_out_is_said(labels, groups):
    with pytest.raises(ValueError, match=r"cross-validation needs .* got [12] classes"):
        fit(np.eye(4), np.array(labels), groups, 2)


def test_the_lowest_confidence_is_what_a_loop_finds():
    random = np.random.default_rng(0)
    confidence = random.random(200).round(2)
    right = random.random(200) < confidence
    weights = random.random(200)

    def precision(threshold):
        given = confidence >= threshold
        return (weights * right)[given].sum() / weights[given].sum()

    lowest = lowest_confidence(confidence, right, weights, precision=0.8, least=10)
    higher = [t for t in np.unique(confidence) if (confidence >= t).sum() >= 10]
    good = [t for t in higher if all(precision(u) >= 0.8 for u in higher if u >= t)]
    assert lowest == pytest.approx(min(good), abs=1e-3)
    assert lowest_confidence(confidence, np.zeros(200, bool), weights, precision=0.8, least=10) == np.inf


def test_the_threshold_counts_known_and_unknown_videos_the_same():
    known, right = np.linspace(0.5, 1, 100), np.ones(100, bool)
    found = calibrated(known, right, np.linspace(0, 0.6, 10))
    weights_right = found.right / (found.right + found.unknown_named)
    assert found.precision == pytest.approx(weights_right)
    assert found.precision >= 0.8
    assert calibrated(known, right, np.zeros(0)).unknown_named is None


def test_where_the_share_cannot_be_reached_the_highest_counts():
    """Of the 20 surest names every second is right; of all others none."""
    known = np.linspace(1, 0.2, 100)
    right = (np.arange(100) % 2 == 0) & (np.arange(100) < 20)
    found = calibrated(known, right, np.full(100, 0.1))
    assert found.asked == 0.8
    assert found.precision == pytest.approx(0.55, abs=0.06)
    assert ((known >= found.confidence).sum()) <= 20
    assert found.unknown_named == 0


def test_groups_are_those_of_the_lists(corpus, tmp_path):
    videos = read_list(corpus / "train", corpus)
    assert len(set(groups_of_list(videos, corpus))) == 20
    assert groups_of_list(videos, corpus, r"^(\d)")[9:12] == ["9", "1", "1"]
    with pytest.raises(ValueError, match=r"0\.mp4"):
        groups_of_list(videos, corpus, r"subject\d+")


@pytest.fixture(scope="module")
def probing(corpus, tmp_path_factory):
    """The settings of a probe of colors, with names, that was fitted."""
    folder = tmp_path_factory.mktemp("probing")
    for name in ("train", "val"):
        shutil.copy(corpus / name, folder / name)
    (folder / "classes.txt").write_text("red things\ngreen things\nblue things\n")
    config = Probing(
        model="vie_single_tiny",
        train_list=folder / "train",
        val_list=folder / "val",
        root=corpus,
        out=folder / "probe",
        clips=2,
        workers=0,
        device="cpu",
    )
    fit_probe(config)
    return config


def test_a_probe_names_colors(corpus, probing, capsys, tmp_path):
    """Pooled features of any network tell red, green and blue noise apart."""
    results = json.loads((probing.out / "results.json").read_text())
    assert results["protocols"]["logistic"]["top1"] == 1
    words = ["predict", *(str(corpus / f"{i}.mp4") for i in range(20, 24)), "--weights", str(probing.out), "--device", "cpu"]
    assert main([*words, "--workers", "0", "--threshold", "0", "--json", "-o", str(tmp_path / "names.csv")]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ["red things", "green things", "blue things"]
    for one, number, of_test in zip(found, range(20, 24), results["videos"], strict=True):
        assert one["names"][0][0] == names[number % 3]
        assert one["probabilities"][names[number % 3]] == pytest.approx(of_test["scores"]["logistic"][0], abs=1e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert len(one["clips"]) == 2
    rows = list(csv.DictReader((tmp_path / "names.csv").open()))
    assert [row["clip"] for row in rows] == ["", "0", "1"] * 4
    assert [row["name"] for row in rows[::3]] == [names[number % 3] for number in range(20, 24)]
    for row, clip in zip(rows[1:3], found[0]["clips"], strict=True):
        assert {name: float(row[name]) for name in names} == pytest.approx(clip["probabilities"])
        assert (float(row["start"]), float(row["end"])) == (clip["start"], clip["end"])


def test_predictions_of_videos_that_fail_keep_their_row(corpus, probing, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    words = ["predict", str(tmp_path / "no.mp4"), str(corpus / "20.mp4"), "--weights", str(probing.out), "--workers", "0"]
    for name in ("names.csv", "names.json"):
        assert main([*words, "--device", "cpu", "-o", str(tmp_path / name)]) == 3
    rows = list(csv.DictReader((tmp_path / "names.csv").open()))
    assert [bool(row["reason"]) for row in rows] == [True, False, False, False]
    assert [bool(one["reason"]) for one in json.loads((tmp_path / "names.json").read_text())] == [True, False]


def test_a_probe_is_its_folder(corpus, probing, tmp_path):
    """It can be moved, and nothing in it is a pickle; a changed encoder is refused."""
    moved = shutil.copytree(probing.out, tmp_path / "moved")
    assert {path.suffix for path in moved.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".png", ".csv"}
    ours, theirs = load_probe(probing.out), load_probe(moved)
    values = torch.randn(3, len(ours.line.mean))
    assert torch.equal(ours.probabilities(values), theirs.probabilities(values))
    assert ours.threshold == theirs.threshold
    assert ours.model.clip_spec == vie.create_model("vie_single_tiny").clip_spec
    vie.save_pretrained(vie.create_model("vie_single_tiny", num_classes=0), moved / "encoder")
    with pytest.raises(WeightsError, match="encoder"):
        load_probe(moved)
    (moved / "probe.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"probe\.json"):
        load_probe(moved)


def test_a_probe_of_a_layer(corpus, probing, tmp_path):
    fit_probe(dataclasses.replace(probing, layer="encode_3", out=tmp_path / "probe"))
    predictor = load_predictor(tmp_path / "probe")
    (found,) = predictor.predict([corpus / "20.mp4"], threshold=0, workers=0)
    arrays, _ = vie.Extractor(predictor.model, layers=["encode_3"], clips=2, workers=0).features(corpus / "20.mp4")
    of_video = predictor.probe.probabilities(torch.from_numpy(arrays["encode_3"]).mean(0))
    assert list(found.probabilities.values()) == pytest.approx(of_video.tolist(), abs=1e-5)


def test_a_fine_tuned_export_names_videos(corpus, probing, tmp_path):
    """As the run's own validation."""
    config = transfer_config(corpus, tmp_path / "run", train_list=probing.train_list, val_list=probing.val_list, steps=3)
    pretrain(config, progress=False)
    export_run(tmp_path / "run", tmp_path / "weights")
    predictor = load_predictor(tmp_path / "weights")
    assert predictor.names == ["red things", "green things", "blue things"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    videos = [corpus / f"{i}.mp4" for i in range(20, 24)]
    found = {one.path: one for one in predictor.predict(videos, threshold=0, workers=0)}
    for video in results["videos"]:
        best = found[video["path"]].names[0]
        assert best[0] == predictor.names[video["predictions"]["supervised"][0]]
        assert best[1] == pytest.approx(video["scores"]["supervised"][0], abs=1e-5)
    with pytest.raises(ValueError, match="neighbors"):
        load_predictor(tmp_path / "weights", neighbors=3)


def test_a_folder_that_gives_no_names_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no weights in {tmp_path}: give the folder of a probe"):
        load_predictor(tmp_path)
