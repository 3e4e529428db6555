"""Limits on groups in plain rows: the problem that solvers are given.

Under :class:`~hasa_opt.SameOption` the clients of a group become one client, which costs and is
worth what they do: a multiple-choice knapsack over groups. Where single clients matter they stay:
without it, and under :class:`~hasa_opt.Robust`. What a group as a whole has is then the option of
one more client, which costs nothing and is worth nothing; rows link it to the clients of the group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt.clients.clients import Clients
from hasa_opt.problem.groups import CapacityRow, GroupRow, Groups, SameRow
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination

__all__ = ["Condensed"]

_LINKS = 600
"""Rows that link clients to their groups, about: the more, the nearer is the linear relaxation."""


@dataclass(frozen=True, eq=False)
class _Units:
    """Clients that the solver sees as one.

    Attributes
    ----------
    groups : Groups
        Those of SameOption, or of one client each.
    names : n_units strings
        Of groups or clients.
    option : (n_clients, m) int64
        What a client has where its unit takes an option; -1: the unit cannot take it.
    """

    groups: Groups
    names: tuple[str, ...]
    option: IntArray

    @classmethod
    def of(cls, whole: AllocationProblem, same: SameRow | None) -> _Units:
        if same is not None:
            return cls(same.groups, tuple(map(_group, same.groups.names)), same.follow)
        options = np.broadcast_to(np.arange(len(whole.menu)), whole.costs.shape)
        alone = Groups(whole.clients.all_names, np.arange(len(whole)))
        return cls(alone, alone.names, options)

    def __len__(self) -> int:
        return len(self.groups.names)

    def taken(self, table: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        """Entries of a table of clients by options, by the option of their unit."""
        entries = np.take_along_axis(table, np.maximum(self.option, 0), axis=1)
        return np.where(self.option < 0, fill, entries)

    def summed(self, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sums over the clients of each unit, ``(n_units, m)``."""
        # In more than double precision where there is: thousands of terms are added in turn.
        wide = table.astype(np.longdouble) if table.dtype == np.float64 else table
        return self.groups.fold(np.add, self.taken(wide, 0)).astype(table.dtype)

    def admissible(self, table: BoolArray) -> BoolArray:
        """Options that all clients of a unit can follow, ``(n_units, m)``."""
        return self.groups.fold(np.logical_and, self.taken(table, fill=False))

    def row(self, row: Row) -> Row:
        """A limit on clients as one on units."""
        if isinstance(row, RobustRow):  # the units are the clients
            return row
        if row.members is None:
            return replace(row, coefficients=self.summed(row.coefficients))
        table = np.zeros(self.option.shape, dtype=np.int64)
        table[row.members] = row.coefficients
        own = np.unique(self.groups.of[row.members])
        return replace(row, coefficients=self.summed(table)[own], members=own)


@dataclass(frozen=True, eq=False)
class _Whole:
    """One more client, for what a group as a whole has.

    Attributes
    ----------
    name : str
    links : dict of int to tuple of Row
        Its options, each with the rows that say what the clients of the group then have.
    """

    name: str
    links: dict[int, tuple[Row, ...]]


