"""Private scores: the calibration against an integral, the noise, what it protects."""

from __future__ import annotations

from math import exp, inf, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from hasa_opt import scores
from hasa_opt.errors import InputError
from hasa_opt.rules import private as gaussian

COUNTS = [[900, 100, 0], [300, 300, 300], [5, 5, 90], [40, 2, 1]]


def hockey_stick(epsilon: float, sigma: float, distance: float) -> float:
    """Smallest delta of two shifted normal densities, by integration of the definition."""

    def excess(x: float) -> float:
        return max(0.0, norm.pdf(x, distance, sigma) - exp(epsilon) * norm.pdf(x, 0, sigma))

    crossing = epsilon * sigma**2 / distance + distance / 2
    return quad(excess, crossing, crossing + 40 * sigma, limit=200)[0]


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("delta", [1e-7, 1e-4, 0.05, 0.4])
@pytest.mark.parametrize("reach", [1.0, sqrt(2), 17.0])
def test_sigma_spends_exactly_delta(epsilon, delta, reach):
    sigma = gaussian.sigma(epsilon, delta, reach)
    assert hockey_stick(epsilon, sigma, reach) == pytest.approx(delta, rel=1e-4)
    assert gaussian.delta_spent(epsilon, sigma, reach) == pytest.approx(delta, rel=1e-8)
    assert gaussian.delta_spent(epsilon, sigma, reach) <= delta


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_delta_equals_the_integral_and_falls(sigma):
    levels = [0.1, 0.5, 1.0, 2.0, 6.0]
    found = [gaussian.delta_spent(level, sigma, 1.0) for level in levels]
    expected = [hockey_stick(level, sigma, 1.0) for level in levels]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
    assert np.all(np.diff(found) < 0)


def test_sigma_falls_with_epsilon_and_delta_and_grows_with_sensitivity():
    assert np.all(np.diff([gaussian.sigma(e, 1e-5, 1) for e in (1e-4, 0.1, 1, 10, 1e3, 1e7)]) < 0)
    assert np.all(np.diff([gaussian.sigma(1, d, 1) for d in (1e-15, 1e-9, 1e-3, 0.1, 0.99)]) < 0)
    assert gaussian.sigma(1, 1e-5, 3) == pytest.approx(3 * gaussian.sigma(1, 1e-5, 1))
    # The classical calibration (Dwork and Roth, 2014, theorem A.1) is never better.
    for epsilon in (0.1, 0.5, 0.99):
        classical = sqrt(2 * np.log(1.25 / 1e-5)) / epsilon
        assert gaussian.sigma(epsilon, 1e-5, 1) < classical


def test_known_value():
    # What Google's dp-accounting 0.6 gives back for this sigma is delta = 1e-5.
    assert gaussian.sigma(1.0, 1e-5, 1.0) == pytest.approx(3.730632, abs=1e-6)


def test_noise_is_normal_with_that_sigma():
    counts = np.full((400, 50), 10**6)
    noise = gaussian.noisy_histograms(counts, 0.5, 1e-5, sample_norm=3.0, seed=4) - counts
    sigma = gaussian.sigma(0.5, 1e-5, 3 * sqrt(2))
    assert kstest(noise.ravel() / sigma, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[:200].ravel(), noise[200:].ravel())[0, 1]) < 0.04


def nearest(row: np.ndarray) -> np.ndarray:
    """Projection onto non-negative rows of the same sum, by bisection on the shift."""
    low, high = row.min() - abs(row.sum()) - 1, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(row - middle, 0).sum() > max(row.sum(), 0):
            low = middle
        else:
            high = middle
    return np.maximum(row - high, 0)


def test_negative_counts_are_removed_by_the_nearest_histogram():
    rng = np.random.default_rng(0)
    table = rng.normal(0.5, 3, (200, 7))
    found = gaussian._without_negatives(table)
    assert (table < 0).any(axis=1).sum() > 100
    assert (table.sum(axis=1) <= 0).any()
    np.testing.assert_allclose(found, [nearest(row) for row in table], atol=1e-9)
    kept = gaussian._without_negatives(np.array([[3.0, 0.0, 5.0]]))
    assert kept.tolist() == [[3.0, 0.0, 5.0]]


