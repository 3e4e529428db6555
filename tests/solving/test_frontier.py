"""Utility against budget, and the shadow price that is its slope."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import hasa_opt as hasa


def fleet(n_clients: int = 400, seed: int = 0) -> hasa.AllocationProblem:
    rng = np.random.default_rng(seed)
    return hasa.AllocationProblem.build(
        hasa.Clients(rng.integers(1, 500, n_clients)),
        widths=np.arange(1, 9) / 10,
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n_clients)),
    )


BUDGETS = [0.15, 0.3, 0.45, 0.6, 0.75, 0.9]


def test_each_point_is_the_solution_of_its_own_problem() -> None:
    problem = fleet(40)
    found = hasa.frontier(problem, BUDGETS, "highs")
    for budget, objective, bound in zip(BUDGETS, found.objectives, found.bounds, strict=True):
        alone = hasa.solve(problem.with_budget(budget), "highs")
        assert objective == pytest.approx(alone.objective, rel=1e-9)
        assert bound >= objective
    assert (np.diff(found.objectives) >= 0).all()
    assert problem.budget == 0.5


def test_another_budget_is_what_build_would_have_made() -> None:
    problem = fleet(10)
    other = problem.with_budget(0.35)
    assert other.limit == int(0.35 * problem.full_cost + 1e-9)
    assert other.costs is problem.costs
    assert int(other.cheapest.sum()) == int(problem.cheapest.sum())


@pytest.mark.parametrize("solver", ["exact", "greedy", "highs"])
def test_price_lies_between_the_slopes_of_the_bound(solver: str) -> None:
    problem = fleet()
    step = 1e-3
    result = hasa.solve(problem, solver)
    relaxed = [
        hasa.solve(problem.with_budget(0.5 + shift), "greedy").bound for shift in (-step, 0.0, step)
    ]
    units = step * problem.full_cost
    below, above = (relaxed[1] - relaxed[0]) / units, (relaxed[2] - relaxed[1]) / units
    assert above * (1 - 1e-9) <= result.price <= below * (1 + 1e-9)
    assert result.price > 0


def test_price_is_zero_where_the_budget_does_not_bind() -> None:
    assert hasa.solve(fleet().with_budget(0.9), "exact").price == 0
    assert hasa.frontier(fleet(20), [0.85, 0.95]).prices.tolist() == [0, 0]


def test_plot_is_a_figure() -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    figure = hasa.frontier(fleet(20), BUDGETS).plot()
    assert isinstance(figure, matplotlib.Figure)
    assert figure.axes[0].get_ylabel() == "Utility"


@pytest.mark.parametrize("budgets", [[], [0.5, 0.4], [0.5, 0.5], [[0.5]], ["a"], [0.5, np.nan]])
def test_bad_budgets_are_refused(budgets: list) -> None:
    with pytest.raises(hasa.InputError, match="budgets"):
        hasa.frontier(fleet(5), budgets)


@pytest.mark.parametrize("n", [-1, 0, 1, True, 100_001, 2**63, 10**30])
def test_too_few_or_too_many_budgets_are_refused_before_any_work(n: int) -> None:
    with pytest.raises(
        hasa.InputError, match=rf"budgets {int(n)}: .* at least 2 and at most 100,000"
    ):
        hasa.frontier(fleet(5), n)


def test_a_budget_below_the_narrowest_allocation_is_infeasible() -> None:
    with pytest.raises(hasa.InfeasibleError, match=r"at least 0\.1"):
        hasa.frontier(fleet(5), [0.05, 0.5])


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch):
    line = hasa.frontier(fleet(20), [0.5])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(hasa.errors.MissingExtraError, match=r"plot\(\).*pip install matplotlib"):
        line.plot()
