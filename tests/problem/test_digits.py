"""Rows in digits: what they admit, what their relaxation is, and prices of rows as given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import many
from support.limited_problems import exact_limits

import hasa_opt as hasa
from hasa_opt.problem.digits import in_digits
from hasa_opt.problem.linear import LinearModel
from hasa_opt.solvers import registry
from hasa_opt.testing.problems import best_objective, knapsack


def admitted(places: list, x: np.ndarray) -> bool:
    """Whether whole carries exist, of which the least are tried for an upper limit."""
    carry = 0
    for place in places:
        total = int(place.values @ x) + carry
        if place.base == 0:
            low, high = place.lower, place.upper
            return (low is None or total >= low) and (high is None or total <= high)
        if place.upper is not None:
            carry = -((place.upper - total) // place.base)
        else:
            carry = (total - place.lower) // place.base
        assert 0 <= carry <= x.size + 1
    raise AssertionError("no highest place")


@pytest.mark.fuzz
def test_digits_admit_what_the_row_admits() -> None:
    seen = set()
    for seed in many(300):
        rng = np.random.default_rng(seed)
        bits = int(rng.integers(1, 62))
        values = rng.integers(0, 2**bits // 4 + 1, 4)
        for x in map(np.array, itertools.product((0, 1), repeat=4)):
            total = int(values @ x)
            for limit in (total, total + 1, total - 1, 0, -1, int(rng.integers(0, 2**bits))):
                (upper,) = in_digits(values, None, limit)
                (lower,) = in_digits(values, limit, None)
                assert admitted(upper, x) == (total <= limit)
                assert admitted(lower, x) == (total >= limit)
                seen.add((len(upper), total <= limit))
    assert seen == {(places, held) for places in (1, 2, 3) for held in (False, True)}


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("solver", ["highs", "cpsat", "scip", "cvxpy", "pulp"])
@pytest.mark.parametrize("bits", [36, 45, 58])
def test_one_unit_too_much_is_told(bits: int, solver: str) -> None:
    """All three limits are met exactly, in integers that no backend takes as they are."""
    if not registry.find_solver(solver).available:
        pytest.skip(registry.find_solver(solver).install)
    for seed in many(6):
        problem = exact_limits(seed, bits)
        result = hasa.solve(problem, solver)
        assert result.claim_held, result.message
        assert result.termination is hasa.Termination.OPTIMAL
        assert result.objective == pytest.approx(best_objective(problem), abs=1e-9)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("solver", ["highs", "cpsat"])
def test_large_robust_limits_have_true_bounds(solver: str) -> None:
    for seed in many(12):
        problem = exact_limits(seed, 45, robust=True)
        best = best_objective(problem)
        result = hasa.solve(problem, solver)
        assert result.objective == pytest.approx(best, abs=1e-9)
        assert result.bound >= best - 1e-9
        assert result.termination is hasa.Termination.OPTIMAL


def test_the_relaxation_takes_rows_as_given() -> None:
    """Joules are dear: the third client has a third of its width, and a unit of cost is left.

    Cost: 2 each, of 5. Joules: 5, 5 and 6, of 12: the first two and a third of the last are worth
    2 + 1/3, and one joule more a sixth. With cost rounded to 4, what its multiples of 2 allow, only
    two would fit and joules would be worth nothing.
    """
    joules = hasa.Budget([[0, 5], [0, 5], [0, 6]], 12, "joules")
    problem = knapsack([(2, 1), (2, 1), (2, 1)], 5, constraints=[joules])
    for solver in ("greedy", "exact", "highs", "pulp"):
        result = hasa.solve(problem, solver)
        np.testing.assert_allclose(result.prices, [0, 1 / 6], atol=1e-9)
        assert (
            result.describe_prices() == "Budget: joules at most 12: one unit more is worth 0.1667"
        )


def test_rows_that_fit_are_left_as_they_are() -> None:
    problem = exact_limits(0, 30)
    model = LinearModel.of(problem)
    assert model.matrix.shape == LinearModel.relaxation(problem).matrix.shape
    assert not model.carries.any()
    assert LinearModel.of(problem, largest=100).carries.any()
