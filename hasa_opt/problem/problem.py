"""The allocation program: one width per client, most utility, within integer limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, array, expect, listed
from hasa_opt._utils.rational import INT64_ROOM, decimal_above, menu_units
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.checks import (
    budget_share,
    cost_table,
    known_constraints,
    masked,
    utility_table,
    within_caps,
)
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.limits import (
    Constraint,
    RobustRow,
    Row,
    RowConstraint,
    Terms,
    constraint_name,
)
from hasa_opt.problem.utility import Utility

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["AllocationProblem", "Totals"]

_BLOCK = 1 << 12
# What is computed once from the tables, whatever the budget.
_SHARED = ("cheapest", "span", "magnitude", "_narrowest", "_utility_range")


@dataclass(frozen=True)
class Totals:
    """What one allocation costs and is worth, recomputed from the problem's own arrays.

    Attributes
    ----------
    objective : float
        Sum of the utilities.
    spent : int
        Sum of the costs, exact.
    limit : int
        The budget in the same unit.
    violations : tuple of str
        Every limit that the allocation breaks, in words; empty if it is feasible.
    """

    objective: float
    spent: int
    limit: int
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """True if no limit is broken."""
        return not self.violations


@dataclass(frozen=True, eq=False)
class AllocationProblem(Shown):
    """A multiple-choice knapsack: maximise utility, one width per client, integer limits.

    Build it with :meth:`build`, which checks every value.

    Attributes
    ----------
    clients : Clients
    widths : (n_widths,) float64
        The menu, increasing.
    costs : (n_clients, n_widths) int64
    utilities : (n_clients, n_widths) float64
    admissible : (n_clients, n_widths) bool
        False where the device cannot train that width.
    budget : float
        Share of ``full_cost`` that may be spent, as it was given.
    limit : int
        The budget in the unit of the costs: ``floor(budget * full_cost)``.
    full_cost : int
        Cost of all clients at width 1, in the same unit.
    rows : tuple of Row
        Integer rows of the constraints, without the budget.
    constraints : tuple of Constraint
    """

    clients: Clients
    widths: FloatArray
    costs: IntArray
    utilities: FloatArray
    admissible: BoolArray
    budget: float
    limit: int
    full_cost: int
    rows: tuple[Row, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def build(
        cls,
        clients: Clients,
        *,
        widths: Sequence[float] | FloatArray,
        budget: float,
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
            The menu.
        budget : float
            Size-weighted mean cost as a share of the full width's cost: 0.5 is half the compute
            of everybody training the whole supernet. The integer limit is
            ``floor(budget * full_cost)`` in exact rationals.
        utility : Utility
            For example :func:`~hasa_opt.problem.utility.hasa`.
        cost : Cost, optional
            Default: :func:`~hasa_opt.problem.cost.width`.
        constraints : sequence of Constraint
            For example ``[Coverage({0.8: 0.1})]``.

        Raises
        ------
        InputError
            For any value that breaks a rule, before any work starts.
        """
        expect(clients, Clients, "clients")
        units, denominator = menu_units(widths)
        menu = units / denominator
        share = budget_share(budget)
        priced = cost_table(width_cost() if cost is None else cost, clients, units, denominator)
        kept = known_constraints(constraints)
        limit = min(floor(share * priced.full), INT64_ROOM)
        terms = Terms(clients, units, denominator, priced.costs, limit)
        rows = [row for item in kept if isinstance(item, RowConstraint) for row in item.rows(terms)]
        admissible = masked(within_caps(clients, menu), kept, terms)
        utilities = utility_table(utility, clients, menu, admissible)
        frozen = (menu, priced.costs, utilities, admissible)
        for table in frozen:
            table.flags.writeable = False
        return cls(
            clients,
            *frozen,
            budget=float(share),
            limit=limit,
            full_cost=priced.full,
            rows=tuple(rows),
            constraints=kept,
        )

    def with_budget(self, budget: float) -> AllocationProblem:
        """Return the same problem under another budget, a share of ``full_cost``."""
        share = budget_share(budget)
        limit = min(floor(share * self.full_cost), INT64_ROOM)
        rows = tuple(
            replace(row, upper=limit) if isinstance(row, RobustRow) else row for row in self.rows
        )
        other = replace(self, budget=float(share), limit=limit, rows=rows)
        shared = {key: vars(self)[key] for key in _SHARED if key in vars(self)}
        vars(other).update(shared, learnt=self.learnt)
        return other

    def __len__(self) -> int:
        return int(self.costs.shape[0])

    def __repr__(self) -> str:
        clients, widths = self.costs.shape
        extra = "".join(f", {constraint_name(item)}" for item in self.constraints)
        return (
            f"AllocationProblem({clients} clients x {widths} widths, budget {self.budget:g}{extra})"
        )

    def __rich__(self) -> Table:
        table = new_table("", "allocation problem")
        total = int(self.clients.samples.sum())
        widths = listed(self.widths, lambda width: f"{width:g}")
        table.add_row("clients", f"{len(self):,}, with {total:,} samples")
        table.add_row("widths", widths)
        table.add_row("choices", f"{np.count_nonzero(self.admissible):,} of {self.costs.size:,}")
        table.add_row("budget", f"{self.budget:g}: {self.limit:,} of {self.full_cost:,} cost units")
        if self.constraints:
            table.add_row("constraints", listed(self.constraints, constraint_name))
        return table

    @cached_property
    def limits(self) -> tuple[Row, ...]:
        """Every limit as a row, the budget first."""
        return (Row("budget", self.costs, None, self.limit), *self.rows)

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """What solvers have learnt of the tables, under any budget; for a warm start."""
        return {}

    @cached_property
    def cheapest(self) -> IntArray:
        """Least admissible cost of each client, ``(n_clients,)``."""
        folded = _fold(self.costs, self.admissible, (np.minimum, np.iinfo(np.int64).max))
        return np.asarray(folded[0])

    @cached_property
    def _narrowest(self) -> int | None:
        """Cost of all clients at the first width, if it is admissible for all."""
        return int(self.costs[:, 0].sum()) if self.admissible[:, 0].all() else None

    @cached_property
    def dearest(self) -> int:
        """Cost of all clients at their costliest admissible widths: a budget that cannot bind."""
        return int(_fold(self.costs, self.admissible, (np.maximum, 0))[0].sum())

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
        lowest, highest = _fold(self.utilities, self.admissible, *folds)
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
        entries = np.arange(0, self.costs.size, self.widths.size) + chosen
        violations = []
        banned = np.flatnonzero(~self.admissible.reshape(-1)[entries])
        if banned.size:
            row = int(banned[0])
            violations.append(
                f"{self.clients.name(row)} cannot train width {self.widths[chosen[row]]:g} "
                f"({banned.size} client(s) at an inadmissible width)"
            )
        spent = int(self.costs.reshape(-1)[entries].sum())
        if spent > self.limit:
            violations.append(f"budget is broken by {spent - self.limit}")
        for limit in self.rows:
            excess = limit.excess(chosen)
            if excess:
                violations.append(f"{limit.label} is broken by {excess}")
        return Totals(
            objective=float(self.utilities.reshape(-1)[entries].sum()),
            spent=spent,
            limit=self.limit,
            violations=tuple(violations),
        )

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
        needed = Fraction(least, self.full_cost)
        raise InfeasibleError(
            f"budget {self.budget:g} is below the narrowest possible allocation "
            f"({float(needed):.4g}), short by {least - self.limit} of {self.full_cost} cost "
            f"units: raise the budget to at least {decimal_above(needed)} or add a narrower width",
            limits=("budget",),
        )

    def checked(self, choice: npt.ArrayLike) -> IntArray:
        """Indices into the menu as int64, one per client.

        Raises
        ------
        InputError
            If the shape is wrong or an index is not a whole number within the menu.
        """
        given = array(choice, "choice")
        if given.shape != (len(self),):
            raise InputError(f"choice of shape {given.shape}: {len(self)} clients expected")
        if given.dtype.kind not in "iu":
            raise InputError(f"choice of {given.dtype}: give integer indices into the menu")
        if given.min() < 0 or given.max() >= self.widths.size:
            bad = np.flatnonzero((given < 0) | (given >= self.widths.size))
            raise InputError(
                f"choice {given[bad[0]]} of row {bad[0]} is outside the menu "
                f"(0 to {self.widths.size - 1})"
            )
        return given.astype(np.int64, copy=False)


def _fold(
    table: npt.NDArray[Any], admissible: BoolArray, *folds: tuple[np.ufunc, float]
) -> npt.NDArray[Any]:
    """Fold the admissible entries of each row by functions, each with its neutral element.

    By blocks of contiguous columns, which is four times as fast as by rows.
    """
    folded = np.empty((len(folds), table.shape[0]), dtype=table.dtype)
    for start in range(0, table.shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        columns = np.array(table[block].T, order="C")
        allowed = admissible[block]
        banned = None if allowed.all() else ~allowed.T
        for (fold, neutral), row in zip(folds, folded, strict=True):
            if banned is not None:
                columns[banned] = neutral
            fold.reduce(columns, axis=0, out=row[block])
    return folded