def test_histograms_of_neighbours_are_within_the_sensitivity():
    rng = np.random.default_rng(1)
    clip = 20.0
    reach = gaussian.sensitivity("client", clip=clip)
    pairs = rng.poisson(rng.gamma(0.3, 20, (500, 2, 6)))
    pairs[:, :, 0] += 1
    pairs[0] = [[1000, 0, 0, 0, 0, 0], [0, 1000, 0, 0, 0, 0]]
    sent = [gaussian.noisy_histograms(own, inf, 0.1, unit="client", clip=clip)
            for own in pairs]  # fmt: skip
    distances = [np.linalg.norm(one - other) for one, other in sent]
    assert max(distances) == pytest.approx(reach)
    assert max(np.linalg.norm(own, axis=1).max() for own in sent) <= clip * (1 + 1e-12)
    assert gaussian.sensitivity("sample") == pytest.approx(sqrt(2))  # one label becomes another
    assert gaussian.sensitivity(sample_norm=12) == pytest.approx(12 * sqrt(2))
    assert gaussian.sensitivity(sample_norm=12, clip=2) == pytest.approx(2 * sqrt(2))


def test_a_distinguisher_gains_delta_and_no_more():
    epsilon, delta, clients = 0.5, 0.1, 60_000
    first = gaussian.noisy_histograms(np.tile([50, 40], (clients, 1)), epsilon, delta, seed=1)
    second = gaussian.noisy_histograms(np.tile([49, 41], (clients, 1)), epsilon, delta, seed=2)
    gains = []
    for threshold in np.linspace(-5, 40, 46):
        hits = [(own[:, 0] - own[:, 1] > threshold).mean() for own in (first, second)]
        gains.append(hits[0] - exp(epsilon) * hits[1])
    assert max(gains) < delta + 4 * 2 / sqrt(clients)
    assert max(gains) > delta - 4 * 2 / sqrt(clients)  # and the noise is not larger than needed


def test_without_noise_it_is_the_plain_score():
    plain = scores.jensen_shannon(COUNTS)
    np.testing.assert_array_equal(scores.private(COUNTS, inf, 1e-5), plain)
    errors = [np.abs(scores.private(COUNTS, e, 1e-5) - plain).max() for e in (0.1, 10, 1e3, 1e6)]
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] < 1e-3
    assert np.allclose(
        scores.private(COUNTS, inf, 1e-5, alpha=0.1), scores.jensen_shannon(COUNTS, alpha=0.1)
    )


def test_a_clip_scales_histograms_down():
    clipped = scores.private([[30, 40], [3, 4]], inf, 1e-5, unit="client", clip=5.0)
    np.testing.assert_allclose(clipped, scores.jensen_shannon([[3, 4], [3, 4]]), atol=1e-15)


def test_the_seed_makes_the_noise():
    first = scores.private(COUNTS, 1.0, 1e-5, seed=1)
    np.testing.assert_array_equal(first, scores.private(COUNTS, 1.0, 1e-5, seed=1))
    assert not np.allclose(first, scores.private(COUNTS, 1.0, 1e-5, seed=2))
    assert np.isfinite(scores.private(COUNTS, 1e-4, 1e-5)).all()


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((0, 1e-5), {}, "epsilon 0 must be greater than 0"),
        ((-1, 1e-5), {}, "epsilon"),
        ((np.nan, 1e-5), {}, "epsilon"),
        ((1, 0), {}, "delta 0 must lie between 0 and 1"),
        ((1, 1), {}, "delta"),
        ((1, 1e-5), {"unit": "token"}, "'sample' or 'client'"),
        ((1, 1e-5), {"unit": "client"}, "give a finite clip"),
        ((1, 1e-5), {"sample_norm": 0}, "sample_norm"),
        ((1, 1e-5), {"clip": -1}, "clip"),
        ((1, 1e-5), {"seed": -1}, "seed -1"),
        ((1, 1e-5), {"alpha": 0}, "alpha"),
    ],
)
def test_bad_values(arguments, options, words):
    with pytest.raises(InputError, match=words):
        scores.private(COUNTS, *arguments, **options)
