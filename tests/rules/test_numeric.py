"""Distances of means and variances: against the formula for normal distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm

from hasa_opt import scores
from hasa_opt.errors import InputError


def moments(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    means, variances = ([getattr(own, what)(axis=0) for own in groups] for what in ("mean", "var"))
    return np.array(means), np.array(variances), np.array([len(own) for own in groups])


RNG = np.random.default_rng(0)
GROUPS = [RNG.normal(shift, width, (size, 3)) for shift, width, size in
          ((0.0, 1.0, 400), (1.0, 2.0, 50), (0.0, 1.0, 150))]  # fmt: skip


def test_it_is_the_frechet_distance_in_pooled_standard_deviations() -> None:
    found = scores.frechet(*moments(GROUPS))
    pooled = np.concatenate(GROUPS)
    unit = pooled.std(axis=0)
    for own, score in zip(GROUPS, found, strict=True):
        first, second = ((part - pooled.mean(axis=0)) / unit for part in (own, pooled))
        covariances = np.diag(first.var(axis=0)), np.diag(second.var(axis=0))
        middle = sqrtm(covariances[0] @ covariances[1]).real
        apart = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
        squared = apart + np.trace(covariances[0] + covariances[1] - 2 * middle)
        assert score == pytest.approx(np.sqrt(squared / 3))
    assert found.argmax() == 1


def test_units_constants_and_the_number_of_features_do_not_matter() -> None:
    plain = scores.frechet(*moments(GROUPS))
    scaled = scores.frechet(*moments([own * [1e-3, 1.0, 1e3] + 5 for own in GROUPS]))
    np.testing.assert_allclose(scaled, plain, rtol=1e-9)
    twice = scores.frechet(*moments([np.hstack([own, own]) for own in GROUPS]))
    np.testing.assert_allclose(twice, plain)
    same = scores.frechet([[2.0], [2.0]], [[0.0], [0.0]], [3, 4])
    assert same.tolist() == [0, 0]
    assert scores.frechet([[2.0]], [[1.0]], [3]).tolist() == [0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (([1.0], [1.0], [1]), r"shapes \(1,\), \(1,\) and \(1,\)"),
        (([[1.0]], [[1.0]], [1, 2]), "one number per client"),
        (([[1.0]], [[-1.0]], [1]), "variance -1 is below 0"),
        (([[1.0]], [[1.0]], [0]), "samples 0 is below 1"),
        (([[np.nan]], [[1.0]], [1]), "mean"),
    ],
)
def test_what_is_no_moment_is_refused(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        scores.frechet(*given)
