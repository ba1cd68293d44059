import math

import numpy as np
import pytest

from vie_models.app.compare import agreement_of, compare_encoders, compare_videos, ranks, spearman


def test_ranks_share_their_mean_in_ties():
    assert ranks(np.array([30, 10, 20, 20])).tolist() == [4, 1, 2.5, 2.5]


def test_spearman_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    draws = np.random.default_rng(0)
    for _ in range(5):
        first, second = draws.integers(0, 9, (2, 40))
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_moments_that_share_frames_do_not_count():
    """Matrices that agree only near the diagonal do not agree."""
    times = np.arange(12.0)
    draws = np.random.default_rng(0)
    first, second = (values + values.T for values in draws.normal(size=(2, 12, 12)))
    near = np.abs(times[:, None] - times) < 3
    first[near] = second[near] = (100 * near + draws.normal(size=(12, 12)))[near]
    assert agreement_of(first, second, times, times, 0.5) > 0.6
    assert abs(agreement_of(first, second, times, times, 3.0)) < 0.4
    assert math.isnan(agreement_of(first, second, times, times, 100.0))


def test_two_encoders_see_the_same_times(two_scenes):
    told = []
    names = ("vie_twopathway_tiny", "vie_single_tiny")
    found = compare_encoders(two_scenes, names, lambda share, what: told.append(share))
    np.testing.assert_array_equal(found.first.times, found.second.times)
    assert set(found.agreement) == {"appearance", "motion"}
    assert found.agreement["appearance"]["embedding"] > 0.2, "one averages over a clip what the other sees in one frame"
    same = compare_encoders(two_scenes, (names[0], names[0]))
    assert same.agreement["motion"]["motion"] == pytest.approx(1.0)
    assert same.agreement["motion"]["appearance"] < 0.999
    assert found.cross == {}
    assert told == sorted(told)
    assert 0.49 < max(told[: len(told) // 2 + 1]) <= 1


def test_a_video_agrees_with_itself(two_scenes):
    found = compare_videos((two_scenes, two_scenes), "vie_single_tiny")
    assert found.agreement["embedding"]["embedding"] == pytest.approx(1.0)
    np.testing.assert_allclose(np.diag(found.cross["embedding"]), 1, atol=1e-5)


def test_two_videos_have_as_many_moments(two_scenes, brief):
    found = compare_videos((two_scenes, brief), "vie_3dresnet_tiny")
    assert len(found.first.times) == len(found.second.times) == 1
    assert math.isnan(found.agreement["embedding"]["embedding"])
    assert found.cross["embedding"].shape == (1, 1)
