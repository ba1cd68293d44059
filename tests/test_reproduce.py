"""What reproduce/ measures with: splits, votes, scores, and the commands of its runs."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from reproduce import names
from reproduce.duplicates import SAME, Copy, scored, source_of
from reproduce.footage import check_placement
from reproduce.footage_close import shares
from reproduce.footage_over_time import cosines
from reproduce.footage_tests import Split, Videos, knn_predictions, logistic_predictions, read_sets, read_splits, score
from reproduce.footage_training import RUNS
from reproduce.footage_world import MAX_PER_CLASS, PACKS, read_table, write_lists
from vie_models.cli import parse
from vie_models.search import Duplicate, Hit
from vie_models.weights.catalog import CATALOG


def fold(known, asked):
    return np.array(known), np.array(asked)


def test_results_of_two_placements_are_not_mixed(tmp_path):
    check_placement(tmp_path / "new", "even")
    check_placement(tmp_path / "new", "even")
    with pytest.raises(SystemExit, match="placed by 'even', not 'paper'"):
        check_placement(tmp_path / "new", "paper")
    (tmp_path / "old" / "vie_single_tiny").mkdir(parents=True)
    (tmp_path / "old" / "vie_single_tiny" / "ucf.npz").touch()
    with pytest.raises(SystemExit, match="placed by 'paper', not 'even'"):
        check_placement(tmp_path / "old", "even")


@pytest.fixture
def four_groups():
    """Two classes, two groups of each, 8 videos of 2 clips. Groups differ a little, classes a lot."""
    labels, groups = np.repeat([0, 1], 16), np.repeat(np.arange(4), 8)
    videos = Videos([str(i) for i in range(32)], labels, groups, np.zeros(32, bool), clips=2)
    values = np.random.default_rng(0).normal(0, 0.1, (32, 2, 4)).astype(np.float32)
    values[np.arange(32), :, labels] += 1
    values[:, :, 3] += 0.1 * (groups[:, None] % 2)
    everyone = np.arange(32)
    folds = [(everyone[groups % 2 != g], everyone[groups % 2 == g]) for g in range(2)]
    return videos, values, Split("groups", "x", folds)


def test_groups_are_left_out(four_groups):
    videos, values, split = four_groups
    assert (knn_predictions(values, videos, split, standardize=False) == videos.labels).all()
    assert (logistic_predictions(values, videos, split) == videos.labels).all()
    swapped = Split("swapped", "x", [fold(range(16), range(16, 32))])  # one class alone is known
    assert (knn_predictions(values, videos, swapped, standardize=True)[16:] == 0).all()
    assert (knn_predictions(values, videos, swapped, standardize=True)[:16] == -1).all()


def test_scores_count_groups():
    labels, groups = np.zeros(40, int), np.repeat(np.arange(4), 10)
    videos = Videos([""] * 40, labels, groups, np.zeros(40, bool))
    split = Split("x", "x", [])
    hits = np.where(groups < 2, 0, 1)  # two groups are right, two are wrong
    mean, low, high = score(hits, videos, split)
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    alone = Videos([""] * 40, labels, np.arange(40), np.zeros(40, bool))
    assert score(hits, alone, split)[1] == pytest.approx(0.35, abs=0.03)
    assert score(hits, videos, split, groups < 2)[0] == 1.0
    assert score(np.where(np.arange(40) < 4, -1, hits), videos, split)[0] == pytest.approx(16 / 36)


def test_balanced_scores_are_means_over_classes():
    labels = np.repeat([0, 1], [30, 10])
    videos = Videos([""] * 40, labels, np.arange(40), np.zeros(40, bool))
    assert score(np.zeros(40, int), videos, Split("x", "x", [], balanced=True))[0] == 0.5


def test_nothing_is_asked_that_was_learned_with_its_name(labeled_data):
    sets = read_sets(labeled_data)
    splits = read_splits(labeled_data, sets)
    assert {name: len(videos.paths) for name, videos in sets.items()} == {
        "ucf": 197,
        "fights": 293,
        "tank": 490,
        "caltech": 6746,
        "unseen": 1940,
    }
    for split in splits.values():
        groups = sets[split.videos].groups
        for known, asked in split.folds:
            assert not set(known) & set(asked)
            assert not set(groups[known]) & set(groups[asked])
    assert sum(len(asked) for _, asked in splits["ucf"].folds) == 197
    assert len(splits["caltech 30"].folds[0][0]) == 84 * MAX_PER_CLASS
    assert not sets["caltech"].seen[splits["caltech 15"].folds[0][1]].any()
    assert [len(indices) for indices in splits["unseen 30"].folds[0]] == [20 * MAX_PER_CLASS, 20 * (97 - MAX_PER_CLASS)]


def test_what_is_asked_is_not_trained_on(labeled_data, tmp_path):
    write_lists(labeled_data, tmp_path)
    listed = {kind: set((tmp_path / f"{kind}.txt").read_text().splitlines()) for kind in PACKS}
    everything = listed["photos"] | listed["videos"]
    assert listed["moving"] < listed["photos"]
    sets = read_sets(labeled_data)
    for name, videos in sets.items():
        for path, seen in zip(videos.paths, videos.seen, strict=True):
            assert (path in everything) == seen, name
    # ImageNet's classes have names of their own in each folder, and one number
    rows = read_table(labeled_data / "photos" / "photos.csv")
    asked = set(sets["unseen"].paths)
    number = {f"photos/{row['path']}": re.search(r"n\d{8}", row["original"]) for row in rows}
    unseen = {number[path].group() for path in asked}
    same = {path for path, found in number.items() if found and found.group() in unseen}
    assert len(unseen) == 20
    assert same - asked
    assert not same & everything


def test_shares_of_close_sets():
    classes = torch.arange(1000) // 100
    bank = torch.eye(10)[classes] + 0.01 * torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.arange(1000) % 2 == 0, classes, -1)  # of half of the rows, the class is not known
    found = shares(bank, labels)
    assert found["chance"] == pytest.approx(49 / 999)
    assert found["nearest 10"] == pytest.approx(0.5, abs=0.1)
    assert found["close, 100 clusters"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_commands(name):
    run = RUNS[name]
    config = parse(["train", run.model, "-o", "x", "--train-list", "y", *run.flags])
    assert config.model == run.model
    assert not run.start or run.start in RUNS or run.start in CATALOG


def test_cosines_by_time_and_kin():
    """Two videos of one recording turn by 0.1 rad from clip to clip; a third, of another class, stands at a right angle."""
    angles = 0.1 * np.arange(40)
    turning = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    still = np.tile([0.0, 0.0, 1.0], (40, 1))
    found = cosines([turning, turning, still], np.array([0, 0, 1]), np.array([0, 0, 1]))
    assert found["0.4 s"] == pytest.approx((2 * np.cos(0.2) + 1) / 3)
    assert found["another video, same group"] == pytest.approx(np.cos(angles[:, None] - angles).mean())
    assert found["another class"] == pytest.approx(0)


def test_pairs_of_one_source_are_counted_apart():
    def pair(one, two, start=0.0):
        return Duplicate(Hit(0, one, one, start, start + 3, 1.0), Hit(1, two, two, 1.5, 4.5, 1.0), 0.9, 3, 1.0, 99.0)

    ucf = [f"ucf101_subset20/Biking/v_Biking_g0{group}_c0{clip}.mp4" for group in (1, 2) for clip in (1, 2)]
    fight = "footage/fights/a_000.mp4"
    assert [source_of(name) for name in (ucf[0], fight, "tank_state4/up/x.mp4")] == [
        "ucf Biking g01",
        "footage/fights",
        "tank_state4",
    ]
    copies = [Copy("00-slowed.mp4", "slowed", ucf[0], 1.0, 0.9), Copy("01-cut.mp4", "cut", fight, 0.0, 1.0)]
    pairs = [
        pair("copies/00-slowed.mp4", ucf[0], start=1.0),  # found; should begin at 1 + 0.9 s, not at 1.5
        pair("copies/00-slowed.mp4", ucf[1]),  # of the source's group
        pair(ucf[0], ucf[1]),
        pair(ucf[0], ucf[2]),
        pair("copies/01-cut.mp4", ucf[3]),
        pair("copies/02-cut.mp4", max(SAME)),  # a copy of the other of two that are one recording
    ]
    copies.append(Copy("02-cut.mp4", "cut", min(SAME), 0.0, 1.0))
    score = scored(pairs, copies, 0.85, 0.2)
    assert (score.found["slowed"], score.right, score.kin, score.wrong) == (1, 1, 3, 2)
    assert score.error == pytest.approx(0.4)
    assert score.precision == pytest.approx(1 / 3)
    assert score.mistakes[1][:2] == ("copies/01-cut.mp4", ucf[3])


def test_the_least_agreement_gives_four_right_names_of_five():
    """The names with the highest agreement are right, the others wrong. All known videos count as much as all unknown ones."""
    place, agreement = np.arange(120), np.linspace(1, 0.1, 120)
    found = names.Answers(
        known=place < 80,
        right=place < 42,
        agreement=agreement,
        of_named=agreement,
        nearest=agreement,
        without=np.zeros(120),
        folds=place % names.FOLDS,
    )
    every = np.ones(120, bool)
    assert names.threshold_of(found, every) == pytest.approx(agreement[51], abs=1e-3), "10 wrong names for 42 right ones"
    unknown_first = dataclasses.replace(found, known=(place < 42) | (place >= 82))
    assert names.threshold_of(unknown_first, every) == pytest.approx(agreement[46], abs=1e-3), "5 that count twice"
    assert names.threshold_of(dataclasses.replace(found, right=~found.right), every) == np.inf
    _, numbers = names.row("set", "", found, np.full(120, agreement[59]))
    assert numbers["right"] == 52.5
    assert numbers["wrong"] == 22.5
    assert numbers["unknown_named"] == 0
    assert numbers["precision"] == 70
