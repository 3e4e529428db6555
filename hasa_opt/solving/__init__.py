"""Solving: what is asked of a problem, whichever backend answers.

The call itself with its verdict on every answer, comparisons of backends, explanations of what is
infeasible, fair allocations, prices, curves over a limit, grids of several numbers, and what a new
allocation changes. How one backend works does not belong here (:mod:`hasa_opt.solvers`).
"""

from hasa_opt.solving.comparison import Comparison, compare
from hasa_opt.solving.explanation import Explanation, explain
from hasa_opt.solving.files import FileAllocation, solve_files, verify_files
from hasa_opt.solving.frontiers import Frontier, frontier
from hasa_opt.solving.parameters import Sweep, sweep
from hasa_opt.solving.prices import Sensitivity, sensitivity
from hasa_opt.solving.solver import solve, solve_continuous
from hasa_opt.solving.turnover import Changes, changes

__all__ = [
    "Changes",
    "Comparison",
    "Explanation",
    "FileAllocation",
    "Frontier",
    "Sensitivity",
    "Sweep",
    "changes",
    "compare",
    "explain",
    "frontier",
    "sensitivity",
    "solve",
    "solve_continuous",
    "solve_files",
    "sweep",
    "verify_files",
]
