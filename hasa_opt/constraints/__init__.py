"""Constraints beyond the budget: a small class each, for integer rows, a mask or a preference.

A solver that lists a class among its supported constraints translates its rows; every other
solver refuses it by name before any work. Masks (:class:`MinWidth`, :class:`Fixed`,
:class:`Forbidden`) only make widths inadmissible, so every solver understands them.
:class:`Fairness` says which of the allocations within the limits is best.
"""

from hasa_opt.constraints.budget import Budget
from hasa_opt.constraints.coverage import Coverage
from hasa_opt.constraints.fairness import Fairness
from hasa_opt.constraints.limit import (
    Constraint,
    MaskConstraint,
    Preference,
    RobustRow,
    Row,
    RowConstraint,
)
from hasa_opt.constraints.masks import Fixed, Forbidden, MinWidth
from hasa_opt.constraints.quota import Quota
from hasa_opt.constraints.robust import Robust
from hasa_opt.constraints.sites import SiteBudgets
from hasa_opt.constraints.switches import Switches
from hasa_opt.constraints.terms import Terms

__all__ = [
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
    "Terms",
]
