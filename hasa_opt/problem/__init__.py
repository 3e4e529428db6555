"""The program as data: widths, costs, utilities, limits, matrix form, and the verified result.

Nothing here solves anything. A constraint is a small class each. Most state integer rows: solvers
that translate rows take them, others refuse them by name before any work. Masks
(:class:`MinWidth`, :class:`Fixed`, :class:`Forbidden`) make widths inadmissible, which every solver
understands. :class:`Fairness` says which of the allocations within the limits is best.
"""

from hasa_opt._utils.registry import Registry
from hasa_opt.problem.budgets import Budget, Robust, SiteBudgets
from hasa_opt.problem.choices import (
    AtLeast,
    Coverage,
    Deadline,
    Fixed,
    Forbidden,
    MinWidth,
    Quota,
    Switches,
)
from hasa_opt.problem.clock import Clock
from hasa_opt.problem.fleet_file import FileProblem
from hasa_opt.problem.groups import Capacity, SameOption
from hasa_opt.problem.limits import (
    Constraint,
    Fairness,
    MaskConstraint,
    Preference,
    RobustRow,
    Row,
    RowConstraint,
    Terms,
    constraint_name,
)
from hasa_opt.problem.menu import Menu
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination

__all__ = [
    "CONSTRAINTS",
    "Allocation",
    "AllocationProblem",
    "AtLeast",
    "Budget",
    "Capacity",
    "Clock",
    "Constraint",
    "Coverage",
    "Deadline",
    "Fairness",
    "FileProblem",
    "Fixed",
    "Forbidden",
    "MaskConstraint",
    "Menu",
    "MinWidth",
    "Preference",
    "Quota",
    "Robust",
    "RobustRow",
    "Row",
    "RowConstraint",
    "SameOption",
    "SiteBudgets",
    "Switches",
    "Termination",
    "Terms",
]

_CONSTRAINTS: tuple[object, ...] = (
    Budget,
    Coverage,
    Quota,
    SiteBudgets,
    Switches,
    SameOption,
    Capacity,
    Robust,
    Fairness("maxmin"),
    Fairness("leximin"),
    MinWidth,
    AtLeast,
    Deadline,
    Fixed,
    Forbidden,
)

CONSTRAINTS: Registry[object] = Registry(
    "constraints", {constraint_name(item): item for item in _CONSTRAINTS}
)
"""Classes of constraints by name, and :class:`Fairness` by its modes; the lines of tables."""