class _Draft:
    """The plain rows and the clients that they need, in the making."""

    def __init__(self, units: _Units) -> None:
        self.units = units
        self.wholes: list[_Whole] = []
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """State one limit of the given problem."""
        if isinstance(row, CapacityRow):
            self.rows.append(self._room(row))
        elif isinstance(row, SameRow):
            self._follow(row)
        else:
            self.rows.append(self.units.row(row))

    def finished(self) -> tuple[Row, ...]:
        """All rows, those that link the further clients to the others last."""
        links = [row for own in self.wholes for rows in own.links.values() for row in rows]
        stated = [self._with_further(row) for row in self.rows] if links else self.rows
        return (*stated, *links)

    def _with_further(self, row: Row) -> Row:
        """A limit on all clients, of which the further ones take nothing."""
        if row.members is not None:
            return row
        if not isinstance(row, RobustRow):
            return replace(row, members=np.arange(len(self.units)))
        more = len(self.wholes)
        coefficients, deviation = (extended(own, more) for own in (row.coefficients, row.deviation))
        return replace(row, coefficients=coefficients, deviation=deviation)

    def _room(self, row: CapacityRow) -> Row:
        """A unit that is a whole group counts itself, else a client more that is as wide."""
        n_groups, n_options = len(row.groups.names), row.units.size
        pairs, place = np.unique(self.units.groups.of * n_groups + row.groups.of,
                                 return_inverse=True)  # fmt: skip
        parts = Groups(tuple(map(str, pairs)), place)
        widest = parts.fold(np.maximum, row.units[np.maximum(self.units.option, 0)])
        unit, group = pairs // n_groups, pairs % n_groups
        alone = np.bincount(group)[group] == 1
        members, own = np.unique(unit[alone], return_inverse=True)
        coefficients = np.zeros((members.size, n_options), dtype=np.int64)
        np.add.at(coefficients, own, widest[alone])
        first = self._next
        for at in np.unique(group[~alone]):
            inside = group == at
            self._as_wide(row, int(at), unit[inside], widest[inside])
        further = np.arange(first, self._next)
        return Row(
            row.label,
            np.vstack([coefficients, np.broadcast_to(row.units, (further.size, n_options))]),
            upper=row.upper,
            members=np.concatenate([members, further]),
            share=row.share,
        )

    def _as_wide(self, row: CapacityRow, group: int, members: IntArray, widths: IntArray) -> None:
        """One more client that is at least as wide as each member at its option."""
        barred = {
            int(option): widths > level
            for level, option in zip(*np.unique(row.units, return_index=True), strict=True)
        }
        self._link(row, group, members, barred)

    def _follow(self, row: SameRow) -> None:
        """One more client for each group, whose option its clients follow."""
        options = np.arange(row.follow.shape[1])
        for group in range(len(row.groups.names)):
            members = np.flatnonzero(row.groups.of == group)
            follow = row.follow[members]
            possible = np.flatnonzero((follow >= 0).all(axis=0)).tolist()
            barred = {option: options != follow[:, [option]] for option in possible}
            self._link(row, group, members, barred)

    def _link(
        self, row: GroupRow, group: int, members: IntArray, barred: dict[int, BoolArray]
    ) -> None:
        """Add a client; at each of its options no member has what is barred then."""
        name = row.groups.names[group]
        size = 1 + row.groups.of.size * len(barred) // _LINKS
        blocks = [np.arange(at, min(at + size, members.size))
                  for at in range(0, members.size, size)]  # fmt: skip
        links: dict[int, tuple[Row, ...]] = {}
        for option, out in barred.items():
            rows = []
            for block in blocks:
                coefficients = extended(out[block].astype(np.int64), 1)
                coefficients[-1, option] = block.size
                label = f"{row.label}, {name!r} at option {option}, from client {block[0]}"
                own = np.append(members[block], self._next)
                rows.append(Row(label, coefficients, upper=block.size, members=own, link=True))
            links[option] = tuple(rows)
        self.wholes.append(_Whole(_group(name), links))

    @property
    def _next(self) -> int:
        """Row of the next further client."""
        return len(self.units) + len(self.wholes)


def _group(name: str) -> str:
    return f"group {name!r}"


def _told_apart(names: Iterable[str]) -> list[str]:
    """Names of which those that stand again are numbered."""
    seen, found = Counter[str](), []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def extended(table: npt.NDArray[Any], more: int, fill: Any = 0) -> npt.NDArray[Any]:
    """A table of clients by options with so many clients more."""
    return np.vstack([table, np.full((more, table.shape[1]), fill, dtype=table.dtype)])


