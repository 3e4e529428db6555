"""Scores freed of sample size, against enumeration, Monte Carlo and planted clients."""

from __future__ import annotations

import itertools
from math import comb, log, sqrt

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import kstest, spearmanr

from hasa_opt import scores
from hasa_opt.errors import InputError
from hasa_opt.rules import chance as shuffled


def divergence(row, pooled, alpha: float) -> float:
    """Jensen-Shannon divergence of smoothed counts, by the formula."""
    p, q = (
        [(value + alpha) / (sum(own) + alpha * len(own)) for value in own] for own in (row, pooled)
    )
    total = 0.0
    for a, b in zip(p, q, strict=True):
        total += a * log(2 * a / (a + b)) / 2 + b * log(2 * b / (a + b)) / 2
    return total


def enumerated(pooled: list[int], size: int, alpha: float) -> tuple[float, float]:
    """Mean and spread over every way to draw ``size`` of the pooled tokens."""
    pairs = []
    for row in itertools.product(*(range(min(size, own) + 1) for own in pooled)):
        if sum(row) == size:
            ways = np.prod([float(comb(*pair)) for pair in zip(pooled, row, strict=True)])
            pairs.append((ways, divergence(row, pooled, alpha)))
    ways, values = np.array(pairs).T
    mean = np.average(values, weights=ways)
    return mean, sqrt(np.average((values - mean) ** 2, weights=ways))


def zipf(n_labels: int) -> np.ndarray:
    shares = 1 / np.arange(1, n_labels + 1)
    return shares / shares.sum()


def alike(sizes, n_labels: int, seed: int) -> np.ndarray:
    """Clients whose tokens are all drawn from one distribution."""
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(size, zipf(n_labels)) for size in sizes])


def spread_sizes(n_clients: int, low: int, high: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    return np.exp(rng.uniform(np.log(low), np.log(high), n_clients)).astype(int)


POOLS = [
    ([3, 2, 4], 3),
    ([3, 2, 4], 1),
    ([3, 2, 4], 8),
    ([2, 1, 1, 1, 0], 2),
    ([7, 0, 0, 1], 4),
    ([30, 2, 1], 20),
    ([4, 4, 4, 4, 4], 9),
    ([40, 30], 25),
    ([60, 25, 25], 50),
    ([200, 1], 100),
]


@pytest.mark.parametrize("alpha", [1.0, 0.1, 20.0])
@pytest.mark.parametrize(("pooled", "size"), POOLS)
def test_moments_equal_the_enumeration_of_all_samples(pooled, size, alpha):
    first = np.zeros_like(pooled)
    rest = size
    for label, own in enumerate(pooled):
        first[label] = min(own, rest)
        rest -= first[label]
    counts = np.array([first, np.array(pooled) - first])
    mean, spread = enumerated(pooled, size, alpha)
    found = scores.excess(counts, alpha=alpha)[0]
    expected = (divergence(first, pooled, alpha) - mean) / spread
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    beyond = scores.debiased(counts, alpha=alpha)[0]
    assert beyond == pytest.approx(expected * spread, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.05])
@pytest.mark.parametrize("n_labels", [2, 10, 400])
def test_analytic_moments_agree_with_monte_carlo(n_labels, alpha):
    sizes, draws = [5, 20, 100, 600, 3000, 40_000], 1500 if n_labels > 10 else 20_000
    counts = alike(sizes, n_labels, seed=n_labels)
    terms = scores._jensen_shannon_terms
    mean, spread = shuffled.moments(terms, counts, alpha)
    other = shuffled.moments(terms, counts, alpha, method="monte_carlo", draws=draws, seed=3)
    error = spread / sqrt(draws)
    assert np.all(np.abs(other[0] - mean) < 5 * error)
    np.testing.assert_allclose(other[1], spread, rtol=0.12)


def test_clients_that_do_not_differ_have_mean_0_and_spread_1_at_every_size():
    sizes = np.sort(spread_sizes(1500, 5, 5000, seed=0))
    found = scores.excess(alike(sizes, 100, seed=1), seed=0)
    for part in np.array_split(found, 5):
        assert abs(part.mean()) < 4 / sqrt(part.size)
        assert part.std() == pytest.approx(1, abs=0.2)
    assert scores.explained_by_size(found, sizes) < 0.02
    assert scores.explained_by_size(scores.jensen_shannon(alike(sizes, 100, 1)), sizes) > 0.9


def test_a_client_that_is_most_of_the_pool_is_treated_as_part_of_it():
    found = [scores.excess(alike([20, 90, 1000], 30, seed=seed)) for seed in range(200)]
    assert np.abs(np.mean(found, axis=0)).max() < 4 / sqrt(200)
    assert np.std(found, axis=0) == pytest.approx(np.ones(3), abs=0.2)


def test_the_same_holds_for_many_labels_and_tiny_samples():
    counts = alike(np.full(800, 5), 1000, seed=4)
    found = scores.excess(counts)
    assert abs(found.mean()) < 0.15
    assert found.std() == pytest.approx(1, abs=0.15)


