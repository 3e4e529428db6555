"""Partitions against all set partitions of up to eight clients, and what a caller may give."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from support import many

import hasa_opt as hasa
from hasa_opt import Termination
from hasa_opt._utils.deadline import UNLIMITED
from hasa_opt.solvers import registry
from hasa_opt.solving.grouping.cuts import broken
from hasa_opt.solving.grouping.local_search import LocalSearch
from hasa_opt.solving.grouping.packing import packed_bound
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.relaxation import Relaxation
from hasa_opt.solving.grouping.rows import Rows
from hasa_opt.solving.grouping.solver import partition_solvers
from hasa_opt.testing.partition import best_partition, random_partition, set_partitions

BELL = (1, 2, 5, 15, 52, 203, 877, 4140)
INSTALLED = [name for name in partition_solvers() if registry.find_solver(name).available]
Matrix = np.ndarray[Any, np.dtype[np.float64]]


def symmetric(upper: Matrix) -> Matrix:
    upper = np.triu(upper, 1)
    return upper + upper.T


def planted(n_clients: int, deviation: float, seed: int = 0, groups: int = 4) -> Matrix:
    rng = np.random.default_rng(seed)
    group = np.arange(n_clients) % groups
    signs = np.where(group[:, None] == group, 1.0, -1.0)
    return symmetric(signs + deviation * rng.normal(size=signs.shape))


def test_all_set_partitions_are_counted_by_bell_numbers() -> None:
    assert tuple(len(set_partitions(n)) for n in range(1, 9)) == BELL


def check_best(solver: str, seed: int) -> None:
    problem = random_partition(seed)
    best, room = best_partition(problem), 1e-9 * problem.magnitude
    limits = {"max_groups": problem.max_groups, "max_size": problem.max_size}
    found = hasa.partition(problem.neighbours, solver, **limits)
    assert found.objective == pytest.approx(best, abs=room), seed
    assert found.bound >= best - room, seed
    assert found.claim_held, (seed, found.message)
    if solver != "greedy":
        assert found.termination is Termination.OPTIMAL, (seed, found.message)
    assert found.n_groups <= problem.max_groups
    assert found.sizes.max() <= problem.max_size


@pytest.mark.parametrize("solver", INSTALLED)
def test_the_best_of_all_set_partitions_is_found_and_proven(solver: str) -> None:
    for seed in range(12):  # every kind of similarity with every kind of limit
        check_best(solver, seed)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("solver", INSTALLED)
def test_the_best_of_more_set_partitions_is_found_and_proven(solver: str) -> None:
    for seed in many(6):
        check_best(solver, 12 + seed)


def test_bounds_hold_for_any_partition_that_they_are_built_around() -> None:
    for seed in range(0, 80, 2):
        problem = random_partition(4 * seed)  # without limits
        best, room = best_partition(problem), 1e-9 * problem.magnitude
        random = np.random.default_rng(seed).integers(0, 3, len(problem))
        assert best - room <= packed_bound(problem, random, UNLIMITED) <= problem.ceiling + room
        relaxation = Relaxation(problem)
        relaxation.run(best, UNLIMITED)
        assert best - room <= relaxation.bound <= problem.ceiling + room


def test_any_multipliers_prove_a_bound() -> None:
    for seed in range(24):
        problem, rng = random_partition(seed), np.random.default_rng(seed)
        rows = Rows(problem)
        rows.add(broken(problem, rows.pairs, rng.random(rows.n_columns), UNLIMITED))
        best = best_partition(problem)
        some = np.concatenate(
            [np.eye(len(rows)), -np.eye(len(rows)), rng.normal(size=(9, len(rows)))]
        )
        for duals in some:
            assert rows.bound(duals) >= best - 1e-9 * problem.magnitude


def test_planted_groups_are_found_and_proven() -> None:
    found = hasa.partition(planted(24, 0.7), names=[f"phone {at}" for at in range(24)])
    assert found.termination is Termination.OPTIMAL
    assert found.groups.tolist() == [at % 4 for at in range(24)]
    assert found.gap == 0
    assert found.members[1][:2] == ("phone 1", "phone 5")


def test_stars_close_what_triangles_leave_open() -> None:
    similarity = planted(24, 2.0)
    found = hasa.partition(similarity, "highs")
    assert found.termination is Termination.OPTIMAL
    assert found.objective < np.maximum(np.triu(similarity), 0).sum() / 2


def test_packed_triangles_come_near_the_best_of_many_clients() -> None:
    found = hasa.partition(planted(200, 1.0), "greedy")
    assert found.groups.tolist() == [at % 4 for at in range(200)]
    assert found.gap < 0.02
    assert found.termination is Termination.GAP_REACHED


def test_sparse_and_dense_similarities_are_one_problem() -> None:
    similarity = np.where(np.random.default_rng(0).random((16, 16)) < 0.3, planted(16, 1.0), 0.0)
    similarity = symmetric(similarity)
    dense, sparse = hasa.partition(similarity), hasa.partition(sp.coo_matrix(similarity))
    assert dense.groups.tolist() == sparse.groups.tolist()
    assert dense.objective == sparse.objective


def test_the_diagonal_is_ignored_and_each_pair_counts_once() -> None:
    found = hasa.partition([[7, 2], [2, -9]])
    assert found.objective == 2
    assert found.groups.tolist() == [0, 0]


def test_plain_cases() -> None:
    assert hasa.partition([[5.0]]).groups.tolist() == [0]
    assert hasa.partition(-np.ones((5, 5))).groups.tolist() == [0, 1, 2, 3, 4]
    assert hasa.partition(np.ones((5, 5))).groups.tolist() == [0] * 5
    assert hasa.partition(np.ones((6, 6)), max_size=2).objective == 3
    assert hasa.partition(-np.ones((6, 6)), max_groups=2).objective == -6


def test_a_seed_gives_the_same_groups_again() -> None:
    similarity = planted(60, 2.5)
    first, again = (hasa.partition(similarity, "greedy", seed=3) for _ in range(2))
    assert first.groups.tolist() == again.groups.tolist()
    assert first.bound == again.bound


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        ([[0, 1], [2, 0]], r"similarity of 0 and 1 is 1, of 1 and 0 2: give a symmetric matrix"),
        (sp.csr_array([[0, 1], [0, 0]]), r"similarity of 0 and 1 is 1, of 1 and 0 0"),
        ([[0, np.nan], [np.nan, 0]], r"similarities of row \(0, 1\) is nan: it must be finite"),
        (sp.csr_array([[0, np.inf], [np.inf, 0]]), r"similarities of row \(0, 1\) is inf"),
        (np.ones((2, 3)), r"similarities have shape \(2, 3\): give a square matrix"),
        (sp.csr_array(np.ones((2, 3))), r"similarities have shape \(2, 3\): give a square matrix"),
        (np.ones(3), r"similarities have shape \(3,\): give a square matrix"),
        (np.empty((0, 0)), r"similarity has no clients"),
        ([["a", "b"], ["b", "a"]], r"similarities are of type <U1: give numbers"),
        (sp.csr_array([[0, 1j], [1j, 0]]), r"similarities are of type complex128: give numbers"),
    ],
)
def test_what_is_no_similarity_is_refused(similarity: Any, message: str) -> None:
    with pytest.raises(hasa.InputError, match=message):
        hasa.partition(similarity)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": ["a", "b"]}, r"names are 2, but similarity has 3 clients"),
        ({"names": ["a", "b", "a"]}, r"'a' already names row 0"),
        ({"max_groups": 0}, r"max_groups 0 must be a whole number of at least 1"),
        ({"max_size": 1.5}, r"max_size 1.5 must be a whole number of at least 1"),
        ({"time_limit_s": -1}, r"time_limit_s -1 must be at least 0 seconds"),
        ({"gap": 1}, r"gap 1 must lie in \[0, 1\)"),
        ({"seed": -1}, r"seed -1 must be a whole number of at least 0"),
    ],
)
def test_other_values_that_break_a_rule_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(hasa.InputError, match=message):
        hasa.partition(np.ones((3, 3)), **given)


def test_groups_that_cannot_hold_all_clients_are_refused_with_a_remedy() -> None:
    message = "max_groups 2 with max_size 3 hold 6 clients, but there are 7: raise max_groups to 3 "
    with pytest.raises(hasa.InfeasibleError, match=re.escape(f"{message}or max_size to 4")):
        hasa.partition(np.ones((7, 7)), max_groups=2, max_size=3)


def test_solvers_are_chosen_by_name() -> None:
    with pytest.raises(hasa.errors.UnknownSolverError, match="'nobody' is not known"):
        hasa.partition(np.ones((3, 3)), "nobody")
    with pytest.raises(hasa.errors.UnsupportedConstraintError, match="'flow' does not solve parti"):
        hasa.partition(np.ones((3, 3)), "flow")
    with pytest.raises(
        hasa.errors.UnsupportedConstraintError, match="takes 1,000 clients at most, not 1,001"
    ):
        hasa.partition(sp.csr_array((1001, 1001)), "highs")
    assert hasa.partition(sp.csr_array((1001, 1001))).solver == "greedy"


def test_groups_beyond_limits_are_fitted() -> None:
    problem = PartitionProblem.of(np.ones((7, 7)), max_groups=3, max_size=3)
    search = LocalSearch(problem, lambda groups: 0.0, 0, UNLIMITED)
    for given in ([0] * 7, range(7), [0, 0, 0, 0, 1, 2, 3]):
        assert problem.evaluate(search.fitted(np.array(given))).feasible


def test_a_partition_shows_itself() -> None:
    found = hasa.partition(planted(44, 0.3), "greedy", names=[f"c{at}" for at in range(44)])
    lines = str(found).splitlines()
    assert lines[0].split() == ["group", "clients", "members"]
    assert lines[2].split(maxsplit=2) == [
        "0",
        "11",
        "c0, c4, c8, c12, c16, c20, c24, c28 and 3 more",
    ]
    assert lines[-1].startswith("greedy: optimal, 4 groups, objective ")
    assert repr(found) == f"Partition({lines[-1]})"
    assert "the first 20 of 30 groups" in str(hasa.partition(-np.ones((30, 30)), "greedy"))


def test_a_partition_as_a_frame_and_a_picture() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    similarity = planted(12, 0.3)
    found = hasa.partition(similarity, names=list("abcdefghijkl"))
    frame = found.frame("pandas")
    assert frame["client"].tolist() == list("abcdefghijkl")
    assert frame["group"].tolist() == found.groups.tolist()
    order = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    for given in ((), (similarity,), (sp.csr_array(similarity),)):
        figure = found.plot(*given)
        shown = np.asarray(figure.axes[0].images[0].get_array())
        off = ~np.eye(12, dtype=bool)
        assert np.array_equal(shown[off], similarity[np.ix_(order, order)][off])
        assert np.isnan(shown.diagonal()).all()
        lines = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_xdata()[0] > 0]
        assert lines == [2.5, 5.5, 8.5]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
            *("abcdefghijkl"[row] for row in order)
        ]
    with pytest.raises(hasa.InputError, match=r"shape \(3, 3\): \(12, 12\) expected"):
        found.plot(np.ones((3, 3)))


def test_a_picture_is_drawn_where_it_is_asked_for() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    mine = figures.Figure()
    left, right = mine.subplots(1, 2)
    found = hasa.partition(planted(40, 0.3))
    assert found.plot(ax=right) is mine
    assert not left.images
    assert np.asarray(right.images[0].get_array()).shape == (40, 40)
    assert not right.get_yticks().size  # more names than can be read


def test_many_clients_share_the_pixels_of_a_picture() -> None:
    pytest.importorskip("matplotlib")
    n_clients, pixels = 1000, 400
    similarity = planted(n_clients, 0.3)
    found = hasa.partition(similarity, "greedy")
    order = np.argsort(found.groups, kind="stable")
    block = np.arange(n_clients) * pixels // n_clients
    table = similarity[np.ix_(order, order)].copy()
    np.fill_diagonal(table, np.nan)
    for given in (similarity, sp.csr_array(similarity)):
        axes = found.plot(given).axes[0]
        shown = np.asarray(axes.images[0].get_array())
        assert shown.shape == (pixels, pixels)
        for row, column in ((0, 0), (0, 399), (17, 230), (399, 399)):
            part = table[np.ix_(block == row, block == column)]
            assert shown[row, column] == pytest.approx(np.nanmean(part))
        assert not axes.get_xticks().size


def test_a_million_clients_fit_into_a_picture() -> None:
    pytest.importorskip("matplotlib")
    n_clients = 10**6
    first = np.arange(n_clients - 1)
    pairs = sp.csr_array((np.ones(first.size), (first, first + 1)), shape=(n_clients, n_clients))
    problem = PartitionProblem.of(pairs + pairs.T)
    shown = np.asarray(problem.plot().axes[0].images[0].get_array())
    assert shown.shape == (400, 400)
    assert shown[7, 7] == pytest.approx(2 * 2499 / (2500 * 2499))
    assert shown[7, 8] == pytest.approx(1 / 2500**2)
    assert shown[7, 9] == 0


def test_a_problem_shows_its_similarities_in_order() -> None:
    pytest.importorskip("matplotlib")
    similarity = planted(12, 0.3)
    problem = PartitionProblem.of(similarity, names=list("abcdefghijkl"), max_size=4)
    axes = problem.plot().axes[0]
    off = ~np.eye(12, dtype=bool)
    shown = np.asarray(axes.images[0].get_array())
    assert np.array_equal(shown[off], similarity[off])
    assert [label.get_text() for label in axes.get_xticklabels()] == list("abcdefghijkl")
    assert repr(problem) == "PartitionProblem(12 clients, 66 pairs)"
    assert "66 of 66 pairs are not 0" in str(problem)
    assert "at most 4" in problem._repr_html_()
