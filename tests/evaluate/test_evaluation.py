"""Evaluations without training: nearest neighbours, names, and what they leave."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from support.runs import start

import vie_models as vie
from vie_models.bank.voting import votes
from vie_models.cli import main
from vie_models.evaluate.predict import load_predictor
from vie_models.evaluate.protocols import Evaluation, evaluate_knn, evaluate_logistic, memory_bank
from vie_models.evaluate.results import Results, bootstrap_interval


def evaluation(corpus, out, **changes) -> Evaluation:
    values = {
        "model": "vie_single_tiny",
        "train_list": corpus / "train",
        "val_list": corpus / "val",
        "root": corpus,
        "workers": 0,
    }
    return Evaluation(**{**values, "out": out, "device": "cpu", **changes})


def test_knn_equals_a_naive_one(corpus, tmp_path, pretrained):
    results = evaluate_knn(evaluation(corpus, tmp_path, weights=pretrained, neighbours=3))
    model = vie.from_pretrained(pretrained)
    extractor = vie.Extractor(model, clips=5, workers=0)

    def embeddings(numbers):
        return [extractor.features(corpus / f"{i}.mp4")[0]["embedding"] for i in numbers]

    bank = np.stack([e.mean(0) / np.linalg.norm(e.mean(0)) for e in embeddings(range(20))])
    for row, clips in zip(results.top["knn"].tolist(), embeddings(range(20, 24)), strict=True):
        scores = np.zeros(3)
        for clip in clips:
            dots = bank @ clip
            for i in np.argsort(-dots)[:3]:
                scores[i % 3] += np.exp(dots[i] / 0.07)
        assert scores[row[0]] == pytest.approx(scores.max(), rel=1e-4)  # this net's embeddings are close to each other


def test_knn_with_the_bank_of_the_weights(corpus, tmp_path, pretrained):
    results = evaluate_knn(evaluation(corpus, tmp_path, weights=pretrained, train_list=None, bank=True))
    training = json.loads((pretrained / "training.json").read_text())
    assert results.hits("knn").mean() == training["validation"]["knn_top1"]


def test_unreadable_videos_are_counted(corpus, tmp_path, pretrained):
    folder = tmp_path / "videos"
    shutil.copytree(corpus, folder)
    (folder / "3.mp4").write_bytes(b"no video")
    (folder / "21.mp4").unlink()
    results = evaluate_knn(evaluation(folder, tmp_path / "out", weights=pretrained))
    assert results.top["knn"][1].unique().tolist() == [-1]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["unread"] == 1
    for i in range(20):
        (folder / f"{i}.mp4").unlink()
    with pytest.raises(ValueError, match=r"none of the videos of .* can be read"):
        evaluate_knn(evaluation(folder, tmp_path / "out", weights=pretrained))


def test_predict_names_videos(corpus, pretrained, capsys):
    """The votes of voting.py on the bank, as shares, with the names of the classes."""
    videos = [corpus / "20.mp4", corpus / "22.mp4"]
    found = {one.path: one.names for one in load_predictor("vie_single_tiny", pretrained).predict(videos)}
    rows, labels = memory_bank("vie_single_tiny", pretrained)
    model = vie.from_pretrained(pretrained)
    names = ["red things", "green things", "blue things"]
    for path, ours in found.items():
        clips = torch.from_numpy(vie.Extractor(model, clips=5).features(path)[0]["embedding"])
        near = (clips @ rows.T).topk(10)
        scores = votes(near.values, labels[near.indices], 3).mean(0)
        expected = {names[i]: float(score / scores.sum()) for i, score in enumerate(scores) if score > 0}
        assert dict(ours) == pytest.approx(expected, rel=1e-4)
        assert [share for _, share in ours] == sorted(expected.values(), reverse=True)
    assert main(["predict", str(corpus / "20.mp4"), "--model", "vie_single_tiny", "--weights", str(pretrained)]) == 0
    said = capsys.readouterr()
    assert f"{corpus / '20.mp4'}: {found[str(corpus / '20.mp4')][0][0]} " in said.out
    assert "the bank has 20 rows and knows 3 names: red things, green things, blue things" in said.err


def test_predict_says_how_near_the_bank_is(corpus, pretrained, capsys, tmp_path):
    """A training video is like the bank; one whose embedding is far from all rows is not, and is said not to be."""
    predictor = load_predictor("vie_single_tiny", pretrained)
    dots = predictor.rows @ predictor.rows.T - 2 * torch.eye(len(predictor.rows))
    assert predictor.nearest == pytest.approx(float(dots.amax(1).quantile(0.05)), abs=1e-5)
    clips = torch.from_numpy(vie.Extractor(predictor.model, clips=5).features(corpus / "20.mp4")[0]["embedding"])
    axis = torch.nn.functional.normalize(clips.mean(0), dim=0)
    for rows, like in ((axis.repeat(4, 1), True), (-axis.repeat(4, 1), False)):
        other = dataclasses.replace(predictor, rows=rows, labels=torch.zeros(4, dtype=torch.int64))
        (found,) = other.predict([corpus / "20.mp4"])
        assert found.nearest == pytest.approx(float((clips @ rows[0]).mean()), abs=1e-5)
        assert found.is_like_bank is (found.nearest >= 1 - 1e-6 or (like and found.nearest >= other.nearest))
        assert other.known == ["red things"]
    assert found.is_like_bank is False


def test_predict_says_what_it_cannot_do(corpus, tmp_path, pretrained, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    arguments = ["predict", str(tmp_path / "no.mp4"), str(corpus / "20.mp4"), "--model", "vie_single_tiny"]
    assert main([*arguments, "--weights", str(pretrained), "--json"]) == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["reason"]
    assert not lines[0]["names"]
    assert lines[1]["names"]
    without = tmp_path / "without"
    shutil.copytree(pretrained, without)
    (without / "bank.safetensors").unlink()
    assert main([*arguments, "--weights", str(without)]) == 2
    assert "has no bank.safetensors" in capsys.readouterr().err
    arguments[arguments.index("vie_single_tiny")] = "vie_slow"
    assert main(arguments) == 1
    assert "nobody has published" in capsys.readouterr().err


def test_results_are_what_they_say():
    labels = torch.tensor([0, 0, 1, 2])
    top = torch.tensor([[0, 1], [1, 0], [1, 2], [-1, -1]])
    results = Results({"task": "knn"}, ["a", "b", "c", "d"], labels, {"knn": top}, ["cat", "dog", "eel"])
    found = results.to_dict()
    assert found["unread"] == 1
    assert found["protocols"]["knn"]["top1"] == 0.5
    assert found["protocols"]["knn"]["top5"] == 0.75
    assert found["protocols"]["knn"]["per_class"] == {"cat": 0.5, "dog": 1.0, "eel": 0.0}
    assert found["videos"][1] == {"path": "b", "label": 0, "predictions": {"knn": [1, 0]}}


def test_the_interval_is_a_bootstrap():
    """Resampling videos one by one gives the same interval."""
    hits = np.arange(60) < 21
    draws = np.random.default_rng(1).integers(0, 60, (20_000, 60))
    expected = np.quantile(hits[draws].mean(1), [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(hits), expected, atol=0.02)


def test_ranks_evaluate_together(corpus, tmp_path, pretrained):
    """Each reads its share; the results are those of one process."""
    alone = evaluate_knn(evaluation(corpus, tmp_path / "alone", weights=pretrained)).to_dict()
    arguments = ["eval", "knn", "vie_single_tiny", "--weights", str(pretrained), "--train-list", str(corpus / "train")]
    arguments += ["--val-list", str(corpus / "val"), "--root", str(corpus), "--workers", "0", "-o", str(tmp_path / "several")]
    process = start(arguments, ranks=2, command=())
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    several = json.loads((tmp_path / "several" / "results.json").read_text())
    assert several["videos"] == alone["videos"]
    assert several["weights"] == alone["weights"]


def test_a_network_of_colours_is_read_out(corpus, tmp_path):
    """Red, green and blue noise: pooled features of any network tell them apart."""
    results = evaluate_logistic(evaluation(corpus, tmp_path))
    assert results.hits("logistic").all()
