"""Constraints beyond the budget: each a small class that states integer rows or a mask.

A solver that lists a class among its supported constraints translates its rows; every other
solver refuses it by name before any work. Masks (:class:`MinWidth`, :class:`Fixed`,
:class:`Forbidden`) only make widths inadmissible, so every solver understands them.
"""

from hasa_opt.constraints.budget import Budget
from hasa_opt.constraints.coverage import Coverage
from hasa_opt.constraints.limit import Constraint, MaskConstraint, RobustRow, Row, RowConstraint
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
    "Fixed",
    "Forbidden",
    "MaskConstraint",
    "MinWidth",
    "Quota",
    "Robust",
    "RobustRow",
    "Row",
    "RowConstraint",
    "SiteBudgets",
    "Switches",
    "Terms",
]
