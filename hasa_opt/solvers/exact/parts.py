"""The linear relaxation of clients that come in parts: what one part tells the others.

As in :mod:`~hasa_opt.solvers.exact.kernels.multiplier`, a sample brackets the multiplier, and of
each part only the clients whose choice changes within the bracket are still open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.exact.kernels import read_only
from hasa_opt.solvers.exact.kernels.multiplier import Table, bracket
from hasa_opt.solvers.exact.kernels.steps import steps_within

__all__ = ["Margin", "margin", "price_interval"]


class Margin(NamedTuple):
    """A part at the high end of an interval of multipliers.

    Attributes
    ----------
    choice : (n_clients,) int64
        Best options there.
    open : (n_open,) int64
        Increasing rows of the clients whose best option changes within the interval.
    most : int
        What the part spends at the low end.
    """

    choice: IntArray
    open: IntArray
    most: int


def price_interval(
    sample: AllocationProblem, target: float, widening: float
) -> tuple[float, float]:
    """Interval of multipliers that holds that of all clients, most likely.

    Parameters
    ----------
    sample : AllocationProblem
    target : float
        The share of the sample in the budget.
    widening : float
        How many times as wide it is as the sample asks for.
    """
    return bracket(_table(sample), target, widening)


def margin(part: AllocationProblem, low: float, high: float) -> Margin:
    """Find the clients of a part whose choice changes within an interval of multipliers."""
    choice = np.empty(len(part), dtype=np.int64)
    rows = np.arange(len(part))
    _, cost, client, _, spent = steps_within(*_table(part), rows, low, high, choice)
    return Margin(choice, np.unique(client), int(spent) + int(cost.sum()))


def _table(problem: AllocationProblem) -> Table:
    return Table(*map(read_only, (problem.costs, problem.utilities, problem.admissible)))
