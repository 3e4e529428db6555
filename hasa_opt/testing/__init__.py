"""Checks for solvers, constraints and policies of your own, as ours go through them.

Each raises :class:`~hasa_opt.errors.CheckError` with a sentence that says what is wrong, and needs
no test framework. Nothing in the package imports this folder.
"""

from hasa_opt.testing.catalogue import CATALOGUE, Known
from hasa_opt.testing.constraint import check_constraint
from hasa_opt.testing.partition import check_partition
from hasa_opt.testing.policy import check_policy
from hasa_opt.testing.problems import best_objective, random_problem
from hasa_opt.testing.solver import check_solver

__all__ = [
    "CATALOGUE",
    "Known",
    "best_objective",
    "check_constraint",
    "check_partition",
    "check_policy",
    "check_solver",
    "random_problem",
]
