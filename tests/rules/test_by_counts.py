"""Groups of alike clients by their counts of labels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score

from hasa_opt.errors import InputError
from hasa_opt.rules.groups import _silhouette, by_counts

TWO = np.array([[90, 5, 0], [0, 4, 80], [45, 3, 0], [0, 9, 200], [70, 2, 1]])


def test_groups_are_numbered_by_first_appearance():
    assert by_counts(TWO).tolist() == [0, 1, 0, 1, 0]
    assert by_counts(TWO[::-1]).tolist() == [0, 1, 0, 1, 0]
    assert by_counts(TWO[[1, 0, 2, 3, 4]]).tolist() == [0, 1, 1, 0, 1]


def test_only_shares_matter_and_sparse_counts_are_read():
    grown = TWO * np.array([1, 10, 100, 1000, 7])[:, None]
    assert by_counts(grown).tolist() == by_counts(sp.csr_array(TWO)).tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("counts", [np.ones((6, 4), int), np.full((6, 1), 3), TWO[:2], TWO[:1]])
def test_equal_or_few_clients_are_no_groups(counts):
    assert by_counts(counts).tolist() == [0] * len(counts)


@pytest.mark.slow
@pytest.mark.parametrize(("n_clients", "n_labels"), [(6, 2), (6, 3), (20, 3), (12, 10)])
def test_chance_is_seldom_taken_for_groups(n_clients, n_labels):
    """Without the test there are groups in 92, 33 and 18 of 100 draws with few labels."""
    rng = np.random.default_rng(0)
    tables = [rng.multinomial(200, np.full(n_labels, 1 / n_labels), n_clients) for _ in range(12)]
    assert sum(bool(by_counts(table).any()) for table in tables) <= 3


def test_three_groups_of_equal_clients():
    shares = np.repeat(np.eye(3, dtype=int) * 50 + 1, 4, axis=0)
    assert by_counts(shares).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_the_silhouette_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    for n_groups in (2, 3, 5):
        table = rng.dirichlet(np.ones(5), 14)
        distances = squareform(pdist(table, "jensenshannon"))
        groups = np.arange(14) % n_groups
        groups[0] = n_groups  # a client alone
        expected = silhouette_score(distances, groups, metric="precomputed")
        assert _silhouette(distances, groups) == pytest.approx(expected)


def test_a_level_of_its_own():
    mixed = np.array([[6, 4], [5, 5], [4, 6], [3, 7]])
    assert not by_counts(mixed, least=0.99).any()
    assert by_counts(mixed, least=-1.0, level=1.0).any()
    assert not by_counts(mixed, least=-1.0).any()


def test_a_client_without_counts_is_refused():
    with pytest.raises(InputError, match="row 1"):
        by_counts([[1, 2], [0, 0], [3, 1]])
