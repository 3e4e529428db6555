"""What a limit buys: the best allocations over values of the budget, or of another limit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, expect
from hasa_opt._utils.drawing import FEW, axes_on, finish
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.interrupts import ended_by_interrupt
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, new_table
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.changes import limit_at, with_bound, with_limit
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.solving.page import write_page
from hasa_opt.solving.parameters import facts, numbers_of
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.table import Table

__all__ = ["Frontier", "frontier"]

_PARTS = 10**6
"""Shares that are found here, not given, are multiples of a millionth."""
_TRIED = 1_000
"""Budgets among which the least with an allocation is looked for: ten solves."""
_MOST = 100_000
"""Budgets that are found here; each is a solve, and its allocation is kept."""


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
        n_budgets, prices = len(self.allocations), self.prices
        shown = np.unique(np.linspace(0, n_budgets - 1, SHOWN_ROWS).astype(int)).tolist()
        if len(shown) < n_budgets:
            table.caption = f"{len(shown)} of {n_budgets} budgets, evenly"
        for at in shown:
            budget, found, price = self.budgets[at], self.allocations[at], prices[at]
            worth = f"{found.objective:.7g}" if found.has_solution else "-"
            numbers = (f"{budget:g}", worth, f"{found.bound:.7g}", f"{found.gap:.1e}")
            table.add_row(*numbers, f"{price:.4g}", str(found.termination))
        return table

    def __repr__(self) -> str:
        ends = f"{self.budgets[0]:g} to {self.budgets[-1]:g}"
        n, plural = len(self.allocations), "" if len(self.allocations) == 1 else "s"
        what = f"budget{plural}" if self.over == "budget" else f"value{plural} of {self.over}"
        return f"Frontier({n} {what} from {ends})"

    def plot(self, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw utility, with its bound, against the budget.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

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

    def explore(self, path: str | PathLike[str]) -> Path:
        """Write a page to play with: who gets what at each budget, moved through by a slider.

        One HTML file below 6 MB that needs nothing else: who has which width, the utility, the
        price, which limit binds and, over the budget, who changes next. Up to 30 clients have a bar
        each; of more the page counts, and finds single ones by name as long as all fit in.
        Budgets without an allocation in hand are left out.

        Parameters
        ----------
        path : path of the file to write
            Its folder must exist; a file that is there is replaced.

        Returns
        -------
        Path
            Of the written file.

        Raises
        ------
        InputError
            If the folder does not exist, or so many budgets do not fit.
        NoSolutionError
            If no allocation is held at any budget.
        """
        held = [row for row, own in enumerate(self.allocations) if own.has_solution] or [0]
        allocations = [self.allocations[row] for row in held]
        return write_page(path, self.budgets[held], allocations, self.over, self.at)


def frontier(
    problem: AllocationProblem,
    budgets: Sequence[float] | int,
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
    budgets : increasing numbers, or how many of them
        As the limit was given: shares of a total, or whole units. So many budgets are evenly spread
        from the least with an allocation, to a thousandth of the range, to what the costliest
        options take.
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
        If the budgets do not increase, no limit is meant, or a number of values is above 100,000 or
        asked for of another limit than the budget.
    InfeasibleError
        If a budget admits no allocation, as one below the narrowest; see
        :func:`hasa_opt.sweep`, which goes on.
    KeyboardInterrupt
        At Ctrl-C.
    """
    expect(problem, AllocationProblem, "problem")
    at = limit_at(problem, over)
    allocations: list[Allocation] = []
    with ended_by_interrupt() as check:
        if isinstance(budgets, Integral):
            values = _spread(problem, at, int(budgets), solver, options)
        else:
            values = numbers_of(budgets, "budgets")
        if any(after <= before for before, after in pairwise(values)):
            raise InputError(f"budgets {budgets!r} must increase")
        for value in values:
            start = allocations[-1] if allocations and allocations[-1].has_solution else None
            own = with_limit(at, problem, value)
            check()
            allocations.append(solve(own, solver, warm_start=start, **options))
        check()
    return Frontier(np.array(values), tuple(allocations), over, at)


def _spread(
    problem: AllocationProblem, at: int, n: int, solver: str, options: dict[str, Any]
) -> list[float]:
    """Budgets, evenly from the least with an allocation to one that does not bind."""
    if at != 0:
        raise InputError(
            f"budgets {n}: values are found for the budget alone; give those of the limit, as in "
            "[0.2, 0.4]"
        )
    if not 2 <= n <= _MOST:
        raise InputError(
            f"budgets {n}: a number of budgets is at least 2 and at most {_MOST:,}; give another, "
            "or the budgets themselves, as in [0.2, 0.4]"
        )
    least, most = int(problem.cheapest.sum()), problem.dearest
    if problem.rows:
        tried = _evenly(least, most, _TRIED)
        first = bisect_left(
            tried[:-1],
            True,
            key=lambda bound: _feasible(with_bound(problem, 0, bound), solver, options),
        )
        least = tried[first]
    units = _evenly(least, most, n)
    full = problem.full_cost
    if problem.budget is None or full is None:
        return [*units]
    return sorted({ceil(Fraction(bound * _PARTS, full)) / _PARTS for bound in units})


def _evenly(least: int, most: int, n: int) -> list[int]:
    return sorted({least + (most - least) * step // (n - 1) for step in range(n)})


def _feasible(problem: AllocationProblem, solver: str, options: dict[str, Any]) -> bool:
    try:
        solve(problem, solver, **options)
    except InfeasibleError:
        return False
    return True