@dataclass(frozen=True, eq=False)
class Condensed:
    """A problem without limits on groups, and what its allocations are in the one given.

    Attributes
    ----------
    whole, problem : AllocationProblem
        As it was given, and as solvers see it; one and the same if it has no limits on groups.
    """

    whole: AllocationProblem
    problem: AllocationProblem
    _same: SameRow | None = None
    _units: _Units | None = None
    _wholes: tuple[_Whole, ...] = ()

    @classmethod
    def of(cls, whole: AllocationProblem) -> Condensed:
        """Condense a problem."""
        if not any(isinstance(row, GroupRow) for row in whole.rows):
            return cls(whole, whole)
        robust = any(isinstance(row, RobustRow) for row in whole.rows)
        candidates = [] if robust else [row for row in whole.rows if isinstance(row, SameRow)]
        same = candidates[0] if candidates else None
        units = _Units.of(whole, same)
        draft = _Draft(units)
        for row in whole.rows:
            if row is not same:
                draft.add(row)
        wholes = tuple(draft.wholes)
        problem = _assembled(whole, units, wholes, draft.finished())
        return cls(whole, problem, same, units, wholes)

    @property
    def shares_room(self) -> bool:
        """Whether further clients stand for groups that share room."""
        return bool(self._wholes) and any(isinstance(row, CapacityRow) for row in self.whole.rows)

    @property
    def limits(self) -> IntArray:
        """Where each limit of the given problem is in the other, ``(n_limits,)``; -1: nowhere."""
        stated = np.array([not isinstance(row, SameRow) for row in self.whole.limits])
        found: IntArray = np.where(stated, np.cumsum(stated) - 1, -1)
        return found

    def expanded(self, choice: IntArray) -> IntArray:
        """Choice of each client, ``(n_clients,)``."""
        if self._units is None:
            return choice
        rows = np.arange(len(self.whole))
        return self._units.option[rows, choice[self._units.groups.of]]

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is known of each client that solvers see, ``(n_clients,)``."""
        return values if self._units is None else values[self._units.groups.of]

    def prices(self, given: FloatArray) -> FloatArray:
        """Prices of the given problem's limits as those of the other's; links have none."""
        found = np.zeros(len(self.problem.limits))
        found[self.limits[self.limits >= 0]] = given[self.limits >= 0]
        return found

    def condensed(self, choice: IntArray) -> IntArray:
        """The nearest choice in the problem that solvers see."""
        if self._units is None:
            return choice
        own = choice
        if self._same is not None:
            possible = self.problem.admissible[: len(self._units)]
            own = np.where(possible, self._same.agreeing(choice), -1).argmax(axis=1)
        return np.concatenate([own, [*self._wholes_at(own)]]).astype(np.int64)

    def _wholes_at(self, own: IntArray) -> Iterator[int]:
        """First option of each further client that the choice of the others lets it have."""
        for whole in self._wholes:
            kept = (option for option, rows in whole.links.items()
                    if not any(_barred(row, own) for row in rows))  # fmt: skip
            yield next(kept, next(iter(whole.links)))

    def allocation(self, found: Allocation) -> Allocation:
        """A result as one of the given problem, its limits recomputed there."""
        if self._units is None:
            return found
        prices = np.where(self.limits < 0, 0.0, found.prices[self.limits])
        if found.held is None:
            return replace(found, problem=self.whole, prices=prices)
        held = self.expanded(found.held)
        held.flags.writeable = False
        totals = self.whole.evaluate(held)
        if not totals.feasible:
            broken = "; ".join((found.message, *totals.violations))
            return replace(found, problem=self.whole, prices=prices, held=None, totals=None,
                           own_objective=None, claim_held=False, message=broken,
                           termination=Termination.FAILED)  # fmt: skip
        own = totals.objective if found.own_objective == found.objective else found.own_objective
        bound = totals.objective if found.gap == 0 else max(found.bound, totals.objective)
        return replace(found, problem=self.whole, prices=prices, held=held, totals=totals,
                       own_objective=own, bound=bound)  # fmt: skip


def _barred(row: Row, choice: IntArray) -> bool:
    """Whether some member of a link has what is barred at the further client's option."""
    assert row.members is not None
    members = row.members[:-1]
    return bool(row.coefficients[np.arange(members.size), choice[members]].any())


def _assembled(
    whole: AllocationProblem, units: _Units, wholes: tuple[_Whole, ...], rows: tuple[Row, ...]
) -> AllocationProblem:
    """The problem of the units and the further clients."""
    more = len(wholes)
    admissible = extended(units.admissible(whole.admissible), more, fill=False)
    for at, own in enumerate(wholes, start=len(units)):
        admissible[at, list(own.links)] = True
    poorest = units.groups.fold(np.minimum, units.taken(whole.poorest, np.inf))
    samples = units.groups.fold(np.add, whole.clients.samples)
    names = (*units.names, *(own.name for own in wholes))
    return replace(
        whole,
        clients=Clients(
            np.append(samples, np.ones(more, dtype=np.int64)), names=_told_apart(names)
        ),
        costs=extended(units.summed(whole.costs), more),
        utilities=extended(units.summed(whole.utilities), more),
        admissible=admissible,
        rows=rows,
        resources={},
        least_utilities=extended(poorest, more, fill=np.inf),
    )
