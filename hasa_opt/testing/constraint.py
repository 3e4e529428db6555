"""Does a constraint keep its contract? Integer rows, a mask, and what it means in words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import CheckError, HasaError
from hasa_opt.problem import utility
from hasa_opt.problem.limits import (
    Constraint,
    MaskConstraint,
    Preference,
    Row,
    RowConstraint,
    Terms,
    constraint_name,
)
from hasa_opt.problem.menu import Menu
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.registry import solvers, supports
from hasa_opt.testing.examiner import Case
from hasa_opt.testing.problems import best_objective, feasible_choices
from hasa_opt.testing.solver import SolverExaminer

__all__ = ["check_constraint"]

_PROBLEMS = 12
"""Random utilities and budgets under which the solvers are compared."""

Allows = Callable[[AllocationProblem, IntArray], bool]


def check_constraint(
    constraint: Constraint,
    *,
    allows: Allows | None = None,
    clients: Clients | None = None,
    menu: Menu | None = None,
) -> None:
    """Check that a constraint keeps its contract; made for those that other packages add.

    Its rows are integers of the right shapes with a limit each, its mask is boolean, and both are
    the same when they are asked for again. They admit what ``allows`` admits, of all allocations.
    Every installed solver that takes it finds the optimum of random problems under it.

    Parameters
    ----------
    constraint : Constraint
    allows : callable, optional
        What the constraint means: from a problem and a choice of options ``(n_clients,)`` to
        whether the choice satisfies it. Default: its meaning is not checked.
    clients : Clients, optional
        A few, since all their allocations are tried. Default: four clients "a" to "d" of 3, 1, 4
        and 2 samples, two each in the sites "north" and "south".
    menu : Menu, optional
        Default: the widths 0.25, 0.5 and 1.

    Raises
    ------
    CheckError
        Saying what is wrong.

    Examples
    --------
    >>> from hasa_opt import Quota
    >>> few = lambda problem, choice: (problem.widths[choice] == 1).sum() <= 2
    >>> check_constraint(Quota({1.0: 2}), allows=few)
    """
    fleet = _fleet() if clients is None else clients
    check = _Check(constraint, fleet, Menu.of_widths((0.25, 0.5, 1.0)) if menu is None else menu)
    check.form()
    if isinstance(constraint, Preference):
        return
    if allows is not None:
        check.meaning(allows)
    check.solvers()


def _fleet() -> Clients:
    sites = ["north", "north", "south", "south"]
    return Clients([3, 1, 4, 2], names=list("abcd"), site=sites)


class _Witness:
    """A constraint that allows everything, and keeps what constraints are shown."""

    terms: Terms

    def mask(self, terms: Terms) -> BoolArray:
        self.terms = terms
        return np.ones(terms.shape, dtype=bool)


class _Check:
    def __init__(self, constraint: Constraint, clients: Clients, menu: Menu) -> None:
        self.constraint, self.clients, self.menu = constraint, clients, menu

    def form(self) -> None:
        """Rows and mask have the right types and shapes, and are the same at a second look."""
        witness = _Witness()
        self.problem([witness], self._worthless)
        terms = witness.terms
        if isinstance(self.constraint, RowConstraint):
            rows = self.constraint.rows(terms)
            if len({self.checked_row(row, terms).label for row in rows}) < len(rows):
                self.complain("gives two rows of the same label: they could not be told apart")
            again = self.constraint.rows(terms)
            if list(map(_content, rows)) != list(map(_content, again)):
                self.complain("gives other rows when it is asked again")
        if isinstance(self.constraint, MaskConstraint):
            mask = np.asarray(self.constraint.mask(terms))
            if mask.dtype != np.bool_ or mask.shape != terms.shape:
                self.complain(f"gives a mask of {mask.dtype}{mask.shape}: bool{terms.shape} wanted")
            if (mask != self.constraint.mask(terms)).any():
                self.complain("gives another mask when it is asked again")
        elif not isinstance(self.constraint, RowConstraint | Preference):
            self.complain("states nothing: it needs a method rows() or mask(), or a feature")

    def checked_row(self, row: object, terms: Terms) -> Row:
        """Check one row."""
        if not isinstance(row, Row):
            self.complain(f"gives a {type(row).__name__} for a row: give a Row")
        members = np.arange(terms.shape[0]) if row.members is None else np.asarray(row.members)
        inside = members.size and members[0] >= 0 and members[-1] < terms.shape[0]
        if not inside or (np.diff(members) <= 0).any():
            self.complain(f"row {row.label!r} has the members {members}: increasing rows wanted")
        coefficients, shape = np.asarray(row.coefficients), (members.size, terms.shape[1])
        if coefficients.dtype != np.int64 or coefficients.shape != shape:
            self.complain(
                f"row {row.label!r} has coefficients of {coefficients.dtype}{coefficients.shape}: "
                f"int64{shape} wanted"
            )
        bounds = [bound for bound in (row.lower, row.upper) if bound is not None]
        if not bounds or not all(type(bound) is int for bound in bounds):
            self.complain(f"row {row.label!r} needs a lower or an upper limit, whole numbers")
        if not isinstance(row.label, str) or not row.label:
            self.complain("gives a row without a label, by which errors could name it")
        return row

    @property
    def _worthless(self) -> FloatArray:
        return np.zeros((len(self.clients), len(self.menu)))

    def problem(
        self, constraints: Sequence[Constraint], worth: FloatArray, budget: float | None = None
    ) -> AllocationProblem:
        """A problem of the clients and the menu."""
        try:
            return AllocationProblem.build(
                self.clients,
                menu=self.menu,
                budget=budget,
                utility=utility.measured(worth),
                constraints=constraints,
            )
        except HasaError as error:
            raise CheckError(f"constraint {self.name}: no problem can be built: {error}") from error

    def meaning(self, allows: Allows) -> None:
        """Rows and mask admit what the constraint means."""
        problem = self.problem([self.constraint], self._worthless)
        admitted = {tuple(choice) for choice in feasible_choices(problem).tolist()}
        for choice in itertools.product(range(len(self.menu)), repeat=len(self.clients)):
            if bool(allows(problem, np.array(choice))) != (choice in admitted):
                verb = "admits" if choice in admitted else "rules out"
                options = [self.menu.names[at] for at in choice]
                self.complain(f"{verb} the options {options}, against its meaning")

    def solvers(self) -> None:
        """Every solver that takes it finds the optimum under it."""
        rng = np.random.default_rng(0)
        shared = all(callable(cost) for cost in self.menu.costs.values()) or self.menu.full
        cases = []
        for number in range(_PROBLEMS):
            budget = float(rng.uniform(0.3, 1)) if shared else None
            worth = rng.normal(size=self._worthless.shape)
            problem = self.problem([self.constraint], worth, budget)
            cases.append(Case(f"{self.name} {number}", problem, best_objective(problem)))
        able = [
            record
            for record in solvers()
            if record.available and supports(cases[0].problem, record.name)
        ]
        if not able:
            self.complain("is taken by no solver that is installed here")
        for record in able:
            for case in cases:
                SolverExaminer(record).answer(case)

    @property
    def name(self) -> str:
        return constraint_name(self.constraint)

    def complain(self, words: str) -> NoReturn:
        raise CheckError(f"constraint {self.name} {words}")


def _content(row: Row) -> tuple[object, ...]:
    members = None if row.members is None else row.members.tolist()
    return row.label, row.lower, row.upper, members, row.coefficients.tolist()
