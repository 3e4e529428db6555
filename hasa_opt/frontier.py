"""Utility against budget: what more compute would be worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt.basics.checks import expect, float_array
from hasa_opt.clients import FloatArray
from hasa_opt.errors import InputError
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Allocation
from hasa_opt.solve import solve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Frontier", "frontier"]


@dataclass(frozen=True, eq=False)
class Frontier:
    """Best allocations at increasing budgets.

    Attributes
    ----------
    budgets : (n_budgets,) floats
        Shares of the full width's cost, increasing.
    allocations : tuple of Allocation
        One per budget.
    """

    budgets: FloatArray
    allocations: tuple[Allocation, ...]

    @property
    def objectives(self) -> FloatArray:
        """Utility of each allocation, ``(n_budgets,)``."""
        return np.array([allocation.objective for allocation in self.allocations])

    @property
    def bounds(self) -> FloatArray:
        """Upper bound at each budget, ``(n_budgets,)``."""
        return np.array([allocation.bound for allocation in self.allocations])

    @property
    def prices(self) -> FloatArray:
        """Shadow price at each budget: utility per unit of integer cost, ``(n_budgets,)``."""
        return np.array([allocation.price for allocation in self.allocations])

    def plot(self) -> Figure:
        """Draw utility, with its bound, against the budget.

        Returns
        -------
        matplotlib Figure
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(self.budgets, self.objectives, self.bounds, alpha=0.3, label="gap")
        axes.plot(self.budgets, self.objectives, marker="o", markersize=4, label="utility")
        axes.set_xlabel("Budget (share of the full width's cost)")
        axes.set_ylabel("Utility")
        axes.legend(frameon=False)
        return figure


def frontier(
    problem: AllocationProblem, budgets: Sequence[float], solver: str = "auto", **options: Any
) -> Frontier:
    """Solve a problem at several budgets, each from the allocation of the one before.

    Parameters
    ----------
    problem : AllocationProblem
        Its own budget is replaced.
    budgets : increasing floats above 0
    solver : str
    **options
        As for :func:`hasa_opt.solve`.

    Returns
    -------
    Frontier

    Raises
    ------
    InputError
        If the budgets do not increase.
    InfeasibleError
        If the smallest budget is below the narrowest possible allocation.
    """
    expect(problem, AllocationProblem, "problem")
    shares = float_array(budgets, "budgets")
    if shares.ndim != 1 or shares.size == 0 or (np.diff(shares) <= 0).any():
        raise InputError(f"budgets {budgets!r} must be one or more increasing shares")
    allocations: list[Allocation] = []
    for share in shares:
        start = allocations[-1] if allocations and allocations[-1].has_solution else None
        own = problem.with_budget(share)
        allocations.append(solve(own, solver, warm_start=start, **options))
    return Frontier(shares, tuple(allocations))
