"""The program as data: widths, costs, utilities, limits, matrix form, and the verified result.

Nothing here solves anything. A limit is a small class each, for integer rows, a mask or a
preference: a solver that lists the class among its supported constraints translates its rows;
every other solver refuses it by name before any work. Masks (:class:`MinWidth`, :class:`Fixed`,
:class:`Forbidden`) only make widths inadmissible, so every solver understands them.
:class:`Fairness` says which of the allocations within the limits is best.
"""

from hasa_opt.problem.budgets import Budget, Robust, SiteBudgets
from hasa_opt.problem.choices import Coverage, Fixed, Forbidden, MinWidth, Quota, Switches
from hasa_opt.problem.limits import (
    Constraint,
    Fairness,
    MaskConstraint,
    Preference,
    RobustRow,
    Row,
    RowConstraint,
    Terms,
)
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination

__all__ = [
    "Allocation",
    "AllocationProblem",
    "Budget",
    "Constraint",
    "Coverage",
    "Fairness",
    "Fixed",
    "Forbidden",
    "MaskConstraint",
    "MinWidth",
    "Preference",
    "Quota",
    "Robust",
    "RobustRow",
    "Row",
    "RowConstraint",
    "SiteBudgets",
    "Switches",
    "Termination",
    "Terms",
]
