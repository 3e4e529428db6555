"""What a limit buys: the best allocations over values of the budget, or of another limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, expect
from hasa_opt._utils.drawing import FEW, axes_on, finish
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import InputError
from hasa_opt.problem.changes import limit_at, with_limit
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.solving.parameters import facts, numbers_of
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.table import Table

__all__ = ["Frontier", "frontier"]


@dataclass(frozen=True, eq=False)
class Frontier(Framed, Shown):
    """Best allocations at increasing budgets, or values of another limit.

    Attributes
    ----------
    budgets : (n_budgets,) numbers
        Values of the limit, increasing, as it was given: shares of a total, or whole units.
    allocations : tuple of Allocation
        One per budget.
    over : str
        The limit.
    at : int
        Its place among ``problem.limits``.
    """

    budgets: FloatArray
    allocations: tuple[Allocation, ...]
    over: str = "budget"
    at: int = 0

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
        """Shadow price of the limit at each budget: utility per unit, ``(n_budgets,)``."""
        return np.array([allocation.prices[self.at] for allocation in self.allocations])

    def in_columns(self) -> dict[str, Any]:
        """A row for each budget: its value, then what :class:`Allocation` says of it."""
        return {self.over: self.budgets, **facts(self.allocations), "price": self.prices}

    def __rich__(self) -> Table:
        table = new_table()
        for heading in (self.over, "utility", "bound", "gap", "price"):
            table.add_column(heading, justify="right", overflow="fold")
        table.add_column("termination", overflow="fold")
        for budget, found, price in zip(self.budgets, self.allocations, self.prices, strict=True):
            worth = f"{found.objective:.7g}" if found.has_solution else "-"
            numbers = (f"{budget:g}", worth, f"{found.bound:.7g}", f"{found.gap:.1e}")
            table.add_row(*numbers, f"{price:.4g}", str(found.termination))
        return table

    def __repr__(self) -> str:
        ends = f"{self.budgets[0]:g} to {self.budgets[-1]:g}"
        what = "budgets" if self.over == "budget" else f"values of {self.over}"
        return f"Frontier({len(self.allocations)} {what} from {ends})"

    def plot(self, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw utility, with its bound, against the budget.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Raises
        ------
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        axes = axes_on(ax, "Frontier.plot()", (5.2, 3.6))
        axes.fill_between(self.budgets, self.objectives, self.bounds, alpha=0.3, label="gap")
        marker = "o" if len(self.budgets) <= FEW else None
        axes.plot(self.budgets, self.objectives, marker=marker, markersize=4, label="utility")
        share = self.over == "budget" and self.allocations[0].problem.budget is not None
        axes.set_xlabel("Budget (share of the full width's cost)" if share else self.over)
        axes.set_ylabel("Utility")
        axes.legend(frameon=False)
        finish(axes, "")
        return axes.figure


def frontier(
    problem: AllocationProblem,
    budgets: Sequence[float],
    solver: str = "auto",
    *,
    over: str = "budget",
    **options: Any,
) -> Frontier:
    """Solve a problem at several budgets, each from the allocation of the one before.

    Parameters
    ----------
    problem : AllocationProblem
        Its own budget is replaced.
    budgets : increasing numbers
        As the limit was given: shares of a total, or whole units.
    solver : str
    over : str
        Another limit in the place of the budget: its label, the beginning of its label, or the
        resource that it limits.
    **options : Any
        As for :func:`hasa_opt.solve`.

    Returns
    -------
    Frontier

    Raises
    ------
    InputError
        If the budgets do not increase, or no limit is meant.
    InfeasibleError
        If a budget admits no allocation, as one below the narrowest; see
        :func:`hasa_opt.sweep`, which goes on.
    """
    expect(problem, AllocationProblem, "problem")
    at, values = limit_at(problem, over), numbers_of(budgets, "budgets")
    if any(after <= before for before, after in pairwise(values)):
        raise InputError(f"budgets {budgets!r} must increase")
    allocations: list[Allocation] = []
    for value in values:
        start = allocations[-1] if allocations and allocations[-1].has_solution else None
        own = with_limit(at, problem, value)
        allocations.append(solve(own, solver, warm_start=start, **options))
    return Frontier(np.array(values), tuple(allocations), over, at)
