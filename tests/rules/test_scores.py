"""Scores against slow, independent references."""

from __future__ import annotations

import tracemalloc
from math import log, sqrt

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from hasa_opt import scores
from hasa_opt.errors import HasaError, InputError

STANDARDISED = {"excess", "debiased"}  # in test_excess
UNSMOOTHED: set[str] = set()  # take no alpha
SMOOTHED = sorted(scores.SCORES.keys() - UNSMOOTHED)


def counts_of(seed: int, n_clients: int = 9, n_labels: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.poisson(rng.gamma(0.4, 8, (n_clients, n_labels)))
    table[np.arange(n_clients), rng.integers(0, n_labels, n_clients)] += 1
    return table


def smoothed(row, alpha: float) -> list[float]:
    total = sum(row) + alpha * len(row)
    return [(value + alpha) / total for value in row]


def slow(name: str, table: np.ndarray, alpha: float) -> list[float]:
    pooled = smoothed([sum(column) for column in table.T.tolist()], alpha)
    result = []
    for row in table.tolist():
        p = smoothed(row, alpha)
        pairs = list(zip(p, pooled, strict=True))
        result.append(
            {
                "jensen_shannon": lambda p=p: jensenshannon(p, pooled) ** 2,
                "kl_divergence": lambda p=p: entropy(p, pooled),
                "label_entropy": lambda p=p: entropy(p),
                "hellinger": lambda pairs=pairs: sqrt(
                    sum((sqrt(a) - sqrt(b)) ** 2 for a, b in pairs) / 2
                ),
                "total_variation": lambda pairs=pairs: sum(abs(a - b) for a, b in pairs) / 2,
            }[name]()
        )
    return result


@pytest.mark.parametrize("name", sorted(set(SMOOTHED) - STANDARDISED))
@pytest.mark.parametrize("alpha", [1.0, 0.25, 1e-6, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_reference(name, alpha, seed):
    table = counts_of(seed, n_clients=3 + seed, n_labels=2 + seed)
    found = scores.SCORES[name](table, alpha=alpha)
    assert found.shape == (3 + seed,)
    np.testing.assert_allclose(found, slow(name, table, alpha), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTHED)
def test_the_default_smoothing_is_the_papers(name):
    table = counts_of(8)
    score = scores.SCORES[name]
    np.testing.assert_array_equal(score(table), score(table, alpha=1.0))
    assert not np.allclose(score(table), score(table, alpha=0.5))


@pytest.mark.parametrize("name", scores.SCORES)
@pytest.mark.parametrize("n_clients", [1, 40])
def test_sparse_equals_dense_across_blocks(name, n_clients, monkeypatch):
    table = counts_of(5, n_clients=n_clients)
    expected = scores.SCORES[name](table)
    monkeypatch.setattr(scores, "_BLOCK_CELLS", 21)  # three clients a block, the last one short
    for kind in (sp.csr_array, sp.csc_array, sp.coo_matrix, np.asarray):
        np.testing.assert_allclose(scores.SCORES[name](kind(table)), expected, rtol=1e-13)


@pytest.mark.parametrize("name", scores.SCORES)
def test_permuting_clients_permutes_scores_and_permuting_labels_changes_nothing(name):
    table = counts_of(6)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(9), rng.permutation(7)
    score = scores.SCORES[name]
    np.testing.assert_allclose(score(table[rows]), score(table)[rows], rtol=1e-12)
    np.testing.assert_allclose(score(table[:, columns]), score(table), rtol=1e-12, atol=1e-15)


def test_extremes_in_nats():
    apart = np.eye(2, dtype=int) * 10**9
    # p = (1, 0), pooled (1/2, 1/2), middle (3/4, 1/4).
    expected = 0.5 * (log(4 / 3) + 0.5 * log(2 / 3) + 0.5 * log(2))
    np.testing.assert_allclose(scores.jensen_shannon(apart), expected, rtol=1e-6)
    np.testing.assert_allclose(scores.kl_divergence(apart), log(2), rtol=1e-6)
    np.testing.assert_allclose(scores.total_variation(apart), 0.5, rtol=1e-6)
    alike = np.full((3, 4), 10**6)
    for name in ("jensen_shannon", "kl_divergence", "hellinger", "total_variation"):
        assert np.all(scores.SCORES[name](alike) >= 0)
        np.testing.assert_allclose(scores.SCORES[name](alike), 0, atol=1e-6)
    np.testing.assert_allclose(scores.label_entropy(alike), log(4), rtol=1e-12)
    many = np.eye(500, dtype=int) * 10**9
    assert np.all(scores.jensen_shannon(many) < log(2))


def test_a_single_client_is_its_own_pool_only_up_to_smoothing():
    assert scores.jensen_shannon([[5, 1, 0]]) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("alpha", [0, -1, np.nan, np.inf])
def test_bad_smoothing(alpha):
    with pytest.raises(InputError, match="alpha"):
        scores.jensen_shannon([[1]], alpha=alpha)


@pytest.mark.parametrize(
    "counts", [[[1, -1]], [[0, 0]], [[np.nan]], [[0.5]], [1, 2], np.ones((0, 2))]
)
def test_bad_counts(counts):
    with pytest.raises(InputError, match="count"):
        scores.hellinger(counts)


def test_the_counts_are_not_modified():
    table = counts_of(1).astype(np.int64)
    matrix = sp.coo_array(([1, 2, 3], ([0, 0, 1], [0, 0, 1])), shape=(2, 2))
    before = table.copy()
    scores.jensen_shannon(table)
    scores.jensen_shannon(matrix)
    np.testing.assert_array_equal(table, before)
    assert table.flags.writeable
    assert matrix.nnz == 3


def test_sparse_counts_are_scored_without_a_dense_copy():
    # A fifth of 100,000 x 1,000: a dense copy would take 160 MB.
    n_clients, n_labels, per_client = 20_000, 1_000, 10
    rng = np.random.default_rng(0)
    columns = rng.integers(0, n_labels, n_clients * per_client)
    starts = np.arange(n_clients + 1) * per_client
    matrix = sp.csr_array(
        (np.ones(columns.size, dtype=np.int64), columns, starts), shape=(n_clients, n_labels)
    )
    dense_bytes = n_clients * n_labels * 8
    tracemalloc.start()
    try:
        found = scores.jensen_shannon(matrix)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < dense_bytes / 4
    assert found.shape == (n_clients,)
    assert np.all(found > 0)


def test_rank_normalize_by_hand():
    assert scores.rank_normalize([0.3, 0.1, 0.3, 0.9]).tolist() == [0.5, 0.0, 0.5, 1.0]
    assert scores.rank_normalize([2, 2, 2]).tolist() == [0.5, 0.5, 0.5]
    assert scores.rank_normalize([7.5]).tolist() == [0.0]
    assert scores.rank_normalize([-1, -3]).tolist() == [1.0, 0.0]


_SCORE = st.one_of(st.integers(-3, 3).map(float), st.just(-0.0), st.floats(-1e300, 1e300))


@given(st.lists(_SCORE, min_size=2, max_size=30))
def test_rank_normalize_equals_counting(values):
    below = [sum(other < value for other in values) for value in values]
    equal = [sum(other == value for other in values) for value in values]
    ranks = [low + (ties - 1) / 2 for low, ties in zip(below, equal, strict=True)]
    expected = [rank / (len(values) - 1) for rank in ranks]
    assert scores.rank_normalize(values).tolist() == expected


@pytest.mark.parametrize("bad", [[], [[1.0]], [1, np.nan], [np.inf, 1], 3.0])
def test_rank_normalize_refuses(bad):
    with pytest.raises(InputError, match="score"):
        scores.rank_normalize(bad)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.rank_normalize(["a", "b"]),
        lambda: scores.rank_normalize([[1], [2, 3]]),
        lambda: scores.jensen_shannon([[1]], alpha="one"),
    ],
)
def test_what_is_no_number_is_an_input_error(call):
    with pytest.raises(HasaError):
        call()
