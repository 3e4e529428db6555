"""What an allocation is worth and a bound on all others, in one pass over the tables.

It takes a price and nothing else from a backend, and shares no code with any:
:mod:`~hasa_opt.solving.verdict` holds a million clients against it in the time of reading them
twice.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import inf

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.problem.problem import AllocationProblem, Totals
from hasa_opt.solvers.exact.kernels import interpreted, kernel, little

__all__ = ["certified"]


def certified(
    problem: AllocationProblem, choice: npt.ArrayLike, price: float
) -> tuple[Totals, float]:
    """Totals of :meth:`AllocationProblem.evaluate`, bound of ``relaxation.lagrangian``.

    Parameters
    ----------
    problem : AllocationProblem
        Without limits beyond the budget.
    choice : (n_clients,) integers
    price : float
        Utility per unit of cost, at least 0; the bound holds at any.

    Raises
    ------
    InputError
        If the choice is not a list of indices into the menu.
    """
    chosen = problem.checked(choice).view()
    chosen.flags.writeable = False  # compiled code is of one type for all callers
    utilities = np.empty(len(problem))
    tables = (problem.costs, problem.utilities, problem.admissible)
    rows = (np.ascontiguousarray(array) for array in (*tables, chosen))
    with interpreted(inf) if little(problem.costs.size) else nullcontext():
        spent, banned, best, first = _pass(*rows, price, utilities)
    bound = float(best + price * (problem.limit - first))
    if banned or spent > problem.limit:
        return problem.evaluate(chosen), bound
    return Totals(float(utilities.sum()), int(spent), problem.limit, ()), bound


@kernel
def _pass(
    costs: IntArray,
    utilities: FloatArray,
    admissible: npt.NDArray[np.bool_],
    choice: IntArray,
    price: float,
    chosen: FloatArray,
) -> tuple[int, int, float, int]:
    """Cost of a choice, its inadmissible widths, and the sum of the best net utilities.

    That sum is compensated (Neumaier, 1974). Its costs count from each client's first one, which
    keeps the digits; their sum comes last. Writes the chosen utilities.
    """
    spent, banned, total, lost, first = 0, 0, 0.0, 0.0, 0
    for i in range(costs.shape[0]):
        best = -np.inf
        for k in range(costs.shape[1]):
            if admissible[i, k]:
                extra = np.float64(costs[i, k] - costs[i, 0])
                best = max(best, utilities[i, k] - price * extra)
        larger = total + best
        lost += (total - larger) + best if abs(total) >= abs(best) else (best - larger) + total
        total = larger
        first += costs[i, 0]
        spent += costs[i, choice[i]]
        banned += not admissible[i, choice[i]]
        chosen[i] = utilities[i, choice[i]]
    return spent, banned, total + lost, first
