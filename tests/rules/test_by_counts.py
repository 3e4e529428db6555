"""Groups of alike clients by their counts of labels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score

from hasa_opt.errors import InputError
from hasa_opt.rules import groups
from hasa_opt.rules.groups import (
    _LEAST_OF_HELLINGER,
    _best,
    _ceiling,
    _distances,
    _hellinger,
    _silhouette,
    by_counts,
    silhouette,
)

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


def _tables():
    """Counts of few or many labels, with planted groups or none, few samples or many."""
    rng = np.random.default_rng(2)
    for n_groups, n_labels, size in [
        (1, 2, 5),
        (1, 10, 200),
        (2, 4, 30),
        (3, 10, 300),
        (4, 50, 40),
    ]:
        for n_clients in (4, 15, 40):
            shares = rng.dirichlet(np.full(n_labels, 0.3), n_groups)[
                np.arange(n_clients) % n_groups
            ]
            yield rng.multinomial(size, shares)


def test_groups_show_in_the_labels_as_scikit_learn_says():
    shares = TWO / TWO.sum(axis=1, keepdims=True)
    distances = squareform(pdist(shares, "jensenshannon"))
    for given in ([0, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 1, 1, 0, 2]):
        own = np.array(given)
        expected = silhouette_score(distances, own, metric="precomputed")
        assert silhouette(TWO, own) == pytest.approx(expected)
        assert silhouette(sp.csr_matrix(TWO), own) == silhouette(TWO, own)


def test_the_best_silhouette_is_that_over_all_cuts_and_below_both_ceilings():
    for table in _tables():
        distances = _distances(table)
        found, best = _best(distances)
        tree = linkage(squareform(distances), "average")
        cuts = [fcluster(tree, count, "maxclust") - 1 for count in range(2, min(len(table), 33))]
        best_cut = max((_silhouette(distances, cut) for cut in cuts if cut.any()), default=-1.0)
        assert best == pytest.approx(best_cut)
        assert not found.any() or _silhouette(distances, found) == pytest.approx(best)
        assert (
            best <= _ceiling(distances) <= _ceiling(_hellinger(table), _LEAST_OF_HELLINGER) + 1e-9
        )


def test_hellinger_distances_bound_those_of_jensen_and_shannon():
    for table in _tables():
        bound = _hellinger(table)
        assert (_distances(table) <= bound + 1e-7).all()
        assert (_distances(table) >= _LEAST_OF_HELLINGER * bound - 1e-7).all()


def test_clear_groups_are_told_from_chance_without_groups_of_what_is_drawn(monkeypatch):
    rng, looked = np.random.default_rng(3), []
    table = rng.multinomial(200, np.repeat(rng.dirichlet(np.full(10, 0.1), 2), 50, axis=0))
    monkeypatch.setattr(groups, "_best", lambda apart: looked.append(apart) or _best(apart))
    assert by_counts(table).tolist() == [0] * 50 + [1] * 50
    assert len(looked) == 1


def test_a_level_of_its_own():
    mixed = np.array([[6, 4], [5, 5], [4, 6], [3, 7]])
    assert not by_counts(mixed, least=0.99).any()
    assert by_counts(mixed, least=-1.0, level=1.0).any()
    assert not by_counts(mixed, least=-1.0).any()


def test_a_client_without_counts_is_refused():
    with pytest.raises(InputError, match="row 1"):
        by_counts([[1, 2], [0, 0], [3, 1]])
