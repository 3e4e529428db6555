"""What a solver found, after verification: why it stopped and what it holds are two things."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.archive import Archive, Archived
from hasa_opt._utils.checks import FloatArray, IntArray, listed
from hasa_opt._utils.drawing import FEW
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.registry import Registry
from hasa_opt._utils.showing import Shown
from hasa_opt.errors import InputError, NoSolutionError
from hasa_opt.problem.columns import option_columns
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.plots import groups_of, plot_choice, plot_groups, plot_options
from hasa_opt.problem.problem import AllocationProblem, Totals
from hasa_opt.problem.standing import Standing, standings
from hasa_opt.problem.stored_result import pack_result, recomputed, unpack_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.console import RenderableType
    from rich.table import Table

    from hasa_opt._utils.deadline import Deadline

__all__ = ["COLUMNS", "PROOF_TOLERANCE", "Allocation", "Termination"]

PROOF_TOLERANCE = 1e-9
"""Share of what utilities can vary that a proof of optimality may leave open, for rounding."""


class Termination(StrEnum):
    """Why a solver stopped."""

    OPTIMAL = "optimal"
    """The allocation is proven best."""
    GAP_REACHED = "gap reached"
    """The solver ended by itself with an allocation within the stated gap of the bound."""
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    """By the caller (Ctrl-C, or ``on_progress``), or by another limit than that of time: of nodes,
    of solutions, of conflicts. Such a limit is an option of the solver's own and says nothing about
    a gap."""
    INFEASIBLE = "infeasible"
    """No allocation satisfies the limits; :func:`hasa_opt.solve` raises instead."""
    FAILED = "failed"
    """The solver gave up, or its answer did not survive verification."""

    @classmethod
    def at(cls, deadline: Deadline) -> Termination:
        """Why a deadline has passed: the time is up, or somebody has asked to stop before."""
        return cls.INTERRUPTED if deadline.called_off else cls.TIME_LIMIT


@dataclass(frozen=True, eq=False)
class Allocation(Archived, Framed, Shown):
    """A verified allocation, or the reason why there is none.

    Attributes
    ----------
    problem : AllocationProblem
    solver : str
        Name of the backend that gave this answer.
    termination : Termination
    bound : float
        No allocation is worth more than this.
    prices : (n_limits,) float64
        Shadow price of every limit in the linear relaxation, in the order of ``problem.limits``:
        utility per unit of the limit as it was given, at least 0 for an upper limit, at most 0
        for a lower one, and 0 where the relaxation does not use the limit up.
    seconds : float
        Wall-clock time of the backend and the verification.
    claim_held : bool
        False if the backend claimed something that verification disproved.
    message : str
        The backend's own status, and what verification found.
    fallback_from : tuple of str
        Solvers that were tried before this one, each with the reason why it did not do.
    incumbent_from : str
        Who found the allocation that is held: a solver, or ``"warm start"``, ``"greedy"``,
        ``"repair"``, ``"even shares"``, which every call knows before its solver runs, or
        ``"search"``, which disproved a solver's claim that there is none.
    own_objective : float or None
        Objective of what the solver found itself, or proved; None where it found nothing, or
        nothing better than what it was given to start from.
    """

    problem: AllocationProblem
    solver: str
    termination: Termination
    bound: float
    prices: FloatArray
    seconds: float
    claim_held: bool = True
    message: str = ""
    fallback_from: tuple[str, ...] = ()
    incumbent_from: str = ""
    own_objective: float | None = None
    held: IntArray | None = field(default=None, repr=False)
    totals: Totals | None = field(default=None, repr=False)

    @property
    def price(self) -> float:
        """Shadow price of the budget: utility per unit of integer cost, in the linear relaxation.

        The first of :attr:`prices`.
        """
        return float(self.prices[0])

    def describe_prices(self) -> str:
        """What one more unit of each limit would be worth, in words; the dearest limit first.

        By the linear relaxation; limits that do not bind are left out.
        """
        lines = []
        for at in np.argsort(-np.abs(self.prices), kind="stable"):
            price, row = float(self.prices[at]), self.problem.limits[at]
            if price:
                change = "one unit more" if price > 0 else "one unit less"
                lines.append(f"{row.label}: {change} is worth {abs(price):.4g}")
        return "\n".join(lines) or "no limit binds: more of any is worth nothing"

    @property
    def standings(self) -> list[Standing]:
        """What the allocation takes of each limit, the budget first, and whether it binds."""
        return standings(self.problem.limits, self.choice, self.prices)

    @property
    def has_solution(self) -> bool:
        """True if an allocation is held."""
        return self.held is not None

    @property
    def choice(self) -> IntArray:
        """Index into the menu for each client, ``(n_clients,)``.

        Raises
        ------
        NoSolutionError
            If no allocation is held; so do all properties that derive from it.
        """
        if self.held is None:
            name = f"{self.solver}: "
            last = name + self.message.removeprefix(name)
            tried = listed([*self.fallback_from, last], separator="; ")
            other = "highs" if "exact" in tried else "exact"
            raise NoSolutionError(
                f"nobody found an allocation within the limits ({self.termination}), nor a proof "
                f"that there is none; none is worth more than {self.bound:.9g}; tried: {tried}; "
                f"raise time_limit_s, or name a fallback such as fallback='{other}'"
            )
        return self.held

    @property
    def options(self) -> npt.NDArray[np.str_]:
        """Name of the option of each client, ``(n_clients,)``."""
        return np.array(self.problem.menu.names)[self.choice]

    @property
    def widths(self) -> FloatArray:
        """Width of each client, ``(n_clients,)``; 0 for those that are left out.

        Raises
        ------
        InputError
            If the options of the menu have no widths.
        """
        return self.problem.widths[self.choice]

    @property
    def spending(self) -> dict[str, int]:
        """What the allocation takes of each resource of the menu, in exact integer units."""
        choice = self.choice
        rows = np.arange(choice.size)
        return {
            name: int(table[rows, choice].sum()) for name, table in self.problem.resources.items()
        }

    @cached_property
    def _known_totals(self) -> Totals:
        return self.totals or self.problem.evaluate(self.choice)

    @property
    def objective(self) -> float:
        """Sum of the utilities, recomputed from the choice."""
        return self._known_totals.objective

    @property
    def poorest(self) -> float:
        """Smallest utility of a client, see :class:`hasa_opt.Fairness`."""
        choice = self.choice
        return float(self.problem.utilities[np.arange(choice.size), choice].min())

    @property
    def spent(self) -> int:
        """Cost of the allocation in exact integer units, of the first resource of the menu.

        At most ``problem.limit`` where that is the resource of the budget.
        """
        return next(iter(self.spending.values()), self._known_totals.spent)

    @property
    def spent_share(self) -> float:
        """Cost as a share of the full width's cost, comparable with ``budget``."""
        return self.problem.share_of(self._known_totals.spent)

    @property
    def gap(self) -> float:
        """``(bound - objective) / |objective|``, at least 0; infinite without a solution."""
        if self.held is None:
            return float("inf")
        return relative_gap(self.problem, self.objective, self.bound)

    def packed(self) -> Archive:
        """What the file of :meth:`save` keeps: the problem as well."""
        return pack_result(self.problem, vars(self), self.prices, self.held)

    @classmethod
    def unpacked(cls, archive: Archive) -> Self:
        """The result that a file keeps, if what it claims is so; the bound is its solver's word."""
        fields = unpack_result(archive)
        fields["termination"] = Termination(fields["termination"])
        found = cls(**fields, totals=recomputed(archive, fields))
        open_part = found.bound - found.objective if found.has_solution else found.bound
        is_open = open_part > PROOF_TOLERANCE * found.problem.span and found.gap > 0
        if found.termination is Termination.OPTIMAL and is_open:
            raise InputError(
                f"says that the allocation is optimal, but leaves a gap of {found.gap:.2g} to its "
                "bound: do not use it, solve the problem again"
            )
        return found

    def table(self, beside: Mapping[str, FloatArray] | None = None) -> Table:
        """One line per client, of many the first 20, with the columns of :data:`COLUMNS`.

        Parameters
        ----------
        beside : mapping of str to (n_clients,) float64, optional
            Heading to widths of another origin, shown with four digits.

        Returns
        -------
        rich Table
        """
        columns: dict[str, Callable[[int], str]] = {
            heading: partial(column, self) for heading, column in COLUMNS.items() if column(self, 0)
        }
        others = {name: partial(_rounded, widths) for name, widths in (beside or {}).items()}
        return self.problem.clients.table(columns | others)

    def in_columns(self) -> dict[str, list[Any]]:
        """A row for each client: its samples, and what it takes as of :attr:`columns`."""
        clients = self.problem.clients
        return {
            "client": list(clients.all_names),
            "samples": clients.samples.tolist(),
            **self.columns,
        }

    @property
    def columns(self) -> dict[str, list[Any]]:
        """What each client takes: option, attributes, costs by resource, utility."""
        problem, choice = self.problem, self.choice
        rows = np.arange(choice.size)
        return option_columns(problem.menu, problem.resources, problem.utilities, rows, choice)

    def plot(
        self, *, by: str | Sequence[object] | None = None, ax: Axes | None = None
    ) -> Figure | SubFigure:
        """Draw who has which width, or option.

        Up to 30 clients have a bar each; of more it is counted how many have which.

        Parameters
        ----------
        by : {"site", "device"}, or one label for each client, optional
            The shares within each group instead; of more than 30 groups, the largest 29 and the
            others as one.
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        InputError
            If the clients have no such column, or there is not one label for each.
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        NoSolutionError
            If no allocation is held.
        """
        problem, choice = self.problem, self.choice
        clients, menu = problem.clients, problem.menu
        if by is not None:
            return plot_groups(ax, menu, choice, groups_of(clients, by)).figure
        if len(clients) > FEW:
            return plot_options(ax, menu, choice).figure
        return plot_choice(ax, clients, menu, problem.admissible, choice).figure

    @property
    def summary(self) -> str:
        """Why the solver stopped and what the allocation is worth and spends, in one line."""
        if self.held is None:
            return f"{self.solver}: {self.termination}, no solution"
        other = "" if self.own_objective is not None else self.incumbent_from
        return (
            f"{self.solver}: {self.termination}, objective {self.objective:.9g}, "
            f"gap {self.gap:.2g}, spends {self._spending_words}"
            f"{other and f', found by {other}'}"
        )

    @property
    def _spending_words(self) -> str:
        problem, limits = self.problem, self.problem.budgets
        if problem.budget is not None and len(problem.resources) < 2:
            return f"{self.spent_share:.4f} of {problem.budget:g}"
        words = [
            f"{amount:,}{f' of {limits[name]:,}' if name in limits else ''} {name}"
            for name, amount in self.spending.items()
        ]
        return ", ".join(words) or str(self.spent)

    def __repr__(self) -> str:
        return f"Allocation({self.summary})"

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        summary = Text(self.summary)
        return Group(self.table(), summary) if self.has_solution else summary