def test_clients_that_differ_stand_out():
    sizes = np.tile([30, 100, 1000], 8)
    counts = alike(sizes, 50, seed=5)
    counts[::6] = counts[::6, ::-1]  # every sixth client has the labels the other way round
    found = scores.excess(counts)
    strange = np.zeros(sizes.size, dtype=bool)
    strange[::6] = True
    assert found[strange].min() > 8
    assert np.abs(found[~strange]).max() < 8


def planted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clients with a share of foreign tokens that does not depend on their size."""
    rng = np.random.default_rng(seed)
    sizes = spread_sizes(40, 30, 3000, seed)
    foreign = rng.uniform(0, 0.6, 40)
    own = [
        rng.multinomial(size, (1 - share) * zipf(300) + share * rng.permutation(zipf(300)))
        for size, share in zip(sizes, foreign, strict=True)
    ]
    return np.array(own), foreign


def test_debiased_finds_what_is_planted_where_the_score_finds_size():
    found = {"jensen_shannon": [], "debiased": []}
    for seed in range(4):
        counts, foreign = planted(seed)
        for name in found:
            found[name].append(spearmanr(scores.SCORES[name](counts, alpha=0.01), foreign)[0])
    assert np.mean(found["debiased"]) > 0.65
    assert np.mean(found["debiased"]) > np.mean(found["jensen_shannon"]) + 0.2


def test_interpolation_between_sizes_is_exact_enough(monkeypatch):
    counts = alike(np.arange(5, 705, 7), 60, seed=6)
    counts = np.vstack([counts, alike([200_000], 60, seed=7)])
    between = scores.excess(counts)
    monkeypatch.setattr(shuffled, "_NODES", 1000)
    np.testing.assert_allclose(between, scores.excess(counts), atol=2e-4, rtol=2e-4)


def test_scores_that_cannot_vary_are_0():
    assert scores.excess([[3, 4, 0]]).tolist() == [0.0]  # all of the pool
    assert scores.excess([[3], [5]]).tolist() == [0.0, 0.0]  # one label
    assert np.abs(scores.excess([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]])).max() < 1  # all samples alike
    assert np.abs(scores.excess([[3, 4], [5, 1]], alpha=1e100)).max() < 1
    assert np.isfinite(scores.excess([[1, 0], [0, 1]])).all()


def test_large_pools_are_scored():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(10**12, zipf(40), size=60)
    found = scores.excess(counts)
    assert abs(found.mean()) < 0.6
    assert found.std() == pytest.approx(1, abs=0.3)


def test_draws_depend_on_the_seed_and_on_the_size_alone():
    counts = alike([10, 60, 60, 200], 20, seed=8)
    options = {"method": "monte_carlo", "draws": 50}
    first = scores.excess(counts, seed=1, **options)
    np.testing.assert_array_equal(first, scores.excess(counts, seed=1, **options))
    np.testing.assert_allclose(first[::-1], scores.excess(counts[::-1], seed=1, **options))
    assert not np.allclose(first, scores.excess(counts, seed=2, **options))
    np.testing.assert_allclose(first, scores.excess(sp.csr_array(counts), seed=1, **options))


def test_monte_carlo_draws_in_blocks(monkeypatch):
    counts = alike([10, 60], 20, seed=8)
    options = {"method": "monte_carlo", "draws": 5000}
    whole = scores.excess(counts, **options)
    monkeypatch.setattr(shuffled, "_BLOCK_CELLS", 70)
    np.testing.assert_allclose(whole, scores.excess(counts, **options), atol=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0}, "alpha"),
        ({"method": "bootstrap"}, "'analytic' or 'monte_carlo'"),
        ({"draws": 1}, "draws 1 must be a whole number of at least 2"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 0.5}, "seed 0.5"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        scores.excess([[1, 2], [2, 1]], **options)


def test_bad_counts():
    with pytest.raises(InputError, match="no label was counted"):
        scores.excess([[1, 2], [0, 0]])
    with pytest.raises(InputError, match="use method='analytic'"):
        scores.excess([[10**9, 1], [2, 1]], method="monte_carlo")


def test_share_of_a_ranking_that_size_explains():
    rng = np.random.default_rng(0)
    own, sizes = rng.normal(size=40), rng.integers(1, 9, 40)
    expected = spearmanr(own, sizes)[0] ** 2
    assert scores.explained_by_size(own, sizes) == pytest.approx(expected)
    assert scores.explained_by_size([3, 2, 1], [1, 2, 30]) == 1
    assert scores.explained_by_size([3, 2, 1], [5, 5, 5]) == 0
    assert scores.explained_by_size([3], [5]) == 0
    with pytest.raises(InputError, match="2 scores for 3 sizes"):
        scores.explained_by_size([1, 2], [1, 2, 3])


def test_draws_of_one_client_look_like_its_null_distribution():
    # Probability integral: the share of Monte Carlo scores below a client's own is uniform.
    counts = alike(np.full(300, 40), 15, seed=9)
    found = scores.excess(counts)
    pooled = counts.sum(axis=0)
    drawn = np.random.default_rng(0).multivariate_hypergeometric(
        pooled, 40, size=2000, method="marginals"
    )
    own = np.array([divergence(row, pooled, 1.0) for row in drawn.tolist()])
    standard = (own - own.mean()) / own.std()
    assert kstest(found, standard).pvalue > 0.001
