"""The allocation program: one width per client, most utility, within integer limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.archive import Archive, Archived
from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, expect, listed
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.rational import INT64_ROOM, written
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.clients.clients import Clients
from hasa_opt.problem.budgets import Budgets, budget_share, in_units, no_full, share_of_full
from hasa_opt.problem.checks import (
    checked_choice,
    known_constraints,
    masked,
    not_allowed,
    one_menu,
    over_budget,
    stated_rows,
    utility_table,
    within_caps,
)
from hasa_opt.problem.columns import option_columns
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.limits import (
    Constraint,
    Row,
    Terms,
    constraint_name,
    told_apart,
    under_budget,
)
from hasa_opt.problem.menu import COST, Menu
from hasa_opt.problem.model_file import write_model
from hasa_opt.problem.plots import plot_worth
from hasa_opt.problem.pricing import fold, priced
from hasa_opt.problem.stored import pack, unpack
from hasa_opt.problem.totals import Totals
from hasa_opt.problem.utility import Utility

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.table import Table

__all__ = ["AllocationProblem", "Totals"]

# What is computed once from the tables, whatever the budget.
_SHARED = ("cheapest", "span", "magnitude", "_narrowest", "_utility_range")


@dataclass(frozen=True, eq=False)
class AllocationProblem(Archived, Framed, Shown):
    """A multiple-choice knapsack: maximise utility, one width per client, integer limits.

    Build it with :meth:`build`, which checks every value.

    Attributes
    ----------
    clients : Clients
    menu : Menu
        The m options.
    costs : (n_clients, m) int64
        Of the resource that the budget is spent on.
    utilities : (n_clients, m) float64
    admissible : (n_clients, m) bool
        False where a client cannot take that option.
    budget : float or None
        Share of ``full_cost`` that may be spent, as it was given; None for an absolute limit.
    limit : int
        The budget in the unit of the costs: ``floor(budget * full_cost)``.
    full_cost : int or None
        What everybody costs at the option that shares refer to (of widths: width 1), in the same
        unit; None: there is none.
    resource : str
        Name of the resource that the budget is spent on.
    resources : dict of str to (n_clients, m) int64
        Costs of every resource of the menu, whether it is limited or not.
    rows : tuple of Row
        Integer rows of the constraints, without the budget.
    constraints : tuple of Constraint
    least_utilities : (n_clients, m) float64 or None
        Utility of the poorest where a client stands for several; None: none does.
    """

    clients: Clients
    menu: Menu
    costs: IntArray
    utilities: FloatArray
    admissible: BoolArray
    budget: float | None
    limit: int
    full_cost: int | None
    rows: tuple[Row, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    resource: str = COST
    resources: Mapping[str, IntArray] = field(default_factory=dict)
    least_utilities: FloatArray | None = None

    @classmethod
    def build(
        cls,
        clients: Clients,
        *,
        widths: Sequence[float] | FloatArray | None = None,
        menu: Menu | None = None,
        budget: float | Mapping[str, float] | None = None,
        utility: Utility,
        cost: Cost | None = None,
        constraints: Sequence[Constraint] = (),
    ) -> AllocationProblem:
        """Check the input and build the arrays of the program.

        Parameters
        ----------
        clients : Clients
            Their ``max_width`` makes wider subnets inadmissible.
        widths : increasing floats in (0, 1]
            The short form of ``menu=Menu.of_widths(widths, cost=cost)``.
        menu : Menu
            The options that clients choose from; not beside ``widths``.
        budget : float, or mapping of resource to float
            Share of what everybody costs at the menu's option ``full`` (of widths: at width 1):
            0.5 is half the compute of everybody training the whole supernet. The integer limit
            is ``floor(budget * full_cost)`` in exact rationals. An absolute limit is a
            constraint, ``Budget("joules", 5_000)``. May be left out with a menu.
        utility : Utility
            For example :func:`~hasa_opt.problem.utility.hasa`.
        cost : Cost, optional
            With ``widths``; default: :func:`~hasa_opt.problem.cost.width`.
        constraints : sequence of Constraint
            For example ``[Coverage({0.8: 0.1})]``.

        Raises
        ------
        InputError
            For any value that breaks a rule, before any work starts.
        """
        expect(clients, Clients, "clients")
        options = one_menu(widths, menu, cost, budget).ordered(clients)
        kept = known_constraints(constraints)
        costs_of = priced(options, clients)
        budgets = Budgets.read(budget, options, costs_of, kept)
        costs, first = costs_of[budgets.first].costs, budgets.limits.get(budgets.first, INT64_ROOM)
        terms = Terms(clients, options, {name: own.costs for name, own in costs_of.items()},
                      costs, first, within_caps(clients, options))  # fmt: skip
        admissible = masked(kept, terms)
        terms = replace(terms, admissible=admissible)
        rows = [*budgets.rows(costs_of), *stated_rows(budgets.others, terms)]
        utilities = utility_table(utility, clients, options, admissible)
        for table in (costs, utilities, admissible, *terms.resources.values()):
            table.flags.writeable = False
        return cls(
            clients,
            options,
            costs,
            utilities,
            admissible,
            budget=budgets.share,
            limit=first,
            full_cost=costs_of[budgets.first].full,
            rows=told_apart(rows),
            constraints=kept,
            resource=budgets.first,
            resources=terms.resources,
        )

    @property
    def widths(self) -> FloatArray:
        """Width of each option, ``(m,)``.

        Raises
        ------
        InputError
            If the options of the menu have none.
        """
        return self.menu.widths

    def with_budget(self, budget: float) -> AllocationProblem:
        """Return the same problem under another budget, a share of ``full_cost``."""
        share = share_of_full(budget_share(budget), self.full_cost, self.resource)
        rows = under_budget(self.rows, share.most)
        other = replace(self, budget=float(share.value), limit=share.most, rows=rows)
        shared = {key: vars(self)[key] for key in _SHARED if key in vars(self)}
        vars(other).update(shared, learnt=self.learnt)
        return other

    def write(self, path: str | PathLike[str]) -> None:
        """Write the integer program for other solvers, as the backend ``highs`` gets it.

        Parameters
        ----------
        path : path ending in .mps or .lp
            See :mod:`~hasa_opt.problem.model_file` for names and unit, its function for errors.
        """
        write_model(path, self)

    def in_columns(self) -> dict[str, list[Any]]:
        """A row for each option that a client may take: what it is, costs and is worth."""
        rows, options = np.nonzero(self.admissible)
        names = [self.clients.name(row) for row in rows.tolist()]
        taken = option_columns(self.menu, self.resources, self.utilities, rows, options)
        return {"client": names, **taken}

    def plot(self, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw utility against cost: a line for each client, of more than 30 quantiles over them.

        An option is dominated where another of the client costs no more and is worth no less;
        limits beside the budget do not count.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        return plot_worth(ax, self).figure

    def packed(self) -> Archive:
        """What the file of :meth:`save` keeps."""
        return pack({item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def unpacked(cls, archive: Archive) -> Self:
        """The problem that a file keeps; any error but InputError means that it is damaged."""
        return cls(**unpack(archive))

    def __len__(self) -> int:
        return int(self.costs.shape[0])

    def __repr__(self) -> str:
        clients, size = self.costs.shape
        words = [f"{size} {self.menu.noun}s", self.budget_words]
        words += map(constraint_name, self.constraints)
        return f"AllocationProblem({clients} clients x {', '.join(words)})"

    @property
    def share(self) -> float:
        """The budget as a share of ``full_cost``.

        Raises
        ------
        InputError
            If the budget is an absolute limit.
        """
        if self.budget is None:
            raise no_full(self.resource)
        return self.budget

    def share_of(self, cost: float) -> float:
        """A cost in the unit of the budget, as a share of ``full_cost``.

        Raises
        ------
        InputError
            If there is no full cost.
        """
        if self.full_cost is None:
            raise no_full(self.resource)
        return cost / self.full_cost

    @property
    def budget_words(self) -> str:
        """The budget as it was given, in words."""
        if self.budget is not None:
            return f"budget {written(self.budget)}"
        return "no budget" if self.limit >= INT64_ROOM else f"{self.limit} {self.resource}"

    def __rich__(self) -> Table:
        table = new_table("", "allocation problem")
        total = int(self.clients.samples.sum())
        table.add_row("clients", f"{len(self):,}, with {total:,} samples")
        table.add_row(f"{self.menu.noun}s", listed(self.menu.names))
        table.add_row("choices", f"{np.count_nonzero(self.admissible):,} of {self.costs.size:,}")
        words = self.budget_words
        if self.budget is not None and self.full_cost is not None:
            units = in_units(self.limit, self.full_cost, self.resource)
            words = f"{written(self.budget)}: {units}"
        others = (
            f"{most:,} {name}" for name, most in self.budgets.items() if name != self.resource
        )
        table.add_row("budget", "\n".join([words, *others]))
        if self.constraints:
            table.add_row("constraints", listed(self.constraints, constraint_name))
        return table

    @property
    def poorest(self) -> FloatArray:
        """What :class:`hasa_opt.Fairness` compares, ``(n_clients, m)``."""
        return self.utilities if self.least_utilities is None else self.least_utilities

    @cached_property
    def limits(self) -> tuple[Row, ...]:
        """Every limit as a row, the budget first."""
        return (Row("budget", self.costs, None, self.limit), *self.rows)

    @cached_property
    def budgets(self) -> dict[str, int]:
        """Limit of each resource of the menu that has one, in the unit of the resource."""
        found = {self.resource: self.limit} if self.limit < INT64_ROOM else {}
        for row in self.rows:
            if row.resource and row.upper is not None:
                found[row.resource] = min(row.upper, found.get(row.resource, row.upper))
        return found

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """What solvers have learnt of the tables, under any budget; for a warm start."""
        return {}

    @cached_property
    def cheapest(self) -> IntArray:
        """Least admissible cost of each client, ``(n_clients,)``."""
        folded = fold(self.costs, self.admissible, (np.minimum, np.iinfo(np.int64).max))
        return np.asarray(folded[0])

    @cached_property
    def _narrowest(self) -> int | None:
        """Cost of all clients at the first width, if it is admissible for all."""
        return int(self.costs[:, 0].sum()) if self.admissible[:, 0].all() else None

    @cached_property
    def dearest(self) -> int:
        """Cost of all clients at their costliest admissible widths: a budget that cannot bind."""
        return int(fold(self.costs, self.admissible, (np.maximum, 0))[0].sum())

    @cached_property
    def span(self) -> float:
        """Most that the objective can vary: sum of each client's largest less smallest utility."""
        lowest, highest = self._utility_range
        return float((highest - lowest).sum())

    @cached_property
    def ceiling(self) -> float:
        """Sum of each client's largest utility: no allocation is worth more."""
        return float(self._utility_range[1].sum())

    @cached_property
    def magnitude(self) -> float:
        """Sum of the largest absolute utilities: what rounding errors are relative to."""
        lowest, highest = self._utility_range
        return float(np.maximum(highest, -lowest).sum())

    @cached_property
    def _utility_range(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest admissible utility of each client."""
        folds = (np.minimum, np.inf), (np.maximum, -np.inf)
        lowest, highest = fold(self.utilities, self.admissible, *folds)
        return lowest, highest

    def evaluate(self, choice: npt.ArrayLike) -> Totals:
        """Recompute objective and limits of an allocation; costs in exact integers.

        Parameters
        ----------
        choice : (n_clients,) integers
            Index into the menu for each client.

        Raises
        ------
        InputError
            If the shape is wrong or an index is not a whole number within the menu.
        """
        chosen = self.checked(choice)
        entries = np.arange(0, self.costs.size, len(self.menu)) + chosen
        banned = np.flatnonzero(~self.admissible.reshape(-1)[entries])
        violations = [not_allowed(banned, chosen, self.clients, self.menu)] if banned.size else []
        spent = int(self.costs.reshape(-1)[entries].sum())
        excesses = [("budget", max(spent - self.limit, 0))]
        excesses += [(row.label, row.excess(chosen)) for row in self.rows]
        violations += [f"{label} is broken by {by}" for label, by in excesses if by]
        objective = float(self.utilities.reshape(-1)[entries].sum())
        return Totals(objective, spent, self.limit, tuple(violations))

    def check_budget(self) -> None:
        """Raise if even the cheapest admissible allocation is over the budget.

        Raises
        ------
        InfeasibleError
            Naming the budget, by how much it falls short, and the smallest one that suffices.
        """
        if self._narrowest is not None and self._narrowest <= self.limit:
            return
        least = int(self.cheapest.sum())
        if least <= self.limit:
            return
        raise over_budget(least, self.limit, self.resource, self.budget, self.full_cost, self.menu)

    def checked(self, choice: npt.ArrayLike) -> IntArray:
        """Indices into the menu as int64, one per client.

        Raises
        ------
        InputError
            If the shape is wrong or an index is not a whole number within the menu.
        """
        return checked_choice(choice, *self.costs.shape)