def _option(allocation: Allocation, row: int) -> str:
    menu = allocation.problem.menu
    return "" if menu.only_widths else menu.names[allocation.choice[row]]


def _width(allocation: Allocation, row: int) -> str:
    widths = allocation.problem.menu.attributes.get(WIDTH)
    return "" if widths is None else f"{widths[allocation.choice[row]]:g}"


def _rounded(widths: FloatArray, row: int) -> str:
    return f"{widths[row]:.4f}"


COLUMNS: Registry[Callable[[Allocation, int], str]] = Registry(
    "columns",
    {
        "option": _option,
        "width": _width,
    },
)
"""Columns of the table of an allocation: heading to the text for the client of a row.

A column without a text for the first client is left out.
"""


class Valued(Protocol):
    """A problem whose objectives are known in size."""

    @property
    def magnitude(self) -> float:
        """What rounding errors of an objective are relative to."""
        ...


def relative_gap(problem: Valued, objective: float, bound: float) -> float:
    """Gap relative to the objective; differences within rounding of the utilities count as 0."""
    difference = bound - objective
    if difference <= 0:
        return 0.0
    rounding = 1e-14 * problem.magnitude
    return 0.0 if difference <= rounding else difference / max(abs(objective), rounding)


def absolute_gap(gap: float, objective: float, bound: float) -> float:
    """A difference within the relative gap of any objective from one in hand to the bound.

    0 where these are of different signs.
    """
    return gap * min(abs(objective), abs(bound)) if objective * bound > 0 else 0.0
