"""Evaluations without training: nearest neighbors, names, and what they leave."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from support.runs import start, transfer_config

import vie_models as vie
from vie_models.bank.voting import votes
from vie_models.cli import main
from vie_models.evaluate.predict import load_predictor, measured_names
from vie_models.evaluate.protocols import Evaluation, evaluate_knn, evaluate_logistic, memory_bank
from vie_models.evaluate.results import Results, bootstrap_interval
from vie_models.train import Run
from vie_models.weights.cache import shipped_folder
from vie_models.weights.catalog import CATALOG


def evaluation(corpus, out, **changes) -> Evaluation:
    values = {
        "model": "vie_single_tiny",
        "train_list": corpus / "train",
        "val_list": corpus / "val",
        "root": corpus,
        "workers": 0,
    }
    return Evaluation(**{**values, "out": out, "device": "cpu", **changes})


@pytest.mark.parametrize("placement", ["even", "paper"])
def test_knn_equals_a_naive_one(corpus, tmp_path, placement):
    """With a trained net: one of a few steps embeds all videos so alike that rounding chooses the neighbors."""
    results = evaluate_knn(evaluation(corpus, tmp_path, weights="vie_single_tiny.natural", neighbors=3, placement=placement))
    model = vie.from_pretrained("vie_single_tiny.natural")
    extractor = vie.Extractor(model, clips=5, placement=placement, workers=0)

    def embeddings(numbers):
        return [extractor.features(corpus / f"{i}.mp4")[0]["embedding"] for i in numbers]

    bank = np.stack([e.mean(0) / np.linalg.norm(e.mean(0)) for e in embeddings(range(20))])
    for row, clips in zip(results.top["knn"].tolist(), embeddings(range(20, 24)), strict=True):
        scores = np.zeros(3)
        for clip in clips:
            dots = bank @ clip
            for i in np.argsort(-dots)[:3]:
                scores[i % 3] += np.exp(dots[i] / 0.07)
        assert row[0] == scores.argmax()


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
    with pytest.raises(ValueError, match=r"none of the 20 videos of .*train can be read.*--root"):
        evaluate_knn(evaluation(folder, tmp_path / "out", weights=pretrained))


def test_test_videos_that_were_learned_from_are_warned_of(corpus, tmp_path, pretrained):
    """In evaluations and in training."""
    config = evaluation(corpus, tmp_path / "knn", weights=pretrained, train_list=corpus / "val")
    with pytest.warns(UserWarning, match="4 of the 4 videos"):
        evaluate_knn(config)
    with pytest.warns(UserWarning, match="4 of the 4 videos"):
        Run(transfer_config(corpus, tmp_path / "run", objective="supervised", train_list=corpus / "val"))


def test_predict_names_videos(corpus, pretrained, capsys):
    """The votes of voting.py on the bank, as shares of all votes, with the names of the classes."""
    videos = [corpus / "20.mp4", corpus / "22.mp4"]
    predictor = load_predictor("vie_single_tiny", pretrained)
    found = {one.path: one for one in predictor.predict(videos, agreement=0)}
    rows, labels = memory_bank("vie_single_tiny", pretrained)
    model = vie.from_pretrained(pretrained)
    names = ["red things", "green things", "blue things"]
    for path, ours in found.items():
        clips = torch.from_numpy(vie.Extractor(model, clips=5).features(path)[0]["embedding"])
        near = (clips @ rows.T).topk(10)
        scores = votes(near.values, labels[near.indices], 3).mean(0)
        expected = {names[i]: float(score / scores.sum()) for i, score in enumerate(scores) if score > 0}
        assert dict(ours.names) == pytest.approx(expected, rel=1e-4)
        assert [share for _, share in ours.names] == sorted(expected.values(), reverse=True)
        assert ours.nearest == pytest.approx(float(near.values[:, 0].mean()), abs=1e-5)
    arguments = ["predict", "vie_single_tiny", str(corpus / "20.mp4"), "--weights", str(pretrained), "--device", "cpu"]
    assert main([*arguments, "--agreement", "0"]) == 0
    said = capsys.readouterr()
    assert f"{corpus / '20.mp4'}: {found[str(corpus / '20.mp4')].names[0][0]} " in said.out
    assert "the bank has 20 rows and knows 3 names: red things, green things, blue things" in said.err


def test_predict_names_nothing_without_agreement(corpus, pretrained, capsys):
    """Rows without a name vote, too; below the least agreement nothing is named."""
    video = corpus / "20.mp4"
    predictor = load_predictor("vie_single_tiny", pretrained)
    (found,) = predictor.predict([video], agreement=0)
    assert found.agreement == found.names[0][1] < predictor.least() == 0.9
    (unsure,) = predictor.predict([video])
    assert not unsure.names
    assert unsure.agreement == found.agreement
    (exact,) = predictor.predict([video], agreement=found.agreement)
    assert exact.names[0] == found.names[0]
    best = predictor.names.index(found.names[0][0])
    nameless = dataclasses.replace(predictor, labels=torch.where(predictor.labels == best, -1, predictor.labels))
    (rest,) = nameless.predict([video], agreement=0)
    assert sum(share for _, share in rest.names) == pytest.approx(1 - found.agreement, abs=1e-5)
    alike = dataclasses.replace(predictor, labels=torch.zeros_like(predictor.labels))
    assert next(alike.predict([video])).names == [("red things", pytest.approx(1))]
    with pytest.raises(ValueError, match="from 0 to 1, got 40"):
        next(predictor.predict([video], agreement=40))

    arguments = ["predict", "vie_single_tiny", str(video), "--weights", str(pretrained)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert not any(name in said.out for name in predictor.names)
    assert f"{100 * found.agreement:.0f} %" in said.out
    assert "90 %" in said.err
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["names"] == []


def test_the_least_agreement_is_that_of_the_card(corpus, pretrained, tmp_path):
    """It holds for the neighbors and the temperature that it was measured with."""
    shutil.copytree(pretrained, tmp_path / "set")
    facts = {"names": {"agreement": 0.25}}
    (tmp_path / "set" / "README.md").write_text(f"---\n{json.dumps({'vie_models': facts})}\n---\n# A card\n")
    predictor = load_predictor("vie_single_tiny", tmp_path / "set")
    assert predictor.least() == 0.25
    assert predictor.least(neighbors=20) == predictor.least(temperature=0.1) == 0.9
    (found,) = predictor.predict([corpus / "20.mp4"])
    assert all(share >= 0.25 for _, share in found.names)
    assert found.names


def test_the_least_agreement_of_shipped_banks_was_measured():
    for name, record in CATALOG.items():
        if not record.url:
            assert 0.5 < measured_names(shipped_folder(record))["agreement"] < 1, name


def test_predict_says_what_it_cannot_do(corpus, tmp_path, pretrained, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    arguments = ["predict", "vie_single_tiny", str(tmp_path / "no.mp4"), str(corpus / "20.mp4")]
    assert main([*arguments, "--weights", str(pretrained), "--json"]) == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["reason"]
    assert not lines[0]["names"]
    assert lines[1]["agreement"] > 0
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


def test_a_network_of_colors_is_read_out(corpus, tmp_path):
    """Red, green and blue noise: pooled features of any network tell them apart."""
    results = evaluate_logistic(evaluation(corpus, tmp_path))
    assert results.hits("logistic").all()
