"""Greedy k-centre."""

import numpy as np

from slem_app.selection.coreset import distances, k_centre

LINE = np.array([[0.0], [1.0], [2.0], [10.0]])
NONE = np.empty((0, 1))


def test_the_farthest_from_all_centres_is_next() -> None:
    assert k_centre(LINE, np.array([[0.0]]), 2) == [3, 2]
    assert distances(LINE, np.array([[1.0]])).argmax() == 3


def test_without_a_centre_the_middle_comes_first() -> None:
    assert k_centre(LINE, NONE, 1) == [2]  # the mean is 3.25


def test_it_covers_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.array([[0, 0], [50, 0], [0, 50], [50, 50]]), 10, axis=0) + rng.normal(
        size=(40, 2)
    )
    assert {n // 10 for n in k_centre(clusters, np.empty((0, 2)), 4 + 1)} == {0, 1, 2, 3}


def test_distances_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    cases, centres = rng.normal(size=(7, 5)), rng.normal(size=(3, 5))
    both = np.concatenate([cases, centres])
    scaled = (both - both.mean(0)) / both.std(0)
    expected = [min(np.linalg.norm(a - b) for b in scaled[7:]) for a in scaled[:7]]
    np.testing.assert_allclose(distances(cases, centres), expected)


def test_a_feature_that_never_varies_does_not_matter() -> None:
    assert k_centre(np.hstack([LINE, np.ones((4, 1))]), np.array([[0.0, 1.0]]), 1) == [3]


def test_no_more_than_there_are() -> None:
    assert sorted(k_centre(LINE, NONE, 9)) == [0, 1, 2, 3]
    assert distances(LINE, NONE).shape == (4,)
